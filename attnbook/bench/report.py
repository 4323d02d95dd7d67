"""The command `report`, and the lines that `run` prints: tables for a terminal and in Markdown."""

from collections.abc import Iterable, Sequence

from attnbook.bench.results import Results, Row

__all__ = ["bytes_in_words", "group", "head", "markdown", "seconds_in_words", "table", "verdicts"]

HEADS = ("", "time", "IQR", "ratio", "IQR", "best peer", "memory", "error", "speed", "ceiling")
LINE = "    {:31}{:>11}{:>10}{:>9}{:>8}{:>10}{:>10}{:>9}{:>17}{:>15}  {}"


def head(results: Results) -> list[str]:
    """What the rows were measured on, and the ceilings."""
    commit = (results.commit or "no commit")[:10] + (" with changes" if results.dirty else "")
    lines = [
        f"{results.device}; PyTorch {results.torch}",
        f"attnbook {results.attnbook}, {commit}, {results.timestamp}",
    ]
    for dtype in dict.fromkeys(ceiling.dtype for ceiling in results.ceilings):
        those = [c for c in results.ceilings if c.dtype == dtype]
        said = ", ".join(f"{c.kind} {_short(c.value)} {c.unit}" for c in those)
        lines.append(f"at most, {dtype}: {said}")
    return lines


def group(rows: Sequence[Row]) -> list[str]:
    """The lines of one case."""
    if not rows:
        return []
    reference = next((row.reference for row in rows if row.reference), None)
    against = f"    (ratios to {reference})" if reference else ""
    return [rows[0].case + against, *map(_line, rows)]


def table(results: Results) -> list[str]:
    """All of a result file, for a terminal."""
    lines = [*head(results), "", LINE.format(*HEADS, "").rstrip()]
    for case in results.names("case"):
        rows = results.select(case=case)
        lines += group(rows)
        changes = sorted({name for row in rows for name in results.stale(row)})
        lines += [f"    STALE: {', '.join(changes)} changed since"] if changes else []
    return [*lines, *verdicts(results.rows)]


def markdown(results: Results) -> list[str]:
    """All of a result file, as Markdown."""
    lines = ["# Benchmark", ""]
    for line in head(results):
        lines += [line, ""]
    for case in results.names("case"):
        rows = results.select(case=case)
        reference = next((row.reference for row in rows if row.reference), None)
        lines += [f"## {case}", ""]
        lines += [f"Ratios are to {reference}.", ""] if reference else []
        lines += ["| implementation | " + " | ".join(HEADS[1:]) + " | |"]
        lines += ["| --- |" + " ---: |" * (len(HEADS) - 1) + " --- |"]
        lines += [f"| {row.implementation} | {' | '.join(_cells(row))} |" for row in rows]
        lines.append("")
    return [*lines, *verdicts(results.rows)]


def verdicts(rows: Iterable[Row]) -> list[str]:
    """What is missing, what failed, and which bars are missed."""
    rows = list(rows)
    lines = []
    for name in dict.fromkeys(row.implementation for row in rows if row.status == "missing"):
        row = next(r for r in rows if (r.implementation, r.status) == (name, "missing"))
        lines.append(f"{name} is MISSING: {row.message}")
    lines += [
        f"{row.implementation}: {row.status.upper()} in {row.case}: {row.message}"
        for row in rows
        if row.status in ("error", "oom")
    ]
    barred = [row for row in rows if row.bars]
    missed = [row for row in barred if row.missed]
    if barred:
        lines.append(f"{len(barred) - len(missed)} of {len(barred)} bars reached")
    lines += [f"MISSED: {row.implementation} in {row.case}: {_verdict(row)}" for row in missed]
    return lines


def _line(row: Row) -> str:
    cells = _cells(row)
    return LINE.format(row.implementation[:30], *cells).rstrip()


def _cells(row: Row) -> list[str]:
    if row.status != "ok":
        return [row.status.upper(), *[""] * (len(HEADS) - 2), row.message]
    return [
        seconds_in_words(row.median),
        seconds_in_words(row.iqr),
        f"{row.ratio:.2f} x" if row.ratio is not None else "",
        f"{row.ratio_iqr:.2f}" if row.ratio_iqr is not None else "",
        f"{row.best_peer_ratio:.2f} x" if row.best_peer_ratio is not None else "",
        bytes_in_words(row.peak_bytes),
        f"{row.max_error:.0e}" if row.max_error is not None else "",
        f"{_short(row.metric['value'])} {row.metric['name']}" if row.metric else "",
        f"{row.ceiling['pct']:.0f} % {row.ceiling['kind']}" if row.ceiling else "",
        _verdict(row),
    ]


def _verdict(row: Row) -> str:
    """Whether what is promised is kept."""
    return "; ".join(
        f"at least {bar:g} x {whose}: {'MISSED' if ratio < bar else 'reached'} with {ratio:.2f}"
        for bar, ratio, whose in row.bars
    )


def seconds_in_words(seconds: float | None) -> str:
    """A time in a unit that suits it.

    >>> seconds_in_words(0.00123), seconds_in_words(12.3), seconds_in_words(2.5e-6)
    ('1.23 ms', '12.3 s', '2.5 us')
    """
    if seconds is None:
        return ""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= scale or unit == "us":
            return f"{_short(seconds / scale)} {unit}"
    raise AssertionError("unreachable")


def bytes_in_words(count: int | None) -> str:
    """A size in megabytes of 2**20.

    >>> bytes_in_words(5 * 2**20), bytes_in_words(None)
    ('5 MB', '')
    """
    return "" if count is None else f"{_short(count / 2**20)} MB"


def _short(value: float) -> str:
    """Three digits."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
