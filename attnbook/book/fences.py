"""The fences of a page: which of its blocks are Python, where they stand, what was asked of them.

    parse(text, page="") -> list[Block]       every Python block of a page, in order
    fences(text, page="") -> iterator         every fence, of whatever language

One parser serves the site, the tests and the snippets (`attnbook.book.guard` finds what would slip
past it). A fence is a line of three or more backticks or tildes. Ours are of language `python`,
`py`, `python3` or `py3`, which run, or `pycon`, a session compared with its printed output:

    ```python                       ``` python                       ~~~py
    ```python title="t" hide        ```{.python fig="n" alt="a"}     ```python {title="t"}

A fence may be indented (admonitions, list items) or quoted (`> `). A longer outer fence is literal:
nothing inside it runs. What two Markdown readers would read differently is an error, not a guess: a
fence that is not closed, is closed by a longer or an indented one, opens on the line of a list's
bullet, has lines that leave its indentation, or stands in a comment or another literal part of HTML
(`<pre>`, `<script>`, `<style>`, `<textarea>`), where it would run and not be seen.

The scanner is our own: sybil's `RawFencedCodeBlockLexer` runs fences inside longer outer fences,
takes an unclosed fence to reach the end of the page, takes inline code at the start of a line for
a fence, and dedents the code of the block, which hides a wrong indentation.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from attnbook.book import attributes
from attnbook.book.blocks import Block, PageError

__all__ = ["Block", "Fence", "PageError", "fences", "parse"]

_OPEN = re.compile(r"(?P<prefix>[> \t]*)(?P<fence>`{3,}|~{3,})(?P<info>.*)$")
_ON_BULLET = re.compile(r"[> \t]*(?:(?:[-*+:]|\d+[.)])[ \t]+)+(?:`{3,}[^`]*|~{3,}[^~]*)$")
_LITERAL = re.compile(r"[> \t]*<(?P<tag>!--|(?:pre|script|style|textarea)\b)", re.IGNORECASE)
_LITERAL_END = {"!--": re.compile(r"-->")} | {
    tag: re.compile(rf"</{tag}\s*>", re.IGNORECASE)
    for tag in ("pre", "script", "style", "textarea")
}


@dataclass(frozen=True)
class Fence:
    """Any fence, of whatever language."""

    info: str
    lines: list[str]
    line: int
    prefix: str
    start: int
    end: int


def parse(text: str, page: str = "", first_line: int = 1) -> list[Block]:
    r"""All Python blocks of a page, in order.

    Args:
        text: the page's Markdown.
        page: the page's name, for errors.
        first_line: the number of the text's first line, where what stood before it was cut off.

    Raises:
        PageError: a fence that is not closed or is ambiguous, an unknown or ill-formed attribute,
            a figure without alt text; with page and line.

    >>> block, = parse("```{.python fig='ramp' alt='A ramp'}\nx = 1\n```\n")
    >>> block.language, block.fig, block.code_line, block.source
    ('python', 'ramp', 2, 'x = 1\n')
    """
    blocks: list[Block] = []
    names: dict[str, int] = {}
    for fence in fences(text, page, first_line):
        try:
            language, attrs = attributes.read(fence.info)
            if language is None:
                continue
            attributes.check(language, attrs, len(fence.lines))
        except ValueError as error:
            raise PageError(page, fence.line, str(error)) from None
        source = "".join(f"{line}\n" for line in fence.lines)
        place = (fence.line, attrs, fence.prefix, fence.start, fence.end)
        block = Block(language, source, *place, page, len(blocks))
        if name := block.fig or block.table:
            if name in names:
                message = f"the name {name!r} is taken by line {names[name]}"
                raise PageError(page, block.line, message)
            names[name] = block.line
        blocks.append(block)
    return blocks


def fences(text: str, page: str = "", first_line: int = 1) -> Iterator[Fence]:
    """Every fence of a page, the nested ones left inside their outer fence."""
    opening: re.Match[str] | None = None
    lines: list[str] = []
    literal, literal_line = "", 0  # the HTML that is open, whose content is not Markdown
    start = start_line = position = 0
    for number, raw in enumerate(text.split("\n"), first_line):
        line, begin = raw.removesuffix("\r"), position
        position += len(raw) + 1
        if opening is None:
            match = _OPEN.match(line)
            if match and not ("`" in match["fence"] and "`" in match["info"]):
                if literal:
                    raise PageError(page, number, _in_html(literal, literal_line))
                opening, lines, start, start_line = match, [], begin, number
            elif _ON_BULLET.match(line):
                raise PageError(
                    page,
                    number,
                    "a fence opens on the line of a list's bullet; give it a line of its own",
                )
            else:
                before, literal = literal, _literal(line, literal)
                literal_line = literal_line if before and literal else number
            continue
        content = _content(line, opening["prefix"])
        if content is None:
            raise PageError(
                page, number, f"the fence of line {start_line} is left before it is closed"
            )
        bare, size = content.strip(), len(opening["fence"])
        if (
            bare.strip(opening["fence"][0])
            or len(bare) < size
            or len(content) - len(content.lstrip()) > 3
        ):
            lines.append(content)
        elif len(bare) > size or content[0] in " \t":
            how = "longer" if len(bare) > size else "indented deeper"
            raise PageError(
                page, number, f"a closing fence {how} than the opening one of line {start_line}"
            )
        else:
            end = begin + len(line)
            yield Fence(opening["info"].strip(), lines, start_line, opening["prefix"], start, end)
            opening = None
    if opening is not None:
        raise PageError(page, start_line, "the fence that opens here is never closed")


def _literal(line: str, tag: str) -> str:
    """Which literal HTML is open after a line, "" for none; `tag` was open before it."""
    if not tag:
        found = _LITERAL.match(line)
        if found is None:
            return ""
        tag = found["tag"].lower()
    return "" if _LITERAL_END[tag].search(line) else tag


def _in_html(tag: str, line: int) -> str:
    """Say that a fence stands in literal HTML."""
    if tag == "!--":
        return (
            f"a fence in the comment of line {line}: its code would run and not be seen; "
            "take the fence out, or close the comment before it"
        )
    return f"a fence in the <{tag}> of line {line}, where it is no fence; close <{tag}> before it"


def _content(line: str, prefix: str) -> str | None:
    """The line without the prefix of its fence; None where it has left the fence."""
    width, quotes = len(prefix.expandtabs(4)), prefix.count(">")
    if not line.strip() and not quotes:
        return line[len(prefix) :]
    column = seen = used = 0
    for character in line:
        if column >= width or character not in "> \t":
            break
        column += 4 - column % 4 if character == "\t" else 1
        seen += character == ">"
        used += 1
    content = line[used:]
    if seen != quotes or (column < width and content.strip()):
        return None
    return content
