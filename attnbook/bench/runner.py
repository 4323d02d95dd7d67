"""One case: make its ways, check them, measure their memory, then time them in turn."""

import gc
import statistics
import warnings
from collections.abc import Iterable
from typing import Any

import torch

from attnbook.bench.cases import Case, Run, Way
from attnbook.bench.ceilings import bound, metric
from attnbook.bench.results import Ceiling, Row, checked, digests
from attnbook.bench.timing import in_turn, out_of_memory, peak_bytes, spread

__all__ = ["measure"]

PEERS = "pip install 'attnbook[peers]'"


def measure(
    case: Case,
    device: str = "cpu",
    ceilings: Iterable[Ceiling] = (),
    *,
    rounds: int = 15,
    seconds: float = 3.0,
) -> list[Row]:
    """The rows of a case, in the order of its ways.

    A way that gives something else than the case's `exact` is not timed: its row is an error. So is
    the row of a way that fails, or "oom" where there is no memory for it.

    Args:
        case: what is timed.
        device: "cpu" or "cuda".
        ceilings: of the device.
        rounds: how often each is timed at most; three times at least.
        seconds: for all rounds together, about.
    """
    facts: dict[str, dict[str, Any]] = {name: _fact(case, name, device) for name in case.ways}
    runs: dict[str, Run] = {}
    try:
        inputs = case.setup(device)
        wanted = None if case.exact is None else case.exact(inputs)
    except Exception as error:
        for name in case.ways:
            facts[name] |= _why(error)
        return [checked(Row(**facts[name])) for name in case.ways]
    for name, way in case.ways.items():
        try:
            with warnings.catch_warnings():
                if way.package:
                    warnings.simplefilter("ignore")  # what another package warns of is its own
                run = way.make(inputs)
                facts[name]["max_error"] = _error(case, way, run(), wanted)
            facts[name]["peak_bytes"] = peak_bytes(run, device) if case.peak else None
            runs[name] = run
        except Exception as error:
            facts[name] |= _why(error)
        _forget(device)
    times, failed = in_turn(runs, device, rounds, seconds)
    for name, error in failed.items():
        facts[name] |= _why(error)
    times = {name: [case.ways[name].scale * t for t in own] for name, own in times.items()}
    del inputs, runs
    _forget(device)
    for name in times:
        facts[name] |= _timed(case, name, times, list(ceilings))
    return [checked(Row(**facts[name])) for name in case.ways]


def _fact(case: Case, name: str, device: str) -> dict[str, Any]:
    """What is known of a row before anything has run."""
    way = case.ways[name]
    return {
        "case": case.name,
        "mechanism": case.mechanism,
        "implementation": name,
        "version": way.version(),
        "passes": case.passes,
        "dtype": case.dtype,
        "shape": dict(case.shape),
        "mask": case.mask,
        "sources": digests(way.sources) if way.sources else {},
        "command": f'python -m attnbook.bench run --device {device} --case "{case.name}"',
    }


def _error(case: Case, way: Way, given: Any, wanted: tuple[torch.Tensor, ...] | None) -> Any:
    """The largest error, relative to the largest exact number; it is within the tolerance."""
    if wanted is None or not way.equal:
        return None
    got = case.part(given)
    if len(got) != len(wanted):
        raise ArithmeticError(f"gives {len(got)} tensors where {len(wanted)} are exact")
    budget = case.tolerance * torch.finfo(getattr(torch, case.dtype)).eps
    largest = 0.0
    for x, y in zip(got, wanted, strict=True):
        error = float((x.double() - y).abs().max()) / max(float(y.abs().max()), 1e-30)
        if not error <= budget:
            raise ArithmeticError(f"off by {error:.1e} of the largest, more than {budget:.1e}")
        largest = max(largest, error)
    return largest


def _why(error: Exception) -> dict[str, Any]:
    """What a row says that was not timed."""
    words = str(error).strip().splitlines()
    message = f"{type(error).__name__}: {words[0] if words else 'no reason given'}"[:300]
    status = "error"
    if isinstance(error, ModuleNotFoundError):
        status, message = "missing", f"{error.name} is not installed: {PEERS}"
    elif out_of_memory(error):
        status = "oom"
    return {"status": status, "message": message, "max_error": None, "peak_bytes": None}


def _timed(
    case: Case, name: str, times: dict[str, list[float]], ceilings: list[Ceiling]
) -> dict[str, Any]:
    """What is said of one way once all have run."""
    way, own = case.ways[name], times[name]
    middle = statistics.median(own)
    work = case.work if way.work is None else way.work
    facts: dict[str, Any] = {
        "n": len(own),
        "median": middle,
        "iqr": spread(own),
        "metric": metric(work, middle),
        "ceiling": bound(work, middle, ceilings, case.dtype),
        "bar": way.bar,
    }
    if case.reference in times:
        ratios = _ratios(times[case.reference], own)
        facts["reference"], facts["ratio"] = case.reference, statistics.median(ratios)
        facts["ratio_iqr"] = spread(ratios)
    peers = [peer for peer in times if case.ways[peer].package and peer != name]
    if peers:
        best = min(peers, key=lambda peer: statistics.median(times[peer]))
        facts["best_peer"], facts["peer_bar"] = best, way.peer_bar
        facts["best_peer_ratio"] = statistics.median(_ratios(times[best], own))
    return facts


def _ratios(theirs: list[float], own: list[float]) -> list[float]:
    """Round by round, so that a slow spell falls on both; a way that failed late has fewer."""
    return [a / b for a, b in zip(theirs, own, strict=False)]


def _forget(device: str) -> None:
    if device == "cuda":
        gc.collect()
        torch.cuda.empty_cache()
