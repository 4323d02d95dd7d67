"""The site in a real browser: figures follow the scheme, formulas, code, read from a disk."""

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser
from watching import Watched

pytestmark = [pytest.mark.site, pytest.mark.browser, pytest.mark.filterwarnings("default")]


def test_no_line_begins_with_the_stop_behind_a_formula(
    address: str, watched: Callable[[str], Watched]
) -> None:
    page = watched(address + "chapters/03-scores.html").page
    loose = page.evaluate(
        """() => [...document.querySelectorAll('article p math')].filter(
          e => /^[.,;:)]/.test(e.nextSibling?.data ?? '') &&
            getComputedStyle(e.parentElement).whiteSpace !== 'nowrap').map(
          e => e.parentElement.textContent.slice(0, 60))"""
    )
    assert not loose


def test_a_root_ends_where_its_letter_ends(address: str, watched: Callable[[str], Watched]) -> None:
    page = watched(address + "chapters/03-scores.html").page
    gaps = page.evaluate(
        """() => [...document.querySelectorAll('msqrt.book-root')].map(e =>
          e.getBoundingClientRect().right - e.firstElementChild.getBoundingClientRect().right)"""
    )
    assert gaps
    assert max(gaps) < 1


def test_code_keeps_its_lines_and_folds_the_colours_of_the_book(
    address: str, watched: Callable[[str], Watched]
) -> None:
    """Of the theme's own markup, too: sources with line numbers, notes of every kind."""
    for name in ("reference/scores.html", "chapters/03-scores.html"):
        page = watched(address + name).page
        joined = page.evaluate(
            """() => [...document.querySelectorAll('pre code')].filter(
              e => !getComputedStyle(e).whiteSpace.startsWith('pre')).map(e => e.innerText)"""
        )
        assert not joined, name
        grounds = page.evaluate(
            """() => [...new Set([...document.querySelectorAll('.md-content summary')].map(
              e => getComputedStyle(e).backgroundColor))]"""
        )
        assert grounds == ["rgba(0, 0, 0, 0)"], name


def test_the_site_can_be_read_from_a_disk(site: Path, browser: Browser) -> None:
    """Without a server: style, figures, formulas, links."""
    page = browser.new_page()
    page.goto((site / "index.html").as_uri())
    assert page.locator("figure svg").first.bounding_box()["width"] > 200
    assert page.evaluate("[...document.styleSheets].length") >= 2
    links = page.locator(".md-nav a[href*='chapters/']")
    page.goto(page.evaluate("e => e.href", links.first.element_handle()))
    assert page.locator("h1").count() == 1
    assert page.locator("math").count() > 1
    page.close()
