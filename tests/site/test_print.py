"""A chapter on paper, from a dark screen: black on white, whole, nothing of the site's frame."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.site, pytest.mark.browser, pytest.mark.filterwarnings("default")]
CHAPTER = "chapters/03-scores.html"
COLUMN = 645  # about what the margins of @page leave of A4, in CSS pixels
PRINTED = """() => {
  const shown = e => e.checkVisibility() && e.getClientRects().length > 0;
  const all = [...document.body.querySelectorAll('*')].filter(shown);
  const words = all.filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()));
  const style = getComputedStyle;
  return {
    text: document.body.innerText,
    links: [...document.querySelectorAll('.md-sidebar a, .md-footer a, .md-header *, .md-search *')]
      .filter(shown).length,
    buttons: [...document.querySelectorAll('button, input, label, .headerlink')]
      .filter(shown).length,
    grounds: [...new Set(all.map(e => style(e).backgroundColor))],
    inks: [...new Set(words.filter(e => !e.closest('svg, pre')).map(e => style(e).color))],
    figure: [...new Set([...document.querySelectorAll('figure svg *')].flatMap(
      e => [style(e).fill, style(e).stroke]))],
    light: getComputedStyle(document.documentElement).getPropertyValue('--book-1'),
    folded: [...document.querySelectorAll('details')].filter(e => !e.open).length,
    formulas: [...document.querySelectorAll('math')].filter(
      e => shown(e) && e.getBoundingClientRect().height > 4).length,
    out: words.filter(e => e.getBoundingClientRect().right > innerWidth + 1)
      .map(e => e.outerHTML.slice(0, 90)),
  };
}"""


@pytest.fixture(scope="module")
def page(browser: Browser, address: str) -> Iterator[Page]:
    context = browser.new_context(color_scheme="dark", viewport={"width": COLUMN, "height": 900})
    opened = context.new_page()
    opened.goto(address + CHAPTER)
    opened.wait_for_function("document.body.dataset.mdColorScheme === 'slate'")
    opened.evaluate("document.fonts.ready.then(() => true)")
    yield opened
    context.close()


@pytest.fixture(scope="module")
def printed(page: Page) -> dict[str, Any]:
    """What a printer would see."""
    page.emulate_media(media="print", color_scheme="dark")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    found: dict[str, Any] = page.evaluate(PRINTED)
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    page.emulate_media(media="screen", color_scheme="dark")
    return found


def test_the_frame_of_the_site_is_not_printed(printed: dict[str, Any]) -> None:
    assert printed["links"] == 0
    assert printed["buttons"] == 0
    for words in ("Download as notebook", "Table of contents", "Copy runnable", "Contributing"):
        assert words not in printed["text"]
    assert "https://arxiv.org" not in printed["text"]


def test_the_words_are_printed_and_what_was_folded(printed: dict[str, Any]) -> None:
    assert printed["folded"] == 0
    for words in ("Scores\n", "Exercises", "Maroon is half of red.", "References", "Luong, M.-T."):
        assert words in printed["text"]
    assert "def gaussian(bandwidth" in printed["text"]
    assert printed["formulas"] > 100


def test_it_is_black_on_white_from_a_dark_screen_too(printed: dict[str, Any]) -> None:
    assert set(printed["grounds"]) <= {"rgba(0, 0, 0, 0)", "rgb(255, 255, 255)"}
    for ink in printed["inks"]:
        red, green, blue = map(int, re.findall(r"\d+", ink)[:3])
        assert max(red, green, blue) < 100, ink
    light = [int(printed["light"].strip()[n : n + 2], 16) for n in (1, 3, 5)]
    assert f"rgb({light[0]}, {light[1]}, {light[2]})" in printed["figure"]
    assert "rgb(0, 0, 0)" in printed["figure"]


def test_nothing_is_cut_off_at_the_margin(printed: dict[str, Any]) -> None:
    assert printed["out"] == []


def test_a_chapter_makes_a_pdf_with_its_sections(page: Page) -> None:
    pdf = page.pdf(format="A4", prefer_css_page_size=True, tagged=True, outline=True)
    assert pdf.startswith(b"%PDF-")
    count = len(re.findall(rb"/Type /Page\b(?!s)", pdf))
    assert 10 < count < 40
    headings = page.evaluate(
        "[...document.querySelectorAll('article h2')].map(e => e.firstChild.textContent.trim())"
    )
    titles = {title.decode() for title in re.findall(rb"/Title \(([^)]*)\)", pdf)}
    assert len(headings) > 10
    assert set(headings) <= titles
    assert (
        page.evaluate("[...document.querySelectorAll('details')].filter(e => e.open).length") == 0
    )


def test_a_short_block_stays_on_one_page(page: Page) -> None:
    page.emulate_media(media="print", color_scheme="dark")
    kept = page.evaluate(
        """() => [...document.querySelectorAll('article .book-code, article .book-figure')]
          .filter(e => !e.closest('.book-source') && !e.matches('.book-long'))
          .filter(e => getComputedStyle(e).breakInside !== 'avoid').length"""
    )
    page.emulate_media(media="screen", color_scheme="dark")
    assert kept == 0
