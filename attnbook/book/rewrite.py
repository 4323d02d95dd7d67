"""Blocks as code that runs elsewhere: sessions as scripts, imports apart, a leaf as a function."""

import ast
import builtins
import re
import sys
from collections import defaultdict
from collections.abc import Iterable
from typing import Literal

from attnbook.book.blocks import Block, PageError
from attnbook.book.console import Step, steps

Import = tuple[str, str]  # ("from attnbook import", "softmax") or ("import torch", "")
_PLAIN = {"torch", "attnbook", "jaxtyping"}
_OPTIONAL = re.compile(r"attnbook(?:\.| import )(?:plotting|training|tasks|applications)\b")
_SCOPES = (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def code(block: Block, use: Literal["copy", "earlier", "last", "cell"] = "copy") -> str:
    r"""The block's code without prompts and outputs.

    Args:
        block: a block of either language.
        use: "copy" gives it as it stands. In a script, an error that the page shows is caught; the
            "last" block of a script prints what a session shows; so does the "cell" of a notebook,
            but for its last step, whose value the notebook shows anyway.

    >>> block = Block("pycon", ">>> x = 2  # two\n>>> x + 1\n3\n", 1)
    >>> print(code(block, "last"))
    x = 2  # two
    print(x + 1)
    """
    if block.language == "python":
        return block.source.strip("\n")
    found = steps(block)
    parts = []
    for step in found:
        if step.error and use != "copy":
            parts.append(_caught(step, silent=use == "earlier"))
        elif use == "last" or (use == "cell" and step is not found[-1]):
            parts.append(_printed(step))
        else:
            parts.append(step.source.rstrip("\n"))
        if parts[-1].rpartition("\n")[2].startswith(" "):
            parts[-1] += "\n"  # a blank line after a compound statement, as a console wants it
    return "\n".join(parts).strip("\n")


def _printed(step: Step) -> str:
    """The step's code, its bare expressions printed if the page shows their value."""
    if not step.want:
        return step.source.rstrip("\n")
    source = step.source.encode().splitlines(keepends=True)
    starts = [sum(map(len, source[:number])) for number in range(len(source))]
    text = b"".join(source).rstrip(b"\n")
    for node in reversed(ast.parse(step.source).body):
        if not isinstance(node, ast.Expr) or _is_print(node.value):
            continue
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        start = starts[node.lineno - 1] + node.col_offset
        end = starts[node.end_lineno - 1] + node.end_col_offset
        value = text[start:end]
        if isinstance(node.value, ast.Tuple):
            value = b"(" + value + b")"
        text = text[:start] + b"print(" + value + b")" + text[end:]
    return text.decode()


def _is_print(node: ast.expr) -> bool:
    return (
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    )


def _caught(step: Step, silent: bool) -> str:
    """A step that shows an error, so that the script goes on."""
    name = step.error.partition(":")[0]
    kind = getattr(builtins, name, None)
    caught = name if isinstance(kind, type) and issubclass(kind, Exception) else "Exception"
    head = f"try:\n{indented(step.source)}\nexcept {caught}"
    return f"{head}:\n    pass" if silent else f"{head} as error:\n    print(repr(error))"


def indented(source: str) -> str:
    """Code four columns further right; the inside of a string that spans lines stays."""
    inside: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr) or (
            isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)
        ):
            inside |= set(range(node.lineno + 1, (node.end_lineno or node.lineno) + 1))
    lines = source.rstrip("\n").split("\n")
    return "\n".join(
        line if number in inside or not line.strip() else f"    {line}"
        for number, line in enumerate(lines, 1)
    )


def imported(node: ast.AST) -> list[tuple[Import, str, str]]:
    """What a statement imports, name by name: how to say it, the name it binds, what that means."""
    found = []
    for alias in node.names if isinstance(node, ast.Import | ast.ImportFrom) else []:
        spelled = alias.name + (f" as {alias.asname}" if alias.asname else "")
        name = alias.asname or alias.name.partition(".")[0]
        if isinstance(node, ast.ImportFrom):
            head = f"from {'.' * node.level}{node.module or ''} import"
            found.append(((head, spelled), name, f"{head} {spelled}"))
        else:
            meaning = f"import {spelled if alias.asname else name}"
            found.append(((f"import {spelled}", ""), name, meaning))
    return found


class _Bindings(ast.NodeVisitor):
    """The names that code binds at the level of its page, each with what it then means."""

    def __init__(self) -> None:
        self.found: list[tuple[str, object]] = []
        self.imports: dict[Import, str] = {}

    def generic_visit(self, node: ast.AST) -> None:
        """Look into everything but inner scopes."""
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            self.found.append((node.name, object()))
            outer = [name for inner in ast.walk(node) for name in getattr(inner, "names", [])]
            self.found += [(name, object()) for name in outer if isinstance(name, str)]
            return
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            self.found.append((node.id, object()))
        if isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            self.found.append((node.name, object()))
        if isinstance(node, ast.MatchMapping) and node.rest:
            self.found.append((node.rest, object()))
        for key, name, meaning in imported(node):
            self.found.append((name, meaning))
            self.imports[key] = name
        if not isinstance(node, _SCOPES):
            super().generic_visit(node)


def bound(source: str) -> set[str]:
    """The names that code binds at the level of its page."""
    visitor = _Bindings()
    visitor.visit(ast.parse(source))
    return {name for name, _ in visitor.found}


def hoistable(sources: Iterable[str]) -> set[Import]:
    """The imports that can stand at the top of a script: their name means one thing on the page.

    >>> sorted(hoistable(["import math", "from attnbook import dot", "def dot(x): ..."]))
    [('import math', '')]
    """
    meanings: dict[str, set[object]] = defaultdict(set)
    imports: dict[Import, str] = {}
    for source in sources:
        visitor = _Bindings()
        visitor.visit(ast.parse(source))
        for name, meaning in visitor.found:
            meanings[name].add(meaning)
        imports |= visitor.imports
    return {
        key for key, name in imports.items() if len(meanings[name]) == 1 or "__future__" in key[0]
    }


def without_imports(source: str, hoisted: set[Import]) -> tuple[list[Import], str]:
    """The imports at the top level of `source` that are `hoisted`, and the rest of it."""
    lines = source.split("\n")
    body = ast.parse(source).body
    shared = [line for node in body for line in {node.lineno, node.end_lineno or node.lineno}]
    taken: list[Import] = []
    drop: set[int] = set()
    for node in body:
        keys = [key for key, _, _ in imported(node)]
        span = range(node.lineno, (node.end_lineno or node.lineno) + 1)
        alone = shared.count(span[0]) == 1 and shared.count(span[-1]) == 1
        if keys and alone and hoisted.issuperset(keys):
            taken += keys
            drop |= set(span)
    kept = [line for number, line in enumerate(lines, 1) if number not in drop]
    return taken, "\n".join(kept).strip("\n")


def final_expression(block: Block) -> tuple[str, str]:
    """A leaf's code before its last expression, and that expression.

    Raises:
        PageError: the block does not end in an expression.
    """
    body = ast.parse(block.source).body
    if not body or not isinstance(body[-1], ast.Expr):
        message = "a figure or a table is the value of its block's last expression"
        raise PageError(block.page, block.line, message)
    lines = block.source.rstrip("\n").encode().split(b"\n")
    at, column = body[-1].lineno - 1, body[-1].col_offset
    before = b"\n".join([*lines[:at], lines[at][:column]]).decode()
    return before, b"\n".join([lines[at][column:], *lines[at + 1 :]]).decode()


def readable(block: Block) -> None:
    """Refuse a block that is not Python.

    Raises:
        PageError: says so, with page and line.
    """
    try:
        ast.parse(code(block))
    except SyntaxError as error:
        message = f"cannot be read as Python: {error.msg}"
        raise PageError(block.page, block.line, message) from None


def needs_labs(block: Block) -> bool:
    """Whether the block imports what comes with attnbook[labs] only."""
    tree = ast.parse(code(block))
    heads = {" ".join(key).strip() for node in ast.walk(tree) for key, _, _ in imported(node)}
    roots = {head.split()[1].partition(".")[0] for head in heads}
    return bool(roots - _PLAIN - sys.stdlib_module_names) or any(map(_OPTIONAL.search, heads))


def as_function(block: Block, known: set[str]) -> str:
    """A leaf block as a function that is called: it leaves neither names nor random state behind.

    Args:
        block: a block that draws or tabulates.
        known: names that the page has bound before it.
    """
    tree = ast.parse(block.source)
    before, value = final_expression(block)
    first: dict[str, int] = {}
    loads: dict[str, int] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            where = first if isinstance(node.ctx, ast.Store) else loads
            where[node.id] = min(where.get(node.id, node.lineno), node.lineno)
    own = bound(block.source) & known & loads.keys()
    parameters = sorted(name for name in own if loads[name] <= first.get(name, 0))
    name = (block.fig or block.table).replace("-", "_")
    name = f"draw_{name}" if block.fig else f"tabulate_{name}"
    signature = ", ".join(f"{parameter}={parameter}" for parameter in parameters)
    inside = indented(f"{before}return {value}")
    return f"@torch.random.fork_rng(devices=[])\ndef {name}({signature}):\n{inside}\n\n\n{name}()"
