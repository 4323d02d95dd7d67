"""The claims ledger holds; and each way in which it could fail to is caught by name."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from attnbook.book import claims
from attnbook.book.audit import problems
from attnbook.book.claims import Ledger, LedgerError, load
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
GOOD: dict[str, object] = {
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
THEOREM: dict[str, object] = {
    "id": "tiny/bound",
    "chapter": "03-scores",
    "statement": "It is bounded.",
    "kind": "theorem",
    "test": "tests/test_tiny.py::Test::test_bound",
}
QUOTED: dict[str, object] = {
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
    (tmp_path / "docs" / "chapters" / "04-norms.md").write_text("# Normes\n")
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
    "bound as text": (GOOD | {"min": "0.9"}, "min must be a number, got '0.9'"),
    "text as number": (GOOD | {"published": 95}, "published must be text, got 95"),
    "checked as text": (GOOD | {"checked": "yes"}, "checked must be true or false, got 'yes'"),
    "least above greatest": (GOOD | {"max": 0.5}, "min, 0.9, is greater than max, 0.5"),
    "chapter of another name": (GOOD | {"chapter": "04-other"}, "chapter 04 is '04-norms', got"),
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


def test_a_bound_that_bounds_nothing_is_named(root: Path) -> None:
    write(root, GOOD)
    path = root / "docs" / "claims.toml"
    path.write_text(path.read_text().replace("min = 0.9", "min = -inf"))
    assert problems(load(root)) == ["tiny/accuracy: min and max must be finite"]


RESULTS: dict[str, tuple[dict[str, object], str, str]] = {
    "a seed that is not the worst": (
        {"worst": 0.95, "per_seed": [0.95, 0.8]},
        "measured 80.0\u202f%, but the bound is ≥ 90.0\u202f%",
        "✗ out of bound",
    ),
    "a seed without a number": (
        {"worst": 0.95, "per_seed": [0.95, float("nan")]},
        "measured nan\u202f%, but the bound is",
        "✗ out of bound",
    ),
    "a worst number from nowhere": (
        {"worst": 0.95, "per_seed": [0.96, 0.97]},
        "the worst number of claim 'tiny/accuracy', 0.95, is of none of its seeds: "
        "docs/labs/results/tiny.json lists 0.96, 0.97",
        "✗ its result contradicts itself",
    ),
    "no numbers": (
        {"worst": 0.95},
        "is of none of its seeds: docs/labs/results/tiny.json lists none at all",
        "✗ its result contradicts itself",
    ),
    "the best seed called the worst": (
        {"worst": 0.97, "per_seed": [0.95, 0.97]},
        "the lab calls 0.97 the worst number, but with the bound ≥ 90.0\u202f% the worst is 0.95",
        "✓ holds",
    ),
}


@pytest.mark.parametrize("fault", RESULTS)
def test_every_seed_is_held_to_the_bound(fault: str, root: Path) -> None:
    entry, message, standing = RESULTS[fault]
    write_result(root, {"accuracy": entry})
    ledger = load(root)
    assert any(message in text for text in problems(ledger)), problems(ledger)
    assert ledger.status("tiny/accuracy") == standing


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


@pytest.mark.parametrize(
    ("text", "got"), [("[claim]\nid = 'a'", r"\[claim\]"), ("[[claims]]", "claims")]
)
def test_tables_that_are_no_claims_are_named(root: Path, text: str, got: str) -> None:
    (root / "docs" / "claims.toml").write_text(text)
    with pytest.raises(LedgerError, match=rf"holds \[\[claim\]\] tables .* got {got}$"):
        load(root)


def test_a_broken_result_is_named(root: Path) -> None:
    (root / "docs" / "labs" / "results" / "tiny.json").write_text("<<<<<<< ours")
    ledger = load(root)
    faults = problems(ledger)
    assert any("its result is out of date: tiny.json cannot be read" in fault for fault in faults)
    assert any("docs/labs/results/tiny.json cannot be read: Expecting" in f for f in faults)
    with pytest.raises(LedgerError, match=r"tiny\.json cannot be read"):
        scoreboard(ledger)


def test_a_lab_that_is_not_python_is_named(root: Path) -> None:
    (root / "docs" / "labs" / "tiny.py").write_text("# %%\nx = 1\n\n# %%\nx = = 2\n")
    (fault,) = problems(load(root))
    where = "tiny/accuracy: tiny.py, cell 2, line 1 of the cell: "
    assert fault == f"{where}cannot be read as Python: invalid syntax"


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
    assert "<br>2 seeds<br>bound\N{NO-BREAK SPACE}≥\N{NO-BREAK SPACE}90.0" in row(
        ledger, "tiny/accuracy"
    )
    ran = "[tiny](labs/tiny.ipynb): 100 steps a run, 12 CPU s in all, last run 2026-01-02."
    assert board.count(f"Measured in the lab {ran}") == 1
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


def test_the_scoreboard_knows_that_a_chapter_is_not_written_yet(root: Path) -> None:
    later = THEOREM | {"id": "tiny/later", "chapter": "06-later"}
    write(root, GOOD, later, THEOREM | {"id": "tiny/now", "chapter": "04-norms"})
    ledger = load(root)
    assert problems(ledger) == []
    board = scoreboard(ledger)
    ran = "This chapter is not written yet; its lab has run, and these are its numbers."
    assert f"## 03 Scores\n\n{ran}\n\nMeasured in the lab [tiny](labs/tiny.ipynb)" in board
    assert "## [04 Normes](chapters/04-norms.md)\n\n| claim |" in board
    assert "## 06 Later\n\nThis chapter is not written yet.\n\n| claim |" in board


def test_the_scoreboard_counts_the_runs_of_each_claim(root: Path) -> None:
    write_result(root, {"accuracy": {"worst": 0.95, "per_seed": [0.95]}})
    assert "<br>1 run<br>bound" in row(load(root), "tiny/accuracy")


def test_a_statement_of_many_lines_is_one_cell(root: Path) -> None:
    write(root, GOOD | {"statement": "It learns\n  |x|.\n"})
    assert r"| It learns \|x\|.<br>" in row(load(root), "tiny/accuracy")
