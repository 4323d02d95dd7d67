"""A lab's executed notebook as a page of the site: its Markdown, with its code and outputs in it.

So a lab looks, copies and cites like a chapter, and carries nothing that a chapter does not: no
notebook style sheet, no script, no address of another site.
"""

import json
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

from attnbook.book import blockhtml
from attnbook.book.blocks import Block, PageError


class LabFile(File):
    """A notebook among the documentation pages."""

    def is_documentation_page(self) -> bool:
        """Say that a notebook makes a page."""
        return True


def page_file(file: File) -> LabFile:
    """The file of a notebook as one of a page."""
    return LabFile(
        file.src_uri,
        file.src_dir,
        file.dest_dir,
        file.use_directory_urls,
        inclusion=file.inclusion,
    )


def cells(path: Path) -> list[dict[str, Any]]:
    """The cells of a notebook."""
    return list(json.loads(path.read_text(encoding="utf-8"))["cells"])


def markdown(path: Path) -> tuple[str, dict[str, str]]:
    """A notebook as Markdown with marks, and the HTML that each mark stands for."""
    parts: list[str] = []
    pieces: dict[str, str] = {}

    def mark(html: str) -> None:
        name = f"book-lab-{len(pieces)}-end"
        pieces[name] = html
        parts.append(name)

    figures = 0
    for cell in cells(path):
        source = _joined(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
        elif cell["cell_type"] == "code" and source.strip():
            if "hide" not in cell.get("metadata", {}).get("tags", []):
                mark(blockhtml.lab_code(source))
            for output in cell.get("outputs", []):
                html = _output(output, f"fig-{path.stem}-{figures + 1}")
                figures += 'class="book-figure"' in html
                mark(html)
    return "\n\n".join(parts) + "\n", pieces


def check(blocks: list[Block], page: str) -> None:
    """Refuse Python in the text of a lab, where nothing runs it.

    Raises:
        PageError: names the first line of the code.
    """
    for block in blocks:
        if not block.no_run:
            code = block.source.partition("\n")[0]
            message = f"Python in the text of a lab does not run; make it a cell: {code!r}"
            raise PageError(page, block.line, message)


def place(html: str, pieces: dict[str, str]) -> str:
    """Put the code and outputs in their places."""
    return re.sub(
        r"<p>(book-lab-\d+-end)</p>", lambda match: pieces.get(match[1], match.group()), html
    )


def _output(output: dict[str, Any], name: str) -> str:
    if output["output_type"] == "stream":
        return blockhtml.output(_joined(output["text"]).rstrip("\n"))
    data = output.get("data", {})
    if "image/svg+xml" in data:
        svg = _joined(data["image/svg+xml"])
        return blockhtml.figure(name, svg, caption=False)
    if "text/html" in data:
        html = _joined(data["text/html"])
        return blockhtml.scrolling(html) if "<table" in html else html
    return blockhtml.output(_joined(data.get("text/plain", "")).rstrip("\n"))


def _joined(text: str | list[str]) -> str:
    return text if isinstance(text, str) else "".join(text)
