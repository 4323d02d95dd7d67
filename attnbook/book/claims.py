"""The claims ledger: every number that the book sets beside a paper's or a theorem's.

`docs/claims.toml` lists the claims, `docs/labs/results/*.json` holds what the labs measured. Pages
cite a claim by its id: `{claim scores/std}` is `Ledger.value`, `{claim scores/std published}` is
`Ledger.published`, `{claim scores/std bound}` is `Ledger.bound`. The tables of docs/claims.md come
from `attnbook.book.scoreboard`. `problems` says everything that is wrong with a ledger; a test
holds it empty.

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
    min, max   our bound on the worst seed, one of them or both
    format     how to print the numbers, such as ".1%" or ".3g"
    failed     why the published result did not reproduce (absent where it did); the bound is then
               about the number that we got
"""

import ast
import json
import re
import tomllib
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from attnbook.book.labs import Lab
from attnbook.book.reach import PACKAGE

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
        return {p.stem: json.loads(p.read_text(encoding="utf-8")) for p in folder.glob("*.json")}

    def claim(self, identifier: str) -> Claim:
        """Find a claim; an unknown id is an error that names its neighbours."""
        if identifier not in self.claims:
            stem = identifier.partition("/")[0]
            near = [known for known in self.claims if known.startswith(stem + "/")]
            hint = f"; {stem} has: {', '.join(near)}" if near else f"; no claim begins with {stem}/"
            raise LedgerError(f"unknown claim {identifier!r}{hint}")
        return self.claims[identifier]

    def measured(self, identifier: str) -> float:
        """Give the worst measured number of a claim."""
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
        return float(values[claim.value]["worst"])

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
        try:
            number = self.measured(identifier)
        except LedgerError:
            return "… not measured yet"
        if not claim.within(number):
            return "✗ out of bound"
        return "≠ did not reproduce" if claim.failed else "✓ holds"


def load(root: Path = ROOT) -> Ledger:
    """Read docs/claims.toml; what is wrong with its entries is kept for `problems` to report."""
    path = root / "docs" / "claims.toml"
    faults: list[str] = []
    claims: dict[str, Claim] = {}
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8")).get("claim", [])
    except tomllib.TOMLDecodeError as error:
        raise LedgerError(f"docs/claims.toml cannot be read: {error}") from None
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
        if name in claims:
            faults.append(f"{name}: this id is used twice")
        claims[name] = Claim(**{key: value for key, value in entry.items() if key in known})
    return Ledger(claims, root, tuple(faults))


def problems(ledger: Ledger) -> list[str]:
    """List everything that is wrong with a ledger, each fault with the name of its claim."""
    found = list(ledger.faults)
    bibliography = ledger.root / "docs" / "bibliography.bib"
    text = bibliography.read_text(encoding="utf-8") if bibliography.exists() else ""
    keys = set(re.findall(r"^\s*@\w+\{\s*([^,\s]+)\s*,", text, re.M))
    stale: dict[str, str] = {}
    for claim in ledger.claims.values():
        faults = _entry_faults(claim, keys)
        if claim.kind == "theorem" and claim.test:
            faults += _test_faults(claim.test, ledger.root)
        if claim.kind in MEASURED and claim.lab and claim.value and not faults:
            lab = Lab(ledger.root / "docs" / "labs" / f"{claim.lab}.py")
            if not lab.source.exists():
                faults.append(f"lab docs/labs/{claim.lab}.py does not exist")
            else:
                if claim.lab not in stale:
                    stale[claim.lab] = lab.stale()
                if stale[claim.lab]:
                    advice = f"python -m attnbook.book.labs {claim.lab}"
                    faults.append(f"its result is out of date: {stale[claim.lab]}; run {advice}")
                try:
                    number = ledger.measured(claim.id)
                except LedgerError as error:
                    faults.append(str(error))
                else:
                    if not claim.within(number):
                        bound = ledger.bound(claim.id)
                        faults.append(f"measured {claim.show(number)}, but the bound is {bound}")
        found += [f"{claim.id}: {fault}" for fault in faults]
    return found


def _entry_faults(claim: Claim, keys: set[str]) -> list[str]:
    """What is wrong with an entry by itself."""
    faults = []
    if not re.fullmatch(r"[a-z0-9-]+/[a-z0-9-]+", claim.id):
        faults.append('an id is "stem/name" in small letters, digits and hyphens')
    if not re.fullmatch(r"\d\d-[a-z0-9-]+", claim.chapter):
        faults.append(f'chapter must be like "03-scores", got {claim.chapter!r}')
    if claim.kind not in KINDS:
        faults.append(f"kind must be one of {', '.join(KINDS)}, got {claim.kind!r}")
        return faults
    if claim.source and claim.source not in keys:
        faults.append(f"unknown citation key {claim.source!r}")
    if claim.kind != "theorem" and not (claim.source and claim.where):
        faults.append("source and where are needed: which paper, and where in it")
    if claim.published and claim.checked is None:
        faults.append("checked must say whether the published value was read in the source itself")
    if claim.kind == "quoted" and not claim.published:
        faults.append("a quoted claim needs its published value")
    if claim.kind == "theorem" and not claim.test:
        faults.append("a theorem needs its test")
    if claim.kind in MEASURED:
        missing = [name for name in ("lab", "value", "format") if not getattr(claim, name)]
        if missing:
            faults.append(f"a measured claim needs {', '.join(missing)}")
        if claim.min is None and claim.max is None:
            faults.append("a measured claim needs a bound: min, max or both")
        try:
            claim.show(0.5)
        except ValueError:
            faults.append(f"format {claim.format!r} is not a number's format")
    elif claim.lab or claim.value or claim.min is not None or claim.max is not None or claim.failed:
        faults.append(f"a claim of kind {claim.kind} has no lab, value, bound or failed")
    return faults


def _test_faults(test: str, root: Path) -> list[str]:
    """Whether the test of a theorem exists."""
    name, _, function = test.partition("::")
    path = root / name
    if not function or not path.is_file():
        return [f"test {test!r} does not exist"]
    body: list[ast.stmt] = ast.parse(path.read_text(encoding="utf-8")).body
    for step in function.partition("[")[0].split("::"):
        nodes = [n for n in body if isinstance(n, ast.FunctionDef | ast.ClassDef)]
        match = next((n for n in nodes if n.name == step), None)
        if match is None:
            return [f"{name} has no test {step!r}"]
        body = match.body
    return []
