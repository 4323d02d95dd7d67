"""What every test run shares: the book's blocks and docstrings are tests, shapes are checked.

- Each Python fence of docs/, README.md and CONTRIBUTING.md is a test, `page.md::line:41`. The
  parser and the runner of the site find and run it. The fences of a page share its namespace, so
  one that is run alone runs what it needs first. One that does not run is reported as skipped,
  with its reason.
- Each docstring of the package with examples is a test, with names of its own.
- jaxtyping's annotations are checked by beartype, in tests/ alone: pages and docstrings show what a
  user sees, and a user sees the package's own errors.
"""

import contextlib
import doctest
import os
from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import pytest

ROOT = Path(__file__).parent
PACKAGE = ROOT / "attnbook"
# In place before anything imports the package. The book's engine and the timings are no mechanisms.
jaxtyping.install_import_hook(
    [
        f"attnbook.{p.stem}"
        for p in PACKAGE.iterdir()
        if p.stem not in {"__init__", "book", "bench"}
    ],
    "beartype.beartype",
)
os.environ["MPLBACKEND"] = "Agg"

import hypothesis  # noqa: E402
import torch  # noqa: E402
from sybil import Document, Example, Region, Sybil  # noqa: E402
from sybil.document import PythonDocStringDocument  # noqa: E402
from sybil.integration.pytest import SybilFile  # noqa: E402
from sybil.python import import_path  # noqa: E402

from attnbook.book.checker import OutputChecker  # noqa: E402
from attnbook.book.runner import Page, PageError  # noqa: E402
from attnbook.book.state import settings  # noqa: E402

torch.set_num_threads(1)  # the same sums in the same order on every machine
hypothesis.settings.register_profile("attnbook", deadline=None)  # torch's first call is slow
hypothesis.settings.load_profile("attnbook")


@contextlib.contextmanager
def as_user() -> Iterator[None]:
    """Without run-time type checks."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


class PageDocument(Document):
    """A page whose examples are its blocks."""

    @classmethod
    def parse(cls, path: str, *parsers: object, encoding: str = "utf-8") -> "PageDocument":
        """Read a page."""
        document = cls(Path(path).read_text(encoding=encoding), path)
        page = Page(document.text, Path(path).relative_to(ROOT).as_posix())

        def evaluate(example: Example) -> str | None:
            __tracebackhide__ = True
            block = page.blocks[example.parsed]
            if block.no_run:
                pytest.skip(f"{page.name}:{block.line}: {block.value('reason')}")
            try:
                with as_user():
                    page.run(block.index)
            except PageError as error:
                return f"{error}\n\n{error.details}"
            return None

        for block in page.blocks:
            document.add(Region(block.start, block.end, block.index, evaluate))
        return document


def docstring(document: Document) -> Iterator[Region]:
    """One example for each docstring that has any."""
    examples = doctest.DocTestParser().get_examples(document.text)

    def evaluate(example: Example) -> str:
        __tracebackhide__ = True
        printed: list[str] = []
        names = dict(vars(import_path(Path(example.path))))
        at = Path(example.path).relative_to(ROOT).as_posix()
        test = doctest.DocTest(examples, names, at, at, example.line - 1, None)
        with settings(None), as_user():
            doctest.DocTestRunner(OutputChecker(), verbose=False).run(test, out=printed.append)
        skipped = [e for e in examples if e.options]
        if skipped:
            line = example.line + skipped[0].lineno
            printed.append(f"{at}:{line}: doctest directives are not used in this book")
        return "".join(printed)

    if examples:
        yield Region(0, len(document.text), examples, evaluate)


class Numbered(Sybil):
    """Names its examples by line alone."""

    def identify(self, example: Example) -> str:
        """The test's name."""
        return f"line:{example.line}"


class BookFile(SybilFile):
    """A page or module; a page that cannot be read is an error with the page's line."""

    def collect(self) -> Iterator[pytest.Item]:
        """The tests of the file."""
        try:
            yield from super().collect()
        except PageError as error:
            raise self.CollectError(str(error)) from None


TOP = {("README.md",), ("CONTRIBUTING.md",)}
PAGES = Numbered([], document_types={None: PageDocument})
DOCSTRINGS = Numbered([docstring], document_types={".py": PythonDocStringDocument})


# Long files first, so that no worker is left with one at the end. The first builds the site.
FIRST = [
    *("tests/site/test_pages.py", "tests/book/test_snippets.py", "tests/test_contracts.py"),
    *("tests/book/test_plugin.py", "tests/site/test_search.py"),
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of `FIRST` first; `--dist loadfile` hands files out in this order."""
    order = {ROOT / name: n for n, name in enumerate(FIRST)}
    items.sort(key=lambda item: order.get(item.path, len(order)))


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> BookFile | None:
    """Collect the book's pages and the package's docstrings."""
    place = file_path.relative_to(ROOT).parts if file_path.is_relative_to(ROOT) else ("",)
    sybil = None
    if (
        file_path.suffix == ".md"
        and (place[0] == "docs" or place in TOP)
        and place[1:2] != ("labs",)
    ):
        sybil = PAGES
    elif file_path.suffix == ".py" and place[0] == "attnbook":
        sybil = DOCSTRINGS
    return BookFile.from_parent(parent, path=file_path, sybils=[sybil]) if sybil else None
