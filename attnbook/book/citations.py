r"""Citations: `[@key]` and `[@key, section 3; @other]` in a page, and its list of references.

    Bibliography(path).inline("@luong2015effective, section 3.1")   (Luong et al. 2015, section 3.1)
    Bibliography(path).inline("title @luong2015effective")          its title (Luong et al. 2015)
    Bibliography(path).listed(["luong2015effective"])               the list for \bibliography

A page that cites every work, as a reading list does, also says of each how it was checked. Written
in the text by author and year, as a reader says them, each linked to its entry on the same page.
The simple mode of `mkdocs-bibtex` cannot set a place in a work, its other mode needs pandoc.
"""

import re
from collections.abc import Iterable
from functools import cached_property
from html import escape
from pathlib import Path

from pybtex.backends import html, plaintext
from pybtex.database import Entry, Person, parse_file
from pybtex.exceptions import PybtexError
from pybtex.richtext import Text

# A pair of brackets with a key in it, but no link, image or footnote; `tight` where it follows a
# word or another citation without a space.
PATTERN = re.compile(
    r"(?<![!\\])(?P<tight>(?<=[\w\]]))?"
    r"\[(?P<inside>(?:(?:[^\[\]`]|`[^`\[\]]*`)*?(?<![\w.`@]))?@[A-Za-z][^\[\]]*)\](?!\(|\[(?!@))"
)
_ONE = re.compile(
    r"(?:(?P<before>[^@]*?)\s+)?@(?P<key>[A-Za-z][\w:-]*)(?:,\s*(?P<place>.+))?", re.S
)
# What the note `verified` of an entry begins with, and what the reading list makes of it.
CHECKED = {
    "publisher": "in a record of the publisher, the conference or arXiv",
    "authors": "in the paper, a page or a repository of the authors",
    "several": "in several sources that agree",
    "one": "in one source",
    "no": "not, or not wholly (these entries say so)",
}
_VENUES = ("journal", "booktitle", "howpublished", "publisher", "school", "institution")


class Bibliography:
    """The works of one BibTeX file.

    Args:
        path: the file; a missing one is an empty bibliography.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def entries(self) -> dict[str, Entry]:
        """Every work, by key.

        Raises:
            ValueError: the file cannot be read, or holds a work twice; names the keys.
        """
        if not self.path.exists():
            return {}
        try:
            entries = dict(parse_file(str(self.path), bib_format="bibtex").entries)
        except PybtexError as error:
            raise ValueError(f"{self.path.name}: {error}") from None
        if found := twice(entries):
            raise ValueError(f"{self.path.name}: {'; '.join(found)}")
        return entries

    def inline(self, inside: str) -> tuple[str, list[str]]:
        """Set the inside of a citation's brackets.

        Returns:
            Markdown for the text, and the keys that it cites.

        Raises:
            KeyError: an unknown key; the message names it.
            ValueError: it cannot be read; says what is expected.
        """
        parts, keys = [], []
        for part in inside.split(";"):
            match = _ONE.fullmatch(part.strip())
            if match is None:
                raise ValueError(
                    "write [@key], [@key, section 3], [see @key; @other] or [title @key]"
                )
            key = match["key"]
            if re.search(r"(?<![\w.])@[A-Za-z]", match["place"] or ""):
                raise ValueError("two works are parted by a semicolon, [@one; @two]")
            if key not in self.entries:
                raise KeyError(key)
            keys.append(key)
            before = f"{match['before']} " if match["before"] else ""
            place = f", {match['place']}" if match["place"] else ""
            label = escape(self.label(key))
            link = f'<a class="book-cite" href="#ref-{key}">{label}</a>{place}'
            if match["before"] == "title":
                if ";" in inside:
                    raise ValueError("[title @key] is of one work")
                return f"<cite>{_html(self.entries[key].fields['title'])}</cite> ({link})", keys
            parts.append(f"{before}{link}")
        return f"({'; '.join(parts)})", keys

    def label(self, key: str) -> str:
        """Author and year, such as "Luong et al. 2015"."""
        entry = self.entries[key]
        return f"{_who(entry)}\u00a0{entry.fields.get('year', '')}{self._letter(key)}"

    def _letter(self, key: str) -> str:
        """Nothing, or a, b, ... where two works share first authors and year."""
        return self._letters.get(key, "")

    @cached_property
    def _letters(self) -> dict[str, str]:
        groups: dict[tuple[str, str], list[str]] = {}
        for key, entry in sorted(self.entries.items()):
            groups.setdefault((_who(entry), entry.fields.get("year", "")), []).append(key)
        return {
            key: "abcdefghij"[n]
            for keys in groups.values()
            if len(keys) > 1
            for n, key in enumerate(keys)
        }

    def listed(self, keys: Iterable[str]) -> str:
        """The list of references of a page, in the order of authors and years."""

        def order(key: str) -> tuple[str, str, str]:
            entry = self.entries[key]
            people = entry.persons.get("author", [])
            return (_surname(people[0]).lower() if people else "", entry.fields["year"], key)

        cited = sorted(dict.fromkeys(keys), key=order)
        whole = set(cited) == set(self.entries)
        items = [self.entry(key, checked=whole) for key in cited]
        count = f"<p>{self.count()}</p>\n" if whole else ""
        return f'{count}<ul class="book-references">\n{chr(10).join(items)}\n</ul>'

    def count(self) -> str:
        """How many works there are, and in what they were checked."""
        kinds = [_checked(entry)[0] for entry in self.entries.values()]
        counts = {words: kinds.count(kind) for kind, words in CHECKED.items()}
        seen = ", ".join(f"{n} {words}" for words, n in counts.items() if n)
        return f"{len(kinds)} works. Authors, title and year were compared with a source: {seen}."

    def entry(self, key: str, checked: bool = False) -> str:
        """One work as an item of the list; `checked` adds how it was checked."""
        entry = self.entries[key]
        fields = entry.fields
        people = [_full(person) for person in entry.persons.get("author", [])]
        who = people[0] if len(people) == 1 else f"{', '.join(people[:-1])} and {people[-1]}"
        parts = [f"{who} ({fields.get('year', '')}{self._letter(key)})."]
        title = _html(fields.get("title", "")).rstrip(".")
        parts.append(f"<cite>{title}</cite>{'' if title.endswith('?') else '.'}")
        venue = next((_html(fields[name]) for name in _VENUES if fields.get(name)), "")
        number = fields.get("volume", "") + (f"({fields['number']})" if "number" in fields else "")
        number, pages = (
            text.replace("--", "–") for text in (number, _html(fields.get("pages", "")))
        )
        where = " ".join(filter(None, [venue, number])) + (f", {pages}" if pages else "")
        if where:
            parts.append(f"{where}.")
        if fields.get("eprint"):
            url = f"https://arxiv.org/abs/{fields['eprint']}"
            parts.append(f'<a href="{url}">arXiv:{escape(fields["eprint"])}</a>.')
        if fields.get("doi"):
            doi = escape(fields["doi"])
            parts.append(f'<a href="https://doi.org/{doi}">doi:{doi}</a>.')
        elif fields.get("url") and not fields.get("eprint"):
            parts.append(f'<a href="{escape(fields["url"])}">{escape(fields["url"])}</a>.')
        if checked:
            kind, note = _checked(entry)
            words = (
                f"Checked in {_html(note)}"
                if kind != "no"
                else f"Not wholly checked: {_html(note)}"
            )
            parts.append(f"<small>{words}.</small>")
        return f'<li id="ref-{key}">{" ".join(parts)}</li>'


class _Html(html.Backend):
    """HTML without a mark around what BibTeX would keep in capitals."""

    def format_protected(self, text: str) -> str:
        return text


# One of each: asked for by name, pybtex looks through every installed package at each call.
_HTML, _TEXT = _Html(), plaintext.Backend()


def twice(entries: dict[str, Entry]) -> list[str]:
    """Each pair of entries that is one work, by its arXiv number, its DOI or its title."""
    found, seen = [], dict[tuple[str, str], str]()
    for key, entry in entries.items():
        for name in ("eprint", "doi", "title"):
            words = re.findall(r"\w+", _plain(entry.fields.get(name, "")).lower())
            other = seen.setdefault((name, " ".join(words)), key) if words else key
            if other != key:
                found.append(f"{other} and {key} have the same {name}")
    return found


def _checked(entry: Entry) -> tuple[str, str]:
    """The kind and the words of an entry's note on where it was checked."""
    kind, _, note = entry.fields.get("verified", "no").partition(":")
    return (kind, note.strip()) if kind in CHECKED else ("several", f"{kind}{note}")


def _html(latex: str) -> str:
    return str(Text.from_latex(" ".join(latex.split())).render(_HTML)).replace("'", "\u2019")


def _plain(latex: str) -> str:
    return str(Text.from_latex(latex).render(_TEXT))


def _who(entry: Entry) -> str:
    names = [_surname(person) for person in entry.persons.get("author", [])]
    return " and ".join(names) if len(names) < 3 else f"{names[0]} et al."


def _surname(person: Person) -> str:
    return _plain(" ".join([*person.prelast_names, *person.last_names]))


def _full(person: Person) -> str:
    given = [_plain(name) for name in [*person.first_names, *person.middle_names]]
    initials = " ".join(
        "-".join(f"{half[0]}." for half in name.split("-") if half) for name in given if name
    )
    return escape(f"{_surname(person)}, {initials}" if initials else _surname(person))
