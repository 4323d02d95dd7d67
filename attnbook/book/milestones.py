"""The milestones of attention: one file, for every table and figure that shows them.

`docs/milestones.toml` lists them, one `[[milestone]]` each:

    date    "YYYY-MM", when the work could first be read: the month of its arXiv number, or of what
            `where` names; a manuscript under anonymous review does not count
    name    a few words, for a figure
    what    one sentence: what was new
    key     of docs/bibliography.bib
    strand  one of STRANDS
    where   where the month comes from, if not from an arXiv number
    seen    false where no source was found that prints this month
    main    true for those that the first chapter shows

On a page, `{milestones 2013 2015}` is the table of those years.
"""

import re
import tomllib
from dataclasses import MISSING, dataclass, fields
from importlib import resources
from pathlib import Path

from attnbook._reach import PACKAGE

STRANDS = (
    "before attention",
    "memory",
    "with recurrence",
    "without recurrence",
    "other inputs",
    "cost",
)


@dataclass(frozen=True)
class Milestone:
    """One work and its month; the module's docstring says what each field holds."""

    date: str
    name: str
    what: str
    key: str
    strand: str
    where: str = ""
    seen: bool = True
    main: bool = False

    @property
    def year(self) -> float:
        """The date as a number, the middle of its month.

        >>> Milestone("2014-07", "a name", "What it did.", "someone2014some", "memory").year
        2014.5416666666667
        """
        year, month = map(int, self.date.split("-"))
        return year + (month - 0.5) / 12


def load(path: Path | None = None) -> list[Milestone]:
    """Read the milestones in the order of their dates.

    Args:
        path: another file than the book's own.

    Raises:
        ValueError: a field is unknown or missing, a date is no month, or there is no such strand.

    >>> milestones = load()
    >>> [m.date for m in milestones if m.key == "vaswani2017attention"]
    ['2017-06']
    """
    if path is None:
        packed = resources.files("attnbook.book") / "milestones.toml"  # where it is installed
        own = PACKAGE.parent / "docs" / "milestones.toml"
        text = (own if own.exists() else packed).read_text(encoding="utf-8")
    else:
        text = path.read_text(encoding="utf-8")
    found = []
    for entry in tomllib.loads(text)["milestone"]:
        name = entry.get("name", entry)
        known = {field.name for field in fields(Milestone)}
        needed = {field.name for field in fields(Milestone) if field.default is MISSING}
        if wrong := (entry.keys() - known) | (needed - entry.keys()):
            raise ValueError(f"milestone {name!r}: unknown or missing {', '.join(sorted(wrong))}")
        if not re.fullmatch(r"(19|20)\d\d-(0[1-9]|1[0-2])", entry["date"]):
            raise ValueError(f'milestone {name!r}: date must be "YYYY-MM", got {entry["date"]!r}')
        if entry["strand"] not in STRANDS:
            raise ValueError(
                f"milestone {name!r}: strand must be one of {', '.join(STRANDS)}, "
                f"got {entry['strand']!r}"
            )
        found.append(Milestone(**entry))
    return sorted(found, key=lambda milestone: milestone.date)


def table(first: int, last: int) -> str:
    """Write the milestones of some years as Markdown; their sentences are set once, in the file.

    Args:
        first: the first year.
        last: the last one.

    Raises:
        ValueError: there is none in these years.

    >>> print(table(2014, 2014).splitlines()[0])
    | date | the work | what was new |
    """
    chosen = [m for m in load() if first <= int(m.date[:4]) <= last]
    if not chosen:
        raise ValueError(f"no milestone from {first} to {last}")
    rows = [f"| {m.date} | {m.name} [@{m.key}] | {m.what} |" for m in chosen]
    rows = [row.replace("-", "\N{NON-BREAKING HYPHEN}", 1) for row in rows]
    return "\n".join(["| date | the work | what was new |", "|---|---|---|", *rows])
