"""The study path of the home page: its lessons are of the course, in its order, and lead somewhere.

A row is a lesson: a number; what is read, run and solved; what one can do afterwards.
"""

import itertools
import re

import pytest
from anchors import DOCS, ROOT, anchors

HOME = (DOCS / "index.md").read_text(encoding="utf-8")
PATHS = {"ten": 10, "fifteen": 15}
_LINK = re.compile(r"\[([^\]]+)\]\(([^)]+)\)")
_ROW = re.compile(r"^ *\| (\d+) \| (.+?)<br>(.+) \| (.+) \|$", re.M)


def lessons(name: str) -> list[tuple[str, str, str]]:
    """What is read, done and learned in each lesson of a path."""
    table = re.split(r"\n *\n", HOME.partition(f"{{#tbl-{name}}}\n\n")[2], maxsplit=1)[0]
    rows = _ROW.findall(table)
    assert len(rows) == table.strip().count("\n") - 1, "a row that is none of a lesson"
    assert [row[0] for row in rows] == [str(n) for n in range(1, len(rows) + 1)]
    return [(read, do, can) for _, read, do, can in rows]


def course() -> list[str]:
    """The chapters of the map, as "05 Sequences"."""
    course = HOME.partition('<div class="book-map" markdown>')[2].partition("**Labs**")[0]
    return re.findall(r"(?m)^- \[?(\d\d [^\]\n]+?)(?:\].*)?$", course)


def chapters(read: str) -> list[str]:
    """The chapters that a lesson names, as the map does."""
    plain = _LINK.sub(r"\1", read)
    found = [
        next((name for name in sorted(course(), key=len)[::-1] if plain.startswith(name, at)), "")
        for at in (match.start() for match in re.finditer(r"\b\d\d [A-Z]", plain))
    ]
    assert found, f"no chapter: {plain}"
    assert all(found), f"a chapter that is not so named on the map: {plain}"
    return found


def written() -> dict[str, str]:
    """The pages of the chapters in the navigation, by the name there."""
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    return dict(re.findall(r"(?m)^ +- (\d\d [^:]+): (chapters/\S+\.md)$", nav))


@pytest.mark.parametrize(("name", "number"), PATHS.items())
def test_a_path_has_its_lessons_in_the_order_of_the_course(name: str, number: int) -> None:
    rows = lessons(name)
    assert len(rows) == number
    assert HOME.count(f"{{#tbl-{name}}}") == 1
    read = [chapter for text, _, _ in rows for chapter in chapters(text)]
    assert all(a <= b for a, b in itertools.pairwise(read)), read
    for text, do, can in rows:
        assert do.startswith("*run* [")
        assert can
        for chapter in chapters(text):
            assert (f"]({written().get(chapter, 'nowhere')}" in text) == (chapter in written())


def test_the_long_path_is_the_whole_course() -> None:
    read = [chapter for text, _, _ in lessons("fifteen") for chapter in chapters(text)]
    assert read == course()
    assert set(written()) <= set(read)


def test_the_short_path_reaches_the_transformer_and_memory() -> None:
    read = {chapter[:2] for text, _, _ in lessons("ten") for chapter in chapters(text)}
    assert {"01", "02", "03", "07", "08", "09", "10", "12", "15"} <= read


@pytest.mark.parametrize("name", PATHS)
def test_what_a_lesson_links_is_there(name: str) -> None:
    for read, do, _ in lessons(name):
        for _, target in _LINK.findall(f"{read} {do}"):
            page, _, anchor = target.partition("#")
            assert (DOCS / page).exists(), target
            assert not anchor or anchor in anchors(page), target
        for page, numbers in re.findall(r"\[exercises?\]\(([^)#]+)#exercises\) ([\d, ]+)", do):
            text = (DOCS / page).read_text(encoding="utf-8")
            for number in numbers.split(", "):
                assert f"\n**{number}. " in text.partition("\n## Exercises\n")[2], (page, number)


def test_a_missing_anchor_is_seen() -> None:
    assert "keys-and-values" in anchors("chapters/02-one-equation.md")
    assert "tbl-mechanisms" in anchors("chapters/02-one-equation.md")
    assert "where-does-it-look" in anchors("labs/seq2seq-dates.ipynb")
    assert "nowhere" not in anchors("chapters/02-one-equation.md")
