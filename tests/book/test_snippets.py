"""What a reader copies runs alone, and shows what the page shows."""

import ast
import contextlib
import io
import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from fresh import printed_by
from playwright._impl._driver import compute_driver_executable

from attnbook.book.checker import matches
from attnbook.book.console import Step, steps
from attnbook.book.fences import Block, PageError, parse
from attnbook.book.runner import run_page
from attnbook.book.snippets import ASSEMBLE_JS, assembled, notebook, pieces, plain, runnable

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("docs/**/*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])
TEXTS = {page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8") for page in PAGES}
RUNNING = {name: text for name, text in TEXTS.items() if any(not b.no_run for b in parse(text))}


def run(script: str) -> str:
    """What a script prints."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output), torch.random.fork_rng(devices=[]):
        exec(compile(script, "script", "exec"), {"__name__": "__main__"})
    return output.getvalue()


def session(steps: str) -> str:
    return f"```pycon\n{textwrap.dedent(steps).strip()}\n```\n\n"


def python(code: str, attrs: str = "") -> str:
    return f"```python {attrs}\n{textwrap.dedent(code).strip()}\n```\n\n"


def test_a_copy_has_no_prompts_and_no_outputs() -> None:
    steps = """
        >>> # two steps
        >>> x = [
        ...     1,
        ...     2,
        ... ]
        >>> x
        [1, 2]
        >>> for i in x:
        ...     print("output" if i == 1 else "... 2")
        ...
        output
        ... 2
        >>> x
        [1, 2]
        """
    copied = """
        # two steps
        x = [
            1,
            2,
        ]
        x
        for i in x:
            print("output" if i == 1 else "... 2")

        x
        """
    assert plain(*parse(session(steps))) == textwrap.dedent(copied).strip()
    assert plain(*parse(python("x = 1\n\ny = 2"))) == "x = 1\n\ny = 2"


def test_a_script_gathers_imports_and_runs_the_page_up_to_its_block() -> None:
    third = """
        >>> from attnbook import dot, softmax as sm
        >>> x
        3.14
        >>> torch.randn(1)
        tensor([1.54])
        """
    last = """
        >>> from __future__ import annotations
        >>> torch.randn(1)
        tensor([-0.29])
        >>> y = 1
        >>> y, 2
        (1, 2)
        """
    text = python("import math, torch\nfrom attnbook import dot\nx = math.pi", "hide")
    text += python("x = torch.rand(0)\n[]", 'table="left-out"') + session(third) + session(last)
    blocks = parse(text, "docs/page.md")
    assert runnable(blocks, 3) == (
        "# docs/page.md, line 20\n"
        "# Needs: pip install attnbook\n\n"
        "from __future__ import annotations\n"
        "import torch\n"
        "import math\n"
        "from attnbook import dot, softmax as sm\n\n"
        "torch.manual_seed(0)\n\n"
        "x = math.pi\n\n"
        "x\ntorch.randn(1)\n\n"
        "print(torch.randn(1))\ny = 1\nprint((y, 2))\n"
    )
    assert run(runnable(blocks, 3)) == "tensor([-0.2934])\n(1, 2)\n"


def test_an_import_stays_where_its_name_means_two_things() -> None:
    text = python("def softmax(x): return 'own'\ndef dot(): ...") + session(">>> softmax(1)\n'own'")
    third = (
        ">>> from attnbook import softmax, causal\n>>> softmax.__module__\n'attnbook.normalizers'"
    )
    text += session(third) + session(">>> from math import pi as causal\n>>> causal\n3.14")
    blocks = parse(text)
    body = runnable(blocks, 2).partition("manual_seed")[2]
    assert "\nfrom attnbook import softmax, causal\n" in body
    assert [run(runnable(blocks, index)) for index in (1, 2, 3)] == [
        "own\n",
        "attnbook.normalizers\n",
        "3.141592653589793\n",
    ]


def test_imports_inside_other_statements_stay() -> None:
    first = """
        def f():
            import math
            return math.pi
        import json; x = json.loads('1')
        """
    second = """
        from attnbook import (
            dot,  # why
            causal,
        )
        if x:
            import os
        """
    script = runnable(parse(python(first) + python(second)), 1)
    before, _, body = script.partition("torch.manual_seed(0)\n\n")
    assert "from attnbook import dot, causal\n" in before
    assert body == textwrap.dedent(first).strip() + "\n\nif x:\n    import os\n"
    run(script)


def test_the_last_session_prints_and_goes_on_after_an_error() -> None:
    first = """
        >>> x = 'é'; x
        'é'
        >>> int(x)
        Traceback (most recent call last):
          ...
        ValueError: invalid literal for int() with base 10: 'é'
        """
    second = """
        >>> print('a')
        a
        >>> None
        >>> x  # the same
        'é'
        >>> (1,
        ...  2)
        (1, 2)
        >>> int(
        ...     x,
        ... )
        Traceback (most recent call last):
          ...
        ValueError: invalid literal for int() with base 10: 'é'
        >>> x + '''
        ... b'''
        'é\\nb'
        """
    text = session(first) + session(second)
    run_page(text)
    blocks = parse(text)
    error = "ValueError(\"invalid literal for int() with base 10: 'é'\")"
    assert run(runnable(blocks, 1)) == f"a\né\n(1, 2)\n{error}\né\nb\n"
    assert "print(x)  # the same" in runnable(blocks, 1)
    assert run(runnable(blocks, 0)) == f"é\n{error}\n"


SESSIONS = {
    "in a loop": ">>> for i in 1, 2:\n...     i, i\n...     i + 1\n(1, 1)\n2\n(2, 2)\n3",
    "on one line": ">>> for i in 1, 2: i\n1\n2",
    "in branches": ">>> if 0:\n...     1\n... elif 1:\n...     2\n... else:\n...     3\n2",
    "in a try": """
        >>> try:
        ...     1 / 0
        ... except ZeroDivisionError:
        ...     2
        ... finally:
        ...     3
        2
        3
        """,
    "in a match": ">>> match 1:\n...     case 1:\n...         [1]\n[1]",
    "in a with": """
        >>> with torch.no_grad():
        ...     while True:
        ...         torch.ones(1)
        ...         break
        tensor([1.])
        """,
    "not in functions and classes": """
        >>> def f():
        ...     1
        >>> class C:
        ...     2
        >>> f(); 3
        3
        """,
    "a function that prints": """
        >>> def show(x):
        ...     print(x)
        >>> show(1)
        1
        >>> for x in 2, 3:
        ...     show(x)
        2
        3
        """,
    "a method that prints": """
        >>> class Shelf:
        ...     def show(self):
        ...         print("books")
        >>> Shelf().show()
        books
        """,
    "a function of the library that prints": ">>> from pprint import pprint\n>>> pprint([1])\n[1]",
    "printing under a name": ">>> say = print\n>>> say(1)\n1",
    "two values, one of them None": ">>> x = []\n>>> x.append(1); x\n[1]",
    "None now and then": """
        >>> for key in "ab":
        ...     {"a": 1}.get(key)
        1
        """,
    "a function that gives a value": ">>> def one():\n...     return 1\n>>> one()\n1",
    "parentheses of its own": ">>> (1), (2)\n(1, 2)\n>>> (1, 2),\n((1, 2),)\n>>> (3, 4)\n(3, 4)",
    "a name that an error would take": """
        >>> error = 0.5
        >>> int("x")
        Traceback (most recent call last):
        ValueError: invalid literal for int() with base 10: 'x'
        >>> error
        0.5
        """,
}


@pytest.mark.parametrize("kind", SESSIONS)
def test_a_session_prints_as_at_the_prompt(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = python("import torch", "hide") + session(SESSIONS[kind])
    run_page(text)
    blocks = parse(text)
    error = "ValueError(\"invalid literal for int() with base 10: 'x'\")\n"
    wanted = "".join(error if step.error else step.want for step in steps(blocks[1]))
    assert run(runnable(blocks, 1)) == wanted
    *cells, last = [cell.source for cell in notebook(text).cells if cell.cell_type == "code"]
    monkeypatch.setattr(sys, "displayhook", lambda value: value is None or print(value))
    body = ast.parse(last).body
    shown = [body.pop()] if isinstance(body[-1], ast.Expr) else []
    names: dict[str, object] = {}
    with contextlib.redirect_stdout(io.StringIO()) as output, torch.random.fork_rng(devices=[]):
        exec("\n".join([*cells, ast.unparse(ast.Module(body, []))]), names)
        exec(compile(ast.Interactive(list(shown)), "cell", "single"), names)
    assert output.getvalue() == wanted


def test_plain_values_are_printed_plainly() -> None:
    text = session(">>> x = [1]\n>>> x\n[1]\n>>> x.index(1)\n0\n>>> sorted(x)\n[1]")
    assert runnable(parse(text), 0).endswith(
        "x = [1]\nprint(x)\nprint(x.index(1))\nprint(sorted(x))\n"
    )


@pytest.mark.parametrize(
    ("code", "line", "message"),
    [
        (">>> 1\n1\n>>> _ + 1\n2", 4, "`_` is the last value at a prompt alone"),
        (">>> from math import *\n>>> pi\n3.14", 2, "`\\*` hides which names a block brings"),
    ],
)
def test_what_would_not_work_in_a_script_is_refused(code: str, line: int, message: str) -> None:
    with pytest.raises(PageError, match=rf"^p\.md:{line}: .*{message}"):
        run_page(session(code), "p.md")


def test_a_name_that_is_thrown_away_is_no_value_of_the_prompt() -> None:
    run_page(session(">>> _, x = 1, 2\n>>> for _ in range(2): x\n2\n2"))


ENDS = [
    "rows  # the rows",
    "rows;",
    "rows ; # both\n# and more",
    "x = 1; rows",
    "(rows)  # in",
    "[\n  *rows\n]  # over",
]


@pytest.mark.parametrize("end", ENDS)
def test_what_follows_the_last_expression_of_a_leaf_does_no_harm(
    end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    table = python(f"rows = [{{'a': 'é'}}]\n{end}", 'table="t"')
    figure = "from matplotlib.figure import Figure\nrows = Figure()\n" + end.replace(
        "[\n  *rows\n]", "(\nrows\n)"
    )
    text = table + python(figure, 'fig="f" alt="Empty"')
    run_page(text)
    blocks = parse(text)
    assert run(runnable(blocks, 0)) == "{'a': 'é'}\n"
    run(runnable(blocks, 1))
    assert "<svg" in (tmp_path / "f.svg").read_text()
    run("\n".join(cell.source for cell in notebook(text).cells if cell.cell_type == "code"))
    if "#" in end:
        assert end.partition("#")[2] in runnable(blocks, 0)


LEAVES = {
    "adds to it": ("x = 1", "x += 1\n[{'x': x}]", "x=x"),
    "rebinds it in a branch": ("x = 1", "if x > 5:\n    x = 2\n[{'x': x}]", "x=x"),
    "reads it on the line that rebinds it": ("x = 1", "x = x + 1\n[{'x': x}]", "x=x"),
    "reads it in a function, then rebinds it": (
        "x = 1",
        "def f(): return x\ny = f(); x = 2\n[{'x': y}]",
        "x=x",
    ),
    "loops over it and reads it afterwards": ("x = 1", "for x in []: pass\n[{'x': x}]", "x=x"),
    "deletes it": ("x = 1", "del x\n[{'x': 1}]", "x=x"),
    "binds it first": ("x = 1", "x = 2\nfor y in [x]: z = y\n[{'x': z}]", ""),
    "loops over it alone": ("x = 1", "t = 0\nfor x in [1, 2]: t += x\n[{'x': t}]", ""),
    "binds it in a comprehension": ("x = 1", "t = [x for x in [3]]\nx = 2\n[{'x': t}]", ""),
    "imports it": ("import math", "import math\n[{'x': math.pi}]", ""),
    "binds what the page has deleted": ("x = 1\ndel x", "for x in [4]: pass\n[{'x': x}]", ""),
    "binds what was an error's name": (
        "try: 1 / 0\nexcept ZeroDivisionError as x: pass",
        "with open('/dev/null') as x: y = x.read()\nif 1: x = 3\n[{'x': x}]",
        "",
    ),
}


@pytest.mark.parametrize("kind", LEAVES)
def test_a_leaf_as_a_function_sees_the_names_of_the_page(kind: str) -> None:
    page, leaf, signature = LEAVES[kind]
    text = python(page) + python(leaf, 'table="rows"')
    (_, result) = run_page(text)
    cells = [cell.source for cell in notebook(text).cells if cell.cell_type == "code"]
    assert f"def tabulate_rows({signature}):" in cells[-1]
    shown = cells[-1].replace("\n\ntabulate_rows()", "\n\nprint(tabulate_rows())")
    assert run("\n".join([*cells[:-1], shown])) == f"{result.table}\n"


@pytest.mark.parametrize(
    "last",
    [
        "figure",
        "Figure(figsize=(1, 1))",
        "axes.figure",
        "axes[0].figure if 0 else (\n    figure\n)",
    ],
)
def test_a_figure_is_saved_under_its_name(
    last: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code = "from matplotlib.figure import Figure\nfigure = Figure()\naxes = figure.add_subplot()\n"
    blocks = parse(python("x = 1") + python(code + last, 'fig="one-figure" alt="Empty"'))
    script = runnable(blocks, 1)
    assert "# Needs: pip install 'attnbook[labs]'\n" in script
    run(script)
    assert "<svg" in (tmp_path / "one-figure.svg").read_text()


def test_a_drawing_is_saved_under_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = "import schemdraw\nd = schemdraw.Drawing(show=False)\nd += schemdraw.elements.Line()\nd"
    run(runnable(parse(python(code, 'fig="d" alt="A line"')), 0))
    assert "<svg" in (tmp_path / "d.svg").read_text()


def test_a_table_is_printed() -> None:
    blocks = parse(python("rows = [{'a': n} for n in (1, 2)]\nrows", 'table="t"'))
    assert run(runnable(blocks, 0)) == "{'a': 1}\n{'a': 2}\n"


MODULES = ["tqdm", "attnbook.plotting", "attnbook.tasks.dates", "matplotlib.pyplot as plt"]


@pytest.mark.parametrize("module", MODULES)
def test_scripts_say_when_they_need_more_than_the_package(module: str) -> None:
    (piece,) = pieces(parse(python(f"import {module}")))
    assert piece is not None
    assert piece["labs"]


def test_a_block_that_does_not_run_has_no_script_and_is_in_none() -> None:
    blocks = parse(python("boom", '{.no-run reason="r"}') + python("x = 1"))
    assert "boom" not in runnable(blocks, 1)
    with pytest.raises(ValueError, match="block 0 does not run"):
        runnable(blocks, 0)


def test_a_block_that_is_not_python_is_named() -> None:
    with pytest.raises(PageError, match=r"p\.md:5: cannot be read as Python"):
        pieces(parse(python("x = 1") + python("x = = 1"), "p.md"))


def test_a_notebook_is_the_page() -> None:
    solution = "```pycon\n>>> torch.randn(1)\ntensor([-0.29])\n>>> x\ntensor([1.54])\n```\n"
    text = (
        "# Title {#top}\n\nProse with $x$ and `{#no}`.\n\n"
        + python("import torch\nx = torch.randn(1)", "hide")
        + "Table: Rows {#tbl-a}\n\n| a |\n|---|\n| 1 |\n\n"
        + python("y = x\nx = x + torch.randn(1)\n[{'x': 1}]", 'table="rows"')
        + '??? success "Solution"\n\n    One.\n\n'
        + textwrap.indent(solution, "    ")
        + "\n- a list\n\n    !!! note\n        Deep.\n\nAfter.\n\n"
        + "```bash\nls # not a heading {#x}\n```\n\n"
        + python("boom", '{.no-run reason="slow"}')
    )
    made = notebook(
        text, "Title", "docs/page.md", lambda markdown: markdown.replace("Prose", "Text")
    )
    cells = [(cell.cell_type, cell.source) for cell in made.cells]
    assert cells == [
        ("markdown", "*From docs/page.md.* This notebook needs `pip install attnbook`."),
        ("code", "import torch\n\n_ = torch.manual_seed(0)"),
        ("markdown", "# Title\n\nText with $x$ and `{#no}`."),
        ("code", "import torch\nx = torch.randn(1)"),
        ("markdown", "*Rows*\n\n\n| a |\n|---|\n| 1 |"),
        (
            "code",
            "@torch.random.fork_rng(devices=[])\ndef tabulate_rows(x=x):\n    y = x\n"
            "    x = x + torch.randn(1)\n    return [{'x': 1}]\n\n\ntabulate_rows()",
        ),
        ("markdown", "**Solution**\n\nOne."),
        ("code", "print(torch.randn(1))\nx"),
        (
            "markdown",
            "- a list\n\n    **Note**\n    Deep.\n\nAfter.\n\n"
            "```bash\nls # not a heading {#x}\n```\n\n"
            "```python\nboom\n```\n\n*This is not run: slow*",
        ),
    ]
    assert made.cells[3].metadata.jupyter.source_hidden
    assert made == notebook(text, "Title", "docs/page.md", lambda m: m.replace("Prose", "Text"))
    output = run("\n".join(source for kind, source in cells if kind == "code") + "\nprint(x)")
    assert output == "tensor([-0.2934])\ntensor([1.5410])\n"


def test_a_page_without_a_heading_gets_its_title() -> None:
    assert [cell.source for cell in notebook("Prose.", "Scores").cells][2:] == [
        "# Scores",
        "Prose.",
    ]


def test_the_browser_makes_the_same_scripts() -> None:
    found = {name: pieces(parse(text, name)) for name, text in TEXTS.items()}
    program = (
        f"{ASSEMBLE_JS}\nconst pages = JSON.parse(require('fs').readFileSync(0, 'utf8'));"
        "const made = (all) => all.map((piece, index) => piece && attnbookScript(all, index));"
        "for (const name in pages) pages[name] = made(pages[name]);"
        "process.stdout.write(JSON.stringify(pages));"
    )
    node = str(compute_driver_executable()[0])
    done = subprocess.run(
        [node, "-e", program], input=json.dumps(found), capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == {
        name: [piece and assembled(page, index) for index, piece in enumerate(page)]
        for name, page in found.items()
    }


def chosen(blocks: list[Block]) -> list[Block]:
    """A page's last block, which needs all before it, and its first figure or table."""
    running = [block for block in blocks if not block.no_run]
    last = [block for block in running if not block.leaf][-1:]
    return [*[block for block in running if block.leaf][:1], *last]


@pytest.mark.parametrize("name", RUNNING)
def test_the_scripts_of_a_page_run_in_a_fresh_process(name: str, tmp_path: Path) -> None:
    blocks = parse(RUNNING[name], name)
    scripts = {f"{block.index}.py": block for block in chosen(blocks)}
    for path, block in scripts.items():
        (tmp_path / path).write_text(runnable(blocks, block.index), encoding="utf-8")
    cells = [c.source for c in notebook(RUNNING[name], page=name).cells if c.cell_type == "code"]
    (tmp_path / "notebook.py").write_text("\n\n".join(cells), encoding="utf-8")
    printed = printed_by(tmp_path, [*scripts, "notebook.py"])
    for path, block in scripts.items():
        if block.fig:
            assert "<svg" in (tmp_path / f"{block.fig}.svg").read_text(encoding="utf-8")
        elif block.language == "pycon":
            shown = [_plainly(step) for step in steps(block) if step.want]
            assert matches("..." + "".join(shown), printed[path])


def _plainly(step: Step) -> str:
    """What a script prints of a step: text without its quotes, whatever for an error."""
    if step.error:
        return "...\n"
    return f"{ast.literal_eval(step.want)}\n" if step.want[0] in "'\"" else step.want
