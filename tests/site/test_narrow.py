"""Single pages on a telephone, 360 pixels wide; `test_pages.py` looks at all of them."""

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.site, pytest.mark.browser, pytest.mark.filterwarnings("default")]


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
