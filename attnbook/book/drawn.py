"""What a page's code draws and computes, run once and kept until its code or what it uses changes.

    results({"docs/index.md": text}, cache)      runs the pages that are not kept, side by side

Each page runs in a process of its own, so the site that is being served shows edits of the package,
and pages cannot see each other. Where the system can, the processes are copies of one that has
imported the libraries, and nothing of the package. A page is kept by a digest of its code, of the
package code that it reaches, of the code that draws, and of the versions of Python and of the
libraries that compute and draw. Prose is not in it. The files of docs/ that the page read while it
ran are kept beside its results, with a digest of each: it runs again when one of them changes.
"""

import ast
import contextlib
import hashlib
import json
import multiprocessing
import os
import re
import sys
import traceback
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

from attnbook._reach import PACKAGE, code_of, digest, reached
from attnbook.book.fences import PageError, parse

LIBRARIES = ("torch", "numpy", "babel", "matplotlib", "schemdraw", "ziamath")
_IMPORT = re.compile(r"^\s*from (attnbook\.book|attnbook\.book\.\w+) import (\w+)", re.M)


@dataclass(frozen=True)
class Drawn:
    """A page's figures (SVG) and tables (rows of texts), by the index of their block."""

    figures: dict[int, str]
    tables: dict[int, list[dict[str, str]]]


def key(text: str, name: str = "") -> str:
    r"""The digest under which a page's results are kept.

    >>> block = "```python\nx = 1\n```\n"
    >>> key("Some prose.\n\n" + block) == key("Other.\n" + block) != key(block + block)
    True
    """
    blocks = parse(text, name)
    trees = []
    for block in blocks:
        try:
            trees.append(ast.parse(_unprompted(block.source)))
        except SyntaxError:
            continue  # running it says where
    page = [json.dumps([b.language, b.source, sorted(b.attrs.items())]) for b in blocks]
    modules = reached(trees, outside=())  # a page may also show what the engine reads
    return digest([*page, *(code_of(path) for _, path in sorted(modules.items())), _around()])


def _unprompted(source: str) -> str:
    """The imports of a block, prompts taken off; enough to see what it reaches."""
    lines = source.splitlines()
    if not any(line.startswith(">>>") for line in lines):
        return source
    return "\n".join(line[4:] for line in lines if line.startswith((">>> ", "... ", ">>>", "...")))


def _around() -> str:
    """What every page depends on: the code that draws, the data of the tasks, the versions."""
    parts = [code_of(path) for path in _drawing()]
    for path in sorted((PACKAGE / "tasks" / "data").glob("**/*")):
        if path.is_file():
            parts.append(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}")
    versions = [f"{name} {_version(name)}" for name in LIBRARIES]
    return digest([*parts, *versions, sys.version])


def _drawing() -> list[Path]:
    """The files of the engine that run and draw a page: those that these two import."""
    found: list[Path] = []
    waiting = [PACKAGE / "plotting.py", Path(__file__)]
    while waiting:
        path = waiting.pop()
        if path in found or not path.is_file():
            continue
        found.append(path)
        for module, name in _IMPORT.findall(path.read_text(encoding="utf-8")):
            waiting += [PACKAGE / "book" / f"{part}.py" for part in (module.split(".")[-1], name)]
    return sorted(found)


@lru_cache(maxsize=16)
def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "none"


def results(
    pages: dict[str, str], cache: Path, root: Path = PACKAGE.parent
) -> tuple[dict[str, Drawn], list[PageError]]:
    """Give what each page draws, running those that are not kept; and what is wrong with them.

    Args:
        pages: the whole text of each page, by its path from `root`.
        cache: the folder of the kept results.
        root: where the pages run.
    """
    drawn: dict[str, Drawn] = {}
    errors: list[PageError] = []
    missing: list[tuple[str, Path]] = []
    for name, text in pages.items():
        try:
            if all(block.no_run for block in parse(text, name)):
                drawn[name] = Drawn({}, {})
                continue
            path = cache / f"{key(text, name)}.json"
        except PageError as error:
            errors.append(error)
            continue
        if path.exists() and not _outdated(path, root):
            drawn[name] = _read(path)
        else:
            missing.append((name, path))
    cache.mkdir(parents=True, exist_ok=True)
    threads = os.environ.get("OMP_NUM_THREADS", "1")
    with (
        _environment(PYTHONHASHSEED="0", OMP_NUM_THREADS=threads),
        ThreadPoolExecutor(max_workers=os.cpu_count()) as pool,
    ):
        made = pool.map(lambda job: _run(job[0], pages[job[0]], job[1], root), missing)
        for (name, path), error in zip(missing, made, strict=True):
            if error is not None:
                errors.append(error)
            else:
                drawn[name] = _read(path)
    return drawn, errors


def _read(path: Path) -> Drawn:
    kept = json.loads(path.read_text(encoding="utf-8"))
    path.touch()  # so that the oldest can be told
    kinds = ("figures", "tables")
    return Drawn(*({int(n): value for n, value in kept[kind].items()} for kind in kinds))


def _outdated(path: Path, root: Path) -> bool:
    """Whether a file that the page read has changed since its results were kept."""
    read = json.loads(path.read_text(encoding="utf-8"))["read"]
    return any(_stamp(root / name) != stamp for name, stamp in read.items())


def _stamp(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


@contextlib.contextmanager
def _watched(folder: Path) -> Iterator[set[Path]]:
    """Note which files of a folder are opened."""
    found: set[Path] = set()
    watching = True

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if watching and event == "open" and isinstance(arguments[0], str | bytes):
            path = Path(os.path.realpath(os.fsdecode(arguments[0])))
            if path.is_relative_to(folder):
                found.add(path)

    sys.addaudithook(note)  # it cannot be taken off again
    try:
        yield found
    finally:
        watching = False


def _run(name: str, text: str, path: Path, root: Path) -> PageError | None:
    """Run one page in a process of its own, which writes its results."""
    receiver, sender = processes().Pipe(duplex=False)
    job = (name, text, path.resolve(), root.resolve(), sender)
    process = processes().Process(target=_work, args=job)  # type: ignore[attr-defined]
    process.start()
    sender.close()
    try:
        fault: dict[str, Any] | None = receiver.recv()
    except EOFError:
        process.join()
        why = f"its process ended with the exit code {process.exitcode}"
        fault = {"line": 1, "message": f"the page could not be run: {why}"}
    process.join()
    receiver.close()
    return PageError(name, **fault) if fault else None


@lru_cache(maxsize=1)
def processes() -> BaseContext:
    """What makes processes that have the libraries, and no module of the package."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    shapes = "torch.fx.experimental.symbolic_shapes"  # torch imports it, and sympy, at first need
    context.set_forkserver_preload(["torch", shapes, "matplotlib.pyplot", "schemdraw", "ziamath"])
    return context


@contextlib.contextmanager
def _environment(**wanted: str) -> Iterator[None]:
    """Variables that new processes see, and put back afterwards."""
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def draw(name: str, text: str) -> dict[str, dict[int, Any]]:
    """Run a page here and now, and give its figures and tables.

    Raises:
        PageError: a block fails, prints something else than the page says, or cannot be drawn.
    """
    from attnbook.book.figures import to_svg
    from attnbook.book.runner import Page

    page = Page(text, name)
    figures: dict[int, str] = {}
    tables: dict[int, list[dict[str, str]]] = {}
    for block in page.blocks:
        result = page.run(block.index)
        if result.figure is not None:
            try:
                figures[block.index] = to_svg(
                    result.figure, prefix=f"fig-{block.fig}", alt=block.value("alt")
                )
            except ValueError as error:
                raise PageError(name, block.line, f"figure {block.fig!r}: {error}") from None
        if result.table is not None:
            tables[block.index] = [{str(k): str(v) for k, v in row.items()} for row in result.table]
    return {"figures": figures, "tables": tables}


def _work(name: str, text: str, target: Path, root: Path, sender: Connection) -> None:
    """In its process: run the page, write its results to `target`, and send what is wrong."""
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    warnings.simplefilter("ignore")
    os.chdir(root)
    fault: dict[str, Any] | None = None
    try:
        with _watched(root / "docs") as opened:
            made = draw(name, text)
        part = target.with_suffix(f".{os.getpid()}")
        read = {path.relative_to(root).as_posix(): _stamp(path) for path in sorted(opened)}
        part.write_text(json.dumps({**made, "read": read}), encoding="utf-8")
        part.replace(target)
    except PageError as error:
        fault = {"line": error.line, "message": error.message, "code": error.code}
        fault["details"] = error.details
    except BaseException:
        said = traceback.format_exc()[-2000:]
        fault = {"line": 1, "message": f"the page could not be run\n{said}"}
    sender.send(fault)
