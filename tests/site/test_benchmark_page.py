"""The tables of the benchmark page sort, and each row hands out its command."""

from collections.abc import Callable

import pytest
from watching import Watched

pytestmark = [pytest.mark.site, pytest.mark.browser, pytest.mark.filterwarnings("default")]
TIMES = """table => [...table.tBodies[0].rows].map(row => row.children[2].dataset.value ?? '')"""


def test_a_heading_sorts_its_table_both_ways(
    address: str, watched: Callable[[str], Watched]
) -> None:
    page = watched(address + "benchmarks/index.html").page
    table = page.locator(".book-sorted").first
    before = table.evaluate(TIMES)
    timed = sorted(float(time) for time in before if time)
    assert len(timed) > 10
    head = table.get_by_role("columnheader", name="Time")
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert [float(time) for time in table.evaluate(TIMES) if time] == timed
    head.get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    assert [float(time) for time in table.evaluate(TIMES) if time] == timed[::-1]
    assert page.locator(".book-status").text_content() == "Sorted by time, largest first"
    table.get_by_role("columnheader", name="What was done").get_by_role("button").click()
    assert table.evaluate(TIMES) == before


def test_a_row_hands_out_the_command_that_measures_it_again(
    address: str, watched: Callable[[str], Watched]
) -> None:
    page = watched(address + "benchmarks/index.html").page
    page.get_by_role("button", name="Copy command").first.click()
    page.locator("button[data-done=yes]").first.wait_for()
    command = page.evaluate("navigator.clipboard.readText()")
    assert command.startswith('python -m attnbook.bench run --device cpu --case "dot-product, ')
