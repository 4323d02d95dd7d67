"""Runs a page: its blocks in order, in one namespace, from a seeded start.

    run_page(Path("docs/chapters/03-scores.md")) -> list[Result]  all of a page's blocks
    page = Page(text, "chapters/03-scores.md"); page.run(i)       one block, and what it needs

The same code serves the tests and the site. A page starts from `torch.manual_seed(0)`, the default
dtype and the default print options; a warning is an error. The process's own random state and
options are as they were afterwards.

A block with `fig=` or `table=` is a leaf: it runs in a shallow copy of the namespace, and
the random state is put back behind it; a leaf that changes an object of the page is an error,
for the scripts that a reader copies leave it out. The value of its last expression is the figure (a
matplotlib `Figure` or a schemdraw `Drawing`) or the table's rows (a list of dicts with the same
keys). A `pycon` block is compared with its printed output (`attnbook.book.checker`). A `.no-run`
block gives a result with `ran=False`.

What goes wrong is a `PageError` with the page's line; tracebacks point into the Markdown file.
"""

import __future__

import ast
import contextlib
import linecache
import reprlib
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnbook.book.bindings import mentioned, refused
from attnbook.book.blocks import Block, PageError
from attnbook.book.checker import difference, matches
from attnbook.book.console import Step, steps
from attnbook.book.fences import parse
from attnbook.book.state import captured, settings
from attnbook.book.unchanged import changed, snapshot

__all__ = ["Page", "PageError", "Result", "run_page"]

FIGURES = {"matplotlib.figure.Figure", "schemdraw.schemdraw.Drawing"}


@dataclass(frozen=True)
class Result:
    """What a block gave: its figure or its table's rows, and what it printed."""

    block: Block
    figure: Any = None
    table: list[dict[str, Any]] | None = None
    output: str = ""
    ran: bool = True


class Page:
    r"""The blocks of a page and the state that they share.

    Args:
        text: the page's Markdown.
        name: the page's name in errors and tracebacks (a path, so that editors can follow it).
        first_line: the number of the text's first line, where front matter was cut off.

    Raises:
        PageError: the page cannot be parsed.

    >>> page = Page("```python\nx = 1\n```\n\n```pycon\n>>> x + 1\n3\n```\n", "demo.md")
    >>> page.run(1)
    Traceback (most recent call last):
    attnbook.book.blocks.PageError: demo.md:6: the output differs
        x + 1
    """

    def __init__(self, text: str, name: str = "", first_line: int = 1) -> None:
        self.name = name or "<page>"
        self.blocks = parse(text, name, first_line)
        self.namespace: dict[str, Any] = {"__name__": "__main__"}
        self._lines = [""] * (first_line - 1) + text.split("\n")
        self._done = 0
        with settings(None) as read:
            self._state = read()

    def run(self, index: int) -> Result:
        """Run block `index`, after those before it that it may need and that have not run yet.

        A block runs once: one that failed is not tried again, those behind it run with what is
        there.

        Raises:
            PageError: this block, or one before it that had not run yet, raises, prints something
                else than the page says, or has a last expression that is no figure or table.
        """
        while self._done < index:
            self._done += 1
            if not self.blocks[self._done - 1].leaf:
                self._run(self.blocks[self._done - 1])
        self._done = max(self._done, index + 1)
        return self._run(self.blocks[index])

    def _run(self, block: Block) -> Result:
        if block.no_run:
            return Result(block, ran=False)
        lines = [f"{line}\n" for line in self._lines]
        linecache.cache[self.name] = (sum(map(len, lines)), None, lines, self.name)
        if block.leaf:
            return self._apart(block)
        with settings(self._state) as read:
            try:
                run = self._session if block.language == "pycon" else self._code
                return run(block, self.namespace)
            finally:
                self._state = read()

    def _apart(self, block: Block) -> Result:
        """Run a leaf, and see that it has changed nothing."""
        before = snapshot(self.namespace)
        with settings(self._state):
            result = self._code(block, dict(self.namespace))
        if names := changed(before, snapshot(self.namespace)):
            at = mentioned(ast.parse(block.source), set(names)) or 1
            kind = "figure" if block.fig else "table"
            message = (
                f"the {kind} {block.fig or block.table!r} changes {', '.join(names)} of the page: "
                "later blocks would see it, and scripts leave a figure or table out; change a copy"
            )
            line = block.code_line + at - 1
            raise self._error(block, line, message, self._lines[line - 1].strip(), "")
        return result

    def _code(self, block: Block, namespace: dict[str, Any]) -> Result:
        tree = self._parsed(block, block.source, block.code_line)
        last, value = None, None
        if block.leaf and tree.body:
            last = tree.body[-1]
            if isinstance(last, ast.Expr):
                tree.body.pop()
        with self._reported(block), captured() as output:
            self._execute(tree, namespace)
            if isinstance(last, ast.Expr):
                value = self._execute(ast.Expression(last.value), namespace)
        if not block.leaf:
            return Result(block, output=output.getvalue())
        return _leaf(block, value, last.lineno if last else block.line, output.getvalue())

    def _session(self, block: Block, namespace: dict[str, Any]) -> Result:
        """Run a session. Every step runs before the first difference is reported."""
        problems: list[tuple[int, str, str]] = []
        printed = []
        for step in steps(block):
            got = self._step(block, step, namespace)
            printed.append(got)
            if not matches(step.error or step.want, got):
                problems.append((step.line, step.source, difference(step.error or step.want, got)))
        if problems:
            line, source, _ = problems[0]
            details = "\n".join(
                f"{self.name}:{at}: {code.splitlines()[0]}\n{text}" for at, code, text in problems
            )
            raise self._error(block, line, "the output differs", source.splitlines()[0], details)
        return Result(block, output="".join(printed))

    def _step(self, block: Block, step: Step, namespace: dict[str, Any]) -> str:
        """Run one step; what it printed, or `Type: message` where the page shows a traceback."""
        tree = ast.Interactive(self._parsed(block, step.source, step.line).body)
        with self._reported(block), captured() as output:
            try:
                self._execute(tree, namespace)
            except Exception as error:
                if not step.error:
                    raise
                return "".join(traceback.format_exception_only(error))
        return output.getvalue() if not step.error else f"no error\n{output.getvalue()}"

    def _parsed(self, block: Block, source: str, line: int) -> ast.Module:
        with self._reported(block):
            tree = ast.parse("\n" * (line - 1) + source, self.name)
        if found := refused(tree):
            at, message = found
            raise self._error(block, at, message, self._lines[at - 1].strip(), "")
        return tree

    def _execute(
        self, tree: ast.Module | ast.Expression | ast.Interactive, names: dict[str, Any]
    ) -> Any:
        mode = {ast.Module: "exec", ast.Expression: "eval", ast.Interactive: "single"}[type(tree)]
        return eval(compile(tree, self.name, mode, _flags(names), dont_inherit=True), names)

    @contextlib.contextmanager
    def _reported(self, block: Block) -> Iterator[None]:
        """Turn whatever the block raises into a `PageError` at the page's line."""
        try:
            yield
        except (PageError, KeyboardInterrupt):
            raise
        except BaseException as error:
            tail = error.__traceback__
            while tail is not None and tail.tb_frame.f_code.co_filename != self.name:
                tail = tail.tb_next
            line = tail.tb_lineno if tail is not None else block.code_line
            message = "".join(traceback.format_exception_only(error)).strip()
            if isinstance(error, SyntaxError) and error.filename == self.name:
                line, message = error.lineno or line, f"{type(error).__name__}: {error.msg}"
                if block.language == "python" and block.source.startswith(">>> "):
                    message += " (a block with prompts is a ```pycon block)"
            code = self._lines[line - 1].strip() if line <= len(self._lines) else ""
            details = "".join(traceback.format_exception(type(error), error, tail))
            raise self._error(block, line, message, code, details) from error

    def _error(self, block: Block, line: int, message: str, code: str, details: str) -> PageError:
        return PageError(
            self.name, line, message, code=code, block_line=block.code_line, details=details
        )


def run_page(page: Path | str, name: str = "", first_line: int = 1) -> list[Result]:
    r"""Run every block of a page, given as a path or as its text.

    Raises:
        PageError: at the first block that fails.

    >>> result, = run_page("```python\nprint(6 * 7)\n```\n")
    >>> result.output
    '42\n'
    """
    if isinstance(page, Path):
        page, name = page.read_text(encoding="utf-8"), name or str(page)
    pages = Page(page, name, first_line)
    return [pages.run(index) for index in range(len(pages.blocks))]


def _leaf(block: Block, value: Any, line: int, output: str) -> Result:
    """The result of a leaf block, if its last expression is what it promised."""
    kinds = {f"{kind.__module__}.{kind.__name__}" for kind in type(value).__mro__}
    if block.fig and kinds & FIGURES:
        return Result(block, figure=value, output=output)
    if block.table and _is_table(value):
        return Result(block, table=value, output=output)
    promised = (
        "a matplotlib Figure or a schemdraw Drawing"
        if block.fig
        else "rows: a list of dicts with the same keys"
    )
    message = f"the last expression must be {promised}, it is {reprlib.repr(value)}"
    raise PageError(block.page, line, message, block_line=block.code_line)


def _is_table(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(row, dict) and row.keys() == value[0].keys() for row in value)
    )


def _flags(namespace: dict[str, Any]) -> int:
    """The compiler's flags for what the page imported from `__future__`."""
    features = [(name, getattr(__future__, name)) for name in __future__.all_feature_names]
    used = {at for name, at in features if name in namespace and namespace[name] is at}
    return sum({at.compiler_flag for at in used})
