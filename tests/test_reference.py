"""The reference and the public names agree, both ways."""

import ast
import importlib
import re
import zlib
from pathlib import Path

import pytest
from website import ROOT, build, shared_folder

pytestmark = pytest.mark.site
PACKAGE = ROOT / "attnbook"
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in sorted([*PACKAGE.glob("[!_]*.py"), *(PACKAGE / "tasks").glob("*.py")])
    if path.stem != "__init__"
]
MODULES.append("attnbook.fused")  # a folder
FILES = {f"attnbook.fused.{path.stem}": path for path in (PACKAGE / "fused").glob("*.py")}


@pytest.fixture(scope="module")
def inventory(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Every object of the reference, and its page."""
    data = (build(shared_folder(tmp_path_factory)) / "objects.inv").read_bytes()
    _, _, _, _, packed = data.split(b"\n", 4)
    lines = zlib.decompress(packed).decode().splitlines()
    return {line.split(" ")[0]: line.split(" ")[3] for line in lines}


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_in_the_reference(module: str, inventory: dict[str, str]) -> None:
    names = importlib.import_module(module).__all__
    missing = [name for name in names if f"{module}.{name}" not in inventory]
    assert not missing, f"the reference of {module} does not show {missing}"


def test_the_reference_shows_public_names_only(inventory: dict[str, str]) -> None:
    public = {"attnbook", "attnbook.tasks", *MODULES, *FILES}
    for module in ["attnbook", *MODULES]:
        public |= {f"{module}.{name}" for name in importlib.import_module(module).__all__}
    for module, path in FILES.items():  # read, as one of them needs what may not be installed
        (names,) = re.findall(r"^__all__ = (\[.*?\])", path.read_text("utf-8"), re.M | re.S)
        public |= {f"{module}.{name}" for name in ast.literal_eval(names)}
    names = {name.rpartition(".")[2] for name in public}
    strangers = [
        name
        for name in inventory
        if name not in public
        and name.rpartition(".")[0] not in public
        # A name that a module passes on is listed under its home too.
        and not (name.startswith("attnbook.book.") and names & set(name.split(".")[3:5]))
    ]
    assert not strangers


def test_names_of_the_package_itself_are_in_the_reference_of_their_module(
    inventory: dict[str, str],
) -> None:
    import attnbook

    for name in attnbook.__all__:
        thing = getattr(attnbook, name)
        if isinstance(thing, type(importlib)):
            assert f"attnbook.{name}" in inventory
            continue
        homes = [module for module in MODULES if f"{module}.{name}" in inventory]
        assert homes, name


def test_every_page_of_the_reference_says_something(inventory: dict[str, str]) -> None:
    assert {Path(page.partition("#")[0]).stem for page in inventory.values()} >= {
        module.rpartition(".")[2] for module in MODULES
    }
