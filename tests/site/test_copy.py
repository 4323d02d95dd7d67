"""What the buttons of a page copy is the code that the page ran."""

from collections.abc import Callable

import pytest
from watching import Watched
from website import ROOT

pytestmark = [pytest.mark.site, pytest.mark.browser, pytest.mark.filterwarnings("default")]


def test_the_buttons_say_what_they_did(address: str, watched: Callable[[str], Watched]) -> None:
    page = watched(address + "index.html").page
    status = page.get_by_role("status").last
    assert status.get_attribute("aria-live") == "polite"
    button = page.get_by_role("button", name="Copy", exact=True).first
    box = button.bounding_box()
    assert box["height"] >= 24
    assert box["width"] >= 24
    button.focus()
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    page.wait_for_function(
        "document.querySelector('.book-status').textContent.startsWith('Copied')"
    )


def test_buttons_copy_where_the_clipboard_is_closed_to_scripts(
    address: str, watched: Callable[[str], Watched]
) -> None:
    """A page from a disk, or from a plain address, has no clipboard of its own."""
    page = watched(address + "index.html").page
    page.evaluate("window.open_clipboard = navigator.clipboard.readText.bind(navigator.clipboard)")
    page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    page.get_by_role("button", name="Copy", exact=True).first.click()
    page.locator("button[data-done=yes]").first.wait_for()
    assert page.evaluate("open_clipboard()").startswith("import torch\n")


def test_a_source_of_the_reference_is_copied_without_its_numbers(
    address: str, watched: Callable[[str], Watched]
) -> None:
    page = watched(address + "reference/scores.html").page
    source = page.locator(".mkdocstrings-source").first
    source.get_by_role("button", name="Copy", exact=True).click()
    source.locator("button[data-done=yes]").wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("def dot(")
    assert copied.strip() in (ROOT / "attnbook" / "scores.py").read_text(encoding="utf-8")


def test_prompts_cannot_be_selected(address: str, watched: Callable[[str], Watched]) -> None:
    page = watched(address + "index.html").page
    style = "getComputedStyle(document.querySelector('.gp')).userSelect"
    assert page.evaluate(style) == "none"
