"""One stem everywhere, and imports that only climb the staircase."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "attnbook"
BESIDE = {"book", "bench", "tasks"}  # not mechanisms: engine, timings, data
# No mechanism imports these.
OUTSIDE = {
    "tasks",
    "training",
    "plotting",
    "counting",
    "bench",
    "book",
}
# `attend` has a default score and normaliser, so `core` stands on the files that hold them.
STEPS = [{"scores", "normalizers", "masks"}, {"core"}, {"fused", "layers"}]
FOLDERS = [PACKAGE / "fused"]  # one module each, in several files
MODULES = sorted([*(path for path in PACKAGE.glob("[!_]*.py")), *FOLDERS])
TASKS = sorted(path for path in (PACKAGE / "tasks").glob("*.py") if path.stem != "__init__")
MECHANISMS = [path for path in MODULES if path.stem not in OUTSIDE]


def files(module: Path) -> list[Path]:
    """The files that a module is in."""
    return sorted(module.glob("*.py")) if module.is_dir() else [module]


def imported(module: Path) -> set[str]:
    """The first names below `attnbook` that a module imports."""
    return {name for path in files(module) for name in _imported(path)}


def _imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("attnbook.")}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path.name}:{node.lineno}: imports are absolute"
            parts = (node.module or "").split(".")
            if parts[0] == "attnbook":
                found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
    return found


@pytest.mark.parametrize("path", [*MODULES, *TASKS], ids=lambda path: path.stem)
def test_a_module_has_its_tests_and_its_reference(path: Path) -> None:
    """One stem: `hopfield.py`, `test_hopfield.py`, `reference/hopfield.md`."""
    folder = "tests/tasks" if path in TASKS else "tests"
    wanted = [f"{folder}/test_{path.stem}.py", f"docs/reference/{path.stem}.md"]
    missing = [name for name in wanted if not (ROOT / name).exists()]
    assert not missing, f"{path.relative_to(ROOT)} has no {', '.join(missing)}"


@pytest.mark.parametrize("path", [*MODULES, *TASKS], ids=lambda path: path.stem)
def test_a_reference_page_is_of_its_module(path: Path) -> None:
    dotted = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    page = ROOT / "docs" / "reference" / f"{path.stem}.md"
    assert f"::: {dotted}\n" in page.read_text(encoding="utf-8")
    assert f"reference/{path.stem}.md" in (ROOT / "mkdocs.yml").read_text(encoding="utf-8")


def test_no_reference_page_and_no_test_outlives_its_module() -> None:
    stems = {path.stem for path in [*MODULES, *TASKS]}
    pages = {path.stem for path in (ROOT / "docs" / "reference").glob("*.md")}
    assert pages == stems
    tests = {p.stem.removeprefix("test_") for p in (ROOT / "tests" / "tasks").glob("test_*.py")}
    assert tests == {path.stem for path in TASKS}


@pytest.mark.parametrize("path", MECHANISMS, ids=lambda path: path.stem)
def test_imports_climb_the_staircase(path: Path) -> None:
    """scores, normalizers, masks <- core <- fused, layers <- mechanisms."""
    names = (imported(path) & {module.stem for module in PACKAGE.iterdir()}) - {path.stem}
    assert not names & OUTSIDE, f"{path.name} imports {sorted(names & OUTSIDE)}"
    step = next((n for n, stems in enumerate(STEPS) if path.stem in stems), len(STEPS))
    above = {name for n, stems in enumerate(STEPS) if n > step for name in stems}
    above |= set() if step == len(STEPS) else {p.stem for p in MECHANISMS} - set().union(*STEPS)
    assert not names & above, f"{path.name} imports {sorted(names & above)}, which stand above it"


def test_the_package_needs_torch_and_jaxtyping_alone() -> None:
    """A file that no other imports, `additive_triton.py`, needs the extra `triton` besides."""
    for path in [PACKAGE / "__init__.py", *(file for m in MECHANISMS for file in files(m))]:
        allowed = {"torch", "jaxtyping", "attnbook"}
        allowed |= {"triton"} if path.name == "additive_triton.py" else set()
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            roots = {name.split(".")[0] for name in names}
            assert not roots - allowed - sys.stdlib_module_names, path.name


def test_every_public_name_is_said_to_be() -> None:
    silent = [
        path.name
        for path in (file for module in [*MODULES, *TASKS] for file in files(module))
        if not any(
            isinstance(node, ast.Assign)
            and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets)
            for node in ast.parse(path.read_text(encoding="utf-8")).body
        )
    ]
    assert not silent


def test_the_files_to_be_run_first_are_there() -> None:
    source = ast.parse((ROOT / "conftest.py").read_text(encoding="utf-8"))
    names = {n.value for n in ast.walk(source) if isinstance(n, ast.Constant)}
    first = {n for n in names if isinstance(n, str) and n.startswith("tests/") and n.endswith("py")}
    assert len(first) == 5
    assert not [name for name in first if not (ROOT / name).exists()]
