"""Benchmarks: time every implementation of each mechanism, in turn, and keep what was measured."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from attnbook.bench import compare, report
from attnbook.bench.machine import describe, stem
from attnbook.bench.results import FOLDER, load
from attnbook.bench.run import chosen, run
from attnbook.bench.suite import suite

PROGRAM = "python -m attnbook.bench"


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; the exit code."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.do(options))
    except (OSError, ValueError) as error:
        print(f"{PROGRAM} {options.command}: {error}", file=sys.stderr)
        return 2


def _run(options: argparse.Namespace) -> int:
    if options.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("PyTorch sees no CUDA device")
    cases = chosen(suite(options.device), options.case)
    if options.list:
        print("\n".join(case.name for case in cases))
        return 0
    path = options.save
    if path == FOLDER:
        path = FOLDER / f"{stem(describe(options.device, options.threads))}.json"
    return run(
        cases,
        options.device,
        path,
        resume=options.resume,
        rounds=options.rounds,
        seconds=options.seconds,
        threads=options.threads,
        memory=options.memory,
    )


def _report(options: argparse.Namespace) -> int:
    lines = report.markdown if options.markdown else report.table
    print("\n".join(lines(load(options.file))))
    return 0


def _compare(options: argparse.Namespace) -> int:
    pairs = compare.compare(load(options.old), load(options.new))
    print("\n".join(compare.markdown(pairs, options.limit)))
    worse = any(pair.worse(options.limit) for pair in pairs)
    return int(options.fail and worse)


def _count(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def _amount(text: str) -> float:
    if not 0 < (number := float(text)) < float("inf"):
        raise argparse.ArgumentTypeError(f"must be above 0, got {text}")
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=PROGRAM, description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    add = commands.add_parser("run", help="measure, print and, if asked to, save")
    add.set_defaults(do=_run)
    add.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    add.add_argument(
        "--case",
        action="append",
        default=[],
        metavar="NAME",
        help="only these: a mechanism, the beginning of a name, or a pattern with *",
    )
    add.add_argument("--list", action="store_true", help="name the cases and stop")
    add.add_argument(
        "--save",
        type=Path,
        nargs="?",
        const=FOLDER,
        metavar="FILE",
        help="keep every row in a file; by default the device's on the benchmark page",
    )
    add.add_argument("--resume", action="store_true", help="leave out the cases of the file")
    add.add_argument("--rounds", type=_count, default=15, metavar="N", help="of each way, at most")
    add.add_argument("--seconds", type=_amount, default=3.0, help="for the rounds of a case, about")
    add.add_argument("--threads", type=_count, default=1, metavar="N", help="of a CPU")
    add.add_argument(
        "--memory", type=_amount, default=8.0, metavar="GB", help="that a CPU's way may take"
    )
    add = commands.add_parser("compare", help="what became slower between two result files")
    add.set_defaults(do=_compare)
    add.add_argument("old", type=Path)
    add.add_argument("new", type=Path)
    add.add_argument("--limit", type=float, default=0.15, help="slower by more is a regression")
    add.add_argument("--fail", action="store_true", help="exit with 1 where there is one")
    add = commands.add_parser("report", help="print a result file")
    add.set_defaults(do=_report)
    add.add_argument("file", type=Path, nargs="?", default=FOLDER / "cpu.json")
    add.add_argument("--markdown", action="store_true")
    return parser


if __name__ == "__main__":
    sys.exit(main())
