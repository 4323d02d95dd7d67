r"""A page's Markdown with marks where the book puts something, and its HTML without the marks.

    woven = Weave(text, "docs/chapters/03-scores.md", sources)
    woven.markdown          for Python-Markdown
    woven.finish(html)      the page

Replaced are fences (set here, by Pygments, so that every block of the site looks and copies alike),
figures and tables with their captions, `{claim ...}`, `{source ...}`, `{scoreboard}`, `[@key]`,
`\bibliography`, and the line `Table: caption {#tbl-name}` above a table. What stands in a fence or
in `inline code` is left alone.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path
from urllib.parse import urljoin

from attnbook.book import blockhtml, sources
from attnbook.book.citations import PATTERN, Bibliography
from attnbook.book.claims import Ledger, LedgerError
from attnbook.book.drawn import Drawn
from attnbook.book.fences import Block, Fence, PageError, fences, parse
from attnbook.book.reach import PACKAGE
from attnbook.book.scoreboard import scoreboard

_CODE_SPAN = re.compile(r"(?<![`\\])(`+)(?!`)(?:(?!\n[ \t]*\n).)+?(?<!`)\1(?!`)", re.S)
_CLAIM = re.compile(r"\{claim(?P<words>[^{}]*)\}")
_SOURCE = re.compile(r"^(?P<prefix>[> \t]*)\{source\s+(?P<name>[^\s{}]+)\s*\}[ \t]*$", re.M)
_BOARD = re.compile(r"^\{scoreboard\}[ \t]*$", re.M)
_LIST = re.compile(r"^\\bibliography[ \t]*$", re.M)
_TABLE = re.compile(r"^(?P<prefix>[> \t]*)Table: (?=.*\{#(?P<id>tbl-[a-z0-9-]+)\}[ \t]*$)", re.M)
_TABLE_END = re.compile(r"[ \t]*\{#tbl-[a-z0-9-]+\}[ \t]*$", re.M)
_MARKS = re.compile(r"<p>book-piece-(\d+)-end</p>|book-piece-(\d+)-end")
_CAPTION = re.compile(r"\s*<p>book-caption-(\d+)-end (.*?)</p>", re.S)
_TABLE_CAPTION = re.compile(
    r"<p>book-table-(tbl-[a-z0-9-]+)-end (.*?)</p>\s*<table(?P<attrs>[^>]*)>", re.S
)
_PAGE_LINK = re.compile(r"\]\((?!https?:|[#/])([^)\s]+?)\.(?:md|ipynb)(#[^)\s]*)?\)")
_NAME_LINK = re.compile(r"\[([^\[\]]+)\]\[[\w.]*\]")
_Makers = list[tuple[re.Pattern[str], Callable[[re.Match[str], int], str]]]
_LEFT_OVER = re.compile(r"book-(?:table|caption|piece)-\S*-end")


@dataclass(frozen=True)
class Sources:
    """What pages draw on."""

    ledger: Ledger
    bibliography: Bibliography
    package: Path = PACKAGE


@dataclass
class Weave:
    """One page.

    Args:
        text: its Markdown, without front matter.
        page: its path, for errors.
        sources: the ledger, the bibliography, the package.
        drawn: what its blocks drew, by index.
        first_line: the number of the first line of `text` in the file.
    """

    text: str
    page: str
    sources: Sources
    drawn: Drawn = field(default_factory=lambda: Drawn({}, {}))
    first_line: int = 1
    markdown: str = field(init=False)
    blocks: list[Block] = field(init=False)
    anchors: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Read the page."""
        self._pieces: list[str] = []
        self._cited: list[str] = []
        self._list_at: int | None = None
        self.blocks = parse(self.text, self.page, self.first_line)
        by_start = {block.start: block for block in self.blocks}
        parts: list[str] = []
        position, line = 0, self.first_line
        for fence in fences(self.text, self.page, self.first_line):
            parts.append(self._prose(self.text[position : fence.start], line))
            parts.append(self._fence(fence, by_start.get(fence.start)))
            position, line = fence.end, fence.line + len(fence.lines) + 1
        parts.append(self._prose(self.text[position:], line))
        self.markdown = "".join(parts)
        if self._cited and self._list_at is None:
            raise PageError(
                self.page,
                self.first_line,
                f"the page cites {self._cited[0]!r} but has no line \\bibliography",
            )
        if self._list_at is not None:
            self._pieces[self._list_at] = self.sources.bibliography.listed(self._cited)
            self.anchors |= {f"ref-{key}" for key in self._cited}

    def finish(self, html: str) -> str:
        """Put everything in its place in the page's HTML."""
        captions: dict[int, str] = {}

        def keep(match: re.Match[str]) -> str:
            captions[int(match[1])] = match[2]
            return ""

        html = _CAPTION.sub(keep, html)
        html = _TABLE_CAPTION.sub(
            lambda m: f'<table id="{m[1]}"{m["attrs"]}><caption>{m[2]}</caption>', html
        )
        html = re.sub(
            r"<table(?P<attrs>[^>]*)>.*?</table>",
            lambda m: blockhtml.scrolling(m.group()),
            html,
            flags=re.S,
        )

        def place(match: re.Match[str]) -> str:
            number = int(match[1] or match[2])
            return self._pieces[number].replace("book-caption-here", captions.get(number, ""))

        html = _MARKS.sub(place, html)
        if left := _LEFT_OVER.search(html):
            what = "a line 'Table: ...' that does not stand directly above a table"
            raise PageError(self.page, self.first_line, f"{what} ({unescape(left.group())})")
        return html.replace("\ue000", "")

    def portable(self, markdown: str, url: str = "") -> str:
        """Markdown of the page for a notebook: directives as text, links to pages made absolute.

        Args:
            markdown: a part of the page.
            url: the page's own address on the site.
        """

        def panel(match: re.Match[str]) -> str:
            found = sources.panel(match["name"], self.sources.package)
            place = f"{found.file}, lines {found.first_line}-{found.last_line}"
            return f"Source of `{match['name']}` ({place}):\n\n```python\n{found.code}\n```"

        def link(match: re.Match[str]) -> str:
            return f"]({urljoin(url, match[1])}.html{match[2] or ''})"

        makers: _Makers = [
            (_CLAIM, self._claim),
            (_SOURCE, lambda match, line: panel(match)),
            (PATTERN, lambda match, line: self._cite(match, line)[0]),
            (_LIST, lambda match, line: self.sources.bibliography.listed(self._cited)),
            (_PAGE_LINK, lambda match, line: link(match)),
            (_NAME_LINK, lambda match, line: match[1]),
        ]
        return _replaced(markdown, self.first_line, makers)

    def _piece(self, html: str, prefix: str, caption: str = "") -> str:
        """A paragraph that stands for `html`, and after it the caption, for Markdown to set."""
        self._pieces.append(html)
        number = len(self._pieces) - 1
        blank = f"\n{prefix.rstrip()}\n{prefix}"
        below = f"{blank}book-caption-{number}-end {caption}" if caption else ""
        return f"{prefix.rstrip()}\n{prefix}book-piece-{number}-end{below}\n{prefix.rstrip()}"

    def _fence(self, fence: Fence, block: Block | None) -> str:
        if block is None:
            return self._piece(blockhtml.other(fence.info, "\n".join(fence.lines)), fence.prefix)
        shown = "" if block.hide else self._piece(blockhtml.code(block), block.prefix)
        caption = self._prose(block.value("caption"), block.line)
        if block.index in self.drawn.figures:
            name = f"fig-{block.fig}"
            html = blockhtml.figure(name, self.drawn.figures[block.index], bool(caption))
        elif block.index in self.drawn.tables:
            name = f"tbl-{block.table}"
            html = blockhtml.table(name, self.drawn.tables[block.index], bool(caption))
        else:
            return shown
        self.anchors.add(name)
        return f"{shown}\n{self._piece(html, block.prefix, caption)}"

    def _prose(self, text: str, first_line: int) -> str:
        """Text without fences, with its directives carried out; `first_line` is where it begins."""
        makers: _Makers = [
            (_CLAIM, self._claim),
            (_SOURCE, self._source),
            (_BOARD, lambda match, line: self._prose(scoreboard(self.sources.ledger), line)),
            (PATTERN, self._citation),
            (_LIST, self._bibliography),
            (_TABLE, self._table),
            (_TABLE_END, lambda match, line: "\n"),
        ]
        return _replaced(text, first_line, makers)

    def _claim(self, match: re.Match[str], line: int) -> str:
        words = match["words"].split()
        kinds = {
            "": self.sources.ledger.value,
            "published": self.sources.ledger.published,
            "bound": self.sources.ledger.bound,
        }
        kind = words[1] if len(words) > 1 else ""
        if not words or len(words) > 2 or kind not in kinds:
            raise PageError(
                self.page,
                line,
                f"{match.group()} is not of the form {{claim stem/name}}, "
                "{claim stem/name published} or {claim stem/name bound}",
            )
        try:
            return kinds[kind](words[0])
        except LedgerError as error:
            raise PageError(self.page, line, str(error)) from None

    def _source(self, match: re.Match[str], line: int) -> str:
        try:
            panel = sources.panel(match["name"], self.sources.package)
        except ValueError as error:
            raise PageError(self.page, line, str(error)) from None
        return self._piece(blockhtml.source(match["name"], panel), match["prefix"])

    def _cite(self, match: re.Match[str], line: int) -> tuple[str, list[str]]:
        try:
            text, keys = self.sources.bibliography.inline(match["inside"])
        except KeyError as error:
            raise PageError(self.page, line, f"unknown citation {error.args[0]!r}") from None
        return (text, keys) if keys else (match.group(), [])

    def _citation(self, match: re.Match[str], line: int) -> str:
        text, keys = self._cite(match, line)
        self._cited += keys
        return text

    def _bibliography(self, match: re.Match[str], line: int) -> str:
        if self._list_at is not None:
            raise PageError(self.page, line, "a second \\bibliography on one page")
        self._list_at = len(self._pieces)
        return self._piece("", "")

    def _table(self, match: re.Match[str], line: int) -> str:
        self.anchors.add(match["id"])
        return f"{match['prefix']}book-table-{match['id']}-end "


def _replaced(text: str, first_line: int, makers: _Makers) -> str:
    """Replace what the patterns find outside code, the first that begins wins."""
    literal = [span.span() for span in _CODE_SPAN.finditer(text)]
    found = [(match, make) for pattern, make in makers for match in pattern.finditer(text)]
    parts: list[str] = []
    position = 0
    for match, make in sorted(found, key=lambda pair: pair[0].start()):
        start, end = match.span()
        if start < position or any(a <= start < b for a, b in literal):
            continue
        parts.append(text[position:start])
        parts.append(make(match, first_line + text.count("\n", 0, start)))
        position = end
    return "".join([*parts, text[position:]])
