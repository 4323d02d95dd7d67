"""A page runs as a reader would run it, and says by page and line what is wrong."""

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
        + python(f"calls.append('figure')\n{EMPTY}", FIGURE.format("a"))
        + python("n += 1; calls.append('second')")
        + pycon(">>> n, calls\n(2, ['second'])")
    )
    page.run(3)
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
