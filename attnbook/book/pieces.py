"""What stands in a page's Markdown for HTML that the book puts there, and the way back.

A mark is a paragraph of its own, so Markdown sets it where the author has put the block: in a list
item, a note, a footnote. A mark that does not come back as a paragraph is an error that names the
line of the block, for the block would be lost or shown as text.
"""

import re
from dataclasses import dataclass
from html.parser import HTMLParser

from attnbook.book.blocks import PageError

_BACK = r'(?:&#160;<a class="footnote-backref"[^>]*>.*?</a>)+'  # closes the last line of a footnote
_MARK = re.compile(r"book-piece-(\d+)-end")
_PLACE = re.compile(rf"<p>\s*book-piece-(\d+)-end\s*({_BACK})?\s*</p>|{_MARK.pattern}", re.S)
_CAPTION = re.compile(rf"\s*<p>book-caption-(\d+)-end (.*?)({_BACK})?\s*</p>", re.S)
_BLANKS = re.compile(r"\n(?:[ \t]*\n)+(?=[ \t]*book-(?:piece|caption)-\d)")
_BLANKS_AFTER = re.compile(r"(book-piece-\d+-end)\n(?:[ \t]*\n)+")
_VOID = {"br", "hr", "img", "input", "link", "meta", "source", "wbr", "col", "area", "embed"}
_TEXT = {"p", "pre", "code", "script", "style", "textarea", "summary", "span", "a", "em", "strong"}
_TEXT |= {f"h{level}" for level in range(1, 7)}


@dataclass(frozen=True)
class Piece:
    """What a mark stands for, and the line of the page that asked for it."""

    html: str
    line: int


class Pieces:
    """The marks of one page.

    Args:
        page: its path, for errors.
    """

    def __init__(self, page: str) -> None:
        self.page = page
        self._pieces: list[Piece] = []

    def __len__(self) -> int:
        """How many marks have been made."""
        return len(self._pieces)

    def mark(self, html: str, prefix: str, line: int, caption: str = "") -> str:
        """A paragraph that stands for `html`, and after it the caption, for Markdown to set.

        Raises:
            PageError: the block is indented by what is no step of Markdown's.
        """
        if _indent(prefix) % 4:
            raise PageError(
                self.page,
                line,
                f"this is indented by {_indent(prefix)} columns; what belongs to a list item or a "
                "note is indented by 4 for each of them, everything else by none",
            )
        self._pieces.append(Piece(html, line))
        number = len(self._pieces) - 1
        blank = f"\n{prefix.rstrip()}\n{prefix}"
        below = f"{blank}book-caption-{number}-end {caption}" if caption else ""
        return f"{prefix.rstrip()}\n{prefix}book-piece-{number}-end{below}\n{prefix.rstrip()}"

    def fill(self, number: int, html: str) -> None:
        """Say only now what a mark stands for."""
        self._pieces[number] = Piece(html, self._pieces[number].line)

    def place(self, html: str) -> str:
        """Put every piece in its place in the page's HTML.

        Raises:
            PageError: a mark is not where a block can stand.
        """
        if self._pieces:
            self._check(html)
        captions: dict[int, str] = {}

        def keep(match: re.Match[str]) -> str:
            captions[int(match[1])] = match[2]
            return f"<p>{match[3]}</p>" if match[3] else ""

        def put(match: re.Match[str]) -> str:
            number = int(match[1] or match[3])
            made = self._pieces[number].html.replace("book-caption-here", captions.get(number, ""))
            return made + (f"<p>{match[2]}</p>" if match[2] else "")

        return _PLACE.sub(put, _CAPTION.sub(keep, html))

    def _check(self, html: str) -> None:
        alone = {int(match[1]) for match in _PLACE.finditer(html) if match[1]}
        places = _Places()
        places.feed(html)
        places.close()
        for number, piece in enumerate(self._pieces):
            around = places.found.get(number)
            if around == "p" and number in alone:
                continue
            if around is None:
                reason = "Markdown shows nothing of it"
            elif around == "comment":
                reason = "it stands in a comment, where it is not seen"
            elif around == "code":
                reason = (
                    "Markdown takes it for literal text: under a paragraph it must not be "
                    "indented, in a list item or a note it is indented by 4 columns"
                )
            elif around:
                reason = f"it stands inside <{around}>, where no block can stand"
            else:
                continue
            raise PageError(self.page, piece.line, f"this block is not set: {reason}")


def tidy(markdown: str) -> str:
    """Leave one blank line around a mark; two would end a footnote."""
    return _BLANKS_AFTER.sub(r"\1\n\n", _BLANKS.sub("\n\n", markdown))


def _indent(prefix: str) -> int:
    """How many columns a prefix indents, counted inside its innermost quotation."""
    outside, quote, inside = prefix.expandtabs(4).rpartition(">")
    odd = next((n for n in map(len, re.split(r"> ?", outside)) if n % 4), 0)
    return odd or len(inside.removeprefix(" ") if quote else inside)


class _Places(HTMLParser):
    """The element around each mark: "" where a block can stand."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[int, str] = {}
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in _VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._open:
            while self._open.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        around = next((tag for tag in reversed(self._open) if tag in _TEXT), "")
        self._note(data, "code" if around == "pre" else around)

    def handle_comment(self, data: str) -> None:
        self._note(data, "comment")

    def _note(self, data: str, around: str) -> None:
        for match in _MARK.finditer(data):
            self.found[int(match[1])] = around
