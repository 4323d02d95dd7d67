"""Check, measure the memory of, then time the implementations of a case, turn and turn about."""

import contextlib
import os
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version

import torch
from torch import Tensor
from torch.utils.benchmark import Timer

from attnbook.bench.cases import Case
from attnbook.bench.contests import Contest
from attnbook.core import Attended, attend

__all__ = ["Place", "Row", "hold", "measure"]


@dataclass(frozen=True)
class Row:
    """One implementation in one case: seconds, bytes, and the largest error against float64."""

    implementation: str
    shape: tuple[int, ...]
    mask: str
    dtype: str
    passes: str
    rounds: int
    median: float
    iqr: float
    speedup: float
    peak_bytes: int
    max_error: float

    def to_dict(self) -> dict[str, object]:
        """As plain types, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Place:
    """One way in a contest: seconds of the whole work, and its time over ours, round by round.

    `bar` is what the ratio should reach, for the peers that have one.
    """

    contest: str
    implementation: str
    version: str | None
    rounds: int
    median: float
    iqr: float
    ratio: float
    ratio_iqr: float
    bar: float | None

    def to_dict(self) -> dict[str, object]:
        """As plain types, for JSON."""
        return asdict(self)


def hold(contest: Contest, rounds: int | None = None) -> list[Place]:
    """Time the ways of a contest on one thread, turn and turn about; ours is the first."""
    with _one_thread():
        times = _turns(contest.runs, contest.rounds if rounds is None else rounds)
    for name, scale in contest.scale.items():
        times[name] = [scale * t for t in times[name]]
    ours, *peers = times
    middle = {name: statistics.median(own) for name, own in times.items()}
    best = min(peers, key=lambda name: middle[name])
    bars = {best if name == "best" else name: bar for name, bar in contest.bars.items()}
    places = []
    for name, own in times.items():
        ratios = [a / b for a, b in zip(own, times[ours], strict=True)]
        places.append(
            Place(
                contest.name,
                name,
                _version(name),
                len(own),
                middle[name],
                _iqr(own),
                statistics.median(ratios),
                _iqr(ratios),
                bars.get(name),
            )
        )
    return places


def _iqr(numbers: list[float]) -> float:
    if len(numbers) < 2:
        return 0.0
    low, _, high = statistics.quantiles(numbers, n=4, method="inclusive")
    return high - low


def _version(name: str) -> str | None:
    carried = {"hopfield-layers": "difflayers"}  # by a package that is on the index
    for package in ("torch" if name.startswith(("nn.", "raw")) else name, carried.get(name, name)):
        with contextlib.suppress(PackageNotFoundError):
            return version(package)
    return None  # ours, done in another way


def measure(case: Case, rounds: int = 7) -> list[Row]:
    """The rows of a case, in the order of its implementations, on one thread.

    Raises:
        ArithmeticError: an implementation's error against float64 is more than twice that of the
            reference, the case's first; nothing is then timed.
    """
    with _one_thread():
        errors = _checked(case)
        runs = {name: _run(case, f) for name, f in case.implementations.items()}
        peaks = {name: _peak_bytes(run) for name, run in runs.items()}
        times = _turns(runs, rounds)
    middle = {name: statistics.median(own) for name, own in times.items()}
    reference = next(iter(middle.values()))
    return [
        Row(
            implementation=name,
            shape=case.shape,
            mask=case.mask,
            dtype="float32",
            passes="forward + backward" if case.backward else "forward",
            rounds=rounds,
            median=middle[name],
            iqr=_iqr(own),
            speedup=reference / middle[name],
            peak_bytes=peaks[name],
            max_error=errors[name],
        )
        for name, own in times.items()
    ]


def _checked(case: Case) -> dict[str, float]:
    tensors, mask = case.inputs()
    exact = attend(*(x.double() for x in tensors), mask=mask).output
    errors = {
        name: float((implementation(*tensors, mask=mask).output - exact).abs().max())
        for name, implementation in case.implementations.items()
    }
    budget = 2 * (next(iter(errors.values())) + torch.finfo(torch.float32).eps)
    for name, error in errors.items():
        if not error <= budget:
            raise ArithmeticError(f"{name} is off by {error:.1e}, more than {budget:.1e}: {case}")
    return errors


def _run(case: Case, implementation: Callable[..., Attended]) -> Callable[[], Tensor]:
    tensors, mask = case.inputs()
    if not case.backward:
        return lambda: implementation(*tensors, mask=mask).output
    upstream = torch.ones_like(tensors[2])

    def forward_and_backward() -> Tensor:
        inputs = [x.detach().requires_grad_() for x in tensors]
        output = implementation(*inputs, mask=mask).output
        output.backward(upstream)
        return output

    return forward_and_backward


def _turns(runs: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each, a block of each in turn: a slow spell of the machine falls on all of them.

    A run before the rounds says how many make a block, and does not count.
    """
    timers = {name: Timer("run()", globals={"run": run}) for name, run in runs.items()}
    number = {name: max(1, int(0.05 / t.timeit(1).median)) for name, t in timers.items()}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, timer in timers.items():
            times[name].append(timer.timeit(number[name]).median)
    return times


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _peak_bytes(run: Callable[[], Tensor]) -> int:
    """The most memory, above what was held before, that PyTorch's allocator held at a time."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with (
        _silent_stderr(),
        torch.profiler.profile(activities=activities, profile_memory=True) as profile,
    ):
        run()
    held = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
    """The profiler's library logs to the file descriptor itself when it starts and stops."""
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)
