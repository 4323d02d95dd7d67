"""The README keeps its word: its commands, files, links and picture exist, and its code runs."""

import re
from pathlib import Path

import pytest

from attnbook.book.guard import escaped
from attnbook.book.readme import DARK, FIGURE, LIGHT, pictures, stand_alone
from attnbook.book.runner import run_page

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "docs" / "contributing.md"]
PAGES += [ROOT / "docs" / "index.md"]


def targets() -> set[str]:
    """Every target of the Makefile that `make help` lists."""
    return set(re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(), re.M))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_exist(page: Path) -> None:
    named = set(re.findall(r"(?:^|`)make ([a-z]+)", page.read_text(encoding="utf-8"), re.M))
    assert named <= targets(), f"no such make target: {sorted(named - targets())}"


def test_readme_names_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^make (\w+)", text, re.M) == ["serve", "test"]


@pytest.mark.parametrize("page", PAGES[:2], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    found = re.findall(r"\]\(([^)#:]+)\)", text) + re.findall(r'(?:src|srcset)="([^":]+)"', text)
    missing = [link for link in found if not (ROOT / link).exists()]
    assert not missing, f"{page.name} points at what is not there: {missing}"


def test_readme_code_runs() -> None:
    page = ROOT / "README.md"
    assert not escaped(page.read_text(encoding="utf-8"), "README.md")
    assert all(result.ran for result in run_page(page))


def test_readme_shows_what_home_shows() -> None:
    home, readme = ((ROOT / name).read_text("utf-8") for name in ("docs/index.md", "README.md"))
    outputs = re.findall(r"^(?:Attended|tensor)\(.*$", readme, re.M)
    assert len(outputs) == 2
    assert all(output in home for output in outputs)


def test_picture_is_that_of_the_home_page() -> None:
    """Compared by its words: matplotlib's curves may differ in the last digit between versions."""
    for path, drawn in pictures().items():
        words = re.findall(r">([^<>]+)<", drawn)
        kept = re.findall(r">([^<>]+)<", path.read_text(encoding="utf-8")) if path.exists() else []
        assert kept == words, f"run `python -m attnbook.book.readme`: {path.name} is out of date"


@pytest.mark.parametrize(("name", "colours"), [("light", LIGHT), ("dark", DARK)])
def test_picture_needs_no_page(name: str, colours: list[str]) -> None:
    svg = (ROOT / "docs" / "assets" / f"{FIGURE}-{name}.svg").read_text(encoding="utf-8")
    assert "var(" not in svg
    assert "currentColor" not in svg
    assert f'fill="{colours[-1]}"' in svg


def test_a_picture_keeps_the_scheme_apart() -> None:
    one = '<svg viewBox="0 0 4 2"><path fill="var(--book-2, #e3670c)" /></svg>'
    assert LIGHT[1] in stand_alone(one, "#000000", LIGHT)
    assert DARK[1] in stand_alone(one, "#000000", DARK)


def test_licences_and_citation_agree() -> None:
    assert (ROOT / "LICENSE").read_text().startswith("MIT License")
    assert (ROOT / "LICENSE-text").read_text("utf-8").startswith("Attribution 4.0 International")
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.M)
    assert version is not None
    assert f"\nversion: {version[1]}\n" in (ROOT / "CITATION.cff").read_text()
