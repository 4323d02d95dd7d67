"""Labs: experiments kept as a Python file, an executed notebook and measured numbers.

A lab is `docs/labs/STEM.py` in jupytext's percent format. It ends by calling `save` with what it
measured. `python -m attnbook.book.labs [STEM ...] [--force]` executes the labs whose code has
changed since their last run and writes

- `docs/labs/STEM.ipynb`: the executed notebook, its figures as SVG;
- `docs/labs/results/STEM.json`: the measured values, for the claims ledger.

Changed means, by digest: the lab's own code, every `attnbook` module that it reaches, and the data
files of the tasks among them, which carry their names (`data/fashion.tar.xz` for `fashion.py`).
Comments, docstrings and Markdown cells do not count: where only they changed, the notebook's text
is brought up to date without running anything. Figures come from `attnbook.plotting`, where
`axes(alt=...)` and `diagram(alt=...)` say what is seen.
"""

import argparse
import ast
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from attnbook._reach import PACKAGE, code, code_of, digest, no_magics, reached
from attnbook.book import notebooks

LABS = PACKAGE.parent / "docs" / "labs"
_RESULT = "ATTNBOOK_LAB_RESULT"


def save(
    stem: str,
    *,
    seeds: Sequence[int],
    values: Mapping[str, Sequence[float]],
    worst: Mapping[str, Callable[[Sequence[float]], float]],
    steps: int | Mapping[str, int] | None = None,
    notes: Mapping[str, str] | None = None,
    shown: Mapping[str, Any] | None = None,
) -> dict[str, float]:
    r"""Record what a lab measured, and print it; the last call of every lab.

    The file is written only where the lab runner executes the lab: a reader who runs the notebook
    sees the numbers and changes nothing.

    Args:
        stem: the lab's name.
        seeds: the seeds that were run.
        values: for each measured quantity, one number a seed (or a single number where no seed
            matters).
        worst: for each quantity, `min` or `max`: which of its numbers is the worst.
        steps: the training steps of each run, or those of each kind of run.
        notes: a remark on a quantity.
        shown: a few examples for the figures of a page, as JSON can hold them.

    Returns:
        The worst value of each quantity.

    >>> save("demo", seeds=[0, 1, 2], steps=100, values={"accuracy": [0.99, 0.97, 0.98]},
    ...      worst={"accuracy": min})
    accuracy: worst 0.97 of 0.99, 0.97, 0.98
    {'accuracy': 0.97}
    """
    missing = sorted(set(values) ^ set(worst))
    if missing:
        raise ValueError(f"values and worst must name the same quantities; these differ: {missing}")
    record: dict[str, Any] = {}
    for name, numbers in values.items():
        per_seed = [float(f"{float(number):.6g}") for number in numbers]
        if not per_seed or len(per_seed) not in (1, len(seeds)):
            raise ValueError(f"{name} has {len(per_seed)} numbers but there are {len(seeds)} seeds")
        if not all(abs(number) < float("inf") for number in per_seed):
            raise ValueError(f"{name} has a number that is not finite: {per_seed}")
        chosen = worst[name](per_seed)
        if chosen not in per_seed:
            raise ValueError(f"worst of {name} must be min or max, got one that gives {chosen!r}")
        record[name] = {"worst": chosen, "per_seed": per_seed}
        if notes and name in notes:
            record[name]["note"] = notes[name]
        print(_printed(name, record[name]))
    target = os.environ.get(_RESULT)
    if target:
        import torch

        result = {
            "lab": stem,
            "torch": torch.__version__.split("+")[0],
            "date": datetime.now(UTC).date().isoformat(),
            "cpu_seconds": round(time.process_time(), 1),
            "seeds": [int(seed) for seed in seeds],
            "steps": dict(steps) if isinstance(steps, Mapping) else steps,
            "values": record,
        } | ({"shown": dict(shown)} if shown else {})
        Path(target).write_text(json.dumps(result), encoding="utf-8")
    return {name: entry["worst"] for name, entry in record.items()}


def _printed(name: str, entry: Mapping[str, Any]) -> str:
    """The line that `save` prints of a quantity."""
    numbers = entry["per_seed"]
    of = f" of {', '.join(f'{number:g}' for number in numbers)}" if len(numbers) > 1 else ""
    return f"{name}: worst {entry['worst']:g}{of}"


@dataclass(frozen=True)
class Lab:
    """One lab: its source, and the files made from it."""

    source: Path
    package: Path = field(default=PACKAGE)

    @property
    def stem(self) -> str:
        """The name that the source, the notebook and the result share."""
        return self.source.stem

    @property
    def notebook(self) -> Path:
        """The executed notebook."""
        return self.source.with_suffix(".ipynb")

    @property
    def result(self) -> Path:
        """The measured values."""
        return self.source.parent / "results" / f"{self.stem}.json"

    def hashes(self) -> dict[str, str]:
        """Give the digests of the lab's code and of the package code that it reaches.

        Raises:
            RuntimeError: a cell is not Python.
        """
        trees = []
        for number, cell in enumerate(notebooks.read(self.source).cells, 1):
            if cell.cell_type == "code":
                try:
                    trees.append(ast.parse(no_magics(cell.source)))
                except SyntaxError as error:
                    where = f"{self.source.name}, cell {number}, line {error.lineno} of the cell"
                    raise RuntimeError(f"{where}: cannot be read as Python: {error.msg}") from None
        modules = reached(trees, self.package)
        package = [f"{name}\n{code_of(path)}" for name, path in sorted(modules.items())]
        for name in sorted(modules):
            folder, _, stem = name.rpartition(".")
            if folder == f"{self.package.name}.tasks":
                data = sorted((self.package / "tasks" / "data").glob(f"{stem}.*"))
                package += [f"{p.name} {sha256(p.read_bytes()).hexdigest()}" for p in data]
        return {
            "source_sha256": digest([code(tree) for tree in trees]),
            "package_sha256": digest(package),
        }

    def stale(self) -> str:
        """Say why the lab must be run again; an empty string when it need not be."""
        if not self.result.exists():
            return f"{self.result.name} does not exist"
        if not self.notebook.exists():
            return f"{self.notebook.name} does not exist"
        try:
            recorded = json.loads(self.result.read_text(encoding="utf-8"))
        except json.JSONDecodeError:
            return f"{self.result.name} cannot be read"
        now = self.hashes()
        if recorded.get("source_sha256") != now["source_sha256"]:
            return f"the code of {self.source.name} has changed since its last run"
        if recorded.get("package_sha256") != now["package_sha256"]:
            return f"package code that {self.source.name} uses has changed since its last run"
        return ""

    def contradiction(self) -> str:
        """Say which number of the result the notebook does not print; nothing when all are there.

        Both were written by one run; a number that was typed in later stands in one of them.
        """
        printed = notebooks.printed(self.notebook)
        values = json.loads(self.result.read_text(encoding="utf-8"))["values"]
        found = (name for name, entry in values.items() if _printed(name, entry) not in printed)
        name = next(found, "")
        return f"{self.result.name} and {self.notebook.name} differ on {name}" if name else ""


def find(folder: Path = LABS) -> list[Lab]:
    """List the labs of a folder."""
    return [Lab(path) for path in sorted(folder.glob("*.py"))]


def run(lab: Lab) -> None:
    """Execute a lab and write its notebook and its result.

    Raises:
        RuntimeError: a cell raised, printed a path of this machine or drew a figure without alt
            text; or the lab never called `save`, or called it under another name. Nothing is
            written then.
    """
    hashes = lab.hashes()
    notebook, saved = notebooks.execute(lab.source, _RESULT)
    if saved is None:
        raise RuntimeError(f"{lab.source.name} does not call labs.save")
    result = json.loads(saved)
    if result["lab"] != lab.stem:
        raise RuntimeError(f"{lab.source.name} saves its result as {result['lab']!r}")
    lab.result.parent.mkdir(exist_ok=True)
    lab.result.write_text(json.dumps(result | hashes, indent=1) + "\n", encoding="utf-8")
    notebooks.write(notebook, lab.notebook)


def refresh(lab: Lab) -> bool:
    """Bring a notebook's prose and comments up to date; True where something changed."""
    if not notebooks.difference(lab.source, lab.notebook):
        return False
    notebooks.write(notebooks.retext(lab.source, lab.notebook), lab.notebook)
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the labs that need it; the command line of `python -m attnbook.book.labs`."""
    parser = argparse.ArgumentParser(prog="python -m attnbook.book.labs", description=main.__doc__)
    parser.add_argument(
        "stems", nargs="*", metavar="STEM", help="labs to consider (all by default)"
    )
    parser.add_argument("--force", action="store_true", help="run them even if nothing has changed")
    parser.add_argument("--folder", type=Path, default=LABS, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    labs = {lab.stem: lab for lab in find(options.folder)}
    unknown = sorted(set(options.stems) - set(labs))
    if unknown:
        parser.error(f"no lab named {', '.join(unknown)}; there are: {', '.join(labs)}")
    failed = 0
    for stem in options.stems or labs:
        lab = labs[stem]
        try:
            reason = "asked for" if options.force else lab.stale() or lab.contradiction()
            if not reason:
                print(f"{stem}: {'text refreshed' if refresh(lab) else 'up to date'}")
                continue
            print(f"{stem}: running ({reason})", flush=True)
            run(lab)
        except RuntimeError as error:
            print(f"{stem}: FAILED\n{error}", file=sys.stderr)
            failed += 1
        else:
            result = json.loads(lab.result.read_text(encoding="utf-8"))
            print(f"{stem}: done in {result['cpu_seconds']} CPU seconds")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
