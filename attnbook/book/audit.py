"""What is wrong with the claims ledger: a test holds it to nothing."""

import ast
import math
import re
from pathlib import Path

from attnbook.book.claims import KINDS, MEASURED, Claim, Ledger, LedgerError
from attnbook.book.labs import Lab


def problems(ledger: Ledger) -> list[str]:
    """List everything that is wrong with a ledger, each fault with the name of its claim."""
    found = list(ledger.faults)
    bibliography = ledger.root / "docs" / "bibliography.bib"
    text = bibliography.read_text(encoding="utf-8") if bibliography.exists() else ""
    keys = set(re.findall(r"^\s*@\w+\{\s*([^,\s]+)\s*,", text, re.M))
    pages = sorted(path.stem for path in (ledger.root / "docs" / "chapters").glob("*.md"))
    chapters = {name[:2]: name for name in pages}
    stale: dict[str, str] = {}
    for claim in ledger.claims.values():
        faults = _entry_faults(claim, keys)
        number = claim.chapter[:2]
        if chapters.setdefault(number, claim.chapter) != claim.chapter:
            faults.append(f"chapter {number} is {chapters[number]!r}, got {claim.chapter!r}")
        if claim.kind == "theorem" and claim.test:
            faults += _test_faults(claim.test, ledger.root)
        if claim.kind in MEASURED and not faults:
            lab = Lab(ledger.root / "docs" / "labs" / f"{claim.lab}.py")
            if not lab.source.exists():
                faults.append(f"lab docs/labs/{claim.lab}.py does not exist")
            else:
                if claim.lab not in stale:
                    stale[claim.lab] = _stale(lab)
                faults += [stale[claim.lab]] if stale[claim.lab] else []
                faults += _number_faults(claim, ledger)
        found += [f"{claim.id}: {fault}" for fault in faults]
    return found


def _stale(lab: Lab) -> str:
    """Why the lab's result does not stand for its code, or nothing."""
    try:
        reason = lab.stale()
    except RuntimeError as error:
        return str(error)
    advice = f"python -m attnbook.book.labs {lab.stem}"
    return f"its result is out of date: {reason}; run {advice}" if reason else ""


def _number_faults(claim: Claim, ledger: Ledger) -> list[str]:
    """What is wrong with a claim's numbers: each seed is held to the bound."""
    try:
        numbers, worst = ledger.per_seed(claim.id), ledger.measured(claim.id)
    except LedgerError as error:
        return [str(error)]
    bound = ledger.bound(claim.id)
    faults = [
        f"measured {claim.show(number)}, but the bound is {bound}"
        for number in sorted(set(numbers))
        if not claim.within(number)
    ]
    expected = {worst}
    if claim.min is None or claim.max is None:
        expected = {min(numbers) if claim.max is None else max(numbers)}
    if worst not in expected:
        faults.append(
            f"the lab calls {worst:g} the worst number, but with the bound {bound} the worst is "
            f"{expected.pop():g}"
        )
    return faults


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
        if not all(math.isfinite(limit) for limit in (claim.min, claim.max) if limit is not None):
            faults.append("min and max must be finite")
        if claim.min is not None and claim.max is not None and claim.min > claim.max:
            faults.append(f"min, {claim.min:g}, is greater than max, {claim.max:g}")
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
