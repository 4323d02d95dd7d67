"""The milestones are dated as their sources say, and every page shows the same ones."""

import re
import tomllib
from datetime import date
from pathlib import Path

import pytest
from pybtex.database import parse_file

from attnbook.book.blocks import PageError
from attnbook.book.citations import Bibliography
from attnbook.book.claims import Ledger
from attnbook.book.milestones import Milestone, load, table
from attnbook.book.weave import Sources, Weave

ROOT = Path(__file__).parents[2]
ENTRIES = parse_file(str(ROOT / "docs" / "bibliography.bib"), bib_format="bibtex").entries
TIMELINE = ROOT / "docs" / "timeline.md"
CHAPTER = ROOT / "docs" / "chapters" / "01-why-attention.md"


@pytest.mark.parametrize("milestone", load(), ids=lambda milestone: milestone.key)
def test_a_milestone_is_a_work_of_the_bibliography_with_its_month(milestone: Milestone) -> None:
    assert milestone.key in ENTRIES, f"{milestone.name}: no such key in docs/bibliography.bib"
    fields = ENTRIES[milestone.key].fields
    arxiv = re.match(r"(\d\d)(\d\d)\.", fields.get("eprint", ""))
    number = f"20{arxiv[1]}-{arxiv[2]}" if arxiv else ""
    if milestone.where:
        assert milestone.date < number or not number, (
            "its arXiv number is as early: leave out where"
        )
        assert int(fields["year"]) - 3 <= int(milestone.date[:4]) <= int(fields["year"])
        spelled = date.fromisoformat(f"{milestone.date}-01").strftime("%B %Y")
        assert spelled in milestone.where or not milestone.seen
    else:
        assert milestone.date == number, "say where the month comes from"
        assert milestone.seen
    assert len(milestone.name) <= 32
    assert "'" not in milestone.name, "a figure shows it as it stands: write ’"
    assert milestone.what.endswith(".")


def test_they_are_in_order_and_each_is_there_once() -> None:
    milestones = load()
    assert [m.date for m in milestones] == sorted(m.date for m in milestones)
    assert len({m.key for m in milestones}) == len({m.name for m in milestones}) == len(milestones)
    listed = tomllib.loads((ROOT / "docs" / "milestones.toml").read_text())["milestone"]
    assert [m.key for m in milestones] == [entry["key"] for entry in listed]


def test_the_table_of_the_chapter_shows_the_main_ones() -> None:
    rows = re.findall(
        r"^\| (\d{4}-\d\d) \| (.+?) \[@(\w+)\] \| (.+) \|$",
        CHAPTER.read_text(encoding="utf-8").replace("\N{NON-BREAKING HYPHEN}", "-"),
        re.M,
    )
    assert rows == [(m.date, m.name, m.key, m.what) for m in load() if m.main]


def test_the_page_shows_all_of_them_in_order() -> None:
    """Each part of the timeline is a figure and a table of the same years; none is left out."""
    text = TIMELINE.read_text(encoding="utf-8")
    shown = re.findall(r"^\{milestones (\d{4}) (\d{4})\}$", text, re.M)
    assert shown == re.findall(r"^years\((\d{4}), (\d{4})\)$", text, re.M)
    assert not re.search(r"^\| *\d{4}.\d\d ", text, re.M), "a row that is typed"
    rows = [
        re.fullmatch(r"\| (\d{4}).(\d\d) \| (.+) \[@(\w+)\] \| (.+) \|", row)
        for years in shown
        for row in table(*map(int, years)).splitlines()[2:]
    ]
    found = [(f"{m[1]}-{m[2]}", m[3], m[4], m[5]) for m in rows if m]
    assert found == [(m.date, m.name, m.key, m.what) for m in load()]


def test_a_directive_is_the_table_of_its_years() -> None:
    sources = Sources(Ledger({}), Bibliography(ROOT / "docs" / "bibliography.bib"))
    end = "\n\n## References\n\n\\bibliography\n"
    text = f"# T\n\nTable: Ten. {{#tbl-t}}\n\n{{milestones 2017 2017}}{end}"
    woven = Weave(text, "t.md", sources)
    row = next(row for row in woven.markdown.splitlines() if "Transformer" in row)
    assert "2017\N{NON-BREAKING HYPHEN}06" in row
    assert 'href="#ref-vaswani2017attention">Vaswani et al.\u00a02017</a>' in row
    assert "book-table-tbl-t-end Ten." in woven.markdown
    with pytest.raises(PageError, match=r"t\.md:3: no milestone from 1900 to 1901"):
        Weave(f"# T\n\n{{milestones 1900 1901}}{end}", "t.md", sources)
    with pytest.raises(PageError, match=r"it is written \{milestones 2013 2015\}"):
        Weave(f"# T\n\n{{milestones 2017}}{end}", "t.md", sources)


def test_the_file_goes_into_the_wheel() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    included = build["targets"]["wheel"]["force-include"]
    assert included["docs/milestones.toml"] == "attnbook/book/milestones.toml"


GOOD = """[[milestone]]
date = "2014-09"
name = "a work"
what = "What was new."
key = "someone2014something"
strand = "memory"
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("2014-09", "2014", "date must be"),
        ("2014-09", "2014-13", "date must be"),
        ('key = "', 'keys = "', "unknown or missing key, keys"),
        ('name = "a work"\n', "", "unknown or missing name"),
        ("[[milestone]]\n", "[[milestone]]\nextra = 1\n", "unknown or missing extra"),
        ('"memory"', '"memories"', "strand must be one of"),
    ],
)
def test_a_bad_entry_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "milestones.toml"
    path.write_text(GOOD)
    assert load(path) == [
        Milestone("2014-09", "a work", "What was new.", "someone2014something", "memory")
    ]
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(ValueError, match=message):
        load(path)
