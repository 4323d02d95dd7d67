"""Seconds and bytes: ways timed in turn, and the most memory that one of them holds."""

import contextlib
import os
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping
from time import perf_counter
from typing import Any

import torch
from torch.utils.benchmark import Timer

__all__ = ["in_turn", "limited", "one_thread", "out_of_memory", "peak_bytes", "spread"]

Run = Callable[[], Any]
BLOCK = 0.02
"""Seconds that one block of runs takes, at least, on the CPU."""
SHORT = 50e-6
"""Runs on a GPU below this many seconds are timed from a cold cache, as `triton.testing` does."""
FLUSHED = 2**28


def in_turn(
    runs: Mapping[str, Run], device: str, rounds: int, seconds: float
) -> tuple[dict[str, list[float]], dict[str, Exception]]:
    """Time a block of each in turn: a slow spell of the machine falls on all of them.

    Args:
        runs: by name; each has run before.
        device: "cpu" or "cuda".
        rounds: at least three are timed, and up to this many while there is time.
        seconds: for all rounds together.

    Returns:
        The seconds of one run, round by round, of all that came through, and the others' errors.
    """
    block = _cuda_block if device == "cuda" else _cpu_block
    failed: dict[str, Exception] = {}
    numbers: dict[str, int] = {}
    times: dict[str, list[float]] = {name: [] for name in runs}
    begun = perf_counter()
    for turn in range(rounds):
        spent = perf_counter() - begun
        if turn >= 3 and spent * (turn + 1) / turn > seconds:
            break
        for name in [name for name in runs if name not in failed]:
            try:
                if name not in numbers:
                    once = block(runs[name], 1)
                    numbers[name] = max(1, int(BLOCK / max(once, 1e-9)))
                    if numbers[name] == 1:  # a whole block already
                        times[name].append(once)
                        continue
                times[name].append(block(runs[name], numbers[name]))
            except Exception as error:
                failed[name] = error
    return {name: own for name, own in times.items() if name not in failed}, failed


def _cpu_block(run: Run, number: int) -> float:
    """One run alone is not warmed up: it is long, or only says how many make a block."""
    if number == 1:
        begun = perf_counter()
        run()
        return perf_counter() - begun
    timer = Timer("run()", globals={"run": run}, num_threads=torch.get_num_threads())
    return float(timer.timeit(number).median)


def _cuda_block(run: Run, number: int) -> float:
    """The median of some runs between events, behind a flush of the cache where they are short."""
    number = min(number, 500)
    pairs = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(number)]
    flush = (
        torch.empty(FLUSHED, dtype=torch.int8, device="cuda") if number * SHORT > BLOCK else None
    )
    torch.cuda.synchronize()
    for start, end in pairs:
        if flush is not None:
            flush.zero_()  # and the queue is long enough to hide the launches
        start.record()
        run()
        end.record()
    torch.cuda.synchronize()
    return statistics.median(start.elapsed_time(end) for start, end in pairs) / 1e3


def spread(numbers: list[float]) -> float:
    """Between the quartiles."""
    if len(numbers) < 2:
        return 0.0
    low, _, high = statistics.quantiles(numbers, n=4, method="inclusive")
    return high - low


def peak_bytes(run: Run, device: str) -> int:
    """The most memory, above what was held before, that PyTorch's allocator held at a time."""
    if device == "cuda":
        torch.cuda.synchronize()
        held = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - held
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


@contextlib.contextmanager
def one_thread(threads: int = 1) -> Iterator[None]:
    """PyTorch on so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there is no memory left; the CPU's allocator has no class."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(
        words in str(error) for words in ("can't allocate memory", "not enough memory")
    )


@contextlib.contextmanager
def limited(gigabytes: float) -> Iterator[None]:
    """Let the process take so much more memory: then an error, not a machine that swaps.

    Linux alone knows how much the process has; elsewhere there is no limit.
    """
    if sys.platform != "linux":
        yield
        return
    import resource

    with open("/proc/self/statm", encoding="ascii") as file:
        taken = int(file.read().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = taken + int(gigabytes * 2**30)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_AS, (wanted, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
