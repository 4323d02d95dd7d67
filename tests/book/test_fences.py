"""The parser finds every Python fence in every form, and refuses what is ambiguous."""

import re

import markdown
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from attnbook.book.fences import PageError, fences, parse

FORMS = {
    "plain": ("```python\nx = 1\n```", {}),
    "space before the language": ("``` python\nx = 1\n```", {}),
    "space after it": ("```python  \nx = 1\n```", {}),
    "py": ("```py\nx = 1\n```", {}),
    "python3": ("```python3\nx = 1\n```", {}),
    "another case": ("```Python\nx = 1\n```", {}),
    "tildes": ("~~~python\nx = 1\n~~~", {}),
    "four backticks": ("````python\nx = 1\n````", {}),
    "title": ('```python title="One two"\nx = 1\n```', {"title": "One two"}),
    "title without blanks": ("```python title=one\nx = 1\n```", {"title": "one"}),
    "a word": ("```python hide\nx = 1\n```", {"hide": True}),
    "attribute list": ("```{.python hl_lines='1'}\nx = 1\n```", {"hl_lines": "1"}),
    "attribute list, blanks": ("``` { .python  hide }\nx = 1\n```", {"hide": True}),
    "class behind": ('```{title="t" .py}\nx = 1\n```', {"title": "t"}),
    "language and list": ('```python {title="t"}\nx = 1\n```', {"title": "t"}),
    "language, list, no blank": ('```python{title="t"}\nx = 1\n```', {"title": "t"}),
    "dotted language": ("```.python\nx = 1\n```", {}),
    "figure": ('```{.python fig="a-1" alt="b"}\nx = 1\n```', {"fig": "a-1", "alt": "b"}),
    "table": ('```{.python table="a" caption="c"}\nx = 1\n```', {"table": "a", "caption": "c"}),
    "escaped quotes": (r'```py title="a \"b\" {c} \\"' + "\nx = 1\n```", {"title": 'a "b" {c} \\'}),
    "other quotes": ("```{.python title='a \"b\" = c'}\nx = 1\n```", {"title": 'a "b" = c'}),
    "no-run": ('```{.python .no-run reason="r"}\nx = 1\n```', {"no_run": True, "reason": "r"}),
    "no-run first": ('```{.no-run .py reason="r"}\nx = 1\n```', {"no_run": True, "reason": "r"}),
    "windows line ends": ("```python\r\nx = 1\r\n```\r\n", {}),
    "admonition": ('??? success "S"\n\n    ```python\n    x = 1\n    ```', {}),
    "list item": ("1. one\n\n   ```python\n   x = 1\n   ```", {}),
    "tabs": ("- one\n\n\t```python\n\tx = 1\n\t```", {}),
    "blockquote": ("> ```python\n> x = 1\n> ```", {}),
    "blockquote, tight": (">```python\n>x = 1\n>```", {}),
    "blockquote in a blockquote": ("> > ```python\n> > x = 1\n> > ```", {}),
    "closing fence and blanks": ("```python\nx = 1\n```  ", {}),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_collected(form: str) -> None:
    fence, attrs = FORMS[form]
    text = f"# Title\n\nProse.\n\n{fence}\n\nMore.\n"
    (block,) = parse(text, "page.md")
    assert (block.language, block.source, block.attrs) == ("python", "x = 1\n", attrs)
    lines = text.split("\n")
    assert "x = 1" in lines[block.code_line - 1]
    assert re.search("`{3}|~{3}", lines[block.line - 1])
    whole = text[block.start : block.end]
    assert whole.startswith(block.prefix)
    assert whole.rstrip("` ~\r\n>\t") + "\n" != whole
    assert whole.count("\n") == 2


def test_sessions_are_told_from_code() -> None:
    first, second = parse("```pycon\n>>> 1\n1\n```\n```{.pycon hide}\n>>> 1\n1\n```")
    assert (first.language, second.language, second.hide) == ("pycon", "pycon", True)
    assert [first.index, second.index] == [0, 1]


@pytest.mark.parametrize(
    "text",
    [
        "````markdown\n```python\nx = 1\n```\n````",
        "````\n```python\nx = 1\n```\n````",
        "~~~text\n```python\nx = 1\n```\n~~~",
        "````markdown\n``` {.python}\nx\n````",
        '!!! note\n\n    ````markdown\n    ```python\n    x = 1\n    ```\n    ````',
        "```text\n    ```python\n```",
    ],
)  # fmt: skip
def test_what_stands_in_another_fence_is_literal(text: str) -> None:
    assert parse(text) == []
    assert len(list(fences(text))) == 1


@pytest.mark.parametrize(
    "info", ["", "bash", "text", "pytb", "toml title='x'", "{.bash}", "pythonic"]
)
def test_other_languages_are_left_alone(info: str) -> None:
    assert parse(f"```{info}\nx = 1\n```\n\nSome `python` and ``` ```python``` ```.") == []


def test_inline_code_at_the_start_of_a_line_is_no_fence() -> None:
    (block,) = parse("```python``` is inline.\n\n```python\nx = 1\n```\n")
    assert block.line == 3


def test_blank_lines_and_deeper_code_survive() -> None:
    text = "    ```python\n    def f():\n\n        return 1\n    \n    ```\n"
    (block,) = parse(text)
    assert block.source == "def f():\n\n    return 1\n\n"


def test_code_that_is_indented_deeper_than_its_fence_stays_so() -> None:
    (block,) = parse("```python\n  x = 1\n```")
    assert block.source == "  x = 1\n"


REFUSED = {
    "is never closed": (3, "# T\n\n```python\nx = 1\n"),
    "opens here is never": (3, "# T\n\n```text\nx\n\n~~~python\ny\n~~~\n"),
    "closing fence longer than": (3, "```python\nx = 1\n````\n"),
    "closing fence indented deeper": (3, "```python\nx = 1\n ```\n"),
    "left before it is closed": (3, "   ```python\n   x = 1\n```\n"),
    "of line 1 is left": (3, "> ```python\n> x = 1\n\n"),
    "line of a list's bullet": (1, "- ```python\n  x = 1\n  ```\n"),
    "list's bullet": (1, "1. ```text\n   x\n   ```\n"),
    "a fence in the comment of line 1:": (3, "<!-- old\n\n```python\nx = 1\n```\n\n-->\n"),
    "in the comment of line 2": (3, "text\n> <!-- a\n> ```text\n> x\n> ```\n> -->\n"),
    "a fence in the <pre> of line 1, where": (2, "<pre class='a'>\n```python\nx = 1\n```\n</pre>"),
    "a fence in the <script> of": (2, "<SCRIPT>\n```\nx = 1\n```\n</script>"),
    "unknown attribute 'figure'; is 'fig' meant?": (3, '# T\n\n```python figure="a"\nx\n```'),
    "unknown attribute '.norun'; is '.no-run' meant?": (1, "```{.python .norun}\nx\n```"),
    "unknown attribute 'no-run'": (1, "```python no-run\nx\n```"),
    "unknown attribute 'title'": (1, "```python title\nx\n```"),
    "unknown attribute 'hide'": (1, '```python hide="yes"\nx\n```'),
    "cannot read the attributes from 'title=": (1, '```python title="a\nx\n```'),
    "given twice": (1, "```python title=a title=b\nx\n```"),
    "no alt text": (1, '```{.python fig="a"}\nx\n```'),
    "figure 'a' has no alt text": (1, '```{.python fig="a" alt=" "}\nx\n```'),
    "alt text has '{claim'": (1, '```{.python fig="a" alt="{claim a/b}"}\nx\n```'),
    "alt text has '$'": (1, '```{.python fig="a" alt="$x$"}\nx\n```'),
    "alt text without fig": (1, '```{.python alt="a"}\nx\n```'),
    "not both": (1, '```{.python fig="a" alt="b" table="c"}\nx\n```'),
    "caption without": (1, '```{.python caption="a"}\nx\n```'),
    "a session (pycon) cannot be": (1, '```{.pycon table="a"}\n>>> 1\n```'),
    "must say why": (1, "```{.python .no-run}\nx\n```"),
    "reason without": (1, '```{.python reason="a"}\nx\n```'),
    "nothing to see": (1, '```{.python .no-run hide reason="a"}\nx\n```'),
    "not a name of the form": (1, '```{.python fig="A b" alt="a"}\nx\n```'),
    "name 'a' is taken by line 1": (4, '```py table="a"\nx\n```\n```py fig="a" alt="b"\nx\n```'),
    "hl_lines='x' is not": (1, '```{.python hl_lines="x"}\nx\n```'),
    "hl_lines='2' in a block of 1 lines": (1, '```{.python hl_lines="2"}\nx\n```'),
}  # fmt: skip


@pytest.mark.parametrize("message", REFUSED)
def test_what_is_wrong_is_named_with_page_and_line(message: str) -> None:
    line, text = REFUSED[message]
    with pytest.raises(PageError, match=re.escape(message)) as caught:
        parse(text, "docs/page.md")
    assert str(caught.value).startswith(f"docs/page.md:{line}: ")


def test_lines_count_from_the_front_matter() -> None:
    (block,) = parse("\n```python\nx\n```", first_line=5)
    assert (block.line, block.code_line) == (6, 7)
    with pytest.raises(PageError, match=r"page\.md:7: "):
        parse("\n\n```python\nx", "page.md", first_line=5)


# Pages put together from pieces whose place is known.
CODE = st.lists(
    st.sampled_from(["x = 1", "if x:", "    y = '```'", "", "# ~~~", "    ~~~~", "> 3"]), max_size=4
)
PROSE = st.sampled_from(["Prose.", "", "# Title", "`python` inline", "> quoted", "- item", "| a |"])
WRAPS = st.tuples(
    st.sampled_from(["", "    ", "   ", "> ", "> > ", "        "]),
    st.sampled_from(["```", "`````", "~~~~~"]),
    st.sampled_from(
        ["python", " py", "{.python hide}", 'python3 title="a b"', "text", "", "{.bash}"]
    ),
)


@given(st.lists(PROSE | st.tuples(WRAPS, CODE), max_size=8))
def test_no_fence_is_lost_or_doubled(parts: list) -> None:
    lines: list[str] = []
    expected = []
    for part in parts:
        if isinstance(part, str):
            lines += [part, ""]
            continue
        (prefix, fence, info), code = part
        if "py" in info:
            expected.append((len(lines) + 1, "".join(f"{line}\n" for line in code)))
        lines += [prefix + fence + info, *(prefix + line for line in code), prefix + fence, ""]
    text = "\n".join(lines)
    blocks = parse(text)
    assert [(block.line, block.source) for block in blocks] == expected
    for block in blocks:
        (again,) = parse(text[block.start : block.end])
        assert (again.source, again.attrs, again.prefix) == (
            block.source,
            block.attrs,
            block.prefix,
        )
        assert text[: block.start].count("\n") == block.line - 1


@pytest.mark.parametrize(
    "text",
    [
        "<!-- one line -->\n",
        "<!-- several\n\nlines --> and\n",
        "<pre>a</pre>\n",
        "<!-->\n",
        "<pre\nid='a'>x\n</pre>\n",
        "<!-- <pre> -->\n",
        "<prefix>\n",
        "`<!--` and <!-- in a line\n",
        "```html\n<!--\n```\n",
    ],
)  # fmt: skip
def test_a_fence_after_a_comment_is_a_fence(text: str) -> None:
    assert [block.source for block in parse(f"{text}```python\nx = 1\n```\n")] == ["x = 1\n"]


LINES = [
    "<!--",
    "x -->",
    "<pre>",
    "x</pre>",
    "```",
    "````",
    "~~~",
    "```python",
    "~~~ py",
    "x = 1",
    "",
    " ```",
    "```a`b",
    "# T",
]
QUOTED = ["> ```", "> ```py", "> x = 1", ">", ">    ```"]


@given(st.lists(st.sampled_from(LINES + QUOTED), max_size=9))
def test_what_is_accepted_is_what_commonmark_reads(lines: list[str]) -> None:
    """An independent parser sees the same fences with the same code, or we refuse the page."""
    text = "\n".join(lines)
    try:
        ours = [("".join(f"{line}\n" for line in f.lines), f.info) for f in fences(text)]
    except PageError:
        return
    tokens = MarkdownIt().parse(text)
    assert ours == [(t.content, t.info.strip()) for t in tokens if t.type == "fence"]


@pytest.mark.parametrize("form", FORMS)
def test_python_markdown_sees_a_block_where_we_do(form: str) -> None:
    """The site's renderer reads our fences as fences, given a header it knows."""
    fence, _ = FORMS[form]
    (block,) = parse(fence)
    lines = fence.replace("\r", "").split("\n")
    mark = re.search(r"`{3,}|~{3,}", lines[block.line - 1])
    assert mark is not None
    lines[block.line - 1] = f"{block.prefix}{mark.group()}python"
    html = markdown.markdown(
        "\n".join(lines), extensions=["pymdownx.superfences", "pymdownx.details", "admonition"]
    )
    assert html.count('<div class="highlight">') + html.count("<pre") >= 1
    assert re.sub("<[^>]*>", "", html).count("x = 1") == 1


@given(st.text(st.sampled_from("`~> \n\tpython{}.=\"'-ax1"), max_size=60))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        blocks = parse(text, "page.md")
    except PageError as refused:
        line = refused.line
        blocks = []
    else:
        line = 1
    ends = [0]
    for block in blocks:
        assert ends[-1] <= block.start < block.end <= len(text)
        ends.append(block.end)
    assert 1 <= line <= text.count("\n") + 1
