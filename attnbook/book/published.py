"""What the site says of its pages to those who do not look at them: machines, previews of links.

Each page has a description: `description` of its front matter, or the first sentences of its first
paragraph. `llms` lists all pages with theirs, in the form of llmstxt.org, with links to the
Markdown twins that `attnbook.book.twins` makes.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from pathlib import PurePosixPath
from urllib.parse import urljoin

from mkdocs.structure.nav import Navigation, Section
from mkdocs.structure.pages import Page

from attnbook.book import reading

LONGEST = 200
_HEADING = re.compile(r"<h1\b[^>]*>(.*?)</h1>", re.S)
_PARAGRAPH = re.compile(
    r"<p(?:\s(?![^>]*book-actions|[^>]*admonition-title)[^>]*)?>(.*?)</p>", re.S
)
_SENTENCE = re.compile(r"(?<=[.?!])\s+(?=[A-Z\d(\"'“‘*])")
_HIDDEN = re.compile(r"<a class=\"headerlink\".*?</a>|<script\b.*?</script>|<svg\b.*?</svg>", re.S)
_HOW = """\
The course is prose, maths, figures and code; the package `attnbook` holds its mechanisms in
PyTorch. Every block of code on a page runs in the tests, in the order of the page, in one namespace
from `torch.manual_seed(0)`; what a session prints is checked. Every number that is set beside a
paper's is in the claims ledger, with its bound. The links lead to Markdown; the page itself has the
same address with `.html` in place of `.md`, a chapter or lab is a notebook under `.ipynb`."""


@dataclass(frozen=True)
class About:
    """What is said of a page.

    Attributes:
        url: its address from the root of the site.
        title: as the navigation has it.
        heading: as the page itself has it.
        description: one line.
    """

    url: str
    title: str
    heading: str
    description: str

    @property
    def twin(self) -> str:
        """The address of its Markdown twin from the root of the site."""
        return PurePosixPath(self.url).with_suffix(".md").as_posix()


def about(page: Page, html: str) -> About:
    """Say what a page is; where it has no paragraph yet, its heading says it.

    Args:
        page: the page; `description` of its front matter goes before its own words.
        html: its content, formulas set.
    """
    match = _HEADING.search(html)
    title = _words(str(page.title))
    heading = _words(match[1]) if match else title
    given = " ".join(str(page.meta.get("description", "")).split())
    first = (_words(match[1]) for match in _PARAGRAPH.finditer(_HIDDEN.sub("", html)))
    said = given or description(next(filter(None, first), heading))
    return About(page.file.url, title, heading, said)


def description(paragraph: str) -> str:
    """The first sentences of a paragraph that fit into one line.

    >>> description("A query meets a key. What fits? " + "It depends on many things. " * 9)[:48]
    'A query meets a key. What fits? It depends on ma'
    >>> description("Three lines are most of it:")
    'Three lines are most of it.'
    """
    first, *others = _SENTENCE.split(paragraph.strip())
    for sentence in others:
        if len(first) + 1 + len(sentence) > LONGEST:
            break
        first += f" {sentence}"
    return f"{first[:-1]}." if first.endswith((":", ";", ",")) else first


def _words(html: str) -> str:
    """The words of some HTML, formulas in plain characters."""
    return " ".join(unescape(re.sub(r"<[^>]*>", "", reading.plain(_HIDDEN.sub("", html)))).split())


def llms(name: str, summary: str, site: str, nav: Navigation, pages: dict[str, About]) -> str:
    """Write llms.txt: the name, the summary, and every page of the navigation once.

    Args:
        name: of the site.
        summary: of the site.
        site: its address.
        nav: its navigation.
        pages: what is said of each page, by its address from the root.
    """
    parts = [f"# {name}", f"> {summary}", _HOW.replace("\n", " ")]
    for title, urls in _sections(nav):
        lines = [_entry(pages[url], site) for url in urls]
        parts.append("\n".join([f"## {title}", "", *lines]))
    return "\n\n".join(parts) + "\n"


def _sections(nav: Navigation) -> Iterator[tuple[str, list[str]]]:
    if alone := [item.file.url for item in nav.items if isinstance(item, Page)]:
        yield "Start here", alone
    for item in nav.items:
        if isinstance(item, Section):
            yield _words(item.title), list(_pages(item))


def _pages(section: Section) -> Iterator[str]:
    for item in section.children:
        if isinstance(item, Page):
            yield item.file.url
        elif isinstance(item, Section):
            yield from _pages(item)


def _entry(page: About, site: str) -> str:
    title = page.title.replace("[", r"\[").replace("]", r"\]")
    return f"- [{title}]({urljoin(site, page.twin)}): {page.description}"
