r"""The glossary: one file of terms, from which its page and the search's names are made.

`docs/glossary.toml` holds the terms, sorted, one `[[term]]` each:

    term       as the course writes it, in the singular
    zh         the Chinese term, or several with "、" between them
    is         what it is: one exact sentence
    also       other names of the same thing, if it has any
    forms      words by which the pages may name it, such as "saturated" for saturation
    explained  the section that explains it, "chapters/02-one-equation.md#masks"; none where no
               section does yet
    first      where the course first means it; only where the word stands somewhere earlier in
               another sense, for the first use is found by reading the pages

    read(root)              the terms, and the sections of the course that they are looked up in
    Glossary.problems()     everything that is wrong with the file
    Glossary.markdown()     the entries of docs/glossary.md, one heading a term

How the terms come into the search is in `attnbook.book.catalogue`.
"""

import re
import tomllib
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, pairwise
from pathlib import Path

from markdown.extensions.toc import slugify  # type: ignore[import-untyped]

from attnbook.book.outline import Section, outline

PAGE = "glossary.md"
HAN = re.compile(r"[\u3400-\u9fff]+")
_NO_USE = {"In the package", "References"}  # lists of links
_FIELDS = {"term", "zh", "is", "also", "forms", "explained", "first"}
_NEEDED = {"term", "zh", "is"}
_SENTENCE = re.compile(r"[^a-z\s](?:et al\. |\.\d|[^.?!]){15,}\.")


@dataclass(frozen=True)
class Term:
    """One entry; the module's docstring says what each field holds."""

    term: str
    zh: str
    sentence: str  # the field `is`
    also: tuple[str, ...] = ()
    forms: tuple[str, ...] = ()
    explained: str = ""
    first: str = ""

    @property
    def anchor(self) -> str:
        """The entry's own anchor on the page."""
        return str(slugify(self.term, "-"))

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Finds the term in prose, by any of its names and forms, in the singular or plural."""
        names = "|".join(map(_spelt, (self.term, *self.also, *self.forms)))
        return re.compile(rf"(?<![\w-])(?:{names})(?!\w|-\w)", re.I)


@dataclass(frozen=True)
class Glossary:
    """The terms, and the sections of the course in its order."""

    terms: tuple[Term, ...] = ()
    sections: tuple[Section, ...] = ()
    faults: tuple[str, ...] = ()

    @cached_property
    def by_place(self) -> dict[str, Section]:
        """Each section by its link."""
        return {section.at: section for section in self.sections}

    def first_use(self, term: Term) -> Section | None:
        """The first section of the course whose title or prose has the term."""
        if term.first:
            return self.by_place.get(term.first)
        uses = (section for section in self.sections if section.path[-1] not in _NO_USE)
        return next((section for section in uses if term.pattern.search(section.text)), None)

    def whole(self, section: Section) -> str:
        """The titles and prose of a section and of those inside it."""
        depth = len(section.path)
        inside = (s for s in self.sections if s.page == section.page)
        return "\n".join(s.text for s in inside if s.path[:depth] == section.path)

    def problems(self) -> list[str]:
        """Everything that is wrong: each line names the term."""
        found = list(self.faults)
        for before, term in pairwise(term.term for term in self.terms):
            if before.casefold() >= term.casefold():
                found.append(f"{term}: stands behind {before!r}; terms are sorted, each once")
        owner: dict[str, str] = {}
        for entry in self.terms:
            for name in (entry.term, *entry.also, *entry.zh.split("、")):
                if (other := owner.setdefault(name.casefold(), entry.term)) != entry.term:
                    found.append(f"{entry.term}: {name!r} already names {other!r}")
            found += [f"{entry.term}: {fault}" for fault in self._faults(entry)]
        return found

    def _faults(self, term: Term) -> list[str]:
        found = []
        if not all(map(HAN.search, term.zh.split("、"))):
            found.append(f"zh is not Chinese: {term.zh!r}")
        if not _SENTENCE.fullmatch(re.sub(r"\$[^$]*\$", "x", term.sentence)):
            found.append(f"'is' is not one sentence: {term.sentence!r}")
        for name in ("explained", "first"):
            place = getattr(term, name)
            section = self.by_place.get(place)
            if place and section is None:
                found.append(f"{name} = {place!r} is no section of the course")
            elif section is not None and not term.pattern.search(self.whole(section)):
                found.append(f"the section {place!r} does not name it")
        if self.first_use(term) is None:
            found.append("the course nowhere names it: leave it out until a page does")
        return found

    def markdown(self) -> str:
        """The entries as Markdown: a heading for each letter, one for each term."""
        groups = groupby(self.terms, key=lambda term: term.term[0].upper())
        letters = {letter: [self._entry(term) for term in terms] for letter, terms in groups}
        index = " ".join(f"[{letter}](#{letter.lower()})" for letter in letters)
        parts = [f"{len(self.terms)} terms: {index}"]
        for letter, entries in letters.items():
            parts += [f"## {letter} {{#{letter.lower()}}}", *entries]
        return "\n\n".join(parts) + "\n"

    def _entry(self, term: Term) -> str:
        first, best = self.first_use(term), self.by_place.get(term.explained)
        links = []
        if best is not None:
            how = "First used and explained in" if first == best else "Explained in"
            links.append(f"{how} {_link(best)}")
        if first is not None and first != best:
            links.append(f"First used in {_link(first)}")
        also = f" Also: {', '.join(term.also)}." if term.also else ""
        zh = f'<span lang="zh-Hans">{term.zh}</span>'
        # Not in the table of contents, which ends at the third level; to who hears it, the third.
        heading = f"#### {term.term} {zh} {{#{term.anchor} aria-level=3}}"
        return f"{heading}\n\n{term.sentence}{also}\n{' '.join(links)}"


def read(root: Path) -> Glossary:
    """The glossary of a repository: docs/glossary.toml and the pages of the course.

    Args:
        root: the repository.
    """
    path = root / "docs" / "glossary.toml"
    if not path.exists():
        return Glossary()
    terms, faults = [], []
    for entry in tomllib.loads(path.read_text(encoding="utf-8"))["term"]:
        if wrong := (entry.keys() - _FIELDS) | (_NEEDED - entry.keys()):
            faults.append(f"{entry.get('term', entry)}: unknown or missing {sorted(wrong)}")
            continue
        also, forms = tuple(entry.pop("also", ())), tuple(entry.pop("forms", ()))
        terms.append(Term(sentence=entry.pop("is"), also=also, forms=forms, **entry))
    return Glossary(tuple(terms), tuple(outline(root)), tuple(faults))


def _link(section: Section) -> str:
    """A link to a section, as the end of a sentence."""
    return f"[{section.label}]({section.at}){'' if section.label.endswith('?') else '.'}"


def _spelt(name: str) -> str:
    """A pattern for a name whose words stand apart, joined by a hyphen, or over a line's end."""
    words = [re.escape(word) for word in re.split(r"[ -]", name)]
    if re.search("[^aeiou]y$", words[-1]):
        words[-1] = words[-1][:-1] + "(?:y|ies)"
    elif not words[-1].endswith("s"):
        words[-1] += "(?:s|es)?"
    return r"(?:[ \t]*\n[> \t]*|[ \t]+|-)".join(words)
