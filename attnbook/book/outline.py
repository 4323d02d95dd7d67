"""The course as a list of sections: what is said where, without its code.

outline(root)           the sections of all pages of the course, in its order
sections(text, page)    those of one page
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from markdown.extensions.toc import slugify  # type: ignore[import-untyped]

from attnbook.book.fences import fences

# In a folder, by name.
COURSE = ["chapters/[0-9]*.md", "labs/*.ipynb", "faq.md", "index.md", "notation.md"]
COURSE += ["bibliography.md", "timeline.md", "errata.md"]
_HEADING = re.compile(r"^(#{1,6})[ \t]+(.+?)[ \t]*#*[ \t]*$", re.M)
_NOT_PROSE = re.compile(
    r"\$\$.*?\$\$|\$[^$]+\$|<!--.*?-->|\{(?:source|claim|milestones)[^}]*\}|\[(?:title )?@[^\]]*\]"
    r"|(?<=\])\([^)\s]*\)|(?<=\])\[[\w.]*\]",
    re.S,
)


@dataclass(frozen=True)
class Section:
    """A heading of a page and the prose below it, down to the next heading of any depth."""

    page: str
    anchor: str
    path: tuple[str, ...]  # the titles from the page's down to its own
    prose: str

    @property
    def at(self) -> str:
        """The section as a link from the folder of the pages."""
        return f"{self.page}#{self.anchor}"

    @property
    def text(self) -> str:
        """Title and prose."""
        return f"{self.path[-1]}\n{self.prose}"

    @property
    def label(self) -> str:
        """How a link to the section reads."""
        page = self.path[0]
        if number := re.match(r"chapters/(\d+)-", self.page):
            page = f"{number[1]} {page}"
        return page if len(self.path) == 1 else f"{page} › {self.path[-1]}"


def outline(root: Path) -> list[Section]:
    """The sections of the course.

    Args:
        root: the repository.
    """
    docs = root / "docs"
    paths = (path for pattern in COURSE for path in sorted(docs.glob(pattern)))
    return [s for path in paths for s in sections(_text(path), path.relative_to(docs).as_posix())]


def sections(text: str, page: str) -> list[Section]:
    r"""The sections of a page, without its code, formulas, citations and the targets of its links.

    >>> [s.at for s in sections("# A page\n\nText.\n\n## Its part\n\nMore.\n", "page.md")]
    ['page.md#a-page', 'page.md#its-part']
    """
    position, kept = 0, []
    for fence in fences(text, page):
        kept.append(text[position : fence.start])
        position = fence.end
    text = "\n".join([*kept, text[position:]])
    found: list[Section] = []
    titles: dict[int, str] = {}
    used: set[str] = set()
    headings = list(_HEADING.finditer(text))
    for heading, following in zip(headings, [*headings[1:], None], strict=True):
        depth, title = len(heading[1]), heading[2].replace("`", "")
        titles = {level: name for level, name in titles.items() if level < depth} | {depth: title}
        slug = anchor = slugify(title, "-")
        number = 0
        while anchor in used:
            number += 1
            anchor = f"{slug}_{number}"
        used.add(anchor)
        prose = text[heading.end() : following.start() if following else None]
        prose = re.sub(r"[*`\[\]]", "", _NOT_PROSE.sub(" ", prose))
        found.append(Section(page, anchor, tuple(titles.values()), prose))
    return found


def _text(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return text
    cells = (cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown")
    return "\n\n".join("".join(cell["source"]) for cell in cells)
