"""The HTML of a page as a tree, for what reads a page again: its Markdown twin, its description."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

_VOID = {"br", "hr", "img", "input", "link", "meta", "source", "wbr", "col", "area", "embed"}


@dataclass
class Node:
    """An element: its tag, its attributes, and its children, which are elements or text."""

    tag: str
    attrs: dict[str, str] = field(default_factory=dict)
    children: list["Node | str"] = field(default_factory=list)

    @property
    def classes(self) -> set[str]:
        """The words of its class attribute."""
        return set(self.attrs.get("class", "").split())

    @property
    def nodes(self) -> list["Node"]:
        """The children that are elements."""
        return [child for child in self.children if isinstance(child, Node)]

    def all(self, *tags: str) -> Iterator["Node"]:
        """Every element below this one with one of the tags, in the order of the page."""
        for node in self.nodes:
            if node.tag in tags:
                yield node
            yield from node.all(*tags)

    def text(self) -> str:
        """All text below it, as it stands."""
        return "".join(c if isinstance(c, str) else c.text() for c in self.children)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.root = Node("")
        self._open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        node = Node(tag, {name: value or "" for name, value in attrs})
        self._open[-1].children.append(node)
        if tag not in _VOID:
            self._open.append(node)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag in [node.tag for node in self._open[1:]]:
            while self._open.pop().tag != tag:
                pass

    def handle_data(self, data: str) -> None:
        self._open[-1].children.append(data)


def read(html: str) -> Node:
    """Read HTML into a tree whose root has no tag.

    >>> read("<p>One <em>word</em><br>more</p>").nodes[0].text()
    'One wordmore'
    """
    reader = _Reader()
    reader.feed(html)
    reader.close()
    return reader.root
