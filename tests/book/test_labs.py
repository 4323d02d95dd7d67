"""Labs: run, cleaned, known to be out of date from their code, and in step with their notebooks."""

import ast
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_output

from attnbook._reach import PACKAGE, reached
from attnbook.book import labs, notebooks
from attnbook.book.labs import LABS, Lab, find, main, save
from attnbook.book.notebooks import difference, overwritten

TINY = """# %% [markdown]
# # A tiny lab
#
# Some prose.

# %%
import sys

import torch
import tqdm.auto

from attnbook import causal, plotting
from attnbook.book.labs import save

for n in range(1000):  # a progress bar
    print(f"\\r{n / 10:5.1f} %", end="", file=sys.stderr)
print(causal(2, 2).tolist(), object())

# %%
figure, ax = plotting.axes(alt="A line that rises.")
ax.plot([0, 1], [0, 1])
figure

# %%
_ = save(
    "tiny",
    seeds=[0, 1],
    steps=3,
    values={"total": [1.0, 2.0]},
    worst={"total": min},
    shown={"rows": [[1, 2]]},
)
"""


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny lab that was run once."""
    folder = tmp_path_factory.mktemp("labs")
    (folder / "tiny.py").write_text(TINY, encoding="utf-8")
    assert main(["--folder", str(folder)]) == 0
    return folder


@pytest.fixture
def tiny(executed: Path, tmp_path: Path) -> Lab:
    """The tiny lab, run, with a package of its own to edit."""
    folder, package = tmp_path / "labs", tmp_path / "attnbook"
    shutil.copytree(executed, folder)
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__", "data"))
    return Lab(folder / "tiny.py", package)


def edit(path: Path, change: Callable[[str], str]) -> None:
    before = path.read_text(encoding="utf-8")
    after = change(before)
    assert after != before
    path.write_text(after, encoding="utf-8")


def test_a_run_leaves_a_clean_notebook_and_a_result(executed: Path) -> None:
    notebook = nbformat.read(executed / "tiny.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert [cell.id for cell in notebook.cells] == ["cell-01", "cell-02", "cell-03", "cell-04"]
    assert not any("execution" in cell.metadata for cell in notebook.cells)
    assert "version" not in notebook.metadata.language_info
    streams = {output.name: output.text for output in notebook.cells[1].outputs}
    assert streams["stderr"].strip() == "99.9 %"
    assert streams["stdout"] == "[[True, False], [True, True]] <object object>\n"
    (figure,) = notebook.cells[2].outputs
    assert list(figure.data) == ["image/svg+xml"]
    assert 'aria-label="A line that rises."' in figure.data["image/svg+xml"]
    assert "currentColor" in figure.data["image/svg+xml"]
    result = json.loads((executed / "results" / "tiny.json").read_text(encoding="utf-8"))
    assert result["values"] == {"total": {"worst": 1.0, "per_seed": [1.0, 2.0]}}
    assert (result["seeds"], result["steps"], result["lab"]) == ([0, 1], 3, "tiny")
    assert result["shown"] == {"rows": [[1, 2]]}
    assert 0 < result["cpu_seconds"] < 60
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", result["date"])


def test_an_unchanged_lab_is_not_run_again(
    executed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (executed / "tiny.ipynb").stat().st_mtime_ns
    assert main(["--folder", str(executed), "tiny"]) == 0
    assert capsys.readouterr().out == "tiny: up to date\n"
    assert (executed / "tiny.ipynb").stat().st_mtime_ns == before


def test_changed_code_makes_a_lab_stale(tiny: Lab) -> None:
    assert tiny.stale() == ""
    edit(tiny.source, lambda text: text.replace("causal(2, 2)", "causal(3, 3)"))
    assert tiny.stale() == "the code of tiny.py has changed since its last run"


def test_moving_code_to_another_cell_makes_a_lab_stale(tiny: Lab) -> None:
    edit(tiny.source, lambda text: text.replace("figure\n", "\n# %%\nfigure\n", 1))
    assert "tiny.py has changed" in tiny.stale()


def test_a_missing_result_or_notebook_makes_a_lab_stale(tiny: Lab) -> None:
    tiny.notebook.unlink()
    assert tiny.stale() == "tiny.ipynb does not exist"
    tiny.result.unlink()
    assert tiny.stale() == "tiny.json does not exist"


def test_package_code_that_the_lab_reaches_makes_it_stale(tiny: Lab) -> None:
    edit(tiny.package / "masks.py", lambda text: text + "\nEXTRA = 1\n")
    assert tiny.stale() == "package code that tiny.py uses has changed since its last run"


def test_the_data_of_a_task_counts_for_labs_that_use_it(tiny: Lab) -> None:
    edit(tiny.package / "masks.py", lambda text: text + "\nfrom attnbook.tasks import thing\n")
    data = tiny.package / "tasks" / "data"
    data.mkdir(exist_ok=True)
    (tiny.package / "tasks" / "thing.py").write_text("")
    before = tiny.hashes()["package_sha256"]
    (data / "other.tsv").write_text("a\tb\n")
    (data / "make_thing.py").write_text("")
    assert tiny.hashes()["package_sha256"] == before
    (data / "thing.tsv").write_text("a\tb\n")
    assert tiny.hashes()["package_sha256"] != before


@pytest.mark.parametrize("module", ["seq2seq.py", "plotting.py", "book/labs.py", "__init__.py"])
def test_package_code_that_changes_no_number_does_not(tiny: Lab, module: str) -> None:
    path = tiny.package / module
    if not path.exists():
        pytest.skip(f"there is no {module}")
    edit(path, lambda text: text + "\nEXTRA = 1\n")
    assert tiny.stale() == ""


REACHING = {
    "the package and a module, apart": "import attnbook\n\n# %%\nattnbook.masks.causal(2, 2)",
    "the package under a name": "import attnbook as book\n\n# %%\nbook.causal(2, 2)",
    "everything public": "from attnbook import *\n\n# %%\ncausal(2, 2)",
    "a module by its dotted name": "import attnbook.masks\n\n# %%\nattnbook.masks.causal(2, 2)",
    "the name that a dotted import binds": "import attnbook.scores\n\n# %%\nattnbook.causal(2, 2)",
    "a module under a name": "import attnbook.masks as m\n\n# %%\nm.causal(2, 2)",
    "the package handed on": "import attnbook\n\n# %%\ngetattr(attnbook, 'cau' + 'sal')(2, 2)",
    "a name that the package itself defines": "from attnbook import helper",
}


@pytest.mark.parametrize("how", REACHING)
def test_a_lab_is_stale_however_it_reaches_the_code(how: str, tmp_path: Path) -> None:
    package = tmp_path / "attnbook"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__", "data"))
    edit(package / "__init__.py", lambda text: text + "\ndef helper(): return causal(2, 2)\n")
    lab = Lab(tmp_path / "lab.py", package)
    lab.source.write_text(f"# %%\n{REACHING[how]}\n")
    before = lab.hashes()["package_sha256"]
    edit(package / "masks.py", lambda text: text + "\nEXTRA = 1\n")
    assert lab.hashes()["package_sha256"] != before


def test_a_lab_that_takes_one_name_of_the_package_reaches_its_module_alone() -> None:
    cells = ["import attnbook", "attnbook.dot()", "attnbook.scores.cosine"]
    names = reached([ast.parse(cell) for cell in cells])
    assert "attnbook.scores" in names
    assert not {"attnbook", "attnbook.masks", "attnbook.normalizers"} & set(names)


def test_docstrings_comments_and_layout_make_nothing_stale(tiny: Lab) -> None:
    edit(tiny.package / "masks.py", lambda text: text.replace('"""', '"""Edited. ', 1))
    edit(tiny.package / "masks.py", lambda text: text + "\n\n# a comment\n")
    edit(tiny.source, lambda text: text.replace("Some prose.", "Other prose."))
    edit(tiny.source, lambda text: text.replace("# a progress bar", "# a bar"))
    assert tiny.stale() == ""


def test_prose_is_refreshed_without_a_run(tiny: Lab) -> None:
    outputs = [cell.get("outputs") for cell in nbformat.read(tiny.notebook, as_version=4).cells]
    edit(tiny.source, lambda text: text.replace("Some prose.", "Other prose.\n#\n# More."))
    edit(tiny.source, lambda text: text.replace("# a progress bar", "# a bar"))
    assert "cell 1 of tiny.ipynb is not that of tiny.py" in difference(tiny.source, tiny.notebook)
    assert labs.refresh(tiny)
    assert difference(tiny.source, tiny.notebook) == ""
    cells = nbformat.read(tiny.notebook, as_version=4).cells
    assert [cell.get("outputs") for cell in cells] == outputs
    assert "Other prose." in cells[0].source
    assert not labs.refresh(tiny)


def test_a_cell_that_raises_fails_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.py").write_text("# %%\nraise KeyError('lost')\n")
    assert main(["--folder", str(tmp_path)]) == 1
    assert "KeyError: 'lost'" in capsys.readouterr().err
    assert not (tmp_path / "bad.ipynb").exists()


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (new_output("stream", text=f"{Path.cwd()}/x\n"), "shows a path of this machine"),
        (
            new_output("display_data", {"image/svg+xml": '<svg role="img"/>'}),
            "shows a figure without alt text",
        ),
        (new_output("display_data", {"image/png": "AAAA"}), "shows a bitmap"),
    ],
    ids=["path", "no alt", "bitmap"],
)
def test_what_must_not_be_published_fails_the_run(output: NotebookNode, message: str) -> None:
    with pytest.raises(RuntimeError, match=f"bad.py, cell 1 {message}"):
        notebooks._clean([output], "bad.py, cell 1", "/a/folder")


def test_a_lab_must_save_under_its_own_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "silent.py").write_text("# %%\nx = 1\n")
    (tmp_path / "other.py").write_text(
        "# %%\nfrom attnbook.book.labs import save\nsave('tiny', seeds=[0], values={}, worst={})\n"
    )
    assert main(["--folder", str(tmp_path)]) == 1
    errors = capsys.readouterr().err
    assert "silent.py does not call labs.save" in errors
    assert "other.py saves its result as 'tiny'" in errors


def test_a_lab_that_is_not_python_is_named_and_the_others_run(
    executed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(executed, tmp_path, dirs_exist_ok=True)
    (tmp_path / "broken.py").write_text("# %%\nx = = 1\n")
    assert main(["--folder", str(tmp_path)]) == 1
    printed = capsys.readouterr()
    assert "broken.py, cell 1, line 1 of the cell: cannot be read as Python" in printed.err
    assert "tiny: up to date" in printed.out


def test_a_broken_result_makes_a_lab_stale(tiny: Lab) -> None:
    tiny.result.write_text("<<<<<<< ours")
    assert tiny.stale() == "tiny.json cannot be read"


def test_a_number_that_the_notebook_does_not_print_is_named(tiny: Lab) -> None:
    assert tiny.contradiction() == ""
    edit(tiny.result, lambda text: text.replace("1.0,\n", "1.5,\n"))
    assert tiny.contradiction() == "tiny.json and tiny.ipynb differ on total"


def test_an_unknown_lab_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--folder", str(tmp_path), "nothing"])
    assert "no lab named nothing" in capsys.readouterr().err


def test_save_checks_what_it_is_given(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match=r"must name the same quantities; these differ: \['b'\]"):
        save("x", seeds=[0], values={"a": [1.0]}, worst={"a": min, "b": max})
    with pytest.raises(ValueError, match="a has 2 numbers but there are 3 seeds"):
        save("x", seeds=[0, 1, 2], values={"a": [1.0, 2.0]}, worst={"a": min})
    with pytest.raises(ValueError, match="a has a number that is not finite"):
        save("x", seeds=[0], values={"a": [float("nan")]}, worst={"a": min})
    with pytest.raises(ValueError, match="a has 0 numbers but there are 0 seeds"):
        save("x", seeds=[], values={"a": []}, worst={"a": min})
    with pytest.raises(ValueError, match=r"worst of a must be min or max, got one that gives 2\.0"):
        save("x", seeds=[0, 1], values={"a": [1, 3]}, worst={"a": lambda a: sum(a) / len(a)})
    assert save("x", seeds=[0, 1], values={"a": [1, 3]}, worst={"a": max}) == {"a": 3.0}
    assert "a: worst 3 of 1, 3" in capsys.readouterr().out


def test_a_progress_bar_leaves_one_line() -> None:
    bar = "".join(f"\r{n:3}%|{'#' * (n // 10):10}|" for n in range(101)) + "\n"
    assert overwritten(bar + "loss 0.1\n\nend") == "100%|##########|\nloss 0.1\n\nend"
    assert overwritten("\r 50%\r      \rdone") == "done"


@pytest.mark.parametrize("lab", find(LABS), ids=lambda lab: lab.stem)
def test_the_committed_notebook_is_its_source_executed(lab: Lab) -> None:
    """Cell by cell; `make labs` brings a notebook up to date."""
    assert lab.notebook.exists(), f"run python -m attnbook.book.labs {lab.stem}"
    assert difference(lab.source, lab.notebook) == ""
    assert lab.contradiction() == ""
    nbformat.validate(nbformat.read(lab.notebook, as_version=4))
    assert notebooks.read(lab.source).cells[0].source.startswith("# ")


def test_every_notebook_and_result_has_its_source() -> None:
    stems = {lab.stem for lab in find(LABS)}
    made = {p.stem for p in [*LABS.glob("*.ipynb"), *LABS.glob("results/*.json")]}
    assert made <= stems
