"""The site's search, in a real browser: each term of the glossary leads to the right page first.

Which page is right was settled before the search was tried, in the head of docs/glossary.toml: in
English the section that explains the term, else its entry in the glossary; in Chinese the entry.
"""

import json
import re
from collections.abc import Callable, Iterator
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page
from website import ROOT, served

from attnbook.book.catalogue import location, plural
from attnbook.book.glossary import Glossary, Term, read

pytestmark = [pytest.mark.site, pytest.mark.browser, pytest.mark.filterwarnings("default")]
# Types each query into the search box and waits for the list that answers it. A list is taken away
# and built anew for each query; one without a result is built of nothing, so the line above it that
# says how many there are is watched too.
ASK = """async queries => {
  const box = document.querySelector('[data-md-component=search-query]');
  const results = document.querySelector('[data-md-component=search-result]');
  const [meta, list] = [results.firstElementChild, results.querySelector('ol')];
  const frame = () => new Promise(done => setTimeout(done, 1));
  list.style.display = 'none';  // to be read, not seen: a long list takes long to lay out
  const read = item => [...item.querySelectorAll('a[href]')].map(link => ({
    href: link.href, score: Number(link.firstElementChild.dataset.mdScore),
    title: link.querySelector('h1, h2').textContent, text: link.textContent}));
  const answers = [];
  for (const query of queries) {
    const old = document.createElement('li');
    list.append(old);
    meta.textContent = '';
    box.value = query;
    box.dispatchEvent(new KeyboardEvent('keyup', {bubbles: true}));
    const until = performance.now() + 4000;
    while ((old.isConnected || !meta.textContent) && performance.now() < until) await frame();
    answers.push([...list.children].slice(0, 5).map(read));
  }
  list.style.display = '';
  return answers;
}"""
# Builds the index as the site's worker does, and compares the tree of its words with the words.
TREE = """async ({index, worker}) => {
  window.eval(await (await fetch(worker)).text());
  const build = lunr.TokenSet.fromArray;
  const made = new Promise(done => {
    lunr.TokenSet.fromArray = words => {
      const tree = build.call(lunr.TokenSet, words);
      done([words, tree.toArray()]);
      return tree;
    };
  });
  window.postMessage({type: 0, data: await (await fetch(index)).json()}, '*');
  return await made;
}"""
Answer = list[list[dict[str, Any]]]


class Sections(HTMLParser):
    """The text of each heading of a page and of what follows it, by the heading's id."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts: dict[str, str] = {}
        self._open: dict[int, str] = {}  # the ids that text belongs to, by the heading's depth
        self.feed(html[html.index("<h1") :])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if match := re.fullmatch(r"h([1-6])", tag):
            depth = int(match[1])
            self._open = {d: name for d, name in self._open.items() if d < depth}
            self._open[depth] = dict(attrs).get("id") or ""
            self.texts[self._open[depth]] = ""

    def handle_data(self, data: str) -> None:
        for name in self._open.values():
            self.texts[name] += data


@pytest.fixture(scope="module")
def glossary() -> Glossary:
    return read(ROOT)


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """Where the whole site is served."""
    with served(site) as url:
        yield url


@pytest.fixture(scope="module")
def page(browser: Browser, address: str) -> Iterator[Page]:
    """A chapter with the search open."""
    view = browser.new_page(viewport={"width": 1280, "height": 900})
    view.goto(address + "chapters/02-one-equation.html")
    view.locator("[data-md-component=search-query]").click()
    view.get_by_text("Type to start searching").wait_for()
    yield view
    view.close()


@pytest.fixture(scope="module")
def ask(page: Page, address: str) -> Callable[[list[str]], list[Answer]]:
    """Type queries into the search box; what is found, its addresses from the site's root."""

    def asked(queries: list[str]) -> list[Answer]:
        answers: list[Answer] = page.evaluate(ASK, queries)
        for answer in answers:
            for link in (link for item in answer for link in item):
                link["href"] = re.sub(r"\?h=[^#]*", "", link["href"].removeprefix(address))
        return answers

    return asked


def first(answer: Answer) -> str:
    """Where the best link of the first result leads."""
    best = max(answer[0], key=lambda link: link["score"], default=None) if answer else None
    return str(best["href"]) if best else "nowhere"


def entry(term: Term, glossary: Glossary) -> str:
    return location(f"glossary.md#{term.anchor}", glossary)


def english(glossary: Glossary) -> dict[str, str]:
    return {
        term.term: location(term.explained, glossary) if term.explained else entry(term, glossary)
        for term in glossary.terms
    }


def chinese(glossary: Glossary) -> dict[str, str]:
    return {name: entry(term, glossary) for term in glossary.terms for name in term.zh.split("、")}


def missed(
    wanted: dict[str, str], answers: list[Answer], page_is_enough: bool = False
) -> list[str]:
    found = []
    for (query, right), answer in zip(wanted.items(), answers, strict=True):
        got = first(answer)
        same = got.split("#")[0] == right.split("#")[0] if page_is_enough else got == right
        if not same:
            found.append(f"{query!r} leads to {got}, not to {right}")
    return found


@pytest.mark.parametrize("names", [english, chinese], ids=["English", "Chinese"])
def test_each_term_leads_to_the_right_section_first(
    ask: Callable[[list[str]], list[Answer]],
    glossary: Glossary,
    names: Callable[[Glossary], dict[str, str]],
) -> None:
    wanted = names(glossary)
    assert len(wanted) >= 140
    assert missed(wanted, ask(list(wanted))) == []


def test_plurals_and_other_names_lead_there_too(
    ask: Callable[[list[str]], list[Answer]], glossary: Glossary
) -> None:
    """To the right page; of its sections another may come first."""
    places = english(glossary)
    wanted = {name: places[term.term] for term in glossary.terms for name in term.also}
    for term in glossary.terms:
        *front, last = term.term.split(" ")
        if "-" not in term.term and term.term.islower():
            wanted[" ".join([*front, plural(last)])] = places[term.term]
    assert len(wanted) >= 100
    assert missed(wanted, ask(list(wanted)), page_is_enough=True) == []


def test_parts_of_words_and_of_compounds_are_found(
    ask: Callable[[list[str]], list[Answer]],
) -> None:
    wanted = {
        "normali": "chapters/04-normalizers.html",
        "softm": "chapters/04-normalizers.html#softmax-a-share-for-everyone",
        "Nadaraya": "chapters/02-one-equation.html#nadaraya-watson-regression",
        "square root of the width": "faq.html#why-divide-by-the-square-root-of-the-width",
        "attention_weights": "reference/core.html#attnbook.core.attention_weights",
        "注意": "glossary.html#attention",
        "缩放": "glossary.html#scaled-dot-product",
        "最大化": "glossary.html#sparsemax",
    }
    assert missed(wanted, ask(list(wanted))) == []
    (parts,) = ask(["网络"])
    shown = " ".join(link["title"] for item in parts for link in item)
    assert "指针网络" in shown.replace("\u2060", "")


def test_what_readers_type_is_found(ask: Callable[[list[str]], list[Answer]]) -> None:
    """With a slip of a finger, by an abbreviation, and by the other names that are in use."""
    wanted = {
        "atention": "chapters/01-why-attention.html#the-idea",
        "softmx": "chapters/04-normalizers.html#softmax-a-share-for-everyone",
        "sparesmax": "chapters/04-normalizers.html#sparsemax-the-nearest-distribution",
        "transfomer": "chapters/10-transformer.html",
        "bahdanu": "chapters/03-scores.html#additive-a-network-with-one-hidden-layer",
        "QKV": "faq.html#are-query-key-and-value-three-parts-of-the-input",
        "MHA": "chapters/08-multi-head.html#the-equation",
        "flash attention": "chapters/22-fast-attention.html#on-a-gpu",
        "掩码": "glossary.html#mask",
        "归一化": "glossary.html#normaliser",
        "硬注意力": "glossary.html#hard-attention",
        "缩放点积注意力": "glossary.html#scaled-dot-product",
        "自上而下": "glossary.html#top-down-attention",
        "序列到序列": "glossary.html#sequence-to-sequence-model",
        "最大汇聚": "glossary.html#max-pooling",
        "自注意力机制": "glossary.html#self-attention",
        "池化层": "glossary.html#pooling",
        "全连接层": "glossary.html#dense-network",
    }
    assert missed(wanted, ask(list(wanted))) == []


def test_a_question_that_readers_ask_leads_to_its_answer(
    ask: Callable[[list[str]], list[Answer]], site: Path
) -> None:
    """Typed in full, among the first three; but for two that are made of common words alone."""
    page = (site / "faq.html").read_text(encoding="utf-8")
    asked = {unescape(text): at for at, text in re.findall(r'<h3 id="([\w-]+)">([^<]+)', page)}
    assert len(asked) >= 18
    lost = []
    for (question, at), answer in zip(asked.items(), ask(list(asked)), strict=True):
        links = [max(item, key=lambda link: link["score"])["href"] for item in answer[:3]]
        if f"faq.html#{at}" not in links:
            lost.append(question)
    assert len(lost) <= 2, lost


def test_the_tree_of_words_holds_the_words_and_no_others(
    browser: Browser, address: str, site: Path
) -> None:
    """Where it does not, a query that begins a word too many ends in an error and finds nothing."""
    (worker,) = site.glob("assets/javascripts/workers/search.*.min.js")
    index = address + "search/search_index.json"
    view = browser.new_page()
    view.goto(index)
    words, tree = view.evaluate(
        TREE, {"index": index, "worker": address + worker.relative_to(site).as_posix()}
    )
    view.close()
    assert len(words) > 5000
    assert set(tree) == set(words)


def test_formulas_are_found(ask: Callable[[list[str]], list[Answer]]) -> None:
    """A heading with a formula, by the formula; and what is typed in its place."""
    root, typed = ask(["√d", "sqrt(d)"])
    assert first(root) == "labs/scores.html"
    assert "03-scores.html" in " ".join(link["href"] for item in typed[:3] for link in item)


def test_what_nobody_wrote_is_not_found(ask: Callable[[list[str]], list[Answer]]) -> None:
    assert ask(["zyzzyva", "蝴蝶"]) == [[], []]


def test_a_reader_types_and_presses_enter(browser: Browser, address: str) -> None:
    """Key by key, and a word at once, as an input method or a paste puts it in; the first opens."""
    view = browser.new_page()
    for query, right in (
        ("sparsemax", "chapters/04-normalizers.html"),
        ("自注意力", "glossary.html"),
    ):
        view.goto(address + "index.html")
        view.locator("[data-md-component=search-query]").click()
        view.get_by_text("Type to start searching").wait_for()
        if query.isascii():
            view.keyboard.type(query)
        else:
            view.keyboard.insert_text(query)
        view.locator(".md-search-result__item a").first.wait_for()
        view.keyboard.press("Enter")
        view.wait_for_url(re.compile(re.escape(right)))
        assert query in view.evaluate("document.querySelector('article').innerText").lower()
    view.close()


def test_the_names_are_searched_and_not_shown(site: Path, page: Page) -> None:
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    assert sum("chinese" in entry for entry in index["docs"]) >= 140
    assert page.evaluate(ASK, ["causal mask"])[0]
    shown = page.locator("[data-md-component=search-result]").inner_text()
    assert "causal" in shown.lower()
    assert "causal\u2060mask" not in shown


def test_each_link_of_the_glossary_leads_to_its_term(site: Path, glossary: Glossary) -> None:
    """On the built pages: the section is there, and its text has the term."""
    pages: dict[str, dict[str, str]] = {}
    for term in glossary.terms:
        use = glossary.first_use(term)
        assert use is not None
        for place in {use.at, term.explained or use.at}:
            name, _, anchor = place.partition("#")
            name = str(Path(name).with_suffix(".html"))
            if name not in pages:
                pages[name] = Sections((site / name).read_text(encoding="utf-8")).texts
            assert anchor in pages[name], f"{term.term}: {place}"
            text = pages[name][anchor].replace("\n", " ")
            assert term.pattern.search(text), f"{term.term}: {place}"
