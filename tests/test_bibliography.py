"""The bibliography is complete, checked, and agrees with every place that cites it."""

import ast
import re
import tomllib
import unicodedata
from functools import cache
from pathlib import Path

import pytest
from pybtex.database import BibliographyData, Person, parse_string

from attnbook.book.citations import CHECKED, PATTERN, Bibliography, twice

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
BIB = DOCS / "bibliography.bib"
LIST = DOCS / "bibliography.md"
SMALL_WORDS = {"a", "an", "from", "on", "the"}
NEEDS = {
    "article": ["journal"],
    "book": ["publisher"],
    "incollection": ["booktitle"],
    "inproceedings": ["booktitle"],
    "misc": [],
}
LINKED_SINCE = 1990  # earlier works may have neither an arXiv number, nor a DOI, nor a page
MAY_BE_UNVERIFIED = 3


def fold(text: str) -> str:
    """Lower case without accents: Veličković -> velickovic."""
    plain = unicodedata.normalize("NFKD", text.replace("ł", "l").replace("Ł", "L"))
    return "".join(c for c in plain if not unicodedata.combining(c)).lower()


def surname(person: Person) -> str:
    return fold(" ".join(person.prelast_names + person.last_names))


@cache
def parse(text: str) -> BibliographyData:
    return parse_string(text, "bibtex")


def problems(text: str) -> list[str]:
    """Everything that is wrong with a BibTeX file, each line naming the entry."""
    keys = re.findall(r"^@\w+\{([^,\s]+),", text, re.M)
    seen: set[str] = set()
    found = []
    for key in keys:
        if key.lower() in seen:
            found.append(f"{key}: this key is there twice (case does not count)")
        seen.add(key.lower())
    if found:
        return found
    for key, entry in parse(text).entries.items():
        fields = entry.fields
        people = entry.persons.get("author", [])
        wanted = ["title", "year", "verified", *NEEDS.get(entry.type, [])]
        if entry.type not in NEEDS:
            found.append(f"{key}: @{entry.type} is not one of {', '.join(NEEDS)}")
        found += [f"{key}: no {name}" for name in wanted if not fields.get(name, "").strip()]
        if not people:
            found.append(f"{key}: no author")
            continue
        old = fields.get("year", "").isdigit() and int(fields["year"]) < LINKED_SINCE
        if not ({"eprint", "doi", "url"} & set(fields) or entry.type == "book" or old):
            found.append(f"{key}: give an eprint, a doi or a url, so that it can be found")
        if any(surname(p) in {"others", "al"} or not p.first_names for p in people):
            found.append(f"{key}: list all authors as 'Last, First', without 'and others'")
        if entry.type == "misc" and not (fields.get("eprint") or fields.get("howpublished")):
            found.append(f"{key}: a preprint has an eprint, another work says how it was published")
        if fields.get("verified", "").partition(": ")[0] not in CHECKED:
            found.append(f"{key}: `verified` begins with one of {', '.join(CHECKED)} and a colon")
        words = re.findall(r"\w+", fold(fields.get("title", "")))
        first = next((word for word in words if word not in SMALL_WORDS), "")
        expected = f"{surname(people[0]).replace(' ', '')}{fields.get('year', '')}{first}"
        if key != expected:
            found.append(f"{key}: the key should be {expected}")
        if arxiv := re.fullmatch(r"(\d\d)\d\d\.\d{4,5}", fields.get("eprint", "")):
            lag = int(fields.get("year", 0)) - 2000 - int(arxiv[1])
            if not (0 <= lag <= 3 or entry.type == "book"):
                found.append(f"{key}: arXiv number and year are {lag} years apart")
    return found + [f"{pair}: one work, twice" for pair in twice(dict(parse(text).entries))]


def cited_on_pages() -> dict[str, list[str]]:
    """Key -> places that cite it."""
    places: dict[str, list[str]] = {}
    files = [*DOCS.rglob("*.md"), *DOCS.glob("labs/*.py")]
    for path in sorted(files):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            for block in PATTERN.finditer(line):
                for key in re.findall(r"@([\w-]+)", block["inside"]):
                    places.setdefault(key, []).append(f"{path.relative_to(ROOT)}:{number}")
    ledger = DOCS / "claims.toml"
    if ledger.exists():
        for claim in tomllib.loads(ledger.read_text(encoding="utf-8")).get("claim", []):
            if source := claim.get("source"):
                places.setdefault(source, []).append(f"docs/claims.toml, claim {claim['id']}")
    return places


def cited_in_docstrings() -> list[tuple[str, list[str], bool, str]]:
    """Each work in a `Source:` section: place, surnames, whether more authors follow, year."""
    works = []
    for path in sorted((ROOT / "attnbook").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
                continue
            doc = ast.get_docstring(node) or ""
            for section in re.findall(r"^Source:\n((?:[ ]{4}.*\n?)+)", doc + "\n", re.M):
                text = " ".join(section.split())
                names = r"((?:[A-Z][\w-]+, )*[A-Z][\w-]+)( et al\.)? ((?:19|20)\d\d)\b"
                for people, more, year in re.findall(names, text):
                    place = f"{path.relative_to(ROOT)}: {getattr(node, 'name', 'module')}"
                    works.append((place, [fold(n) for n in people.split(", ")], bool(more), year))
    return works


def find(names: list[str], more: bool, year: str) -> list[str]:
    """Keys of the entries that a docstring's "Name, Name 2015" or "Name et al. 2015" can mean."""
    keys = []
    for key, entry in parse(BIB.read_text(encoding="utf-8")).entries.items():
        authors = [surname(person) for person in entry.persons["author"]]
        same = authors[: len(names)] == names if more else authors == names
        if same and entry.fields["year"] == year:
            keys.append(key)
    return keys


def test_entries_are_complete() -> None:
    found = problems(BIB.read_text(encoding="utf-8"))
    assert not found, "docs/bibliography.bib:\n" + "\n".join(found)


def test_almost_everything_is_verified() -> None:
    entries = parse(BIB.read_text(encoding="utf-8")).entries
    unchecked = [key for key, e in entries.items() if e.fields["verified"].startswith("no:")]
    assert len(unchecked) <= MAY_BE_UNVERIFIED, f"check these against a source: {unchecked}"


def test_every_citation_exists() -> None:
    known = set(parse(BIB.read_text(encoding="utf-8")).entries)
    unknown = {key: where for key, where in cited_on_pages().items() if key not in known}
    assert not unknown, f"cited, but not in docs/bibliography.bib: {unknown}"


def test_sources_of_docstrings_are_entries() -> None:
    missing = [
        f"{place}: {', '.join(names)}{' et al.' if more else ''} {year}"
        for place, names, more, year in cited_in_docstrings()
        if not find(names, more, year)
    ]
    assert not missing, "no such authors and year in docs/bibliography.bib:\n" + "\n".join(missing)


def test_every_entry_is_on_the_reading_list_once() -> None:
    """An entry that no page cites fails: the reading list says of each work what it brings."""
    listed = re.findall(r"^- \[title @([\w-]+)\]\. \S.*", LIST.read_text(encoding="utf-8"), re.M)
    idle = sorted(set(parse(BIB.read_text(encoding="utf-8")).entries) - set(listed))
    assert not idle, f"docs/bibliography.md has no line '- [title @key]. What it brings.': {idle}"
    more = sorted(key for key in set(listed) if listed.count(key) > 1)
    assert not more, f"docs/bibliography.md names these more than once: {more}"


def test_the_reading_list_says_how_each_entry_was_checked() -> None:
    bibliography = Bibliography(BIB)
    html = bibliography.listed(bibliography.entries)
    assert html.count("<small>") == len(bibliography.entries)
    assert f"{len(bibliography.entries)} works" in html
    some = bibliography.listed(list(bibliography.entries)[1:])
    assert "<small>" not in some


def test_a_title_is_cited_alone() -> None:
    bibliography = Bibliography(BIB)
    text, keys = bibliography.inline("title @vinyals2015pointer, table 1")
    assert keys == ["vinyals2015pointer"]
    assert text.startswith("<cite>Pointer Networks</cite> (<a ")
    assert text.endswith("</a>, table 1)")
    with pytest.raises(ValueError, match="of one work"):
        bibliography.inline("title @vinyals2015pointer; @bahdanau2015neural")


def test_a_work_twice_stops_the_build(tmp_path: Path) -> None:
    path = tmp_path / "twice.bib"
    path.write_text(GOOD + GOOD.replace("{vinyals2015pointer", "{vinyals2015again"))
    with pytest.raises(ValueError, match="vinyals2015pointer and vinyals2015again have the same"):
        Bibliography(path).inline("@vinyals2015pointer")
    path.write_text(GOOD + GOOD)
    with pytest.raises(ValueError, match="vinyals2015pointer"):
        Bibliography(path).inline("@vinyals2015pointer")


GOOD = """@inproceedings{vinyals2015pointer,
  author = {Vinyals, Oriol and Fortunato, Meire and Jaitly, Navdeep},
  title = {Pointer Networks},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2015},
  eprint = {1506.03134},
  verified = {publisher: the NeurIPS entry},
}
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("", "", ""),
        ("  year = {2015},\n", "", "no year"),
        ("  verified = {publisher: the NeurIPS entry},\n", "", "no verified"),
        ("{publisher: the", "{the", "`verified` begins with one of publisher, authors"),
        ("  eprint = {1506.03134},\n", "", "give an eprint, a doi or a url"),
        (" and Jaitly, Navdeep", " and others", "list all authors"),
        ("{vinyals2015pointer", "{vinyals2015networks", "the key should be vinyals2015pointer"),
        ("{2015}", "{2024}", "years apart"),
        ("@inproceedings", "@online", "@online is not one of"),
        (GOOD, GOOD + GOOD.replace("{vinyals", "{Vinyals"), "this key is there twice"),
        (GOOD, GOOD + GOOD.replace("{vinyals2015p", "{vinyals2015q"), "have the same eprint: one"),
        (GOOD, GOOD + GOOD.replace("{vinyals2015p", "{vinyals2015q"), "have the same title: one"),
    ],
)
def test_a_bad_entry_is_named(old: str, new: str, message: str) -> None:
    found = problems(GOOD.replace(old, new) if old else GOOD)
    assert any(message in problem for problem in found) if message else found == []


def test_a_range_has_the_dash_of_print() -> None:
    """Of numbers as of pages, which BibTeX writes with two hyphens."""
    bibliography = Bibliography(BIB)
    html = bibliography.listed(bibliography.entries)
    assert "2(1–2), 125–134" in html
    assert not re.search(r"\d--\d", html)
