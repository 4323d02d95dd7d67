"""A page as a notebook of the same blocks, not executed."""

import re
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import nbformat
from nbformat import NotebookNode

from attnbook.book.bindings import Names, known_after
from attnbook.book.blocks import Block
from attnbook.book.fences import fences, parse
from attnbook.book.rewrite import as_function, needs_labs, readable
from attnbook.book.scripts import code

_ADMONITION = re.compile(
    r"(?P<indent> *)(?:!!!|\?\?\?\+?|===[!+]?)[ \t]*"
    r'(?P<kind>[\w -]*?)[ \t]*(?:"(?P<title>.*)")?[ \t]*'
)
_CAPTION = re.compile(r"(?P<indent> *)Table: (?P<caption>.*)")
_ATTRIBUTES = re.compile(r"[ \t]*\{:?[ \t]*[#.][^{}]*\}[ \t]*$")
_SENTINEL = re.compile(r"[> \t]*\0(?P<index>\d+)\0")
_METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python", "file_extension": ".py"},
}


def notebook(
    text: str,
    title: str = "",
    page: str = "",
    directives: Callable[[str], str] = str,
    first_line: int = 1,
) -> NotebookNode:
    r"""The page as a notebook.

    Admonitions and folded solutions are unfolded under their title in bold. Hidden blocks are cells
    whose source is folded, blocks that do not run are text. A figure or a table is a function that
    is called, for on the page it leaves neither names nor random state behind.

    Args:
        text: the page's Markdown.
        title: what to call it, if the page has no heading of the first level.
        page: the page's name.
        directives: given the Markdown of a cell, puts text for what only the site understands:
            claims, source panels, citations.
        first_line: the number of the text's first line, where front matter was cut off.

    >>> made = notebook("# Two\n\n```pycon\n>>> 1 + 1\n2\n```\n", page="two.md")
    >>> [cell.source for cell in made.cells][2:]
    ['# Two', '1 + 1']
    """
    blocks = parse(text, page, first_line)
    for block in blocks:
        if not block.no_run:
            readable(block)
    for block in reversed(blocks):
        text = f"{text[: block.start]}{block.prefix}\0{block.index}\0{text[block.end :]}"
    extra = "'attnbook[labs]'" if any(b.fig or needs_labs(b) for b in blocks) else "attnbook"
    origin = f"*From {page}.* " if page else ""
    cells = [
        _markdown(f"{origin}This notebook needs `pip install {extra}`."),
        _code("import torch\n\n_ = torch.manual_seed(0)"),
    ]
    if title and not re.search(r"^# ", text, re.MULTILINE):
        cells.append(_markdown(f"# {title}"))
    names = Names.of(code(block) for block in blocks if not block.no_run)
    known: set[str] = set()
    lines: list[str] = []
    for line in [*_unfolded(text), "\0end"]:
        match = _SENTINEL.fullmatch(line)
        here = blocks[int(match["index"])] if match else None
        if here is not None and here.no_run:
            lines += ["```python", *here.source.splitlines(), "```", ""]
            lines.append(f"*This is not run: {here.value('reason')}*")
        elif here is not None or line == "\0end":
            markdown = directives(textwrap.dedent("\n".join(lines)).strip("\n"))
            cells += [_markdown(markdown)] if markdown.strip() else []
            lines.clear()
        else:
            lines.append(line)
        if here is not None and not here.no_run:
            cells.append(_cell(here, known, names))
            known = known if here.leaf else known_after(code(here), known)
    for number, cell in enumerate(cells, 1):
        cell.id = f"cell-{number:03d}"
    made = nbformat.v4.new_notebook(cells=cells, metadata=_METADATA)
    nbformat.validate(made)
    return made


def _cell(block: Block, known: set[str], names: Names) -> NotebookNode:
    source = as_function(block, known) if block.leaf else code(block, "cell", names)
    if not block.hide:
        return _code(source)
    return _code(source, jupyter={"source_hidden": True}, tags=["hide-input"])


def _code(source: str, **metadata: Any) -> NotebookNode:
    return nbformat.v4.new_code_cell(source, metadata=metadata)


def _markdown(source: str) -> NotebookNode:
    return nbformat.v4.new_markdown_cell(source)


def _unfolded(text: str) -> Iterator[str]:
    """The lines of a page without the indentation of its admonitions, their titles in bold."""
    literal = {
        number
        for fence in fences(text)
        for number in range(fence.line, fence.line + len(fence.lines) + 2)
    }
    open_at: list[int] = []  # the indentation of each admonition that we are inside
    for number, line in enumerate(text.split("\n"), 1):
        indent = len(line) - len(line.lstrip(" "))
        while open_at and line.strip() and indent < open_at[-1] + 4:
            open_at.pop()
        line = line[min(indent, 4 * len(open_at)) :]
        if number in literal:
            yield line
            continue
        line = _ATTRIBUTES.sub("", line)
        if match := _ADMONITION.fullmatch(line):
            open_at.append(indent)
            title = match["title"] if match["title"] is not None else match["kind"].capitalize()
            yield from [f"{match['indent']}**{title}**"] if title else []
        elif match := _CAPTION.fullmatch(line):
            yield from [f"{match['indent']}*{match['caption']}*", ""]
        else:
            yield line
