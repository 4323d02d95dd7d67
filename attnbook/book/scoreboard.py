"""The scoreboard: the ledger as tables for docs/claims.md."""

import re
from pathlib import PurePosixPath

from attnbook.book.claims import KINDS, MEASURED, Claim, Ledger, LedgerError


def scoreboard(ledger: Ledger) -> str:
    """Write the ledger as Markdown: a count, the kinds explained, and one table a chapter.

    A claim's standing is written in words with a sign; nothing is told by colour alone.
    """
    claims = list(ledger.claims.values())
    standing = [ledger.status(claim.id) for claim in claims]
    count = "; ".join(f"{text}: {standing.count(text)}" for text in dict.fromkeys(sorted(standing)))
    parts = [f"{len(claims)} claims. {count}.", _kinds(claims)]
    for chapter in sorted({claim.chapter for claim in claims}):
        page = PurePosixPath("chapters") / f"{chapter}.md"
        number, _, words = chapter.partition("-")
        exists = (ledger.root / "docs" / page).exists()
        text = (ledger.root / "docs" / page).read_text(encoding="utf-8") if exists else ""
        heading = re.search(r"^# (.+)$", text, re.M)  # "Normalisers", and the file is normalizers
        title = f"{number} {heading[1] if heading else words.replace('-', ' ').capitalize()}"
        parts.append(f"## {f'[{title}]({page})' if exists else title}")
        here = [claim for claim in claims if claim.chapter == chapter]
        if not exists:
            ran = any(claim.lab in ledger.results for claim in here)
            and_yet = "; its lab has run, and these are its numbers" if ran else ""
            parts.append(f"This chapter is not written yet{and_yet}.")
        parts += _labs(ledger, here)
        parts.append(_table(ledger, here))
        for claim in here:
            if claim.failed:
                parts.append(f"**{claim.statement}** Did not reproduce: {claim.failed}")
    return "\n\n".join(parts) + "\n"


def _kinds(claims: list[Claim]) -> str:
    rows = ["| kind | what it means | claims |", "|---|---|---:|"]
    for kind, meaning in KINDS.items():
        rows.append(f"| {kind} | {meaning} | {sum(claim.kind == kind for claim in claims)} |")
    return "\n".join(rows)


def _labs(ledger: Ledger, claims: list[Claim]) -> list[str]:
    """A line for each lab that these claims were measured in."""
    lines = []
    for name in dict.fromkeys(claim.lab for claim in claims if claim.lab in ledger.results):
        result = ledger.results[name]
        exists = (ledger.root / "docs" / "labs" / f"{name}.ipynb").exists()
        details = [f"{result['steps']:,} steps a run"] if isinstance(result["steps"], int) else []
        details += [f"{result['cpu_seconds']:,.0f} CPU s in all", f"last run {result['date']}"]
        lab = f"[{name}](labs/{name}.ipynb)" if exists else name
        lines.append(f"Measured in the lab {lab}: {', '.join(details)}.")
    return lines


def _table(ledger: Ledger, claims: list[Claim]) -> str:
    rows = ["| claim | published | measured, worst seed | standing |", "|---|---|---|---|"]
    for claim in claims:
        published = _cell(claim.published) or "none"
        if claim.published and not claim.checked:
            published += " (as reported, unchecked)"
        if claim.source:
            published += f" [@{claim.source}]" + (f", {_cell(claim.where)}" if claim.where else "")
        name = f'<span id="{claim.id}">`{claim.id}`</span>, {claim.kind}'
        cells = [f"{_cell(claim.statement)}<br>{name}", published, _measured(ledger, claim)]
        rows.append(f"| {' | '.join([*cells, ledger.status(claim.id)])} |")
    return "\n".join(rows)


def _measured(ledger: Ledger, claim: Claim) -> str:
    if claim.kind == "theorem":
        test = claim.test.rpartition("::")[2]
        return f"`{test}`"
    if claim.kind not in MEASURED:
        return "–"
    bound = f"bound {ledger.bound(claim.id)}".replace(" ", "\N{NO-BREAK SPACE}")
    try:
        number = ledger.value(claim.id)
    except LedgerError:
        return bound
    runs = len(ledger.per_seed(claim.id))  # a quantity may be of one run where the lab has more
    return f"**{number}**<br>{f'{runs} seeds' if runs > 1 else '1 run'}<br>{bound}"


def _cell(text: str) -> str:
    return re.sub(r"\s*\n\s*", " ", text.strip()).replace("|", r"\|")
