"""`python -m attnbook.bench`: print the table; with `--save`, write it for the site too."""

import argparse
import itertools
import json
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import torch

from attnbook import __version__
from attnbook.bench.cases import cases
from attnbook.bench.contests import contests
from attnbook.bench.memories import memories
from attnbook.bench.runner import Place, Row, hold, measure

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs/benchmarks/results/cpu.json"
PLACE = "    {:24}{:>10}{:>9}{:>10}{:>8}   {}"
LINE = "{:>6}  {:8}{:20}{:12}{:>10}{:>9}{:>10}{:>10}"


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    """Measure, print and, if asked to, save; the rows that were measured."""
    parser = argparse.ArgumentParser(prog="python -m attnbook.bench", description=__doc__)
    parser.add_argument("--lengths", type=int, nargs="+", default=[256, 1024], metavar="L")
    parser.add_argument("--rounds", type=int, default=7, help="blocks timed of each, in turn")
    parser.add_argument("--only", choices=["paths", "contests"], help="one half of it")
    parser.add_argument("--save", type=Path, nargs="?", const=RESULTS, metavar="FILE")
    options = parser.parse_args(arguments)
    rows = [] if options.only == "contests" else _paths(options.lengths, options.rounds)
    places = [] if options.only == "paths" else _contests()
    if options.save:
        options.save.parent.mkdir(parents=True, exist_ok=True)
        options.save.write_text(json.dumps(_report(rows, places), indent=1) + "\n")
        print(f"saved: {options.save.name}")
    return rows


def _paths(lengths: Sequence[int], rounds: int) -> list[Row]:
    print("float32, 8 heads of width 64, one thread; speed is relative to `attend` in the same run")
    print(LINE.format("L", "mask", "pass", "path", "ms", "speed", "peak MB", "error"))
    rows: list[Row] = []
    for case in cases(lengths):
        for row in measure(case, rounds):
            rows.append(row)
            print(_line(row), flush=True)
    return rows


def _contests() -> list[Place]:
    print("\nfloat32, one thread; the ratio is a peer's time over ours, the median of all rounds")
    print(PLACE.format("", "ms", "IQR", "ratio", "IQR", ""))
    places: list[Place] = []
    for contest in itertools.chain(contests(), memories()):
        print(contest.name)
        for peer in contest.missing:
            print(f"    {peer} is MISSING: pip install 'attnbook[peers]'")
        for place in hold(contest):
            places.append(place)
            print(_place(place), flush=True)
    return places


def _place(place: Place) -> str:
    bar = ""
    if place.bar is not None:
        verdict = "reached" if place.ratio >= place.bar else "MISSED"
        bar = f"at least {place.bar:g} x: {verdict}"
    return PLACE.format(
        place.implementation,
        f"{1e3 * place.median:.2f}",
        f"{1e3 * place.iqr:.2f}",
        f"{place.ratio:.2f} x",
        f"{place.ratio_iqr:.2f}",
        bar,
    ).rstrip()


def _line(row: Row) -> str:
    return LINE.format(
        row.shape[-2],
        row.mask,
        row.passes,
        row.implementation.removeprefix("fused."),
        f"{1e3 * row.median:.2f}",
        f"{row.speedup:.2f} x",
        f"{row.peak_bytes / 2**20:.1f}",
        f"{row.max_error:.0e}",
    )


def _report(rows: list[Row], places: list[Place]) -> dict[str, object]:
    return {
        "schema": 2,
        "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "HEAD"),
        "dirty": bool(_git("status", "--porcelain", "--", "attnbook")),
        "device": {"cpu": _cpu(), "threads": 1},
        "torch": torch.__version__,
        "attnbook": __version__,
        "rows": [row.to_dict() for row in rows],
        "contests": [place.to_dict() for place in places],
    }


def _git(*arguments: str) -> str | None:
    try:
        command = ["git", "-C", str(ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None  # installed without its repository


def _cpu() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
