"""The command `compare`: what became slower between two runs on the same device."""

from collections.abc import Sequence
from dataclasses import dataclass

from attnbook.bench.report import seconds_in_words
from attnbook.bench.results import Results, Row

__all__ = ["Pair", "compare", "markdown"]


@dataclass(frozen=True)
class Pair:
    """The same row of two runs; `old` or `new` is None where only one has it."""

    old: Row | None
    new: Row | None

    @property
    def row(self) -> Row:
        """The newer of those that are there."""
        row = self.new or self.old
        assert row is not None
        return row

    @property
    def ratio(self) -> float | None:
        """New time over old; None where one of them was not timed."""
        if not (self.old and self.new and self.old.median and self.new.median):
            return None
        return self.new.median / self.old.median

    def worse(self, limit: float) -> bool:
        """Whether it takes longer by more than `limit`, or no longer works."""
        if self.old is None or self.old.status != "ok" or self.new is None:
            return False
        return self.new.status in ("oom", "error") or (self.ratio or 0.0) > 1 + limit

    def better(self, limit: float) -> bool:
        """Whether it takes less time by more than `limit`."""
        return self.ratio is not None and self.ratio < 1 / (1 + limit)


def compare(old: Results, new: Results) -> list[Pair]:
    """Pair the rows of two runs.

    Raises:
        ValueError: they are of different devices, or have no row in common.
    """
    if any(getattr(old.device, k) != getattr(new.device, k) for k in ("kind", "name", "threads")):
        raise ValueError(f"the devices differ: {_device(old)} and {_device(new)}")
    before, after = _by_name(old), _by_name(new)
    if not before.keys() & after.keys():
        raise ValueError("the two files have no row in common")
    return [Pair(before.get(name), after.get(name)) for name in before | after]


def markdown(pairs: Sequence[Pair], limit: float) -> list[str]:
    """A summary in Markdown, regressions first."""
    both = [pair for pair in pairs if pair.ratio is not None]
    worse = [pair for pair in pairs if pair.worse(limit)]
    better = [pair for pair in both if pair.better(limit)]
    percent = f"{100 * limit:g} %"
    lines = [
        f"{len(both)} rows compared: {len(worse)} slower by more than {percent} or failing, "
        f"{len(better)} faster by more than that.",
    ]
    for title, some in (("Regressions", worse), ("Faster", better)):
        if some:
            lines += ["", f"## {title}", ""]
            lines += ["| case | implementation | old | new | new / old |"]
            lines += ["| --- | --- | ---: | ---: | ---: |"]
            lines += [_line(pair) for pair in some]
    for title, some in (
        ("Only in the old run", [pair for pair in pairs if pair.new is None]),
        ("Only in the new run", [pair for pair in pairs if pair.old is None]),
    ):
        if some:
            lines += ["", f"## {title}", ""]
            lines += [f"- {pair.row.implementation}: {pair.row.case}" for pair in some]
    return lines


def _line(pair: Pair) -> str:
    old, new = (_said(row) for row in (pair.old, pair.new))
    ratio = "" if pair.ratio is None else f"{pair.ratio:.2f}"
    return f"| {pair.row.case} | {pair.row.implementation} | {old} | {new} | {ratio} |"


def _said(row: Row | None) -> str:
    if row is None:
        return ""
    return seconds_in_words(row.median) if row.status == "ok" else row.status


def _by_name(results: Results) -> dict[tuple[str, str], Row]:
    return {(row.case, row.implementation): row for row in results.rows}


def _device(results: Results) -> str:
    device = results.device
    return f"{device.name} ({device.kind}) with {device.threads} threads"
