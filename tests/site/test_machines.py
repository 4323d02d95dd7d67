"""What machines read: a Markdown twin of each page, llms.txt, what previews of links show."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token
from website import SUB_PATH

from attnbook.book.tree import Node, read

pytestmark = pytest.mark.site
ADDRESS = f"http://127.0.0.1{SUB_PATH}/"
# What only our own pages, or HTML, would understand.
LEFT = re.compile(
    r"\{claim|\{source|\{scoreboard|\\bibliography|\[@\w|^:::|^Table: |\{#|\{\.|\{lang="
    r"|book-\w+-\d*-?end|<(?:div|span|svg|math|figure|table|a|p)\b|\\\(|\\\[(?!\\?\w*\\?\]|\d)",
    re.M,
)


def names(site: Path) -> list[str]:
    found = sorted(path.relative_to(site).as_posix() for path in site.rglob("*.html"))
    return [name for name in found if name != "404.html"]


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, Node]:
    return {name: read((site / name).read_text(encoding="utf-8")) for name in names(site)}


@pytest.fixture(scope="module")
def articles(pages: dict[str, Node]) -> dict[str, Node]:
    return {name: next(page.all("article")) for name, page in pages.items()}


@pytest.fixture(scope="module")
def twins(site: Path) -> dict[str, str]:
    return {
        name: (site / name).with_suffix(".md").read_text(encoding="utf-8") for name in names(site)
    }


def parsed(text: str) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(text)


def words(text: str) -> str:
    return re.sub(r"[\W_]+", " ", text).strip()


def metas(page: Node) -> dict[str, str]:
    found = [node.attrs for node in page.all("meta")]
    return {a.get("property") or a.get("name", ""): a.get("content", "") for a in found}


def test_each_page_points_to_its_twin(site: Path, pages: dict[str, Node]) -> None:
    for name, page in pages.items():
        links = [
            link.attrs["href"]
            for link in page.all("link")
            if link.attrs.get("rel", "").split() == ["alternate"]
            and link.attrs["type"] == "text/markdown"
        ]
        assert len(links) == 1, name
        assert ((site / name).parent / links[0]).resolve() == (site / name).with_suffix(".md")


def test_a_twin_has_the_headings_of_its_page(
    articles: dict[str, Node], twins: dict[str, str]
) -> None:
    tags = [f"h{level}" for level in range(1, 7)]
    for name, article in articles.items():
        tokens = parsed(twins[name])
        found = [int(token.tag[1]) for token in tokens if token.type == "heading_open"]
        assert found == [int(node.tag[1]) for node in article.all(*tags)], name
        assert found[0] == 1, name


def test_a_twin_has_the_code_of_its_page(articles: dict[str, Node], twins: dict[str, str]) -> None:
    seen = 0
    for name, article in articles.items():
        found = [token.content.strip("\n") for token in parsed(twins[name]) if token.tag == "code"]
        assert found == [pre.text().strip("\n") for pre in article.all("pre")], name
        seen += len(found)
    assert seen > 100


def test_a_twin_has_the_figures_and_tables_of_its_page(
    articles: dict[str, Node], twins: dict[str, str]
) -> None:
    seen = 0
    for name, article in articles.items():
        text = words(twins[name])
        tokens = parsed(twins[name])
        assert sum(t.type == "table_open" for t in tokens) == len(list(article.all("table"))), name
        for figure in article.all("figure"):
            for svg in figure.all("svg"):
                seen += 1
                assert words(svg.attrs["aria-label"]) in text, f"{name}: {figure.attrs['id']}"
            for caption in figure.all("figcaption"):
                plain = Node("", {}, [c for c in caption.children if isinstance(c, str)]).text()
                assert words(plain)[:60] in text, f"{name}: {figure.attrs['id']}"
        assert ("<math" not in str(article)) or "$" in twins[name]
    assert seen > 10


def test_nothing_of_our_own_syntax_is_left_in_a_twin(twins: dict[str, str]) -> None:
    left = {}
    for name, text in twins.items():
        prose = re.sub(r"^( *>? *)(`{3,}).*?^\1\2 *$", "", text, flags=re.M | re.S)
        prose = re.sub(r"(`+)(?!`).+?(?<!`)\1(?!`)|\$\$.*?\$\$|\$[^$]+\$", "", prose, flags=re.S)
        if found := LEFT.search(prose):
            left[name] = prose[max(0, found.start() - 40) : found.end() + 40]
    assert not left


def links(tokens: list[Token]) -> list[str]:
    found: list[str] = []
    for token in tokens:
        if token.type == "link_open":
            found.append(str(token.attrs["href"]))
        found += links(token.children or [])
    return found


def test_the_links_of_a_twin_lead_somewhere(site: Path, twins: dict[str, str]) -> None:
    broken = []
    for name, text in twins.items():
        for link in links(parsed(text)):
            parts = urlsplit(link)
            if not parts.scheme and not ((site / name).parent / unquote(parts.path)).is_file():
                broken.append(f"{name}: {link}")
    assert not broken


def test_llms_txt_lists_every_page_once(site: Path, twins: dict[str, str]) -> None:
    text = (site / "llms.txt").read_text(encoding="utf-8")
    tokens = parsed(text)
    assert text.startswith("# attnbook\n\n> ")
    assert {t.tag for t in tokens if t.type == "heading_open"} == {"h1", "h2"}
    entries = re.findall(r"^- \[(.+?)\]\((\S+)\): (.*)$", text, re.M)
    assert len(entries) == text.count("\n- ")
    assert all(len(said) > 15 for _, _, said in entries)
    assert sorted(url for _, url, _ in entries) == sorted(
        urljoin(ADDRESS, name).removesuffix(".html") + ".md" for name in twins
    )


def test_each_page_says_what_it_is(pages: dict[str, Node]) -> None:
    descriptions, titles = {}, {}
    for name, page in pages.items():
        said = metas(page)
        titles.setdefault(next(page.all("title")).text(), []).append(name)
        descriptions.setdefault(said["description"], []).append(name)
        assert 25 <= len(said["description"]) <= 300, f"{name}: {said['description']}"
        assert not LEFT.search(said["description"]), name
    assert {said: where for said, where in descriptions.items() if len(where) > 1} == {}
    assert {title: where for title, where in titles.items() if len(where) > 1} == {}


def test_previews_have_what_they_show(site: Path, pages: dict[str, Node]) -> None:
    for name, page in pages.items():
        said: dict[str, Any] = metas(page)
        assert said["og:title"], name
        assert said["og:description"] == said["description"], name
        assert said["og:type"] == ("website" if name == "index.html" else "article")
        assert said["og:url"] == urljoin(ADDRESS, name)
        assert said["twitter:card"] == "summary_large_image"
        assert said["og:image"].startswith(ADDRESS)
        assert len(said["og:image:alt"]) > 20
        picture = (site / said["og:image"].removeprefix(ADDRESS)).read_bytes()
        assert picture.startswith(b"\x89PNG\r\n")
        size = [int.from_bytes(picture[at : at + 4], "big") for at in (16, 20)]
        assert size == [int(said["og:image:width"]), int(said["og:image:height"])]
        assert len(picture) < 300_000
