"""A page runs as a reader would run it, and says by page and line what is wrong."""

import builtins
import random
import sys
import textwrap
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from attnbook.book.runner import Page, PageError, run_page


def python(code: str, attrs: str = "") -> str:
    return f"```{{.python {attrs}}}\n{textwrap.dedent(code).strip()}\n```\n\n"


def pycon(session: str) -> str:
    return f"```pycon\n{textwrap.dedent(session).strip()}\n```\n\n"


FIGURE = 'fig="{}" alt="An empty figure"'
EMPTY = "from matplotlib.figure import Figure\nFigure()"


@pytest.fixture(autouse=True)
def untouched() -> Iterator[None]:
    """Nothing that a page does is seen by the process that runs it."""
    torch.manual_seed(1234)
    before = torch.get_rng_state(), torch.get_default_dtype(), torch.is_grad_enabled()
    options, hook, filters = (
        torch._tensor_str.get_printoptions(),
        sys.displayhook,
        warnings.filters[:],
    )
    yield
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (torch.get_default_dtype(), torch.is_grad_enabled()) == before[1:]
    assert torch._tensor_str.get_printoptions() == options
    assert (sys.displayhook, warnings.filters) == (hook, filters)


def test_blocks_share_names_from_a_seeded_start() -> None:
    torch.manual_seed(0)
    first, second = torch.randn(2), torch.randn(2)
    torch.manual_seed(1234)
    page = Page(python("import torch\nx = torch.randn(2)") + python("y = torch.randn(2)"))
    page.run(0)
    torch.rand(5)  # what happens between two blocks does not matter
    torch.manual_seed(1234)
    page.run(1)
    assert torch.equal(page.namespace["x"], first)
    assert torch.equal(page.namespace["y"], second)


def test_options_last_from_block_to_block_and_no_longer() -> None:
    setup = (
        "import torch\ntorch.set_default_dtype(torch.float64)\ntorch.set_printoptions(precision=2)"
    )
    third = ">>> torch.tensor(1 / 3)\ntensor({})\n>>> torch.get_default_dtype()\ntorch.float{}"
    run_page(python(setup) + pycon(third.format("0.33", 64)))
    run_page(python("import torch") + pycon(third.format("0.3333", 32)))


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ("torch.set_default_device('meta')", ">>> torch.ones(1)\ntensor([1.])"),
        (
            "torch.use_deterministic_algorithms(True)",
            ">>> torch.are_deterministic_algorithms_enabled()\nFalse",
        ),
        ("torch.set_anomaly_enabled(True)", ">>> torch.is_anomaly_enabled()\nFalse"),
        (
            "import numpy; numpy.set_printoptions(precision=2)",
            ">>> import numpy\n>>> numpy.array(1 / 3)\narray(0.33333333)",
        ),
    ],
)
def test_settings_last_for_their_page_alone(change: str, shown: str) -> None:
    run_page(python(f"import torch\n{change}") + python("x = 1") + pycon(">>> x\n1"))
    run_page(python("import torch") + pycon(shown))


def test_a_device_lasts_for_its_page() -> None:
    setting = python("import torch\ntorch.set_default_device('meta')")
    shown = ">>> torch.ones(1).device\ndevice(type='meta')\n>>> torch.rand(1).ndim\n1"
    run_page(setting + python(EMPTY, FIGURE.format("a")) + pycon(shown))
    assert torch.get_default_device().type == "cpu"
    assert torch._GLOBAL_DEVICE_CONTEXT.device_context is None


def test_the_last_value_of_a_prompt_stays_on_its_page(monkeypatch: pytest.MonkeyPatch) -> None:
    run_page(pycon(">>> 41\n41"))
    assert not hasattr(builtins, "_")
    monkeypatch.setattr(builtins, "_", "the process's", raising=False)
    run_page(pycon(">>> 41\n41\n>>> 42\n42"))
    assert vars(builtins)["_"] == "the process's"


def test_pages_draw_from_their_own_python_and_numpy_randomness() -> None:
    random.seed(1)
    before = random.getstate()
    draw = "import random, numpy\nx = random.random(), numpy.random.rand()"
    seed = "import random, numpy\nrandom.seed(0); numpy.random.seed(0)"
    run_page(python(seed) + python(draw) + pycon(">>> x\n(0.844, 0.549)"))
    assert random.getstate() == before
    pages = Page(python(draw)), Page(python(draw))
    for page in pages:
        page.run(0)
    assert pages[0].namespace["x"] != pages[1].namespace["x"]  # unseeded, as in a script


def test_a_figure_block_leaves_nothing_behind() -> None:
    page = Page(
        python("import torch\nx = 1")
        + python(f"torch.manual_seed(5); x = 2; new = torch.rand(3)\n{EMPTY}", FIGURE.format("a"))
        + pycon(">>> x, 'new' in globals(), torch.randn(1)\n(1, False, tensor([1.5410]))")
    )
    results = [page.run(index) for index in range(3)]
    assert type(results[1].figure).__name__ == "Figure"
    assert results[0].figure is None
    assert results[2].ran


CHANGES = {
    "appends to a list": ("x = [1]", "x.append(2)"),
    "sets an entry": ("x = {'a': 1}", "x['a'] = 2"),
    "adds to a set": ("x = {1}", "x |= {2}; x.add(3)"),
    "adds to a set in place": ("x = {1}", "x |= {2}"),
    "changes a list in a dict": ("x = {'a': [(1, [2])]}", "x['a'][0][1].clear()"),
    "adds to a tensor": ("x = torch.zeros(2)", "x += 1"),
    "writes into a view": ("x = torch.zeros(2)", "y = x[1:]\ny[0] = float('nan')"),
    "writes into a tensor in a list": ("x = [torch.zeros(2)]", "x[0][0] = 1"),
    "writes through data": ("x = torch.zeros(())", "x.data.fill_(1)"),
    "accumulates a gradient": ("x = torch.zeros(2, requires_grad=True)", "x.sum().backward()"),
    "trains a module": ("x = torch.nn.Linear(1, 1)", "x.weight.data.add_(1)"),
    "sets a module's mode": ("x = torch.nn.Dropout()", "x.eval()"),
    "draws from a generator": ("x = torch.Generator()", "torch.rand(1, generator=x)"),
    "takes from an iterator": ("x = iter([1, 2])", "next(x)"),
    "takes from a generator": ("x = (i for i in range(3))", "next(x)"),
    "takes from a zip": ("x = zip([1, 2], [1, 2])", "next(x)"),
    "sets an attribute": ("class C: pass\nx = C()", "x.y = 1"),
    "writes into an array": ("import numpy as np\nx = np.zeros(2)", "x[0] = 1"),
    "rebinds through a function": ("x = 1\ndef f():\n    global x\n    x = 2", "f()\nx"),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_figure_that_changes_the_page_is_named(kind: str) -> None:
    before, change = CHANGES[kind]
    text = python(f"import torch\n{before}")
    line = 3 + text.count("\n") + 2  # a title and a blank line; a fence and an import
    change = f"import math\n{change}\n{EMPTY}"
    if kind == "rebinds through a function":
        line += 1
    error = fault(text + python(change, FIGURE.format("a")), line, "the figure 'a' changes x of")
    assert "x" in error.code


def test_a_figure_may_change_what_is_its_own_and_read_everything() -> None:
    page = """
        import math, random, torch
        import numpy as np
        from dataclasses import dataclass
        nan, cycle, model = float("nan"), [], torch.nn.GRU(2, 2)
        cycle.append(cycle)
        x = {"t": torch.ones(2, requires_grad=True), "n": [nan, np.nan, {1, 2}], "m": model}
        y, z, e = x["t"] * 2, torch.eye(2).to_sparse(), torch.empty(2, device="meta")
        h, b, c = torch.ones(1, dtype=torch.bfloat16), torch.ones(1) > 0, torch.ones(2) * 1j
        numbers, some, f = np.array([None, 1]), iter([1]), lambda: x
        @dataclass
        class D:
            a: int
        d = D(1)
        """
    leaf = """
        x = {**x, "own": 1}
        y = y.clone().add_(1)
        x["n"] = [*x["n"], cycle, d.a, f(), model(torch.ones(1, 2)), h + 1, c.conj(), numbers + 0]
        x.clear(); torch.rand(1); random.random(); np.random.rand(); list(range(3)); new = [1]
        """.replace("numbers + 0", "numbers")
    run_page(python(page) + python(textwrap.dedent(leaf) + EMPTY, FIGURE.format("a")))


def test_figures_are_matplotlib_or_schemdraw() -> None:
    drawing = "import schemdraw\nschemdraw.Drawing(show=False)"
    made = run_page(python(EMPTY, FIGURE.format("a")) + python(drawing, FIGURE.format("b")))
    assert [type(result.figure).__name__ for result in made] == ["Figure", "Drawing"]


def test_pyplot_figures_are_closed() -> None:
    run_page(python("import matplotlib.pyplot as plt\nplt.figure()", FIGURE.format("a")))
    assert sys.modules["matplotlib.pyplot"].get_fignums() == []


def test_a_table_is_rows() -> None:
    (result,) = run_page(python('[{"a": 1, "b": 2}, {"a": 3, "b": 4}]', 'table="t"'))
    assert result.table == [{"a": 1, "b": 2}, {"a": 3, "b": 4}]


def test_hidden_blocks_run_and_others_say_that_they_did_not() -> None:
    hidden, skipped, seen = run_page(
        python("x = 1", "hide") + python("x = boom", '.no-run reason="r"') + pycon(">>> x\n1")
    )
    assert (hidden.ran, skipped.ran, seen.ran) == (True, False, True)


def test_what_is_printed_is_kept_and_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    code = "import sys\nprint('seen')\nprint('bar', file=sys.stderr)"
    (result,) = run_page(python(code))
    assert result.output == "seen\n"
    assert capsys.readouterr() == ("", "")


def test_a_future_lasts_for_the_page() -> None:
    run_page(
        python("from __future__ import annotations")
        + pycon(">>> def f(x: Unknown): ...\n>>> f.__annotations__\n{'x': 'Unknown'}")
    )


def test_functions_of_a_page_have_a_source() -> None:
    code = "import inspect\ndef f():\n    return 1\n"
    run_page(
        "Prose.\n\n"
        + python(code)
        + pycon(">>> inspect.getsource(f)\n'def f():\\n    return 1\\n'"),
        "not-a-file.md",
    )


def test_sessions_show_errors_blank_lines_comments_and_compounds() -> None:
    run_page(
        pycon("""
        >>> # a comment, which prints nothing
        >>> for i in range(2):
        ...     print(i, end="\\n\\n")
        0

        1

        >>> int("x")
        Traceback (most recent call last):
            ...
        ValueError: invalid literal for int() with base 10: 'x'
        >>> None
        >>> x = 1; x
        1
        """)
    )


def test_a_block_run_alone_runs_what_it_needs_and_no_figure() -> None:
    page = Page(
        python("calls = []\nn = 1")
        + python(f"assert not calls\n{EMPTY}", FIGURE.format("a"))
        + python("n += 1; calls.append('second')")
        + pycon(">>> n, calls\n(2, ['second'])")
    )
    page.run(3)
    with pytest.raises(PageError, match="AssertionError"):  # it has not run before
        page.run(1)
    assert page.namespace["n"] == 2


def test_a_failed_block_is_told_once_and_the_next_ones_run() -> None:
    page = Page(python("x = 1") + pycon(">>> x\n2") + pycon(">>> x\n1"))
    with pytest.raises(PageError, match="the output differs"):
        page.run(2)
    assert page.run(2).ran


def fault(text: str, line: int, message: str) -> PageError:
    with pytest.raises(PageError) as caught:
        run_page(f"# Title\n\n{text}", "docs/page.md")
    error = caught.value
    assert str(error).startswith(f"docs/page.md:{line}: ")
    assert message in str(error)
    assert (error.page, error.line) == ("docs/page.md", line)
    return error


def test_an_error_points_at_the_line_of_the_page() -> None:
    helper = python("def half(x):\n    y = x\n    return y / 0")
    error = fault(
        helper + "Prose.\n\n" + python("x = 1\n\nhalf(x)"), 14, "ZeroDivisionError: division"
    )
    assert (error.code, error.block_line, error.python_line) == ("half(x)", 12, 3)
    assert 'File "docs/page.md", line 6, in half' in error.details
    assert "return y / 0" in error.details
    assert "runner.py" not in error.details


def test_an_error_in_an_indented_block_points_there_too() -> None:
    error = fault("!!! note\n\n    ```python\n    x = 1\n    x.y\n    ```\n", 7, "AttributeError")
    assert (error.code, error.python_line) == ("x.y", 2)


def test_an_error_in_a_session_points_at_its_step() -> None:
    error = fault(pycon(">>> x = 1\n>>> if x:\n...     x.y"), 6, "AttributeError")
    assert error.python_line == 3


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (python("x = 1\ny = = 2"), 5, "SyntaxError: invalid syntax"),
        (python(">>> 1 + 1\n2"), 4, "(a block with prompts is a ```pycon block)"),
        (pycon(">>> 1 + 1\n3"), 4, "the output differs"),
        (pycon(">>> x = 1\n>>> 1 / 3\n0.3334"), 5, "the output differs"),
        (pycon(">>> 1.0 * 2\n1."), 4, "the output differs"),
        (pycon(">>> print(1)"), 4, "the output differs"),
        (pycon(">>> x = 1\n1"), 4, "the output differs"),
        (pycon(">>> int('x')\nTraceback (most recent call last):\nValueError: no"), 4, "differs"),
        (pycon(">>> 1\nTraceback (most recent call last):\nValueError: no"), 4, "differs"),
        (pycon("1 + 1\n2"), 4, "begins with the prompt"),
        (pycon(""), 3, "without a prompt"),
        (pycon(">>> 1 + 1  # doctest: +SKIP\n3"), 4, "doctest directives"),
        (python("raise SystemExit"), 4, "SystemExit"),
        (python("import pytest\npytest.skip('no')"), 5, "Skipped"),
        (python("import warnings\nwarnings.warn('careful')"), 5, "UserWarning: careful"),
        (python("x = 1", FIGURE.format("a")), 4, "must be a matplotlib Figure or a schemdraw"),
        (python("x = 1\n3", FIGURE.format("a")), 5, "it is 3"),
        (python("# nothing", FIGURE.format("a")), 3, "must be a matplotlib Figure"),
        (python("1 / 0", FIGURE.format("a")), 4, "ZeroDivisionError"),
        (python("[]", 'table="t"'), 4, "rows: a list of dicts with the same keys, it is []"),
        (python('[{"a": 1}, {"b": 1}]', 'table="t"'), 4, "same keys"),
        (python("x = 1", 'fig="a"'), 3, "the figure 'a' has no alt text"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(text: str, line: int, message: str) -> None:
    fault(text, line, message)


def test_a_warning_is_an_error_whatever_the_process_thinks_of_it() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fault(python("import warnings\nwarnings.warn('careful')"), 5, "UserWarning: careful")


def test_every_difference_of_a_session_is_told() -> None:
    error = fault(pycon(">>> 1\n2\n>>> 3\n3\n>>> 'a'\n'b'"), 4, "the output differs")
    assert error.details.count("the page says:") == 2
    assert "docs/page.md:8: 'a'" in error.details


def test_lines_count_from_the_front_matter() -> None:
    with pytest.raises(PageError, match=r"^p\.md:9: ZeroDivisionError") as caught:
        run_page(python("x = 1\n1 / 0"), "p.md", first_line=7)
    assert caught.value.code == "1 / 0"


def test_a_page_is_read_from_its_file(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(pycon(">>> 'ä'\n'a'"), encoding="utf-8")
    with pytest.raises(PageError, match=f"^{page}:2: "):
        run_page(page)


def test_pages_do_not_see_each_other() -> None:
    seed = random.random()
    run_page(python(f"leaked = {seed}"))
    fault(python("leaked"), 4, "NameError")
