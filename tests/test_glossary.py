"""The glossary: its links hold, its terms are defined once, first uses are found by reading."""

import re
from pathlib import Path

import pytest

from attnbook.book.blocks import PageError
from attnbook.book.catalogue import BEHIND, ENDING, JOINER, catalogue, mend, slips, whole
from attnbook.book.citations import Bibliography
from attnbook.book.claims import Ledger
from attnbook.book.glossary import HAN, Glossary, Term, read
from attnbook.book.outline import sections
from attnbook.book.weave import Sources, Weave

ROOT = Path(__file__).parents[1]
# What a course on attention must name in Chinese.
CHINESE = """
注意力机制 聚焦式 显著性 通用近似定理 软性注意力 键值对注意力 打分函数 加性 点积 缩放点积
双线性 硬性注意力 结构化注意力 编码器-解码器 编码器 解码器 指针网络 自注意力 交叉注意力
多头注意力 位置编码 预训练 外部记忆 记忆网络 神经图灵机 联想记忆 Hopfield 快速权重
循环神经网络 卷积神经网络 全连接 查询 键 值 掩码 温度 局部注意力
"""
CHAPTER = """# A chapter

Its lead names nothing.

## The idea

A **query** meets keys. One rotates a query, and
a soft
attention follows[^1].

```python
window = 1  # a window in code is no use of the word
```

Nor is one in a formula, $window$, or a link's target, [here](window.md).

## Windows

A window is a mask. Entropies are numbers.

### Inside

Here stands the hull.
"""
PAGE = """[[term]]
term = "entropy"
zh = "熵"
is = "A number that says how many keys share the weight."
explained = "chapters/01-a-chapter.md#windows"

[[term]]
term = "query"
zh = "查询"
is = "The vector that asks, as in Luong et al. and elsewhere."
explained = "chapters/01-a-chapter.md#the-idea"

[[term]]
term = "soft attention"
zh = "软性注意力"
is = "Attention that mixes the values with weights that are none of them zero."
"""


@pytest.fixture(scope="module")
def glossary() -> Glossary:
    return read(ROOT)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "docs" / "chapters").mkdir(parents=True)
    (tmp_path / "docs" / "chapters" / "01-a-chapter.md").write_text(CHAPTER, encoding="utf-8")
    (tmp_path / "docs" / "notation.md").write_text("# Notation\n\nA hull, a mask.\n", "utf-8")
    (tmp_path / "docs" / "glossary.toml").write_text(PAGE, encoding="utf-8")
    return tmp_path


def test_every_term_is_defined_and_every_link_holds(glossary: Glossary) -> None:
    """Each target exists, and its section has the term; terms are sorted, unique and defined."""
    assert len(glossary.terms) >= 140
    assert glossary.problems() == []


def test_what_a_course_on_attention_must_name_is_there(glossary: Glossary) -> None:
    names = " ".join(term.zh for term in glossary.terms)
    assert [name for name in CHINESE.split() if name not in names] == []


def test_the_page_has_each_term_once_with_its_links(glossary: Glossary) -> None:
    text = glossary.markdown()
    headings = re.findall(r"^#### .*\{#(\S+) aria-level=3\}$", text, re.M)
    assert headings == [term.anchor for term in glossary.terms]
    entries = text.split("\n#### ")[1:]
    for term, entry in zip(glossary.terms, entries, strict=True):
        assert term.sentence in entry
        assert term.zh in entry
        assert re.search(r"\b(?:used|explained) in \[[^\]]+\]\([^)#]+#[^)]+\)", entry), term.term


def test_a_page_is_read_as_sections_without_its_code() -> None:
    found = sections(CHAPTER, "chapters/01-a-chapter.md")
    assert [s.anchor for s in found] == ["a-chapter", "the-idea", "windows", "inside"]
    assert found[3].path == ("A chapter", "Windows", "Inside")
    assert found[3].label == "01 A chapter › Inside"
    assert "window" not in found[1].prose
    twice = sections("# A\n\n## Same\n\n## Same\n", "a.md")
    assert [s.anchor for s in twice] == ["a", "same", "same_1"]


def test_first_uses_see_plurals_and_line_ends_and_not_code(root: Path) -> None:
    found = read(root)
    assert found.problems() == []
    first = {term.term: found.first_use(term) for term in found.terms}
    page = "chapters/01-a-chapter.md"
    assert {name: s and s.at for name, s in first.items()} == {
        "entropy": f"{page}#windows",
        "query": f"{page}#the-idea",
        "soft attention": f"{page}#the-idea",
    }
    window = found.first_use(Term("window", "窗口", ""))
    assert window is not None
    assert window.at == f"{page}#windows"


def test_a_section_holds_what_stands_inside_it(root: Path) -> None:
    text = PAGE.replace('term = "entropy"', 'term = "hull"')
    (root / "docs" / "glossary.toml").write_text(text, encoding="utf-8")
    assert read(root).problems() == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("#windows", "#no-such-section", "entropy: explained = 'chapters/01-a-chapter.md#no-such"),
        ("#windows", "#the-idea", "the section 'chapters/01-a-chapter.md#the-idea' does not name"),
        ('term = "entropy"', 'term = "zebra"', "query: stands behind 'zebra'"),
        ('term = "entropy"', 'term = "query"', "query: stands behind 'query'"),
        ('term = "soft attention"', 'term = "sparse attention"', "nowhere names it"),
        ('zh = "熵"', 'zh = "entropy"', "zh is not Chinese"),
        ('zh = "熵"', 'zh = "查询"', "query: '查询' already names 'entropy'"),
        ("share the weight.", "share the weight", "'is' is not one sentence"),
        ("share the weight.", "share. It is large.", "'is' is not one sentence"),
        ("A number that", "", "'is' is not one sentence"),
        ('zh = "熵"\n', "", "entropy: unknown or missing ['zh']"),
        ('zh = "熵"\n', 'zh = "熵"\ncolour = "red"\n', "entropy: unknown or missing ['colour']"),
        ('"The vector', '"the vector', "query: 'is' is not one sentence"),
        ("explained = ", "first = ", ""),
        ('explained = "chapters/01-a-chapter.md#the-idea"', 'first = "x.md#y"', "first = 'x.md#y'"),
    ],
)
def test_what_is_wrong_is_named(root: Path, old: str, new: str, message: str) -> None:
    assert old in PAGE
    (root / "docs" / "glossary.toml").write_text(PAGE.replace(old, new, 1), encoding="utf-8")
    problems = read(root).problems()
    if message:
        assert any(message in problem for problem in problems), problems
        with pytest.raises(PageError, match=r"docs/glossary\.toml"):
            woven(root)
    else:
        assert problems == []


def woven(root: Path) -> str:
    bib = root / "docs" / "bibliography.bib"
    bib.touch()
    sources = Sources(Ledger({}, root=root), Bibliography(bib))
    return Weave("# Glossary\n\n{glossary}\n", "docs/glossary.md", sources).markdown


def test_a_page_takes_the_entries_in(root: Path) -> None:
    text = woven(root)
    assert '#### entropy <span lang="zh-Hans">熵</span> {#entropy aria-level=3}' in text
    assert "First used and explained in [01 A chapter › Windows](chapters/01-a-chapter.md#" in text
    assert "First used in [01 A chapter › The idea](chapters/01-a-chapter.md#the-idea)." in text
    with pytest.raises(PageError, match=r"'\{glossary\}' is not carried out"):
        Weave("See {glossary}", "docs/x.md", Sources(Ledger({}), Bibliography(ROOT / "none.bib")))


def test_what_is_mended_in_the_search_must_be_there(tmp_path: Path) -> None:
    worker = tmp_path / "assets" / "javascripts" / "workers" / "search.1234.min.js"
    worker.parent.mkdir(parents=True)
    node, ask = "{var s=r[i],o=this.edges[s];e=e+s+o.id}return e}", "search(e){if(e=e.replace("
    ranked = ".sort((s,o)=>o.score-s.score)"
    worker.write_text(node + ask + ranked, encoding="utf-8")
    mend(tmp_path)
    mended = worker.read_text("utf-8")
    assert mended.startswith('{var s=r[i],o=this.edges[s];e=e+s+o.id+" "}return e}search(e){const ')
    assert mended.count(ranked) == 2
    with pytest.raises(ValueError, match=r"search\.1234\.min\.js: found \[0, 0, 2\]"):
        mend(tmp_path)


def test_a_whole_name_belongs_to_one_place(root: Path) -> None:
    """In small letters and the plural, and with the words that Chinese puts behind a name."""
    text = PAGE.replace('zh = "查询"', 'zh = "查询、问"\nalso = ["Request Vector"]')
    (root / "docs" / "glossary.toml").write_text(text, encoding="utf-8")
    entries = [{"location": place, "title": "", "text": ""} for place in whole(read(root))]
    catalogue(entries, read(root))
    names = {entry["location"]: entry["exact"] for entry in entries}
    every = [name for listed in names.values() for name in listed]
    assert len(every) == len(set(every))
    assert {"query", "queries", "request vector", "request vectors"} <= set(
        names["chapters/01-a-chapter.html#the-idea"]
    )
    assert {"查询", "问", "查询层", "问网络"} <= set(names["glossary.html#query"])


def test_a_slip_is_meant_for_the_shortest_name_and_is_no_word_of_another(root: Path) -> None:
    names = ("soft attention", "attention", "score", "scores-only")
    found = slips(Glossary(tuple(Term(name, "词", "") for name in names)))
    assert found["atention"].term == "attention"
    assert found["socre"].term == "score"
    assert "score" not in found  # "scores" with a letter left out
    assert "scor" not in found  # a beginning of a word is found without it


def test_the_search_knows_the_names(root: Path) -> None:
    text = PAGE.replace('zh = "查询"', 'zh = "查询向量"\nalso = ["request vector"]')
    (root / "docs" / "glossary.toml").write_text(text, encoding="utf-8")
    places = ["chapters/01-a-chapter.html#the-idea", "glossary.html#query", "index.html"]
    places += ["glossary.html#soft-attention", "faq.html#is-it-so"]
    entries = [{"location": place, "title": "t 熵值 t", "text": "无"} for place in places]
    entries[-1]["title"] = "Is it so?"
    catalogue(entries, read(root))
    idea, query, home, soft, asked = entries
    assert asked["asked"] == "is it so"
    assert "asked" not in idea
    assert home == {"location": "index.html", "title": f"t 熵值{JOINER} t", "text": f"无{JOINER}"}
    assert set(idea["names"].split()) == {
        f"query{JOINER}",
        f"queries{JOINER}",
        f"request{JOINER}vector{JOINER}",
        f"vector{JOINER}request{JOINER}",
        f"vectors{JOINER}request{JOINER}",
    }
    assert idea["names"].split().count(f"query{JOINER}") > idea["names"].split().count(
        f"vector{JOINER}request{JOINER}"
    )
    assert "names" not in query  # its section has them
    assert set(query["chinese"].split()) == {
        f"查询向量{JOINER}",
        f"询向量{ENDING}",
        f"向量{ENDING}",
        *(f"查询向量{word}{ENDING}" for word in BEHIND),
    }
    assert f"attention{JOINER}soft{JOINER}" in soft["names"]
    assert {"qeury", "qery", "querry"} <= set(idea["slips"].split())
    assert {"atention", "attenton", "sotf"} - set(soft["slips"].split()) == {"sotf"}  # too short
    assert all(HAN.search(word) for word in soft["chinese"].split())
