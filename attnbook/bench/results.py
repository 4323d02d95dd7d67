"""A result file: read, written row by row, and asked what of it is stale.

>>> results = Results("2026-01-01T00:00:00+00:00", None, False, CPU, "2.13.0", None, "0.1.0")
>>> results.select(mechanism="dot-product")
[]
"""

import ast
import functools
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from attnbook._reach import PACKAGE, code_of, digest, reached
from attnbook.bench.schema import SCHEMA, check, check_row

__all__ = [
    "FOLDER",
    "Ceiling",
    "Device",
    "Results",
    "Row",
    "changed",
    "digests",
    "load",
    "load_all",
    "save",
]

ROOT = PACKAGE.parent
FOLDER = ROOT / "docs/benchmarks/results"
"""Where the committed results are, one file for each device."""


@dataclass(frozen=True)
class Device:
    """What the timings were taken on: `kind` is "cpu" or "cuda"."""

    kind: str
    name: str
    driver: str | None
    cuda: str | None
    cpu: str
    threads: int

    def __str__(self) -> str:
        """Its name and what else counts: `CPU, 1 thread`."""
        if self.kind == "cuda":
            return f"{self.name}, driver {self.driver}, CUDA {self.cuda}"
        return f"{self.name}, {self.threads} thread{'s' if self.threads > 1 else ''}"


CPU = Device("cpu", "CPU", None, None, "CPU", 1)


@dataclass(frozen=True)
class Ceiling:
    """The most that the device does in a second of one kind of work, measured in the same run."""

    kind: str
    dtype: str
    value: float
    unit: str
    source: str


@dataclass(frozen=True)
class Row:
    """One implementation in one case.

    Attributes:
        case: what was done, as `--case` takes it; the rows of a case were timed in turn.
        mechanism: the group of the page that it belongs to.
        implementation: its name.
        version: of the package it comes from; None for ours.
        passes: "forward", "forward + backward", "decode" or "step"; `pass` in the file.
        dtype: "float32" or the like.
        shape: sizes by name: `B`, `H`, `L`, `S`, `D` and more.
        mask: "none", "causal", "window 128" or the like.
        n: runs, or blocks of runs, that were timed.
        median: seconds.
        iqr: seconds between the quartiles.
        peak_bytes: the most memory held above what was held before.
        max_error: against the same in float64.
        metric: {"name": "TFLOP/s" or the like, "value"}.
        ceiling: {"kind", "value", "source", "pct"}: of what bounds it, and the share reached.
        reference: the implementation that `ratio` is to.
        ratio: the reference's time over this one's: the median of the rounds' ratios.
        ratio_iqr: between the quartiles of the rounds' ratios.
        bar: what `ratio` must reach; None where nothing is promised.
        best_peer: the fastest peer, by another package, in the same case.
        best_peer_ratio: its time over this one's.
        peer_bar: what `best_peer_ratio` must reach.
        sources: a digest of the code of each module of the package that it runs.
        status: "ok", "oom", "error" or "missing".
        message: why it is not "ok".
        command: reproduces the row.
    """

    case: str
    mechanism: str
    implementation: str
    version: str | None
    passes: str
    dtype: str
    shape: dict[str, int]
    mask: str
    command: str
    n: int = 0
    median: float | None = None
    iqr: float | None = None
    peak_bytes: int | None = None
    max_error: float | None = None
    metric: dict[str, Any] | None = None
    ceiling: dict[str, Any] | None = None
    reference: str | None = None
    ratio: float | None = None
    ratio_iqr: float | None = None
    bar: float | None = None
    best_peer: str | None = None
    best_peer_ratio: float | None = None
    peer_bar: float | None = None
    sources: dict[str, str] = field(default_factory=dict)
    status: str = "ok"
    message: str = ""

    @property
    def bars(self) -> list[tuple[float, float, str]]:
        """What is promised: the bar, the ratio that was reached, and whose time it is to."""
        pairs = (
            (self.bar, self.ratio, self.reference),
            (self.peer_bar, self.best_peer_ratio, self.best_peer),
        )
        return [(b, r, str(whose)) for b, r, whose in pairs if b is not None and r is not None]

    @property
    def missed(self) -> bool:
        """Whether it was timed and stays below a bar."""
        return any(ratio < bar for bar, ratio, _ in self.bars)

    def to_dict(self) -> dict[str, Any]:
        """As plain types, for JSON."""
        return {"pass" if k == "passes" else k: v for k, v in asdict(self).items()}


@dataclass
class Results:
    """All that one run on one device measured."""

    timestamp: str
    commit: str | None
    dirty: bool
    device: Device
    torch: str
    triton: str | None
    attnbook: str
    ceilings: list[Ceiling] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)

    def select(self, **wanted: Any) -> list[Row]:
        """The rows with these attributes, as `select(mechanism="local", passes="forward")`."""
        return [r for r in self.rows if all(getattr(r, k) == v for k, v in wanted.items())]

    def names(self, attribute: str) -> list[Any]:
        """What an attribute of the rows may be, in the order of the rows."""
        return list(dict.fromkeys(getattr(row, attribute) for row in self.rows))

    def stale(self, row: Row) -> tuple[str, ...]:
        """The modules whose code is no longer what the row was measured with."""
        return changed(row.sources)

    def to_dict(self) -> dict[str, Any]:
        """As plain types, for JSON."""
        rows = [row.to_dict() for row in self.rows]
        return {"schema": SCHEMA, **asdict(self), "rows": rows}


def load(path: Path | str) -> Results:
    """Read a result file.

    Raises:
        OSError: there is no such file.
        ValueError: it is not what the schema says; the message names the file and the field.
    """
    path = Path(path)
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        check(report)
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from None
    del report["schema"]
    report["device"] = Device(**report["device"])
    report["ceilings"] = [Ceiling(**ceiling) for ceiling in report["ceilings"]]
    report["rows"] = [Row(passes=row.pop("pass"), **row) for row in report["rows"]]
    return Results(**report)


def load_all(folder: Path = FOLDER) -> dict[str, Results]:
    """Read the result file of every device, by the file's stem, the CPU first."""
    paths = sorted(folder.glob("*.json"), key=lambda path: (path.stem != "cpu", path.stem))
    return {path.stem: load(path) for path in paths}


def save(results: Results, path: Path) -> None:
    """Write a result file whole or not at all: a reader never sees half of one.

    Raises:
        ValueError: a row is not what the schema says.
    """
    report = results.to_dict()
    check(report)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(json.dumps(report, indent=1) + "\n")
        os.chmod(draft, 0o644)
        os.replace(draft, path)
    except BaseException:
        os.unlink(draft)
        raise


def checked(row: Row) -> Row:
    """The row, once it is known to be what the schema says."""
    check_row(row.to_dict())
    return row


def digests(names: Sequence[str]) -> dict[str, str]:
    """The code of all modules that some public names reach: a digest of each, by its file.

    Args:
        names: as "attnbook.fused.sdpa".

    >>> list(digests(["attnbook.normalizers.softmax"]))
    ['attnbook/normalizers.py']
    """
    return {path.relative_to(ROOT).as_posix(): _digest(path) for path in _reached(tuple(names))}


@functools.cache
def _reached(names: tuple[str, ...]) -> list[Path]:
    lines = (name.rpartition(".") for name in names)
    tree = ast.parse("\n".join(f"from {module} import {name}" for module, _, name in lines))
    found = reached([tree], outside=("attnbook._axes",))
    return sorted(found.values())


def changed(sources: dict[str, str]) -> tuple[str, ...]:
    """The files whose code no longer has the digest given, or that are gone."""
    return tuple(
        name
        for name, wanted in sources.items()
        if not (ROOT / name).is_file() or _digest(ROOT / name) != wanted
    )


def _digest(path: Path) -> str:
    return digest([code_of(path)])
