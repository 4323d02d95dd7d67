"""The plugin: what is wrong with a page ends the build by name; code runs only when it must."""

import json
import logging
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.exceptions import Abort, BuildError, PluginError
from mkdocs.structure.pages import Page

from attnbook.book import drawn

pytestmark = pytest.mark.filterwarnings("default")
BIB = """
@inproceedings{bahdanau2015neural,
  author = {Bahdanau, Dzmitry and Cho, Kyunghyun and Bengio, Yoshua},
  title = {Neural Machine Translation by {J}ointly Learning},
  booktitle = {ICLR}, year = {2015}, eprint = {1409.0473},
}
@article{nadaraya1964estimating,
  author = {Nadaraya, Elizbar}, title = {On Estimating Regression}, journal = {Theory},
  year = {1964}, volume = {9}, number = {1}, pages = {141--142},
}
"""
CLAIMS = """
[[claim]]
id = "demo/error"
chapter = "03-demo"
statement = "The error is small."
kind = "analogue"
source = "bahdanau2015neural"
where = "table 1"
published = "5 %"
checked = true
lab = "demo"
value = "error"
max = 0.1
format = ".1%"
"""
RESULT = {"lab": "demo", "values": {"error": {"worst": 0.042, "per_seed": [0.04, 0.042]}}}
RESULT |= {"torch": "2.13.0", "date": "2026-01-01", "cpu_seconds": 2, "seeds": [0, 1], "steps": 10}
PLOT = """```{.python fig="ramp" alt="A line that rises" caption="Does $x$ rise?"}
from attnbook import plotting
figure, ax = plotting.axes()
ax.plot([0, 1], [0, 1])
figure
```
"""


class Site:
    """A small site in a folder of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.docs = root / "docs"
        (self.docs / "labs" / "results").mkdir(parents=True)
        (self.docs / "chapters").mkdir()
        self.write("bibliography.bib", BIB)
        self.write("claims.toml", CLAIMS)
        self.write("labs/results/demo.json", json.dumps(RESULT))
        self.config = {
            "site_name": "small",
            "site_url": "http://127.0.0.1/",
            "use_directory_urls": False,
            "dev_addr": "127.0.0.1:0",
            "theme": {"name": "material", "font": False},
            "plugins": ["attnbook"],
            "markdown_extensions": [
                "admonition",
                "attr_list",
                "tables",
                "toc",
                {"pymdownx.arithmatex": {"generic": True}},
                "pymdownx.details",
                "pymdownx.superfences",
            ],
            "exclude_docs": "*.toml\n*.bib\n/labs/results/",
            "validation": {"links": {"anchors": "warn", "not_found": "warn"}},
        }

    def write(self, name: str, text: str) -> None:
        (self.docs / name).write_text(text, encoding="utf-8")

    def build(self, text: str | None = None, name: str = "chapters/03-demo.md") -> str:
        """Build strictly; the page's HTML."""
        if text is not None:
            self.write(name, text)
        if not (self.docs / "index.md").exists():
            self.write("index.md", "# Home\n")
        (self.root / "mkdocs.yml").write_text(json.dumps(self.config), encoding="utf-8")
        config = load_config(str(self.root / "mkdocs.yml"), strict=True)
        config.plugins.on_startup(command="build", dirty=False)
        build(config)
        page = self.root / "site" / re.sub(r"\.(md|ipynb)$", ".html", name)
        return page.read_text(encoding="utf-8")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def failure(site: Site, caplog: pytest.LogCaptureFixture) -> Callable[[str], str]:
    """Build a page that must fail; what is said."""

    def build_and_fail(text: str) -> str:
        logging.getLogger("mkdocs").propagate = True
        with caplog.at_level(logging.WARNING), pytest.raises((Abort, BuildError)) as raised:
            site.build(text)
        return caplog.text + str(raised.value)

    return build_and_fail


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "# A\n\nAs said [@nobody2000nothing].\n",
            "03-demo.md:3: unknown citation 'nobody2000nothing'",
        ),
        ("# A\n\nAs said [@bahdanau2015neural].\n", "no line \\bibliography"),
        ("# A\n\nIt is {claim demo/nothing}.\n", "03-demo.md:3: unknown claim 'demo/nothing'"),
        (
            "# A\n\nIt is {claim demo/error median}.\n",
            "03-demo.md:3: {claim demo/error median} is not",
        ),
        ("# A\n\n{source attnbook.scores.nothing}\n", "03-demo.md:3: unknown name"),
        ("# A\n\nIt is $\\unknowncommand x$.\n", "03-demo.md:3: cannot set $\\unknowncommand x$"),
        ("# A\n\n```python\nx = 1\n", "03-demo.md:3: the fence that opens here is never closed"),
        ("# A\n\n[there](#nowhere)\n", "chapters/03-demo.md' contains a link '#nowhere'"),
        ("# A\n\n[there](../index.md#nowhere)\n", "does not contain an anchor '#nowhere'"),
        ("# A\n\n[there](04-none.md)\n", "chapters/03-demo.md' contains a link '04-none.md'"),
        (
            "# A\n\n" + PLOT.replace(' alt="A line that rises"', ""),
            "03-demo.md:3: the figure 'ramp' has",
        ),
        ("# A\n\nTable: Costs {#tbl-costs}\n\nNo table.\n", "Table: ...' that does not stand"),
        ("---\ntitle: A\n---\n\n# A\n\n{claim demo/nothing}\n", "03-demo.md:7: unknown claim"),
    ],
    ids=lambda value: value[-30:].strip() if isinstance(value, str) else "",
)
def test_what_is_wrong_is_said_with_its_place(
    text: str, said: str, failure: Callable[[str], str]
) -> None:
    assert said in failure(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("# A\n\n```python\nx = 1\nx / 0\n```\n", "03-demo.md:5: ZeroDivisionError"),
        ("# A\n\n```pycon\n>>> 1 + 1\n3\n```\n", "03-demo.md:4: the output differs"),
        ("# A\n\n```pycon\n>>> 1.26\n1.2\n```\n", "03-demo.md:4: the output differs"),
        (PLOT.replace("\nfigure\n", "\n7\n"), "03-demo.md:5: the last expression must be"),
        (
            PLOT.replace("[0, 1])", "[0, 1], color='#ff00ff')"),
            "03-demo.md:1: figure 'ramp': colour",
        ),
    ],
    ids=["raises", "wrong output", "wrong digit", "no figure", "foreign colour"],
)
def test_code_that_fails_ends_the_build_with_its_line(
    text: str, said: str, failure: Callable[[str], str]
) -> None:
    assert said in failure(text)


def test_a_page_that_ends_its_process_is_named(failure: Callable[[str], str]) -> None:
    said = failure("# A\n\n```python\nimport os\nos._exit(3)\n```\n")
    assert "chapters/03-demo.md:1: the page could not be run: its process ended with" in said
    assert "the exit code 3" in said


def test_every_page_that_fails_is_named_at_once(site: Site, failure: Callable[[str], str]) -> None:
    site.write("chapters/04-other.md", "```python\nraise KeyError('lost')\n```\n")
    said = failure("```python\nx = unknown\n```\n")
    assert "04-other.md:2: KeyError" in said
    assert "03-demo.md:2: NameError" in said


def test_a_page_has_all_that_the_book_gives(site: Site) -> None:
    html = site.build(
        "# A demo\n\nIt is {claim demo/error}, not {claim demo/error published}, for it is "
        "{claim demo/error bound} [@nadaraya1964estimating; see @bahdanau2015neural, section 3].\n"
        "`{claim demo/error}` and `[@nobody]` are left.\n\n"
        f"{PLOT}\n"
        "See [the figure](#fig-ramp), [the costs](#tbl-costs), [the sizes](#tbl-sizes).\n\n"
        "Table: What it costs for $n$ keys {#tbl-costs}\n\n| a | b |\n|---|---:|\n| 1 | 2 |\n\n"
        '```{.python table="sizes" caption="How large?" hide}\n'
        '[{"name": "a & b", "size": "$x^2$", "count": 3}]\n```\n\n'
        "```{.python hide}\nhidden = 1\n```\n\n"
        '```{.python title="a.py" hl_lines="2"}\ny = hidden\nz = 2\n```\n\n'
        '??? success "Solution"\n\n    ```pycon\n    >>> y + z\n    3\n    ```\n\n'
        "{source attnbook.scores.scaled_dot}\n\n```sh\nmake test\n```\n\n"
        "## References\n\n\\bibliography\n"
    )
    text = re.sub(r"[ \n]+", " ", html)
    assert "It is 4.2\u202f%, not 5\u202f%, for it is ≤ 10.0\u202f%" in text
    assert 'href="#ref-nadaraya1964estimating">Nadaraya\u00a01964</a>; see <a' in text
    assert "Bahdanau et al.\u00a02015</a>, section 3)" in text
    assert '<code class="book-short">{claim demo/error}</code>' in text
    assert '<code class="book-short">[@nobody]</code>' in text
    assert re.search(
        r'<figure class="book-figure" id="fig-ramp">.*?<svg.*?aria-label="A line', text
    )
    assert "<figcaption>Does <math><mi>x</mi></math> rise?</figcaption></figure>" in text
    assert re.search(r'id="tbl-costs"><figcaption id="[\w-]+">What it costs for <math>', text)
    assert re.search(r"How large\?</figcaption> <div [^>]*>.*?a &amp; b.*?<msup>", text)
    assert not re.search(r"<figcaption[^>]*>(?:(?!</figure>).)*<figcaption", text)
    assert text.count('data-block="') == 3  # the figure's, the titled one, the solution
    assert '<span class="book-title">a.py</span>' in text
    assert '<span class="hll">' in html
    assert re.search(r"<summary>Solution</summary>\s*<div class=\"book-code highlight\"", html)
    assert re.search(r'class="book-source">.*?attnbook/scores.py, lines \d+–\d+.*?sqrt', text)
    assert '<li id="ref-bahdanau2015neural">Bahdanau, D., Cho, K. and Bengio, Y. (2015).' in text
    assert "<cite>Neural Machine Translation by Jointly Learning</cite>." in text
    assert "Theory 9(1), 141–142." in text.replace("</em>", "").replace("<em>", "")
    assert "book-piece" not in html
    assert "$" not in re.sub(r"<script.*?</script>", "", html, flags=re.S)


def test_the_buttons_have_their_scripts_and_the_chapter_its_notebook(site: Site) -> None:
    html = site.build("# A\n\n```pycon\n>>> x = '</script>'\n>>> x\n'</script>'\n```\n")
    packed = re.search(
        r'<script type="application/json" id="book-scripts">(.*?)</script>', html, re.S
    )
    assert packed
    data = json.loads(packed[1])
    assert data["copy"] == {"0": "x = '</script>'\nx"}
    assert data["pieces"][0]["last"].endswith("print(x)")
    assert '<a href="03-demo.ipynb" download>' in html
    path = site.root / "site" / "chapters" / "03-demo.ipynb"
    nbformat.validate(nbformat.read(path, as_version=4))


def test_a_notebook_has_text_for_what_only_the_site_understands(site: Site) -> None:
    site.build(
        "# A\n\nIt is {claim demo/error} [@nadaraya1964estimating], see [home](../index.md#home)."
        "\n\n"
        "{source attnbook.scores.scaled_dot}\n\n```python\nx = 1\n```\n\n\\bibliography\n"
    )
    path = site.root / "site" / "chapters" / "03-demo.ipynb"
    cells = nbformat.read(path, as_version=4).cells
    words = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    assert "It is 4.2\u202f% (<a" in words
    assert "[home](http://127.0.0.1/index.html#home)" in words
    assert "```python\ndef scaled_dot(" in words
    assert "Nadaraya, E. (1964)" in words


def test_a_lab_is_a_page_like_the_others(site: Site) -> None:
    notebook = nbformat.v4.new_notebook()
    code = nbformat.v4.new_code_cell("print('done')")
    code.outputs = [
        nbformat.v4.new_output("stream", name="stdout", text="done <1>\n"),
        nbformat.v4.new_output(
            "display_data", data={"image/svg+xml": '<svg aria-label="A dot"></svg>'}
        ),
        nbformat.v4.new_output("execute_result", data={"text/plain": "7"}),
    ]
    notebook.cells = [
        nbformat.v4.new_markdown_cell(
            "# Lab: $\\sqrt{d}$\n\nFor $d$ keys [@nadaraya1964estimating]."
        ),
        code,
        nbformat.v4.new_markdown_cell("\\bibliography"),
    ]
    html = site.build(nbformat.writes(notebook), "labs/demo.ipynb")
    assert "<title>Lab: √d - small</title>" in html
    assert "For <math><mi>d</mi></math> keys (<a" in html
    assert 'class="book-output"><pre><code data-scroll="output">done &lt;1&gt;</code>' in html
    assert '<figure class="book-figure" id="fig-demo-1">' in html
    assert '<a href="demo.ipynb" download>' in html
    assert (site.root / "site" / "labs" / "demo.ipynb").exists()


def test_python_in_the_text_of_a_lab_is_refused(site: Site, failure: Callable[[str], str]) -> None:
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_markdown_cell("# L\n\n```python\nx = 1\n```")]
    site.write("labs/demo.ipynb", nbformat.writes(notebook))
    assert "labs/demo.ipynb:3: Python in the text of a lab does not run" in failure("# A\n")


def test_the_search_reads_formulas_and_no_buttons(site: Site) -> None:
    site.config["plugins"] = ["search", "attnbook"]
    html = site.build(
        "# A $\\sqrt{d_k}$\n\n## The factor $\\sqrt{d}$\n\n"
        "So $a < b = \\sum_{i=1}^n x_i = c^2$.\n\n"
        f"{PLOT}\n"
        '```{.python table="sizes" caption="How large?"}\n[{"of a": "one", "of b": "two"}]\n```\n'
    )
    index = json.loads((site.root / "site/search/search_index.json").read_text(encoding="utf-8"))
    page, section = (d for d in index["docs"] if d["location"].startswith("chapters/"))
    assert page["title"] == "A √d_k"
    assert "<title>A √d_k - small</title>" in html
    assert section["title"] == "The factor √d"
    assert "So a &lt; b = ∑_(i = 1)^n x_i = c²." in section["text"]
    words = re.sub(r"<[^>]*>|\s+", " ", page["text"] + section["text"])
    assert "Download" not in words
    assert " 0.2" not in words  # of an axis
    assert "Does x rise?" in words
    assert re.search(r"How large\? +of a +of b +one +two", words)
    assert html.count("<math>") >= 5
    assert "data-search" not in html


def test_prose_does_not_run_code(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a change of the page's code, or of what it uses, runs it."""
    ran: list[str] = []
    run = drawn._run

    def counted(name: str, *rest: Any) -> Any:
        ran.append(name)
        return run(name, *rest)

    monkeypatch.setattr(drawn, "_run", counted)
    assert "<svg" in site.build(f"# A\n\n{PLOT}")
    assert ran == ["docs/chapters/03-demo.md"]
    html = site.build(f"# Another title\n\nMore words.\n\n{PLOT}\n\nAnd a [link](../index.md).\n")
    assert "More words" in html
    assert "<svg" in html
    assert len(ran) == 1
    site.build(f"# A\n\n{PLOT.replace('[0, 1], [0, 1]', '[0, 1], [1, 0]')}")
    assert len(ran) == 2


def test_code_is_run_again_when_what_it_uses_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    page = "```python\nfrom attnbook import softmax\n```\n"
    before = drawn.key(page)
    code = drawn.code_of
    for changed in ("normalizers.py", "figures.py"):
        monkeypatch.setattr(drawn, "code_of", lambda p, c=changed: code(p) + "#" * (p.name == c))
        assert drawn.key(page) != before
    monkeypatch.setattr(drawn, "code_of", lambda p: code(p) + "#" * (p.name == "masks.py"))
    assert drawn.key(page) == before
    monkeypatch.setattr(drawn, "_version", lambda name: "99" if name == "torch" else "1")
    assert drawn.key(page) != before


def test_code_is_run_again_when_a_file_that_it_read_changes(site: Site) -> None:
    page = (
        "# A\n\n```python\nfrom pathlib import Path\n```\n\n"
        '```{.python table="t"}\n[{"a": Path("docs/data.txt").read_text()}]\n```\n'
    )
    for number in ("one", "two"):
        site.write("data.txt", number)
        assert f"<td>{number}</td>" in site.build(page)


def test_code_is_run_again_when_the_engine_that_it_shows_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    page = "```python\nfrom attnbook.book.milestones import load\n```\n"
    before = drawn.key(page)
    code = drawn.code_of
    monkeypatch.setattr(drawn, "code_of", lambda p: code(p) + "#" * (p.name == "milestones.py"))
    assert drawn.key(page) != before


@pytest.mark.parametrize("ending", ["markdown", "mkd"])
def test_a_page_whose_code_would_not_run_is_refused(
    ending: str, site: Site, failure: Callable[[str], str]
) -> None:
    site.write(f"chapters/04-other.{ending}", "# B\n\n```python\n1 / 0\n```\n")
    assert f"chapters/04-other.{ending}: a page's name ends in .md" in failure("# A\n")


def test_a_port_that_is_taken_is_said_before_anything_is_built(site: Site) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        site.build("# A\n")
        config = load_config(str(site.root / "mkdocs.yml"), dev_addr=f"127.0.0.1:{port}")
        config.plugins.on_startup(command="serve", dirty=False)
        with pytest.raises(PluginError, match=rf"{port} is taken.*make serve PORT={port + 1}"):
            config.plugins.on_config(config)


def test_a_page_that_failed_is_not_kept(site: Site) -> None:
    bad = "# A\n\n```python\nx = 1 / 0\n```\n"
    for _ in range(2):
        with pytest.raises((Abort, BuildError)):
            site.build(bad)


def test_a_served_site_is_the_built_one_at_every_save(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is kept from one save to the next changes nothing on any page."""
    site.config["plugins"] = ["search", "attnbook", {"mkdocstrings": {"default_handler": "python"}}]
    site.write("masks.md", "# Masks\n\n::: attnbook.masks\n")
    site.write(
        "chapters/03-demo.md", "# A\n\n[`causal`][attnbook.masks.causal], [home](../index.md#home)"
    )
    site.build("# Home\n", "index.md")
    config = load_config(str(site.root / "mkdocs.yml"), strict=True)
    config.plugins.on_startup(command="serve", dirty=False)
    rendered: list[str] = []
    render = Page.render

    def counted(page: Page, *rest: Any) -> None:
        rendered.append(page.file.src_uri)
        render(page, *rest)

    monkeypatch.setattr(Page, "render", counted)

    def everything() -> dict[str, str]:
        folder = site.root / "site"
        paths = [*folder.rglob("*.html"), folder / "search" / "search_index.json"]
        return {path.name: path.read_text(encoding="utf-8") for path in paths}

    texts = [
        "# A\n\n[`causal`][attnbook.masks.causal], [home](../index.md#home)",
        "# B\n\n$x$ [`causal`][attnbook.masks.causal], [masks](../masks.md)",
        "# B\n\n$x$ [`causal`][attnbook.masks.causal], [masks](../masks.md)",
    ]
    served = []
    for text, count in zip(texts, [3, 1, 0], strict=True):
        site.write("chapters/03-demo.md", text)
        rendered.clear()
        build(load_config(str(site.root / "mkdocs.yml"), strict=True))  # as mkdocs serve does
        served.append(everything())
        assert len(rendered) == count
    for text, kept in zip(texts, served, strict=True):
        site.build(text)
        built = everything()
        assert kept.keys() == built.keys()
        for name in built:
            assert kept[name] == built[name], name


def test_a_literal_fence_is_left_alone(site: Site) -> None:
    html = site.build(
        "# A\n\n````markdown\n{claim demo/nothing} [@nobody2000nothing]\n"
        "```python\nx = 1 / 0\n```\n````\n"
    )
    assert "{claim demo/nothing} [@nobody2000nothing]" in html
    assert "data-block" not in html


def test_the_style_has_the_colours_of_figures_and_the_maths_font(site: Site) -> None:
    site.build("# A\n\n$x$\n")
    style = (site.root / "site" / "assets" / "book" / "book.css").read_text(encoding="utf-8")
    assert style.count("--book-1:") == 2
    assert 'url("book-math.woff2")' in style
    assert (site.root / "site" / "assets" / "book" / "book-math.woff2").stat().st_size > 5000
