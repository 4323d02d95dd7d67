"""Figures on a page: colours, text, ids, bytes, and what a browser makes of them."""

import re
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import schemdraw
import torch
from matplotlib.figure import Figure
from playwright.sync_api import Browser
from schemdraw import elements

from attnbook import plotting
from attnbook.book.figures import to_svg
from attnbook.book.labels import plain, spans
from attnbook.book.palette import VARIABLES, css

TEXT = "{http://www.w3.org/2000/svg}text"


def lines() -> Figure:
    figure, ax = plotting.axes()
    width = torch.arange(1, 200)
    for n, name in enumerate(["dot $q^\\top k$", "scaled", "additive", r"$\beta$ = 2"]):
        ax.plot(width, width ** (n / 4), label=name)
    ax.fill_between([1, 100], [1, 2], alpha=0.2)
    ax.set(xscale="log", xlabel="key width $d_k$", ylabel="spread of a score")
    ax.set_title("two\nlines")
    ax.annotate("here", (10, 2), (20, 5), arrowprops={"arrowstyle": "->", "color": plotting.INK})
    ax.legend()
    return figure


def weights() -> Figure:
    figure, (left, right) = plotting.axes(1, 2, titles=["soft", "hard"])
    plotting.heatmap(left, torch.eye(3) * 0.7, rows=["a", "b", "c"], annotate=True)
    plotting.heatmap(
        right, torch.eye(3), columns=["a long name", "another long name", "third long name"]
    )
    left.set(xlabel="keys", ylabel="queries")
    return figure


def hatched() -> Figure:
    figure, ax = plotting.axes()
    ax.bar([0, 1], [1, 2], hatch="//", edgecolor=plotting.INK, facecolor=plotting.COLOURS[2])
    ax.scatter([0, 1], [1, 2], marker="s", color=plotting.COLOURS[3], clip_on=True)
    ax.set_xticks([0, 1], ["one", "two"], rotation=45, ha="right")
    ax.text(0.5, 1, r"$\frac{q^\top k}{\sqrt{d}}$")
    return figure


def structure() -> schemdraw.Drawing:
    drawing = plotting.diagram()
    query = drawing.box("query\n$q$", (0, 2), colour=plotting.COLOURS[0])
    keys = drawing.box("a rather long name for keys", (0, 0), colour=plotting.COLOURS[1])
    score = drawing.box(r"$\frac{q^\top k}{\sqrt{d_k}}$", (5, 1))
    for source in (query, keys):
        drawing.arrow(source, score, "$s_i$")
    drawing.cells((8, 1), [0.1, 0.7, 0.2], label="weights $w$")
    drawing.circle(r"$\oplus$", (8, 3))
    drawing.frame("inputs", query, keys)
    drawing.note("far to the right", (11, 1), align="left")
    return drawing


def plain_schemdraw() -> schemdraw.Drawing:
    drawing = schemdraw.Drawing(canvas="svg", show=False)
    drawing.add(elements.Resistor().label("$R_1$"))
    drawing.add(elements.Line().label("wire"))
    return drawing


MADE: list[Callable[[], Any]] = [lines, weights, hatched, structure, plain_schemdraw]
each = pytest.mark.parametrize("make", MADE, ids=lambda make: make.__name__)


def words(svg: str) -> list[str]:
    return ["".join(element.itertext()) for element in ET.fromstring(svg).iter(TEXT)]


@each
def test_every_colour_follows_the_page(make: Callable[[], Any]) -> None:
    svg = to_svg(make(), "f", alt="x")
    bare = re.sub(r"var\(--book-[\w]+, #[0-9a-f]{6}\)", "", svg)
    assert not re.search(r"#[0-9a-fA-F]{3,8}\b(?!\))", re.sub(r'(href="#|url\(#)[^")]+', "", bare))
    assert not re.search(r":\s*(black|white|rgb)", bare)
    assert "currentColor" in svg
    assert "background" not in svg


@each
def test_the_same_figure_gives_the_same_bytes(make: Callable[[], Any]) -> None:
    first, figure = to_svg(make(), "f"), make()
    assert to_svg(figure, "f") == first
    assert to_svg(figure, "f") == first  # drawing does not change the figure
    assert to_svg(make()) == to_svg(make())
    assert not re.search(r"\d{4}-\d\d-\d\d|Matplotlib", first)


@each
def test_ids_are_prefixed_and_every_reference_is_met(make: Callable[[], Any]) -> None:
    one, other = to_svg(make(), "fig-one"), to_svg(make(), "fig-two")
    ids = [re.findall(r'\bid="([^"]+)"', svg) for svg in (one, other)]
    assert len(set(ids[0])) == len(ids[0])
    assert not set(ids[0]) & set(ids[1])
    assert all(name.startswith("fig-one-") for name in ids[0])
    used = {a or b for a, b in re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', one)}
    assert used == set(ids[0])


def test_a_sign_that_two_formulas_share_is_there_once() -> None:
    drawing = plotting.diagram()
    for x in (0, 4):
        drawing.box(r"$\tilde h_t$", (x, 0))
    ids = re.findall(r' id="([^"]*)"', to_svg(drawing, "f"))
    assert ids
    assert len(ids) == len(set(ids))


def test_words_stay_words() -> None:
    found = words(to_svg(lines(), "f"))
    for label in (
        "key width dk",
        "spread of a score",
        "two",
        "lines",
        "dot q⊤k",
        "β\u2009=\u20092",
    ):
        assert plain_spaces(label) in [plain_spaces(word) for word in found]
    assert "101" in found  # the power of ten on the axis: 10 with a raised 1
    assert {"soft", "hard", "a", "0.70", "a long name"} <= set(words(to_svg(weights(), "f")))
    found = words(to_svg(structure(), "f"))
    assert {"query", "q", "a rather long name for keys", "si", "weights w", "⊕"} <= set(found)


def plain_spaces(text: str) -> str:
    return re.sub(r"[\u2000-\u200a]", "", text).replace(" ", "")


def test_a_page_of_no_colour_scheme_still_shows_it() -> None:
    svg = to_svg(lines(), "f")
    assert f"var(--book-1, {plotting.COLOURS[0]})" in svg


def test_alt_text_comes_from_the_argument_or_the_figure() -> None:
    figure, _ = plotting.axes(alt='Two "lines" & more')
    svg = ET.fromstring(to_svg(figure, "f"))
    assert svg.attrib["role"] == "img"
    assert svg.attrib["aria-label"] == 'Two "lines" & more'
    assert ET.fromstring(to_svg(figure, "f", alt="x")).attrib["aria-label"] == "x"


def test_a_foreign_colour_is_refused_by_name() -> None:
    figure, ax = plotting.axes()
    ax.plot([0, 1], color="#ff0000")
    with pytest.raises(ValueError, match="colour #ff0000 is not in the book's palette"):
        to_svg(figure, "f")


def test_only_figures_are_figures() -> None:
    with pytest.raises(
        TypeError, match=r"matplotlib Figure or a schemdraw Drawing, got builtins\.int"
    ):
        to_svg(3, "f")  # type: ignore[arg-type]


def test_an_empty_drawing_is_refused() -> None:
    with pytest.raises(ValueError, match="the drawing is empty"):
        to_svg(plotting.diagram(), "f")


def test_opacity_is_kept() -> None:
    figure, ax = plotting.axes()
    plotting.heatmap(ax, [[0.25]])
    assert re.search(r"fill: var\(--book-1, #\w+\); (fill-)?opacity: 0\.25", to_svg(figure, "f"))
    drawing = plotting.diagram()
    drawing.cells((0, 0), [0.4])
    assert "fill-opacity: 0.4" in to_svg(drawing, "f")


def test_a_notebook_shows_the_same_svg() -> None:
    figure, ax = plotting.axes(alt="A line.")
    ax.plot([0, 1])
    assert figure._repr_svg_() == to_svg(figure)
    drawing = structure()
    assert drawing._repr_svg_() == to_svg(drawing)


def test_large_matrices_stay_small() -> None:
    figure, ax = plotting.axes()
    plotting.heatmap(ax, torch.rand(64, 64, generator=torch.Generator().manual_seed(0)))
    assert len(to_svg(figure, "f")) < 250_000
    mask, ax = plotting.axes()
    plotting.heatmap(ax, torch.ones(64, 64).tril())
    assert len(to_svg(mask, "f")) < 20_000


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        ("keys", "keys"),
        (r"costs \$5", "costs $5"),
        (r"$\mathbf{W} q_t^\top$", "Wqt⊤"),
        (r"$\mathbb{R}^{d}$", "ℝd"),
        (r"$\operatorname{score}(q, k)$", "score(q,k)"),
        (r"width $d_{k}$ and $\beta'$", "width dk and β′"),
        (r"$\sum_i w_i v_i$", "∑iwivi"),
    ],
)
def test_simple_maths_is_text(label: str, shown: str) -> None:
    assert plain(label) == shown


@pytest.mark.parametrize(
    "label", [r"$\frac12$", r"$\sqrt{d}$", r"$\hat y$", "$x_{a_b}$", r"$\nope$"]
)
def test_hard_maths_is_left_to_outlines(label: str) -> None:
    assert spans(label) is None


def test_the_palette_maps_each_colour_once() -> None:
    assert len(set(VARIABLES.values())) == len(VARIABLES) - 1  # black is ink


@pytest.mark.browser
@pytest.mark.parametrize("column", [328, 688])
@pytest.mark.parametrize("family", ["sans-serif", "serif"])
def test_in_a_browser_nothing_is_clipped_and_all_can_be_read(
    browser: Browser, column: int, family: str
) -> None:
    """Every text lies inside its figure, at 8 pixels or more, in the page's own font and ink."""
    figures = "".join(f"<div>{to_svg(make(), f'f{n}')}</div>" for n, make in enumerate(MADE))
    page = browser.new_page(viewport={"width": column + 32, "height": 800})
    page.set_content(
        f"<style>{css()}body{{margin:16px;color:rgb(1,2,3);font-family:{family}}}"
        f"div{{overflow-x:auto}}</style>{figures}"
    )
    found = page.evaluate(
        """() => [...document.querySelectorAll('svg')].flatMap(svg => {
            const frame = svg.getBoundingClientRect();
            const scale = frame.width / svg.viewBox.baseVal.width;
            return [...svg.querySelectorAll('text, path, polygon, rect')]
                .filter(e => !e.closest('defs, symbol')).map(e => {
                const box = e.getBoundingClientRect(), style = getComputedStyle(e);
                return {
                    text: e.localName == 'text' ? e.textContent : '',
                    out: Math.max(frame.left - box.left, box.right - frame.right,
                                  frame.top - box.top, box.bottom - frame.bottom),
                    size: parseFloat(style.fontSize) * scale, family: style.fontFamily,
                    clipped: !!e.closest('[clip-path]')};
            });
        })"""
    )
    page.close()
    texts = [item for item in found if item["text"]]
    assert len(texts) > 40
    assert [item for item in found if not item["clipped"] and item["out"] > 1] == []
    assert min(item["size"] for item in texts) >= 8
    assert {item["family"] for item in texts} == {family}


@pytest.mark.browser
def test_in_a_browser_both_schemes_have_their_colours(browser: Browser) -> None:
    page = browser.new_page()
    page.set_content(f"<style>{css()}</style><div>{to_svg(lines(), 'f')}</div>")
    strokes = (
        """() => [...document.querySelectorAll('path')].map(e => getComputedStyle(e).stroke)"""
    )
    light = set(page.evaluate(strokes))
    page.evaluate("document.documentElement.dataset.mdColorScheme = 'slate'")
    dark = set(page.evaluate(strokes))
    page.close()
    assert "rgb(38, 66, 146)" in light
    assert "rgb(91, 171, 254)" in dark
    assert "rgb(38, 66, 146)" not in dark
