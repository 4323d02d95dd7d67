r"""A page's Markdown with marks where the book puts something, and its HTML without the marks.

    woven = Weave(text, "docs/chapters/03-scores.md", sources)
    woven.markdown          for Python-Markdown
    woven.finish(html)      the page

Replaced are fences (set here, by Pygments, so that every block of the site looks and copies alike),
figures and tables with their captions, `{claim ...}`, `{source ...}`, `{scoreboard}`, `{glossary}`,
`{milestones ...}`, `[@key]`, `\bibliography`, and the line `Table: caption {#tbl-name}` above a
table. What stands in a fence, in `inline code` or in a comment is left alone.
"""

import re
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path
from urllib.parse import urljoin

from attnbook._reach import PACKAGE
from attnbook.book import (
    benchmarks,
    blockhtml,
    directives,
    glossary,
    leftovers,
    milestones,
    quotes,
    sources,
)
from attnbook.book.citations import PATTERN, Bibliography
from attnbook.book.claims import Ledger, LedgerError
from attnbook.book.drawn import Drawn
from attnbook.book.fences import Block, Fence, PageError, fences, parse
from attnbook.book.pieces import Pieces, tidy
from attnbook.book.scoreboard import scoreboard

_GRID = re.compile(  # not a table that a highlighter makes of numbered lines; that has a class
    r"(?:<p>book-table-(?P<id>tbl-[a-z0-9-]+)-end (?P<caption>(?:(?!</p>).)*)</p>\s*)?"
    r"(?P<table><table(?![^>]*\sclass=)[^>]*>.*?</table>)",
    re.S,
)
_PAGE_LINK = re.compile(r"\]\((?!https?:|[#/])([^)\s]+?)\.(?:md|ipynb)(#[^)\s]*)?\)")
_NAME_LINK = re.compile(r"\[([^\[\]]+)\]\[[\w.]*\]")
_LEFT_OVER = re.compile(r"book-table-(tbl-[a-z0-9-]+)-end")


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
        self._pieces = Pieces(self.page)
        self._lines: dict[str, int] = {}  # of each anchor
        self._cited: list[str] = []
        self._cited_at = self.first_line
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
        line = leftovers.empty_note(self.text, list(fences(self.text, self.page)))
        if line:
            what = "nothing belongs to this note: its text is indented by 4 columns more"
            raise PageError(self.page, line + self.first_line - 1, what)
        self.markdown = tidy("".join(parts))
        if self._cited and self._list_at is None:
            raise PageError(
                self.page,
                self._cited_at,
                f"the page cites {self._cited[0]!r} but has no line \\bibliography",
            )
        if self._list_at is not None:
            self._pieces.fill(self._list_at, self.sources.bibliography.listed(self._cited))
            self.anchors |= {f"ref-{key}" for key in self._cited}

    def finish(self, html: str) -> str:
        """Put everything in its place in the page's HTML."""
        html = _GRID.sub(
            lambda m: blockhtml.scrolling(m["table"], m["id"] or "", m["caption"] or ""),
            quotes.turned(html),
        )
        if found := leftovers.left(html):
            message, phrases = found
            raise PageError(self.page, self.line_of(*phrases), message)
        html = self._pieces.place(html)
        if left := _LEFT_OVER.search(html):
            what = "a line 'Table: ...' that does not stand directly above a table"
            raise PageError(self.page, self._lines[left[1]], f"{what} ({left[1]})")
        return html.replace("\ue000", "")

    def line_of(self, *phrases: str) -> int:
        """The line of the first of these phrases that the page has, or else its first line.

        What stands in code counts only where the phrase stands nowhere else. Markdown may have
        taken an indentation out of a phrase.
        """
        literal = [span.span() for span in directives.LITERAL.finditer(self.text)]
        for fence in fences(self.text, self.page, self.first_line):
            literal.append((self.text.find("\n", fence.start, fence.end), fence.end))
        for phrase in phrases:
            words = r"[\s>]+".join(map(re.escape, unescape(phrase).split()))
            found = [match.start() for match in re.finditer(words, self.text)] if words else []
            prose = [at for at in found if not any(a <= at < b for a, b in literal)]
            if found:
                return self.first_line + self.text.count("\n", 0, [*prose, *found][0])
        return self.first_line

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

        makers: directives.Makers = [
            (directives.CLAIM, self._claim),
            (directives.SOURCE, lambda match, line: panel(match)),
            (PATTERN, lambda match, line: self._cite(match, line)[0]),
            (directives.LIST, lambda match, line: self.sources.bibliography.listed(self._cited)),
            (_PAGE_LINK, lambda match, line: link(match)),
            (_NAME_LINK, lambda match, line: match[1]),
        ]
        return directives.replaced(markdown, self.first_line, makers)

    def _fence(self, fence: Fence, block: Block | None) -> str:
        put, prefix, line = self._pieces.mark, fence.prefix, fence.line
        if block is None:
            return put(blockhtml.other(fence.info, "\n".join(fence.lines)), prefix, line)
        shown = "" if block.hide else put(blockhtml.code(block), prefix, line)
        caption = self._prose(block.value("caption"), line)
        if block.index in self.drawn.figures:
            name = f"fig-{block.fig}"
            html = blockhtml.figure(name, self.drawn.figures[block.index], bool(caption))
        elif block.index in self.drawn.tables:
            name = f"tbl-{block.table}"
            html = blockhtml.table(name, self.drawn.tables[block.index], bool(caption))
        else:
            return shown
        self._anchor(name, line)
        return f"{shown}\n{put(html, prefix, line, caption)}"

    def _anchor(self, name: str, line: int) -> None:
        if name in self._lines:
            message = f"the name {name!r} is taken by line {self._lines[name]}"
            raise PageError(self.page, line, message)
        self._lines[name] = line
        self.anchors.add(name)

    def _prose(self, text: str, first_line: int) -> str:
        """Text without fences, with its directives carried out; `first_line` is where it begins."""
        makers: directives.Makers = [
            (directives.CLAIM, self._claim),
            (directives.SOURCE, self._source),
            (
                directives.BOARD,
                lambda match, line: self._prose(scoreboard(self.sources.ledger), line),
            ),
            (directives.BENCHMARKS, self._benchmarks),
            (directives.GLOSSARY, self._glossary),
            (directives.MILESTONES, self._milestones),
            (PATTERN, self._citation),
            (directives.LIST, self._bibliography),
            (directives.TABLE, self._table),
            (directives.TABLE_END, self._table_end),
            (directives.LOOSE, self._loose),
        ]
        return directives.replaced(text, first_line, makers)

    def _loose(self, match: re.Match[str], line: int) -> str:
        raise PageError(self.page, line, directives.complaint(match.group()))

    def _benchmarks(self, match: re.Match[str], line: int) -> str:
        try:
            found = benchmarks.tables()
        except ValueError as error:
            raise PageError(self.page, line, str(error)) from None
        put = self._pieces.mark
        parts = (f"{head}\n\n{put(html, '', line) if html else ''}" for head, html in found)
        return "\n\n".join(parts)

    def _glossary(self, match: re.Match[str], line: int) -> str:
        found = glossary.read(self.sources.ledger.root)
        if problems := found.problems():
            raise PageError(self.page, line, "\n".join(["docs/glossary.toml:", *problems]))
        return self._prose(found.markdown(), line)

    def _milestones(self, match: re.Match[str], line: int) -> str:
        try:
            table = milestones.table(int(match["first"]), int(match["last"]))
        except ValueError as error:
            raise PageError(self.page, line, str(error)) from None
        return self._prose(table, line)

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
        return self._pieces.mark(blockhtml.source(match["name"], panel), match["prefix"], line)

    def _cite(self, match: re.Match[str], line: int) -> tuple[str, list[str]]:
        try:
            if match["tight"] is not None:
                raise ValueError("leave a space before it, or join two citations as [@one; @two]")
            return self.sources.bibliography.inline(match["inside"])
        except KeyError as error:
            raise PageError(self.page, line, f"unknown citation {error.args[0]!r}") from None
        except ValueError as error:
            raise PageError(self.page, line, f"the citation {match.group()}: {error}") from None

    def _citation(self, match: re.Match[str], line: int) -> str:
        text, keys = self._cite(match, line)
        self._cited_at = self._cited_at if self._cited else line
        self._cited += keys
        return text

    def _bibliography(self, match: re.Match[str], line: int) -> str:
        if self._list_at is not None:
            raise PageError(self.page, line, "a second \\bibliography on one page")
        self._list_at = len(self._pieces)
        return self._pieces.mark("", "", line)

    def _table_end(self, match: re.Match[str], line: int) -> str:
        start = match.string.rfind("\n", 0, match.start()) + 1
        if not directives.TABLE.match(match.string, start):
            raise PageError(self.page, line, directives.complaint("Table"))
        return "\n"

    def _table(self, match: re.Match[str], line: int) -> str:
        self._anchor(match["id"], line)
        return f"{match['prefix']}book-table-{match['id']}-end "
