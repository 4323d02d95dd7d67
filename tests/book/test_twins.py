"""HTML as Markdown: each construct, and a reading by another parser."""

import pytest
from markdown_it import MarkdownIt

from attnbook.book.published import description
from attnbook.book.twins import twin

PAGES = frozenset({"index.html", "chapters/03-scores.html"})


@pytest.mark.parametrize(
    ("html", "markdown"),
    [
        ("<p>one\n two&#160;three</p>", "one two three"),
        ("<p>one<br>\ntwo</p>", "one\\\ntwo"),
        ("<h2>Why <code>d</code><a class='headerlink'>#</a></h2>", "## Why `d`"),
        ("<p><strong>bold </strong>and <em>soft</em></p>", "**bold** and *soft*"),
        ("<p>a_b _c_ * [x] costs $5</p>", r"a_b \_c\_ \* \[x\] costs \$5"),
        ("<p>- no list</p><p>1. none</p>", "\\- no list\n\n1\\. none"),
        ("<p>a - b 1. c</p>", "a - b 1. c"),
        ("<p><code>a`b</code> <code>`</code></p>", "``a`b`` `` ` ``"),
        ("<ul><li>a<ul><li>b</li></ul></li><li>c</li></ul>", "- a\n  - b\n- c"),
        ("<ol><li><p>a</p><p>b</p></li><li><p>c</p></li></ol>", "1. a\n\n   b\n\n2. c"),
        ("<blockquote><p>a</p><p>b</p></blockquote>", "> a\n>\n> b"),
        ("<dl><dt>key</dt><dd>what is compared</dd></dl>", "**key**\n\nwhat is compared"),
        (
            "<table><thead><tr><th>a</th><th class='book-number'>n</th></tr></thead>"
            "<tbody><tr><td><code>x|y</code><br>z</td><td>1</td></tr></tbody></table>",
            "| a | n |\n| --- | ---: |\n| `x\\|y`<br>z | 1 |",
        ),
        (
            '<p>See <a class="book-cite" href="#ref-x">Luong 2015</a> and '
            '<a href="../index.html#run">home</a>, <a href="03-scores.ipynb">notebook</a>.</p>',
            "See Luong 2015 and [home](../index.md#run), [notebook](03-scores.ipynb).",
        ),
        (
            r'<p><span class="arithmatex">\(q_i *k*\)</span></p>'
            '<div class="arithmatex">\\[\na &amp;= b \\\\\nc\n\\]</div>',
            "$q_i *k*$\n\n$$\na &= b \\\\\nc\n$$",
        ),
        (
            '<p>x<sup id="fnref:1"><a class="footnote-ref" href="#fn:1">1</a></sup> '
            "2<sup>8</sup></p><div class='footnote'><hr><ol><li id='fn:1'><p>Note.</p></li></ol>"
            "</div>",
            "x[^1] 2<sup>8</sup>\n\n[^1]: Note.",
        ),
        (
            '<details class="success"><summary>Solution</summary><p>Two.</p></details>',
            "**Solution**\n\nTwo.",
        ),
        (
            '<div class="book-code highlight" data-kind="session"><div class="book-bar">'
            '<span class="book-title">a.py</span></div><pre><code><span>&gt;&gt;&gt; </span>1\n'
            "\n```\n</code></pre></div>",
            "*a.py*\n\n````pycon\n>>> 1\n\n```\n````",
        ),
        (
            '<figure class="book-figure" id="fig-a"><svg aria-label="Two * lines."><text>q</text>'
            "</svg><figcaption>Which grows?</figcaption></figure>",
            "> **Figure.** Which grows?\n>\n> Seen: Two \\* lines.",
        ),
        (
            '<figure class="book-table" id="tbl-a"><figcaption>Costs.</figcaption><div><table>'
            "<tr><th>a</th></tr></table></div></figure>",
            "**Table.** Costs.\n\n| a |\n| --- |",
        ),
        (
            "<ul><li><b><code>x</code></b> – <div class='doc-md-description'><p>One.</p></div></li>"
            "</ul>",
            "- **`x`** – One.",
        ),
        ("<p>a</p><script>x</script><nav>y</nav><p class='book-actions'>z</p>", "a"),
    ],
)
def test_each_construct(html: str, markdown: str) -> None:
    assert twin(html, "chapters/02-one-equation.html", PAGES) == markdown + "\n"


def test_another_parser_reads_the_words_that_were_written() -> None:
    words = "# [a](b) *c* _d_ `e` <f> \\ 1. $x$ ~g~ !"
    html = f"<p>{words.replace('<', '&lt;')}</p>"
    (inline,) = [t for t in MarkdownIt().parse(twin(html)) if t.type == "inline"]
    assert "".join(child.content for child in inline.children or []) == words


def test_a_description_is_whole_sentences() -> None:
    sentence = "It depends, e.g. on the width."
    said = description(" ".join([sentence] * 20))
    assert said.endswith(sentence)
    assert len(said) <= 200
    assert description("x" * 500) == "x" * 500
