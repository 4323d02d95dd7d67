"""Every chapter has what the template promises, and the home page and the navigation know it."""

import itertools
import re
from pathlib import Path

import pytest

from attnbook.book.fences import parse

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
TEMPLATE = DOCS / "chapters" / "_template.md"
CHAPTERS = sorted(DOCS.glob("chapters/[0-9][0-9]-*.md"))
# A section may have a longer title ("Where we differ from the papers"); others may stand between.
OPENING = ["The idea", "The equation", "The smallest block"]
MIDDLE = ["Where it breaks", "What it costs", "Where it is used", "The experiment"]  # in any order
CLOSING = ["Where we differ from the paper", "Exercises", "In the package", "References"]


def faults(text: str) -> list[str]:
    """What a chapter lacks, in words; an empty list if nothing."""
    outside = re.sub(r"(?ms)^( *)(`{3,}).*?^\1\2$", "", text)
    found = []
    if not re.match(r"# .+\n\n\*.+?\*\n\n", outside, re.S):
        found.append("begin with the title and, in italics, the question that the chapter answers")
    if not re.search(r"(?m)^After this chapter you can$\n\n(- .+\n( .+\n)*){2,}", outside):
        found.append("say what the reader can do 'After this chapter you can', as a list")
    titles = re.findall(r"(?m)^## (.+)$", outside)
    at = {
        section: next((n for n, title in enumerate(titles) if title.startswith(section)), None)
        for section in [*OPENING, *MIDDLE, *CLOSING]
    }
    found += [f"no section '## {section}'" for section, n in at.items() if n is None]
    places = [(n, section) for section, n in at.items() if n is not None and section not in MIDDLE]
    found += [
        f"'## {later}' comes too early; the order is that of the template"
        for (n, _), (m, later) in itertools.pairwise(places)
        if m < n
    ]
    if "| score | mask | normalise | aggregate |" not in outside:
        found.append("no row of the mechanism: | score | mask | normalise | aggregate |")
    if "$$" not in outside:
        found.append("no equation between $$ and $$")
    if not any(block.fig for block in parse(text)):
        found.append('no figure: a block with fig="..."')
    if "][attnbook." not in outside:
        found.append("no link to the reference: [`attend`][attnbook.core.attend]")
    if not re.search(r"\[@\w", outside) or "\n\\bibliography" not in outside:
        found.append("no citation, or no \\bibliography under References")
    exercises = re.split(r"(?m)^## .+$", text.partition("\n## Exercises\n")[2], maxsplit=1)[0]
    parts = re.split(r"(?m)^\*\*\d+\. ", exercises)[1:]
    if len(parts) < 3:
        found.append(f"three exercises or more, each '**1. Title.** text'; there are {len(parts)}")
    for number, part in enumerate(parts, 1):
        folded = part.partition('??? success "Solution')[2]
        if not any(not block.no_run for block in parse(folded)):
            found.append(f"exercise {number} has no folded solution with code that runs")
    return found


@pytest.mark.parametrize("chapter", [TEMPLATE, *CHAPTERS], ids=lambda path: path.stem)
def test_nothing_is_missing(chapter: Path) -> None:
    text = chapter.read_text(encoding="utf-8")
    assert "TODO" not in text, f"{chapter.name}: a TODO is left"
    found = faults(text)
    assert not found, f"{chapter.relative_to(ROOT)} (see {TEMPLATE.name}):\n" + "\n".join(found)


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_home_and_navigation_list_it(chapter: Path) -> None:
    page = f"chapters/{chapter.name}"
    for place, entry in ((DOCS / "index.md", f"]({page}): "), (ROOT / "mkdocs.yml", page)):
        times = place.read_text(encoding="utf-8").count(entry)
        assert times == 1, f"{place.name} lists {page} {times} times"


def test_the_map_links_what_is_written() -> None:
    """Home has the whole syllabus in order; what is not written has no link, and no more words."""
    home = (DOCS / "index.md").read_text(encoding="utf-8")
    course = home.partition('<div class="book-map" markdown>')[2].partition("**Labs**")[0]
    entries = re.findall(r"(?m)^- (\[?)(\d\d) [\w?-]+", course)
    assert [number for _, number in entries] == [f"{n:02}" for n in range(1, 26)]
    linked = [number for bracket, number in entries if bracket]
    assert linked == [chapter.name[:2] for chapter in CHAPTERS]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("## Where it breaks", "## Limits", "no section '## Where it breaks'"),
        ("## The idea", "## The equation\n\n## The idea", "'## The equation' comes too early"),
        ("*The question", "The question", "the question that the chapter answers"),
        ("After this chapter you can", "You will", "After this chapter you can"),
        ("$$", "", "no equation"),
        ("| score | mask |", "| mask | score |", "no row of the mechanism"),
        ('fig="template-strength"', 'title="x"', "no figure"),
        ("**3. ", "3. ", "there are 2"),
        ('??? success "Solution"', "Solution:", "exercise 1 has no folded solution"),
        ("\\bibliography", "", "no \\bibliography"),
        ("][attnbook.", "](attnbook.", "no link to the reference"),
    ],
)
def test_what_is_missing_is_named(old: str, new: str, message: str) -> None:
    text = TEMPLATE.read_text(encoding="utf-8")
    assert old in text
    text = re.sub(r' (alt|caption)="[^"]*"', "", text) if old.startswith("fig") else text
    assert any(message in fault for fault in faults(text.replace(old, new)))


CONTRIBUTING = DOCS / "contributing.md"


def test_examples_of_blocks_are_live() -> None:
    """Each form that contributing.md shows stands there a second time, as a block that runs."""
    text = CONTRIBUTING.read_text(encoding="utf-8")
    shown = list(re.finditer(r"(?ms)^````markdown\n(.*?)^````\n\n", text))
    assert len(shown) >= 8
    for example in shown:
        line = text[: example.start()].count("\n") + 1
        assert text.startswith(example[1], example.end()), (
            f"docs/contributing.md:{line}: the block below is not the one that is shown"
        )
