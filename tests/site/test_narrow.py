"""Each page on a telephone, 360 pixels wide."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page
from watching import html_pages

pytestmark = [pytest.mark.site, pytest.mark.browser, pytest.mark.filterwarnings("default")]


def test_no_page_scrolls_sideways_on_a_narrow_screen(
    site: Path, address: str, browser: Browser
) -> None:
    wide = {}
    context = browser.new_context(viewport={"width": 360, "height": 740})
    page = context.new_page()
    for name in html_pages(site):
        page.goto(address + name)
        page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        # What sticks out of the page, and is not inside something that scrolls by itself.
        width, out = page.evaluate(
            """() => {
              const scrolls = e => e && e !== document.body && (scrolls(e.parentElement) ||
                /auto|scroll|hidden/.test(getComputedStyle(e).overflowX));
              const out = [...document.querySelectorAll('.md-content *')].filter(
                e => e.getBoundingClientRect().right > 361 && !scrolls(e));
              return [document.documentElement.scrollWidth, out.map(e => e.outerHTML.slice(0, 90))];
            }"""
        )
        if width > 360 or out:
            wide[name] = (width, out[:3])
    context.close()
    assert not wide


def test_captions_are_whole_on_a_narrow_screen(site: Path, address: str, browser: Browser) -> None:
    """Beside a table or figure that scrolls, its caption wraps and stays where it is."""
    context = browser.new_context(viewport={"width": 360, "height": 740})
    page = context.new_page()
    seen, cut = 0, {}
    for name in html_pages(site):
        page.goto(address + name)
        page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        captions = page.evaluate(
            """() => [...document.querySelectorAll('.md-content :is(figcaption, caption)')].map(
              e => [e.textContent.slice(0, 60), e.getBoundingClientRect().right,
                    e.scrollWidth - e.clientWidth, Boolean(e.closest('.book-scroll'))])"""
        )
        seen += len(captions)
        if bad := [c for c in captions if c[1] > 360 or c[2] > 0 or c[3]]:
            cut[name] = bad
    context.close()
    assert seen >= 3
    assert not cut


def test_columns_of_words_are_wide_enough_on_a_narrow_screen(
    site: Path, address: str, browser: Browser
) -> None:
    """No word or citation of a table is cut in two, and a cell is not a tower of words."""
    context = browser.new_context(viewport={"width": 360, "height": 740})
    page = context.new_page()
    seen, bad = 0, {}
    for name in html_pages(site):
        page.goto(address + name)
        page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        cells = page.evaluate(
            """() => [...document.querySelectorAll('.book-grid td')].filter(
              e => e.textContent.trim().length > 30).map(
              e => [e.clientWidth, getComputedStyle(e.querySelector('a') || e).wordBreak,
                    e.textContent.trim().slice(0, 40)])"""
        )
        seen += len(cells)
        if wrong := [c for c in cells if c[0] < 80 or c[1] != "normal"]:
            bad[name] = wrong[:3]
    context.close()
    assert seen > 50
    assert not bad


@pytest.fixture
def phone(address: str, browser: Browser) -> Iterator[Callable[[str], Page]]:
    """Open a page on a telephone, everything that is folded opened."""
    context = browser.new_context(viewport={"width": 360, "height": 740})

    def opened(name: str) -> Page:
        page = context.new_page()
        page.goto(address + name)
        page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        # So that what is watched for its size has been seen.
        page.evaluate("new Promise(done => requestAnimationFrame(() => setTimeout(done, 50)))")
        return page

    yield opened
    context.close()


def test_what_goes_on_at_an_edge_fades_there(phone: Callable[[str], Page]) -> None:
    """Else nothing says that a table has more columns, where the edge is between two of them."""
    for name in ("chapters/02-one-equation.html", "claims.html"):
        boxes = phone(name).evaluate(
            """() => [...document.querySelectorAll('.book-scroll')].map(
              e => [e.scrollWidth > e.clientWidth + 1,
                    getComputedStyle(e).backgroundImage.includes('gradient')])"""
        )
        assert [True, True] in boxes
        assert [True, False] not in boxes
        assert [False, True] not in boxes


def test_tables_of_few_columns_fit(phone: Callable[[str], Page]) -> None:
    for name in ("index.html", "timeline.html", "errata.html"):
        wide = phone(name).evaluate(
            """() => [...document.querySelectorAll('.book-table')].filter(
              e => e.querySelectorAll('thead > tr > *').length <= 3 &&
                e.querySelector('.book-scroll').hasAttribute('tabindex')).map(e => e.id)"""
        )
        assert not wide, name


def test_a_signature_keeps_its_lines(phone: Callable[[str], Page]) -> None:
    code = phone("reference/scores.html").locator(".doc-signature code")
    assert code.count() > 8
    assert set(code.evaluate_all("all => all.map(e => getComputedStyle(e).whiteSpace)")) == {"pre"}


def test_references_begin_where_the_text_does(phone: Callable[[str], Page]) -> None:
    page = phone("chapters/01-why-attention.html")
    text, first = (
        page.locator(of).first.bounding_box() for of in ("article h2", ".book-references > li")
    )
    assert text
    assert first
    assert first["x"] == text["x"]
