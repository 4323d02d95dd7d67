"""The claims ledger holds; and each way in which it could fail to is caught by name."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from attnbook.book import claims
from attnbook.book.claims import Ledger, LedgerError, load, problems
from attnbook.book.labs import Lab
from attnbook.book.scoreboard import scoreboard


def test_the_ledger_holds() -> None:
    """Every claim in its bound, every result newer than the code, every test and citation there."""
    assert problems(load()) == []


def test_every_claim_can_be_cited() -> None:
    ledger = load()
    for claim in ledger.claims.values():
        if claim.kind in claims.MEASURED:
            assert ledger.value(claim.id)
            assert ledger.bound(claim.id)


LAB = """# %%
from attnbook.book.labs import save

x = 1
save("tiny", seeds=[0], values={}, worst={})
"""
GOOD = {
    "id": "tiny/accuracy",
    "chapter": "03-scores",
    "statement": "It learns.",
    "kind": "scaled-down",
    "published": "95.0 %",
    "checked": True,
    "source": "someone2020something",
    "where": "table 1",
    "lab": "tiny",
    "value": "accuracy",
    "min": 0.9,
    "format": ".1%",
}
THEOREM = {
    "id": "tiny/bound",
    "chapter": "03-scores",
    "statement": "It is bounded.",
    "kind": "theorem",
    "test": "tests/test_tiny.py::Test::test_bound",
}
QUOTED = {
    "id": "tiny/quoted",
    "chapter": "03-scores",
    "statement": "They reach it.",
    "kind": "quoted",
    "published": "99 %",
    "checked": False,
    "source": "someone2020something",
    "where": "table 2",
}


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A repository with one lab, its result, a test, a bibliography and three good claims."""
    labs = tmp_path / "docs" / "labs"
    (labs / "results").mkdir(parents=True)
    (tmp_path / "docs" / "chapters").mkdir()
    (tmp_path / "tests").mkdir()
    (labs / "tiny.py").write_text(LAB)
    (labs / "tiny.ipynb").write_text("{}")
    (tmp_path / "docs" / "bibliography.bib").write_text("@article{someone2020something,\n}\n")
    (tmp_path / "tests" / "test_tiny.py").write_text("class Test:\n    def test_bound(self): ...\n")
    write_result(tmp_path, {"accuracy": {"worst": 0.95, "per_seed": [0.95, 0.97]}})
    write(tmp_path, GOOD, THEOREM, QUOTED)
    yield tmp_path
    shutil.rmtree(tmp_path)


def write_result(root: Path, values: dict[str, object]) -> None:
    lab = Lab(root / "docs" / "labs" / "tiny.py")
    record = {"lab": "tiny", "date": "2026-01-02", "cpu_seconds": 12.3, "seeds": [0, 1]}
    lab.result.write_text(json.dumps(record | {"steps": 100, "values": values} | lab.hashes()))


def write(root: Path, *entries: dict[str, object]) -> None:
    text = "".join(
        "[[claim]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in entry.items())
        for entry in entries
    )
    (root / "docs" / "claims.toml").write_text(text)


def without(entry: dict[str, object], *names: str) -> dict[str, object]:
    return {key: value for key, value in entry.items() if key not in names}


def test_a_good_ledger_has_no_problems(root: Path) -> None:
    assert problems(load(root)) == []


FAULTS: dict[str, tuple[dict[str, object], str]] = {
    "too low": (GOOD | {"min": 0.96}, "measured 95.0\u202f%, but the bound is ≥ 96.0\u202f%"),
    "too high": (
        without(GOOD, "min") | {"max": 0.5},
        "measured 95.0\u202f%, but the bound is ≤ 50.0\u202f%",
    ),
    "no such value": (
        GOOD | {"value": "accurracy"},
        "needs 'accurracy' of docs/labs/results/tiny.json, which holds accuracy",
    ),
    "no such lab": (GOOD | {"lab": "tinny"}, "lab docs/labs/tinny.py does not exist"),
    "no bound": (without(GOOD, "min"), "a measured claim needs a bound"),
    "no format": (without(GOOD, "format"), "a measured claim needs format"),
    "bad format": (GOOD | {"format": "%"[:0] + ".q"}, "format '.q' is not a number's format"),
    "no source": (without(GOOD, "where"), "source and where are needed"),
    "unknown citation": (GOOD | {"source": "nobody1900"}, "unknown citation key 'nobody1900'"),
    "unchecked": (
        without(GOOD, "checked"),
        "checked must say whether the published value was read",
    ),
    "unknown kind": (GOOD | {"kind": "proved"}, "kind must be one of theorem, reproduced"),
    "unknown field": (GOOD | {"publishd": "1"}, "unknown field publishd"),
    "missing field": (without(GOOD, "statement"), "missing field statement"),
    "bad id": (GOOD | {"id": "accuracy"}, 'an id is "stem/name"'),
    "bad chapter": (GOOD | {"chapter": "scores"}, 'chapter must be like "03-scores"'),
    "theorem without test": (without(THEOREM, "test"), "a theorem needs its test"),
    "no such test": (
        THEOREM | {"test": "tests/test_tiny.py::Test::test_lost"},
        "tests/test_tiny.py has no test 'test_lost'",
    ),
    "no such test file": (
        THEOREM | {"test": "tests/test_lost.py::test_bound"},
        "test 'tests/test_lost.py::test_bound' does not exist",
    ),
    "theorem with a bound": (
        THEOREM | {"min": 1},
        "a claim of kind theorem has no lab, value, bound",
    ),
    "quoted without number": (without(QUOTED, "published"), "needs its published value"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_entry_is_named(fault: str, root: Path) -> None:
    entry, message = FAULTS[fault]
    write(root, entry)
    found = problems(load(root))
    assert found, fault
    assert any(message in text for text in found), found
    assert all(str(entry["id"]) in text for text in found)


def test_an_id_used_twice_is_named(root: Path) -> None:
    write(root, GOOD, GOOD)
    assert "tiny/accuracy: this id is used twice" in problems(load(root))


def test_a_claim_without_a_result_is_named(root: Path) -> None:
    (root / "docs" / "labs" / "results" / "tiny.json").unlink()
    (fault, *_) = problems(load(root))
    assert fault.startswith("tiny/accuracy: its result is out of date: tiny.json does not exist")


def test_a_lab_newer_than_its_result_is_named(root: Path) -> None:
    (root / "docs" / "labs" / "tiny.py").write_text(LAB.replace("x = 1", "x = 2"))
    (fault,) = problems(load(root))
    assert "the code of tiny.py has changed since its last run" in fault
    assert "python -m attnbook.book.labs tiny" in fault


def test_package_code_newer_than_the_result_is_named(root: Path) -> None:
    path = root / "docs" / "labs" / "results" / "tiny.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"package_sha256": "0"}))
    (fault,) = problems(load(root))
    assert "package code that tiny.py uses has changed" in fault


def test_prose_of_a_lab_may_change(root: Path) -> None:
    (root / "docs" / "labs" / "tiny.py").write_text(f"# %% [markdown]\n# Prose.\n\n{LAB}# Note.\n")
    assert problems(load(root)) == []


def test_a_broken_file_is_named(root: Path) -> None:
    (root / "docs" / "claims.toml").write_text("[[claim]\n")
    with pytest.raises(LedgerError, match=r"docs/claims\.toml cannot be read"):
        load(root)


def test_a_page_gets_its_numbers(root: Path) -> None:
    ledger = load(root)
    assert ledger.value("tiny/accuracy") == "95.0\u202f%"
    assert ledger.published("tiny/accuracy") == "95.0 %"
    assert ledger.bound("tiny/accuracy") == "≥ 90.0\u202f%"


@pytest.mark.parametrize(
    ("ask", "identifier", "message"),
    [
        (
            "value",
            "tiny/acuracy",
            "unknown claim 'tiny/acuracy'; tiny has: tiny/accuracy, tiny/bound",
        ),
        ("value", "other/thing", "no claim begins with other/"),
        ("value", "tiny/bound", "is of kind theorem: nothing is measured"),
        ("published", "tiny/bound", "has no published value"),
        ("bound", "tiny/quoted", "has no bound"),
    ],
)
def test_a_page_that_asks_for_what_is_not_there(
    root: Path, ask: str, identifier: str, message: str
) -> None:
    with pytest.raises(LedgerError, match=message):
        getattr(load(root), ask)(identifier)


def row(ledger: Ledger, identifier: str) -> str:
    return next(line for line in scoreboard(ledger).splitlines() if f"`{identifier}`" in line)


def test_the_scoreboard_says_how_each_claim_stands(root: Path) -> None:
    lost = "The gap is 3 points here."
    write(root, GOOD, THEOREM, QUOTED, GOOD | {"id": "tiny/failed", "failed": lost})
    ledger = load(root)
    assert problems(ledger) == []
    board = scoreboard(ledger)
    assert row(ledger, "tiny/accuracy").endswith("| ✓ holds |")
    assert "**95.0\u202f%**" in row(ledger, "tiny/accuracy")
    assert "2 seeds, 100 steps, 12 CPU s, 2026-01-02" in row(ledger, "tiny/accuracy")
    assert "[@someone2020something], table 1" in row(ledger, "tiny/accuracy")
    assert row(ledger, "tiny/bound").endswith("| ∎ tested |")
    assert row(ledger, "tiny/quoted").endswith("| ❝ quoted, not run |")
    assert "(as reported, unchecked)" in row(ledger, "tiny/quoted")
    assert row(ledger, "tiny/failed").endswith("| ≠ did not reproduce |")
    assert f"Did not reproduce: {lost}" in board
    assert "4 claims." in board
    assert board.index("## 03 Scores") > board.index("| theorem |")


def test_the_scoreboard_shows_a_claim_out_of_its_bound(root: Path) -> None:
    write(root, GOOD | {"min": 0.99})
    assert row(load(root), "tiny/accuracy").endswith("| ✗ out of bound |")
    (root / "docs" / "labs" / "results" / "tiny.json").unlink()
    assert row(load(root), "tiny/accuracy").endswith("| … not measured yet |")
