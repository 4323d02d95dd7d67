r"""A page as Markdown for machines that read the course: its twin, beside the page itself.

    twin(html)      the page's HTML, before its formulas are set, as Markdown

It is made from what the page shows, so claims are filled, citations are text and computed tables
are tables. A figure is its caption and its alternative text; folds are unfolded; code keeps its
lines, prompts and outputs; formulas are LaTeX between dollar signs; links to pages lead to twins.
"""

import posixpath
import re
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import urlsplit

from attnbook.book.tree import Node, read

_SVG = re.compile(r"(<svg\b[^>]*>).*?</svg>", re.S)
_SKIPPED = {"script", "style", "nav", "input", "button", "label", "svg"}
_SKIPPED_CLASSES = {"headerlink", "footnote-backref", "book-actions"}
_HEADINGS = {f"h{level}": "#" * level for level in range(1, 7)}
_BLOCKS = {"p", "div", "ul", "ol", "dl", "pre", "table", "figure", "details", "blockquote", "hr"}
_BLOCKS |= {"article", "section", "summary", "figcaption", *_HEADINGS}
_MARKS = {"em": "*", "i": "*", "cite": "*", "strong": "**", "b": "**", "del": "~~"}
_LANGUAGES = {"session": "pycon", "code": "python", "source": "python"}
_SPECIAL = re.compile(r"[\\`*\[\]]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|<(?=[a-zA-Z/!])|\$(?=\S)")
_OPENS = re.compile(r"^(?:(?=(?:[-+>]|#{1,6}) )|(\d+)(?=[.)] ))")  # would begin a list or the like


@lru_cache(maxsize=256)  # while the site is served, most pages come again as they were
def twin(html: str, here: str = "", pages: frozenset[str] = frozenset()) -> str:
    r"""Write a page as Markdown.

    Args:
        html: of its content; formulas as `\(...\)`, as arithmatex leaves them.
        here: the page's own address from the root of the site.
        pages: the addresses of all pages that have a twin.

    >>> print(twin('<h2 id="a">Why</h2><p>One <em>idea</em>: <code>x</code>.</p>'), end="")
    ## Why
    <BLANKLINE>
    One *idea*: `x`.
    """
    writer = _Writer(posixpath.dirname(here), pages)
    return "\n\n".join(writer.blocks(read(_SVG.sub(r"\1</svg>", html)))) + "\n"


class _Writer:
    """Writes one page."""

    def __init__(self, folder: str, pages: frozenset[str]) -> None:
        self.folder, self.pages = folder, pages

    def blocks(self, node: Node) -> list[str]:
        """What is in an element as blocks of Markdown; words between blocks are a paragraph."""
        found: list[str] = []
        run: list[Node | str] = []
        for child in [*node.children, Node("hr", {"class": "end"})]:
            if isinstance(child, str) or child.tag not in _BLOCKS or _described(child):
                run.append(child)
                continue
            if words := self.inline(run):
                found.append(_OPENS.sub(r"\1\\", words))
            run = []
            if "end" not in child.classes:
                found += [block for block in self.block(child) if block.strip()]
        return found

    def block(self, node: Node) -> list[str]:
        """One block element as blocks of Markdown."""
        classes = node.classes
        if node.tag in _SKIPPED or classes & _SKIPPED_CLASSES:
            return []
        if node.tag in _HEADINGS:
            return [f"{_HEADINGS[node.tag]} {self.inline(node.children)}"]
        if node.tag == "hr":
            return ["---"]
        if "arithmatex" in classes:
            return [self.inline([node])]
        if "footnote" in classes:
            return self._footnotes(node)
        if "book-figure" in classes:
            return self._figure(node)
        if "book-code" in classes or "highlight" in classes or node.tag == "pre":
            return self._code(node)
        if node.tag in ("ul", "ol"):
            return [self._list(node)]
        if node.tag == "dl":
            return self._definitions(node)
        if node.tag == "table":
            return [self._table(node)]
        if node.tag == "figcaption":
            return [f"**Table.** {self.inline(node.children)}"]
        if node.tag == "summary" or "admonition-title" in classes:
            return [f"**{self.inline(node.children)}**"]
        inside = self.blocks(node)
        return [_indented("\n\n".join(inside), "> ", "> ")] if node.tag == "blockquote" else inside

    def _figure(self, node: Node) -> list[str]:
        seen = next((svg.attrs.get("aria-label", "") for svg in node.all("svg")), "")
        seen = seen or next((image.attrs.get("alt", "") for image in node.all("img")), "")
        caption = next((self.inline(c.children) for c in node.all("figcaption")), "")
        first = f"> **Figure.** {caption}".rstrip()
        return [f"{first}\n>\n> Seen: {_escaped(seen)}" if seen else first]

    def _code(self, node: Node) -> list[str]:
        """A fence; above it the title of its block, or why it does not run."""
        kind = _LANGUAGES.get(node.attrs.get("data-kind", ""), "")
        named = [c.removeprefix("language-") for c in sorted(node.classes) if "language-" in c]
        name = node.attrs.get("data-language") or kind or "".join(named[:1])
        pres = [node] if node.tag == "pre" else list(node.all("pre"))
        text = "\n".join(pre.text().strip("\n") for pre in pres)
        longest = max(map(len, re.findall(r"`{3,}", text)), default=2)
        fence = "`" * (longest + 1)
        spans = [s for s in node.all("span") if s.classes & {"book-title", "book-note"}]
        above = [self.inline(span.children) for span in spans]
        return [*(f"*{line}*" for line in above if line), f"{fence}{name}\n{text}\n{fence}"]

    def _list(self, node: Node) -> str:
        items = []
        start = int(node.attrs.get("start", "1"))
        for number, item in enumerate((n for n in node.nodes if n.tag == "li"), start):
            sign = f"{number}. " if node.tag == "ol" else "- "
            inside = self.blocks(item)
            tight = all(block.lstrip().startswith(("- ", "1. ")) for block in inside[1:])
            body = ("\n" if tight else "\n\n").join(inside)
            items.append((_indented(body, sign, " " * len(sign)), tight))
        loose = not all(tight for _, tight in items)
        return ("\n\n" if loose else "\n").join(text for text, _ in items)

    def _definitions(self, node: Node) -> list[str]:
        found: list[str] = []
        for child in node.nodes:
            if child.tag == "dt":
                found.append(f"**{self.inline(child.children)}**")
            else:
                found += self.blocks(child)
        return found

    def _table(self, node: Node) -> str:
        rows = [[n for n in row.nodes if n.tag in ("th", "td")] for row in node.all("tr")]
        texts = [[self._cell(cell) for cell in row] for row in rows if row]
        if not texts:
            return ""
        right = ["book-number" in n.classes or "right" in str(n.attrs) for n in rows[0]]
        rule = ["---:" if number else "---" for number in right]
        return "\n".join(f"| {' | '.join(row)} |" for row in [texts[0], rule, *texts[1:]])

    def _cell(self, node: Node) -> str:
        text = "<br>".join(self.blocks(node))
        return re.sub(r"\\?\n", "<br>", text).replace("|", r"\|")

    def _footnotes(self, node: Node) -> list[str]:
        found = []
        for item in node.all("li"):
            name = item.attrs.get("id", "").removeprefix("fn:")
            found.append(_indented("\n\n".join(self.blocks(item)), f"[^{name}]: ", "    "))
        return found

    def inline(self, nodes: Iterable[Node | str]) -> str:
        """Words and what stands among them, on one line but for forced breaks."""
        text = "".join(self._word(node) for node in nodes)
        text = re.sub(r"[ \t\n\r\u00a0\u202f]+", " ", text)
        return re.sub(r" ?\0 ?", "\\\\\n", text.strip(" \0")).replace("\1", "\n")

    def _word(self, node: Node | str) -> str:
        if isinstance(node, str):
            return _escaped(node)
        if node.tag in _SKIPPED or node.classes & _SKIPPED_CLASSES:
            return ""
        if "arithmatex" in node.classes:
            return _formula(node.text())
        if node.tag == "br":
            return "\0"
        if node.tag == "img":
            return f"![{_escaped(node.attrs.get('alt', ''))}]({node.attrs.get('src', '')})"
        if node.tag == "code":
            return _literal(node.text())
        inside = "".join(self._word(child) for child in node.children)
        if node.tag == "a":
            return self._link(node, inside)
        if node.tag in ("sup", "sub", "kbd") and not inside.startswith("[^"):
            return f"<{node.tag}>{inside}</{node.tag}>"
        mark = _MARKS.get(node.tag, "")
        bare = inside.strip()
        return inside.replace(bare, f"{mark}{bare}{mark}", 1) if mark and bare else inside

    def _link(self, node: Node, inside: str) -> str:
        address = node.attrs.get("href", "")
        if "footnote-ref" in node.classes:
            return f"[^{address.partition(':')[2]}]"
        if not inside.strip() or not address or address.startswith("#"):
            return inside
        parts = urlsplit(address)
        path = posixpath.normpath(posixpath.join(self.folder, parts.path))
        if not parts.scheme and path in self.pages:
            address = parts._replace(path=parts.path.removesuffix(".html") + ".md").geturl()
        return f"[{inside}]({address})"


def _described(node: Node) -> bool:
    """A description of one paragraph behind the name of an argument: it stays on its line."""
    return "doc-md-description" in node.classes and [n.tag for n in node.nodes] == ["p"]


def _formula(text: str) -> str:
    text = text.strip()
    if text.startswith(r"\["):
        return "\1".join(["$$", *text[2:-2].strip().split("\n"), "$$"])
    return f"${text[2:-2].strip()}$"


def _literal(text: str) -> str:
    """Code among words, in more backticks than it holds."""
    ticks = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{ticks}{pad}{text}{pad}{ticks}"


def _escaped(text: str) -> str:
    return _SPECIAL.sub(r"\\\g<0>", text)


def _indented(text: str, first: str, rest: str) -> str:
    lines = text.split("\n")
    more = [f"{rest}{line}".rstrip() if line or rest.strip() else "" for line in lines[1:]]
    return "\n".join([first + lines[0], *more])
