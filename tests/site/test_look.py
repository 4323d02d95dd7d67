"""Every figure of the site, in a chapter or a lab, speaks the one visual language of the book."""

import re
from pathlib import Path

import pytest

from attnbook import plotting
from attnbook.book.palette import VARIABLES

pytestmark = pytest.mark.site
FIGURE = re.compile(r'<figure class="book-figure" id="([^"]+)">.*?(<svg\b.*?</svg>)', re.S)
# Letters of formulas are set a little larger than the words around them, sub- and superscripts
# smaller; see attnbook/book/labels.py.
TEXT = {round(size * part, 2) for size in plotting.SIZES for part in (1, 1.08, 0.72)}


@pytest.fixture(scope="module")
def figures(site: Path) -> dict[str, str]:
    found = {
        f"{page.relative_to(site)}: {name}": svg
        for page in sorted(site.rglob("*.html"))
        for name, svg in FIGURE.findall(page.read_text(encoding="utf-8"))
    }
    assert len(found) > 20
    return found


def others(svg: str, pattern: str, allowed: set[float]) -> set[float]:
    return {round(float(number), 2) for number in re.findall(pattern, svg)} - allowed


def test_text_has_the_sizes_of_the_book(figures: dict[str, str]) -> None:
    strange = {
        name: sizes
        for name, svg in figures.items()
        if (sizes := others(svg, r'font-size[:=]"?\s*([\d.]+)', TEXT))
    }
    assert not strange


def test_lines_have_the_widths_of_the_book(figures: dict[str, str]) -> None:
    strange = {
        name: widths
        for name, svg in figures.items()
        if (widths := others(svg, r'stroke-width[:=]"?\s*([\d.]+)', set(plotting.WIDTHS)))
    }
    assert not strange


def test_colours_are_those_of_the_palette(figures: dict[str, str]) -> None:
    known = {*VARIABLES.values(), "none"}
    strange = {
        name: colours
        for name, svg in figures.items()
        if (colours := set(re.findall(r"(?:fill|stroke): ([^;\"]+)", svg)) - known)
    }
    assert not strange


def test_each_figure_says_what_is_seen(figures: dict[str, str]) -> None:
    short = {}
    for name, svg in figures.items():
        said = re.search(r'aria-label="([^"]*)"', svg)
        if said is None or len(said[1]) < 40:
            short[name] = said and said[1]
    assert not short
