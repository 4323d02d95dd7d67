"""A page's blocks and directives: set where they stand, or refused with their line."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import markdown
import pytest
from mkdocs.config import load_config

from attnbook.book.citations import Bibliography
from attnbook.book.claims import Ledger
from attnbook.book.fences import PageError
from attnbook.book.weave import Sources, Weave

ROOT = Path(__file__).parents[2]
FENCE = "```python\nx = 1\n```"
BIB = """
@misc{doe2020keys, author = {Doe, Jane}, title = {Keys}, year = {2020}, eprint = {2001.00001}}
@misc{roe2021values, author = {Roe, Ann}, title = {Values}, year = {2021}, eprint = {2101.00001}}
"""


@pytest.fixture(scope="module")
def site() -> markdown.Markdown:
    """Markdown as the site sets it."""
    os.environ.setdefault("NO_MKDOCS_2_WARNING", "1")
    config = load_config(str(ROOT / "mkdocs.yml"))
    extensions = [name for name in config.markdown_extensions if "highlight" not in name]
    return markdown.Markdown(extensions=extensions, extension_configs=config.mdx_configs)


@pytest.fixture
def bibliography(tmp_path: Path) -> Bibliography:
    path = tmp_path / "small.bib"
    path.write_text(BIB, encoding="utf-8")
    return Bibliography(path)


@pytest.fixture
def page(site: markdown.Markdown, bibliography: Bibliography) -> Callable[[str], str]:
    """Set a page: its HTML, code as [CODE]."""

    def set_page(text: str) -> str:
        woven = Weave(text, "page.md", Sources(Ledger({}), bibliography))
        html = woven.finish(site.reset().convert(woven.markdown))
        html = re.sub(r'<div class="book-code.*?</pre></div>', "[CODE]", html, flags=re.S)
        return re.sub(r"\s*\n\s*", "", html)

    return set_page


def indented(columns: int, text: str = FENCE) -> str:
    return "".join(f"{' ' * columns}{line}\n" for line in text.split("\n"))


SET = {
    "after a paragraph": (f"One.\n\n{FENCE}\n\nTwo.", "<p>One.</p>[CODE]<p>Two.</p>"),
    "directly after one": (f"One.\n{FENCE}\nTwo.", "<p>One.</p>[CODE]<p>Two.</p>"),
    "list": (f"1. one\n\n{indented(4)}\n2. two", "<li><p>one</p>[CODE]</li><li><p>two</p></li>"),
    "list, tight": (f"- one\n{indented(4)}- two", "<li><p>one</p>[CODE]</li><li><p>two</p></li>"),
    "list in a list": (
        f"- a\n\n    - b\n\n{indented(8)}",
        "<ul><li><p>a</p><ul><li><p>b</p>[CODE]</li></ul></li></ul>",
    ),
    "note": (f"!!! note\n\n{indented(4)}", '<p class="admonition-title">Note</p>[CODE]</div>'),
    "fold, tight": (f'??? success "S"\n{indented(4)}', "<summary>S</summary>[CODE]</details>"),
    "list in a note": (f"!!! note\n\n    - a\n\n{indented(8)}", "<li><p>a</p>[CODE]</li>"),
    "quotation": (f"> a\n>\n> {FENCE.replace(chr(10), chr(10) + '> ')}\n", "<p>a</p>[CODE]</block"),
    "definition": (f"Word\n:   is\n\n{indented(4)}", "<p>is</p>[CODE]</dd>"),
    "footnote": (f"A[^1].\n\n[^1]: n\n\n{indented(4)}\nB.", '<p>n</p>[CODE]<p>&#160;<a class="f'),
    "footnote, more": (f"A[^1].\n\n[^1]: n\n\n{indented(4)}\n    m", "<p>n</p>[CODE]<p>m&#160;<a"),
    "HTML": (f"<div>\n\n{FENCE}\n\n</div>", "<div>[CODE]</div>"),
    "HTML with Markdown": (f'<div markdown="1">\n{FENCE}\n</div>', "<div>[CODE]</div>"),
    "a source in a list": ("- a\n\n    {source attnbook.dot}", "<p>a</p><details class="),
    "table, tight": (
        "Table: Why *so*? {#tbl-a}\n| a |\n|---|\n| b |",
        '<figure class="book-table" id="tbl-a"><figcaption id="tbl-a-caption">Why <em>so</em>?'
        '</figcaption><div class="book-scroll" data-scroll="table">'
        '<table class="book-grid" aria-labelledby="tbl-a-caption">',
    ),
    "table in a note": (
        "!!! note\n\n    Table: So {#tbl-a}\n\n    | a |\n    |---|\n    | b |",
        '</p><figure class="book-table" id="tbl-a">',
    ),
    "table without a caption": ("| a |\n|---|\n| b |", '<div class="book-table"><div '),
    "a highlighter's table": (
        '<table class="highlighttable"><tr><td>1</td></tr></table>',
        '<table class="highlighttable"><tr>',
    ),
    "a dollar": ("It costs &#36;5, `$x` and <code>$y</code>.", "costs &#36;5, <code>$x</code>"),
    "a footnote, named": ("A[^b].\n\n[^b]: n", 'class="footnote"'),
    "a note in a note": ('!!! note\n\n    ??? tip "T"\n\n        B.', "<p>B.</p>"),
    "a note in a quotation": ("> !!! note\n>\n>     B.", "<p>B.</p>"),
    "an image": ("![A dot](a.svg) <img src=a.svg alt=dot>", '<img alt="A dot" src="a.svg"'),
    "directives in comments": ("<!-- {claim a/b} [@no2000no] -->\n\nA.", "[@no2000no] --><p>A."),
    "directives in code": ("`{source a}`, <code>{claim a}</code>", "{source a}</code>"),
    "words in braces": ("$n_{source}$ of {source, target}", "{source, target}"),
    "a decorator": ("[`@torch.no_grad`] a@doe2020keys.org", "[<code>@torch.no_grad</code>] a@doe"),
    "a citation and a colon": (
        "[@doe2020keys]: a\n\nAs [@doe2020keys, p. 2; see @roe2021values]: b\n\n\\bibliography",
        '<p>(<a class="book-cite" href="#ref-doe2020keys">Doe\u00a02020</a>): a</p>',
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SET)
def test_what_is_set_stands_where_it_was_written(case: str, page: Callable[[str], str]) -> None:
    text, expected = SET[case]
    html = page(f"# T\n\n{text}\n")
    assert expected in html
    assert not re.search(r"book-[a-z]+-[\w-]*end", html)
    assert "<p></p>" not in html


REFUSED = {
    "four columns under a paragraph": (f"A.\n\n{indented(4)}", 5, "takes it for literal text"),
    "directly under one": (f"A.\n{indented(4)}", 4, "takes it for literal text"),
    "eight in a list": (f"1. a\n\n{indented(8)}", 5, "takes it for literal text"),
    "two columns": (f"- a\n\n{indented(2)}", 5, "indented by 2 columns"),
    "three columns": (f"1. a\n\n{indented(3)}", 5, "indented by 3 columns"),
    "six columns": (f"1. a\n\n    - b\n\n{indented(6)}", 7, "indented by 6 columns"),
    "two in a quotation": (">   ```sh\n>   x\n>   ```", 3, "indented by 2 columns"),
    "a source under a paragraph": ("A.\n\n    {source attnbook.dot}", 5, "takes it for literal"),
    "a source in a heading": ("<h2>\n{source attnbook.dot}\n</h2>", 4, "stands inside <h2>"),
    "a comment": (f"<!-- a\n\n{FENCE}\n\n-->", 5, "a fence in the comment of line 3"),
    "a source in a sentence": ("See {source attnbook.dot}.", 3, "alone on its line"),
    "a claim, misspelt": ("It is { claim a/b}.", 3, "it is written {claim stem/name}"),
    "a claim, not closed": ("It is {claim a/b.", 3, "it is written {claim stem/name}"),
    "a list in a list": ("- \\bibliography", 3, "alone on its line"),
    "a table without a name": ("Table: A\n\n| a |\n|---|\n| b |", 3, "{#tbl-name}"),
    "a caption without a table": (
        "B.\n\nTable: A {#tbl-a}\n\nC.\n\n| a |\n|---|\n| b |", 5, "directly above a table (tbl-a)",
    ),
    "a name, twice": (
        "Table: A {#tbl-a}\n\n| a |\n|---|\n| b |\n\nTable: A {#tbl-a}\n\n| a |\n|---|\n| b |",
        9, "the name 'tbl-a' is taken by line 3",
    ),
    "maths, not closed": ("A.\n\n$$\nx + y\n\nB.", 5, "$$ is left on the page"),
    "maths in a line, not closed": ("A.\n\nThe width $d_k is.", 5, "'$' is left on the page"),
    "maths between blanks": ("The width $ d_k $ is.", 3, "close the formula, or write &#36;"),
    "maths that a table cuts": ("| a |\n|---|\n| $|x|$ |", 5, "'$' is left on the page"),
    "maths in HTML": ("<p>$x$</p>", 3, "'$' is left on the page"),
    "an image without words": ("![](a.svg)", 3, "the image 'a.svg' has no alternative text"),
    "an image in HTML": ('<img src="a.svg" alt="">', 3, "the image 'a.svg' has no alternative"),
    "a footnote without a text": ("A[^1].", 3, "the footnote [^1] has no text"),
    "a note that is not indented": ("!!! note\nText.", 3, "nothing belongs to this note"),
    "a solution beside its fold": ('A.\n\n??? success "S"\n\nB.', 5, "nothing belongs to this"),
    "a block beside its fold": (f'??? success "S"\n\n{FENCE}', 3, "nothing belongs to this note"),
    "a capital": ("It is {Claim a/b}.", 3, "it is written {claim stem/name}"),
    "a plural": ("{sources attnbook.dot}", 3, "alone on its line"),
    "LaTeX's citation": (r"As \cite{doe2020keys}.", 3, "a citation is written [@key]"),
    "a citation without its sign": ("As [doe2020keys, p. 2].", 3, "written with an @, [@key]"),
    "two citations and a comma": (
        "A [@doe2020keys, @roe2021values].\n\n\\bibliography", 3, "parted by a semicolon",
    ),
    "no list": ("A.\n\nAs [@doe2020keys].", 5, "has no line \\bibliography"),
    "a caption without its word": ("A {#tbl-a}\n\n| a |\n|---|\n| b |", 3, "Table: caption"),
    "a caption with a small letter": ("table: A {#tbl-a}\n\n| a |\n|---|\n| b |", 3, "'Table: c"),
    "a place without a comma": ("A [@doe2020keys section 3].", 3, "write [@key], [@key, section"),
    "an empty half": ("A [@doe2020keys;].", 3, "write [@key], [@key, section"),
    "a full stop inside": ("A [@doe2020keys.].", 3, "write [@key], [@key, section"),
    "two citations": ("A [@doe2020keys][@roe2021values].", 3, "[@one; @two]"),
    "no space": ("A[@doe2020keys].", 3, "leave a space before it"),
    "no brackets": ("As @doe2020keys says.", 3, "stands in brackets of its own"),
    "a citation in a link": ("[A @doe2020keys](a.md)", 3, "stands in brackets of its own"),
    "brackets in brackets": ("[@doe2020keys, [A](a.md)]", 3, "stands in brackets of its own"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_set_is_named_with_its_line(case: str, page: Callable[[str], str]) -> None:
    text, line, message = REFUSED[case]
    with pytest.raises(PageError, match=re.escape(message)) as caught:
        page(f"# T\n\n{text}\n")
    assert str(caught.value).startswith(f"page.md:{line}: ")


@pytest.mark.parametrize(
    ("text", "phrase", "line"),
    [
        ("`$\\foo$` and\n\n$\\foo$", r"\foo", 5),  # not in code
        ("```sh\n\\foo\n```\n\n$\\foo$", r"\foo", 7),
        ("- a\n\n    $$\n    x\n    + \\foo\n    $$", "x\n+ \\foo", 6),  # indented on the page
        ("> $x +\n> \\foo$", "x +\n\\foo", 3),
        ('```{.python table="t"}\n["\\foo"]\n```', r"\foo", 4),  # nowhere else
        ("A.", "nothing of it", 1),
    ],
)
def test_the_line_of_a_formula_is_found(
    text: str, phrase: str, line: int, bibliography: Bibliography
) -> None:
    woven = Weave(f"# T\n\n{text}\n", "page.md", Sources(Ledger({}), bibliography))
    assert woven.line_of(phrase) == line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('said "$w$"', "said “M”"),
        ('"the weight $w$".', "“the weight M”."),
        ('"$w$" is', "“M” is"),
        ('("in $w$")', "(“in M”)"),
        ("$w$'s '$w$'", "M’s ‘M’"),
        ("\"the '$w$'\"", "“the ‘M’”"),
        ('"a **$w$**"', "“a M”"),
        ('a "$x$-weight" b', "a “M-weight” b"),
        ('$x$-"weight" of "weights"', "M-“weight” of “weights”"),
        ('"`x`" and *"y"* and *y*"', "“x” and “y” and y”"),
        ('"(a) b" and 2" wide', "“(a) b” and 2” wide"),
        ('"[@doe2020keys]" x', "“(Doe\u00a02020)” x"),
        ("'90s and the keys' $w$", "’90s and the keys’ M"),
    ],
)
def test_quotation_marks_turn_the_right_way(
    text: str, shown: str, page: Callable[[str], str]
) -> None:
    html = page(f"{text}\n\n\\bibliography\n").partition("</p>")[0]
    html = re.sub(r'<span class="arithmatex">.*?</span>', "M", html)
    for name, sign in {"ldquo": "“", "rdquo": "”", "lsquo": "‘", "rsquo": "’"}.items():
        html = html.replace(f"&{name};", sign)
    assert re.sub(r"<[^>]*>", "", html) == shown
