"""The HTML of what the book puts on a page: code, figures, tables, source panels."""

import re
from functools import lru_cache
from html import escape

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonConsoleLexer, PythonLexer, TextLexer, get_lexer_by_name
from pygments.util import ClassNotFound

from attnbook.book.blocks import Block
from attnbook.book.sources import Panel

_TITLE = re.compile(r'title="((?:\\.|[^"\\])*)"')
_NAME = re.compile(r"<code>[a-z_]{24,}</code>")  # as of a test, to be wrapped at its underscores
LONG = 25  # lines of code
_LABELS = {"sh": "shell", "bash": "shell", "markdown": "Markdown", "md": "Markdown"}


def code(block: Block) -> str:
    """A Python block; its buttons are put in by the script, from the page's list of scripts."""
    lines = [int(n) for n in _spread(block.value("hl_lines"))]
    title = block.value("title")
    mark = "session" if block.language == "pycon" else "code"
    note = f"Not run: {block.value('reason')}" if block.no_run else ""
    return _framed(
        _highlighted(block.source, block.language, tuple(lines)),
        title,
        note,
        str(block.index),
        mark,
    )


def lab_code(source: str) -> str:
    """A cell of a lab."""
    return _framed(_highlighted(source, "python"), "", "", "", "code")


def output(text: str) -> str:
    """What a lab's cell printed."""
    code = f'<code data-scroll="output">{escape(text)}</code>'
    return f'<div class="book-output"><pre>{code}</pre></div>'


def other(info: str, text: str) -> str:
    """A fence in another language; nothing in it runs."""
    match = re.match(r"\{?\s*\.?([\w+-]+)", info)
    language = match[1] if match else "text"
    title = _TITLE.search(info)
    return _framed(
        _highlighted(text, language), title[1] if title else "", "", "", "other", language
    )


def source(name: str, panel: Panel) -> str:
    """A folded panel with a mechanism's own lines."""
    place = f"{panel.file}, lines {panel.first_line}–{panel.last_line}"
    return (
        f'<details class="book-source"><summary>Source of <code>{escape(name)}</code> '
        f'<span class="book-place">{place}</span></summary>\n'
        f"{_framed(_highlighted(panel.code, 'python'), '', '', '', 'source')}</details>"
    )


def figure(name: str, svg: str, caption: bool) -> str:
    """A figure; the page's caption replaces the words book-caption-here."""
    below = "<figcaption>book-caption-here</figcaption>" if caption else ""
    return (
        f'<figure class="book-figure" id="{name}"><div class="book-scroll" data-scroll="figure" '
        f'data-search-exclude="yes">{svg}</div>{below}</figure>'
    )


def table(name: str, rows: list[dict[str, str]], caption: bool) -> str:
    """A computed table; a column of numbers is set flush right."""
    heads = list(rows[0])
    right = {
        head
        for head in heads
        if all(re.fullmatch(r"[-+−]?[\d.,\s]+(e[-+]?\d+)?\s?%?", row[head]) for row in rows)
    }

    def cell(tag: str, head: str, text: str) -> str:
        scope = ' scope="col"' if tag == "th" else ""
        side = ' class="book-number"' if head in right else ""
        return f"<{tag}{scope}{side}>{_text(text)}</{tag}>"

    top = "\n".join(cell("th", head, head) for head in heads)
    body = "".join(
        "<tr>{}</tr>\n".format("\n".join(cell("td", head, row[head]) for head in heads))
        for row in rows
    )
    grid = f"<table><thead><tr>{top}</tr></thead>\n<tbody>{body}</tbody></table>"
    return scrolling(grid, name, "book-caption-here" if caption else "")


def scrolling(table: str, name: str = "", caption: str = "") -> str:
    """A table that scrolls in itself where it is wider than its column; its caption stays put.

    Cells and rows stand on lines of their own, so that their words are not joined for the search.

    Args:
        table: the HTML of the table.
        name: the anchor, or "".
        caption: HTML of the caption, or "".
    """
    label = f' aria-labelledby="{name}-caption"' if caption else ""
    anchor = f' id="{name}"' if name else ""
    table = table.replace("<table", f'<table class="book-grid"{label}', 1)  # the theme leaves it be
    table = re.sub(r"<th\b[^>]*>\s*</th>", "<td></td>", table)  # an empty cell is no heading
    table = re.sub(r"<td\b([^>]*)>(.*?)</td>", _sized, table, flags=re.S)
    above = f'<figcaption id="{name}-caption">{caption}</figcaption>\n' if caption else ""
    box = f'<div class="book-scroll" data-scroll="table">{table}</div>'
    tag = "figure" if caption else "div"
    return f'<{tag} class="book-table"{anchor}>{above}{box}</{tag}>'


def _sized(cell: re.Match[str]) -> str:
    """A cell that on a narrow screen has a width for its words; a month stays whole."""
    inner = _NAME.sub(lambda name: name[0].replace("_", "_<wbr>"), cell[2])
    words = " ".join(re.sub("<[^>]+>|\\\\[()]", "", cell[2]).split())
    if "class=" in cell[1]:
        return cell[0]
    if re.fullmatch(r"\d{4}-\d\d", words):
        return f'<td class="book-short"{cell[1]}>{cell[2]}</td>'
    if len(words) < 20:
        return cell[0]
    return f'<td class="{"book-words" if len(words) < 80 else "book-prose"}"{cell[1]}>{inner}</td>'


def _text(text: str) -> str:
    """Text without Markdown, but for maths between dollar signs."""
    parts = re.split(r"(?<!\\)\$(.+?)(?<!\\)\$", text)
    return "".join(
        f'<span class="arithmatex">\\({escape(part)}\\)</span>'
        if number % 2
        else escape(part.replace("\\$", "$"), quote=False)
        for number, part in enumerate(parts)
    )


def _framed(html: str, title: str, note: str, index: str, kind: str, language: str = "") -> str:
    bar = f'<span class="book-title">{escape(title)}</span>' if title else ""
    bar += f' <span class="book-note">{escape(note)}</span>' if note else ""
    where = f' data-block="{index}"' if index else ""
    where += f' data-language="{escape(language)}"' if language else ""
    long = " book-long" if html.count("\n") >= LONG else ""  # on paper it may go on overleaf
    return (
        f'<div class="book-code highlight{long}" data-kind="{kind}"{where}>'
        f'<div class="book-bar">{bar}</div>\n'
        f'<pre><code data-scroll="code">{html}</code></pre></div>'
    )


@lru_cache(maxsize=2048)
def _highlighted(text: str, language: str, lines: tuple[int, ...] = ()) -> str:
    try:
        lexer = {"python": PythonLexer, "pycon": PythonConsoleLexer}.get(language)
        chosen = lexer() if lexer else get_lexer_by_name(_LABELS.get(language, language).lower())
    except ClassNotFound:
        chosen = TextLexer()
    formatter = HtmlFormatter(nowrap=True, hl_lines=list(lines))
    return str(highlight(text.rstrip("\n"), chosen, formatter)).rstrip("\n")


def _spread(spec: str) -> list[int]:
    """The lines of "1 3-5"."""
    found: list[int] = []
    for part in spec.split():
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found
