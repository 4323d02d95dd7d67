"""The anchors of the pages, read from their sources."""

import functools
from pathlib import Path

from attnbook.book.directives import TABLE
from attnbook.book.fences import fences, parse
from attnbook.book.outline import outline

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


@functools.cache
def headings() -> dict[str, set[str]]:
    """The anchors of the headings of each page of the course, by its path in docs/."""
    found: dict[str, set[str]] = {}
    for section in outline(ROOT):
        found.setdefault(section.page, set()).add(section.anchor)
    return found


def pieces(text: str) -> set[str]:
    """The anchors of the figures and tables of a page: `fig-...` and `tbl-...`."""
    found = {f"fig-{b.fig}" if b.fig else f"tbl-{b.table}" for b in parse(text) if b.fig or b.table}
    prose, position = "", 0
    for fence in fences(text):
        prose, position = prose + text[position : fence.start], fence.end
    return found | {match["id"] for match in TABLE.finditer(prose + text[position:])}


def anchors(page: str) -> set[str]:
    """Every anchor of a page, by its path in docs/."""
    path = DOCS / page
    more = pieces(path.read_text(encoding="utf-8")) if path.suffix == ".md" else set()
    return headings().get(page, set()) | more
