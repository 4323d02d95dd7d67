"""The command `run`: measure case after case, and keep every row as soon as it is there."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from fnmatch import fnmatchcase
from pathlib import Path

from attnbook.bench import report
from attnbook.bench.cases import Case
from attnbook.bench.ceilings import ceilings
from attnbook.bench.machine import here
from attnbook.bench.progress import Progress
from attnbook.bench.results import Results, Row, changed, load, save
from attnbook.bench.runner import measure
from attnbook.bench.timing import limited, one_thread

__all__ = ["chosen", "run"]

INTERRUPTED = 130


def chosen(cases: Iterable[Case], patterns: Sequence[str]) -> list[Case]:
    """The cases whose mechanism or whole name is like a pattern, or all without patterns.

    Raises:
        ValueError: a pattern is like none.
    """
    cases = list(cases)
    for pattern in patterns:
        if not any(_like(case, pattern) for case in cases):
            raise ValueError(f"no case is like {pattern!r}; --list names them")
    return [case for case in cases if not patterns or any(_like(case, p) for p in patterns)]


def _like(case: Case, pattern: str) -> bool:
    return any(
        fnmatchcase(name, given)
        for name in (case.mechanism, case.name)
        for given in (pattern, f"{pattern}, *")
    )


def run(
    cases: Sequence[Case],
    device: str,
    path: Path | None,
    *,
    resume: bool = False,
    rounds: int = 15,
    seconds: float = 3.0,
    threads: int = 1,
    memory: float = 8.0,
    small: bool = False,
) -> int:
    """Measure the cases, print them, and keep them in a file.

    Args:
        cases: in order.
        device: "cpu" or "cuda".
        path: the file that is written after each case; None prints alone. Its rows of other cases
            are kept where they are of this commit and device.
        resume: measure no case again that the file has, on this commit and device.
        rounds: of each way at most.
        seconds: for the rounds of a case.
        threads: of PyTorch on a CPU.
        memory: gigabytes that a CPU's way may take.
        small: ceilings that take no time.

    Returns:
        0 as the exit code, or 1 where a way failed or gave something else, 130 where it was
        interrupted.
    """
    results = here(device, threads)
    order: list[str] = []
    if path is not None:
        order = _take(results, path, [] if resume else [case.name for case in cases])
    place = _place(order)
    had = set(results.names("case"))
    left = [case for case in cases if case.name not in had]
    if had:
        print(f"{len(had)} cases are in {path} already: {len(left)} are left")
    measured: list[Row] = []
    with one_thread(threads), limited(memory) if device == "cpu" else nullcontext():
        try:
            with Progress(len(left) + 1) as bar:
                bar.at("ceilings")
                dtypes = {case.dtype for case in left}
                others = [c for c in results.ceilings if c.dtype not in dtypes]
                results.ceilings = [*others, *ceilings(device, sorted(dtypes), small=small)]
                bar.print([*report.head(results), ""])
                for case in left:
                    bar.step()
                    bar.at(case.name)
                    rows = measure(case, device, results.ceilings, rounds=rounds, seconds=seconds)
                    measured += rows
                    results.rows = sorted([*results.rows, *rows], key=place)
                    if path is not None:
                        save(results, path)
                    bar.print(report.group(rows))
        except KeyboardInterrupt:
            kept = f"{len(measured)} rows were measured"
            print(f"\ninterrupted: {kept}" + (f" and are in {path}" if path else ""))
            return INTERRUPTED
    if path is not None:
        save(results, path)
        print(f"saved: {path}")
    lines = report.verdicts(measured)
    print("\n".join(lines))
    return int(any(row.status == "error" for row in measured))


def _place(order: Sequence[str]) -> Callable[[Row], int]:
    """Where a row stands: a case that is measured again where it stood, a new one behind all."""
    places = {name: place for place, name in enumerate(order)}
    return lambda row: places.get(row.case, len(places))


def _take(results: Results, path: Path, asked: Sequence[str]) -> list[str]:
    """Take over the rows of the file that hold, but for those of the cases that are asked for.

    Returns:
        The cases of the file, in order.
    """
    if not path.exists():
        return []
    try:
        old = load(path)
    except ValueError as error:
        print(f"{error}: its rows are dropped")
        return []
    if (old.commit, old.device, old.torch) != (results.commit, results.device, results.torch):
        print(f"{path.name} is of another commit, device or PyTorch: its rows are dropped")
        return []
    gone = {row.case for row in old.rows if changed(row.sources)}.union(asked)
    results.rows = [row for row in old.rows if row.case not in gone]
    results.ceilings = old.ceilings
    return old.names("case")
