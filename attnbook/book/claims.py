"""The claims ledger: every number that the book sets beside a paper's or a theorem's.

`docs/claims.toml` lists the claims, `docs/labs/results/*.json` holds what the labs measured. Pages
cite a claim by its id: `{claim scores/std}` is `Ledger.value`, `{claim scores/std published}` is
`Ledger.published`, `{claim scores/std bound}` is `Ledger.bound`. The tables of docs/claims.md come
from `attnbook.book.scoreboard`. `attnbook.book.audit` says everything that is wrong with a ledger;
a test holds it empty.

A claim's fields:

    id         "stem/name", unique
    chapter    the chapter's file name without ".md", such as "03-scores"
    statement  one sentence; what a high or a low number means follows from the bound
    kind       theorem | reproduced | scaled-down | analogue | quoted
    source     BibTeX key of docs/bibliography.bib
    where      where in the source, such as "section 3.2.1, footnote 4"
    published  the source's number or formula, as printed
    checked    true where the published value was read in the source itself
    test       of a theorem: "tests/test_scores.py::test_name"
    lab        of a measured kind: the lab's stem
    value      of a measured kind: the quantity in the lab's result
    min, max   our bound on every seed, one of them or both
    format     how to print the numbers, such as ".1%" or ".3g"
    failed     why the published result did not reproduce (absent where it did); the bound is then
               about the number that we got
"""

import json
import tomllib
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from attnbook._reach import PACKAGE

ROOT = PACKAGE.parent
KINDS = {
    "theorem": "a proof says so; a test checks it in float64",
    "reproduced": "the paper's own setting, run by us",
    "scaled-down": "the paper's task and data, smaller or shorter",
    "analogue": "the paper's question, on other data",
    "quoted": "the paper's number, not run by us",
}
MEASURED = ("reproduced", "scaled-down", "analogue")


@dataclass(frozen=True)
class Claim:
    """One entry of the ledger; the module's docstring says what each field holds."""

    id: str
    chapter: str
    statement: str
    kind: str
    source: str = ""
    where: str = ""
    published: str = ""
    checked: bool | None = None
    test: str = ""
    lab: str = ""
    value: str = ""
    min: float | None = None
    max: float | None = None
    format: str = ""
    failed: str = ""

    def within(self, number: float) -> bool:
        """True where a measured number keeps the claim's bound."""
        return (self.min is None or number >= self.min) and (self.max is None or number <= self.max)

    def show(self, number: float) -> str:
        """Print a number as the claim's format says."""
        return f"{number:{self.format}}".replace("%", "\u202f%").replace("-", "−")


class LedgerError(ValueError):
    """Something that a page asks of the ledger is not there."""


@dataclass(frozen=True)
class Ledger:
    """The claims and the results that they point to, under one root (the repository)."""

    claims: dict[str, Claim]
    root: Path = field(default=ROOT)
    faults: tuple[str, ...] = ()

    @cached_property
    def results(self) -> dict[str, dict[str, Any]]:
        """The result of each lab that has one, by stem."""
        folder = self.root / "docs" / "labs" / "results"
        found: dict[str, dict[str, Any]] = {}
        for path in sorted(folder.glob("*.json")):
            try:
                found[path.stem] = json.loads(path.read_text(encoding="utf-8"))
            except json.JSONDecodeError as error:
                name = f"docs/labs/results/{path.name}"
                raise LedgerError(f"{name} cannot be read: {error}") from None
        return found

    def claim(self, identifier: str) -> Claim:
        """Find a claim; an unknown id is an error that names its neighbours."""
        if identifier not in self.claims:
            stem = identifier.partition("/")[0]
            near = [known for known in self.claims if known.startswith(stem + "/")]
            hint = f"; {stem} has: {', '.join(near)}" if near else f"; no claim begins with {stem}/"
            raise LedgerError(f"unknown claim {identifier!r}{hint}")
        return self.claims[identifier]

    def entry(self, identifier: str) -> dict[str, Any]:
        """Give what the result of its lab says of a claim: the worst number, and each seed's."""
        claim = self.claim(identifier)
        if claim.kind not in MEASURED:
            raise LedgerError(f"claim {identifier!r} is of kind {claim.kind}: nothing is measured")
        values = self.results.get(claim.lab, {}).get("values", {})
        if claim.value not in values:
            path = f"docs/labs/results/{claim.lab}.json"
            holds = f"holds {', '.join(sorted(values))}" if values else "does not exist"
            raise LedgerError(
                f"claim {identifier!r} needs {claim.value!r} of {path}, which {holds}"
            )
        return dict(values[claim.value])

    def per_seed(self, identifier: str) -> list[float]:
        """Give the measured numbers of a claim, one a seed."""
        return [float(number) for number in self.entry(identifier).get("per_seed", [])]

    def measured(self, identifier: str) -> float:
        """Give the worst measured number of a claim; it is an error if no seed measured it."""
        worst, numbers = float(self.entry(identifier)["worst"]), self.per_seed(identifier)
        if worst not in numbers:
            listed = ", ".join(f"{number:g}" for number in numbers) or "none at all"
            raise LedgerError(
                f"the worst number of claim {identifier!r}, {worst:g}, is of none of its seeds: "
                f"docs/labs/results/{self.claim(identifier).lab}.json lists {listed}"
            )
        return worst

    def value(self, identifier: str) -> str:
        """Give the measured value of a claim (that of its worst seed) as text."""
        return self.claim(identifier).show(self.measured(identifier))

    def published(self, identifier: str) -> str:
        """Give the published value of a claim, as its source prints it."""
        claim = self.claim(identifier)
        if not claim.published:
            raise LedgerError(f"claim {identifier!r} has no published value")
        return claim.published

    def bound(self, identifier: str) -> str:
        """Give the bound of a claim as text, such as "≥ 99.5 %"."""
        claim = self.claim(identifier)
        if claim.min is not None and claim.max is not None:
            return f"{claim.show(claim.min)} to {claim.show(claim.max)}"
        if claim.min is not None:
            return f"≥ {claim.show(claim.min)}"
        if claim.max is not None:
            return f"≤ {claim.show(claim.max)}"
        raise LedgerError(f"claim {identifier!r} has no bound")

    def status(self, identifier: str) -> str:
        """Say in words how a claim stands."""
        claim = self.claim(identifier)
        if claim.kind == "theorem":
            return "∎ tested"
        if claim.kind == "quoted":
            return "❝ quoted, not run"
        _ = self.results  # one that cannot be read is an error, not a number to come
        try:
            numbers = self.per_seed(identifier)
        except LedgerError:
            return "… not measured yet"
        try:
            self.measured(identifier)
        except LedgerError:
            return "✗ its result contradicts itself"
        if not all(map(claim.within, numbers)):
            return "✗ out of bound"
        return "≠ did not reproduce" if claim.failed else "✓ holds"


def load(root: Path = ROOT) -> Ledger:
    """Read docs/claims.toml; what is wrong with its entries is kept for the audit to report."""
    path = root / "docs" / "claims.toml"
    faults: list[str] = []
    claims: dict[str, Claim] = {}
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise LedgerError(f"docs/claims.toml cannot be read: {error}") from None
    entries = tables.pop("claim", [])
    if not isinstance(entries, list) or tables:
        names = ", ".join(tables) or "[claim]"
        raise LedgerError(f"docs/claims.toml holds [[claim]] tables and nothing else, got {names}")
    known = {f.name for f in fields(Claim)}
    needed = {"id", "chapter", "statement", "kind"}
    for number, entry in enumerate(entries, 1):
        name = entry.get("id", f"claim number {number}")
        unknown, missing = sorted(set(entry) - known), sorted(needed - set(entry))
        if unknown:
            faults.append(f"{name}: unknown field {', '.join(unknown)}")
        if missing:
            faults.append(f"{name}: missing field {', '.join(missing)}")
            continue
        if wrong := [fault for key in sorted(known & set(entry)) for fault in _typed(key, entry)]:
            faults += [f"{name}: {fault}" for fault in wrong]
            continue
        if name in claims:
            faults.append(f"{name}: this id is used twice")
        claims[name] = Claim(**{key: value for key, value in entry.items() if key in known})
    return Ledger(claims, root, tuple(faults))


def _typed(key: str, entry: dict[str, Any]) -> list[str]:
    """What is wrong with the type of a field's value."""
    number: tuple[tuple[type, ...], str] = ((int, float), "a number")
    kinds = {"min": number, "max": number, "checked": ((bool,), "true or false")}
    kind, words = kinds.get(key, ((str,), "text"))
    return [] if type(entry[key]) in kind else [f"{key} must be {words}, got {entry[key]!r}"]
