"""What a result file holds, and a check that it does, which says what is wrong and where."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["KINDS", "PASSES", "SCHEMA", "STATUSES", "check", "check_row"]

SCHEMA = 3
STATUSES = ("ok", "oom", "error", "missing")
"""Measured; out of memory; failed or gave something else; a peer that is not installed."""
PASSES = ("forward", "forward + backward", "decode", "step")
KINDS = ("matmul", "copy", "exp", "tanh", "reciprocal")
"""The ceilings: operations or bytes that the device does in a second at most."""


@dataclass(frozen=True)
class Kind:
    """What a field may be, in words and as a test."""

    words: str
    holds: Callable[[Any], bool]


def _number(value: Any) -> bool:
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return plain and math.isfinite(value) and value >= 0


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _maps(value: Any, holds: Callable[[Any], bool]) -> bool:
    return isinstance(value, dict) and all(
        isinstance(k, str) and holds(v) for k, v in value.items()
    )


def _or_null(kind: Kind) -> Kind:
    return Kind(f"{kind.words} or null", lambda value: value is None or kind.holds(value))


def _one_of(*words: str) -> Kind:
    return Kind(f"one of {', '.join(words)}", lambda value: value in words)


TEXT = Kind("text", lambda value: isinstance(value, str) and bool(value))
FLAG = Kind("true or false", lambda value: isinstance(value, bool))
NUMBER = Kind("a finite number from 0 on", _number)
COUNT = Kind("a whole number from 0 on", _count)
SIZES = Kind("sizes by name, whole numbers", lambda value: _maps(value, _count))
DIGESTS = Kind("digests by file", lambda value: _maps(value, lambda v: isinstance(v, str)))
MESSAGE = Kind("text, perhaps empty", lambda value: isinstance(value, str))

Fields = dict[str, Any]
"""What each field holds: a Kind, Fields again, or either of them in a tuple with None: or null."""
DEVICE: Fields = {
    "kind": _one_of("cpu", "cuda"),
    "name": TEXT,
    "driver": _or_null(TEXT),
    "cuda": _or_null(TEXT),
    "cpu": TEXT,
    "threads": COUNT,
}
CEILING: Fields = {
    "kind": _one_of(*KINDS),
    "dtype": TEXT,
    "value": NUMBER,
    "unit": TEXT,
    "source": TEXT,
}
ROW: Fields = {
    "case": TEXT,
    "mechanism": TEXT,
    "implementation": TEXT,
    "version": _or_null(TEXT),
    "pass": _one_of(*PASSES),
    "dtype": TEXT,
    "shape": SIZES,
    "mask": TEXT,
    "n": COUNT,
    "median": _or_null(NUMBER),
    "iqr": _or_null(NUMBER),
    "peak_bytes": _or_null(COUNT),
    "max_error": _or_null(NUMBER),
    "metric": ({"name": TEXT, "value": NUMBER}, None),
    "ceiling": ({"kind": _one_of(*KINDS), "value": NUMBER, "source": TEXT, "pct": NUMBER}, None),
    "reference": _or_null(TEXT),
    "ratio": _or_null(NUMBER),
    "ratio_iqr": _or_null(NUMBER),
    "bar": _or_null(NUMBER),
    "best_peer": _or_null(TEXT),
    "best_peer_ratio": _or_null(NUMBER),
    "peer_bar": _or_null(NUMBER),
    "sources": DIGESTS,
    "status": _one_of(*STATUSES),
    "message": MESSAGE,
    "command": TEXT,
}
REPORT: Fields = {
    "schema": Kind(str(SCHEMA), lambda value: value == SCHEMA and value is not True),
    "timestamp": TEXT,
    "commit": _or_null(TEXT),
    "dirty": FLAG,
    "device": DEVICE,
    "torch": TEXT,
    "triton": _or_null(TEXT),
    "attnbook": TEXT,
    "ceilings": [CEILING],
    "rows": [ROW],
}
MEASURED = ("median", "iqr", "peak_bytes", "max_error", "ratio", "best_peer_ratio")
"""What a row that was not timed does not have, and a row that was mostly has."""


def check(report: Any) -> None:
    """Check a whole result file, as JSON gives it.

    Raises:
        ValueError: naming the first field that is missing, unknown, or not what it should be.
    """
    _fields(report, REPORT, "")
    seen: dict[tuple[str, str], int] = {}
    for i, row in enumerate(report["rows"]):
        _row(row, f"rows[{i}]")
        earlier = seen.setdefault((row["case"], row["implementation"]), i)
        if earlier != i:
            what = f"{row['implementation']} in {row['case']!r}"
            raise ValueError(f"rows[{i}]: {what} is there twice, first as rows[{earlier}]")


def check_row(row: Any) -> None:
    """Check one row, as JSON gives it.

    Raises:
        ValueError: as `check` does.
    """
    _fields(row, ROW, "row")
    _row(row, "row")


def _row(row: dict[str, Any], where: str) -> None:
    """What the fields of a row owe each other."""
    if row["status"] == "ok":
        if not (row["n"] and row["median"] and row["iqr"] is not None):
            raise ValueError(f"{where}: status is ok, so n and median must be above 0, with an iqr")
        return
    given = next((name for name in MEASURED if row[name] is not None), None)
    if given or row["n"]:
        raise ValueError(f"{where}.{given or 'n'}: status is {row['status']}, so nothing was timed")
    if not row["message"]:
        raise ValueError(f"{where}.message: status is {row['status']}, so it must say why")


def _fields(value: Any, fields: Fields, where: str) -> None:
    if not isinstance(value, dict):
        raise ValueError(f"{where or 'the file'}: expected an object, got {_short(value)}")
    for name in fields:
        if name not in value:
            raise ValueError(f"{_at(where, name)}: missing")
    for name, given in value.items():
        if name not in fields:
            raise ValueError(f"{_at(where, name)}: no such field; there are {', '.join(fields)}")
        _value(given, fields[name], _at(where, name))


def _value(value: Any, wanted: Any, where: str) -> None:
    if isinstance(wanted, tuple):
        if value is None:
            return
        wanted = wanted[0]
    if isinstance(wanted, list):
        if not isinstance(value, list):
            raise ValueError(f"{where}: expected a list, got {_short(value)}")
        for i, item in enumerate(value):
            _value(item, wanted[0], f"{where}[{i}]")
    elif isinstance(wanted, dict):
        _fields(value, wanted, where)
    elif not wanted.holds(value):
        raise ValueError(f"{where}: expected {wanted.words}, got {_short(value)}")


def _at(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
