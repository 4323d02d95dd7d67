"""Blocks as code that runs elsewhere: imports apart, a leaf as a function."""

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterable

from attnbook.book.bindings import (
    Import,
    bound,
    imported,
    meanings,
    read_early,
)
from attnbook.book.blocks import Block, PageError
from attnbook.book.scripts import code, cut, indented

_PLAIN = {"torch", "attnbook", "jaxtyping"}
_OPTIONAL = re.compile(r"attnbook(?:\.| import )(?:plotting|training|tasks|applications)\b")


def hoistable(sources: Iterable[str]) -> set[Import]:
    """The imports that can stand at the top of a script: their name means one thing on the page.

    >>> sorted(hoistable(["import math", "from attnbook import dot", "def dot(x): ..."]))
    [('import math', '')]
    """
    means: dict[str, set[object]] = defaultdict(set)
    imports: dict[Import, str] = {}
    for source in sources:
        names, found = meanings(source)
        for name, meaning in names:
            means[name].add(meaning)
        imports |= found
    return {key for key, name in imports.items() if len(means[name]) == 1 or "__future__" in key[0]}


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


def final_expression(block: Block) -> tuple[str, str, str]:
    """A leaf's code before its last expression, that expression, and the comment behind it.

    Raises:
        PageError: the block does not end in an expression.
    """
    body = ast.parse(block.source).body
    if not body or not isinstance(body[-1], ast.Expr):
        message = "a figure or a table is the value of its block's last expression"
        raise PageError(block.page, block.line, message)
    before, value, after = cut(block.source.rstrip("\n"), body[-1])
    if before.rpartition("\n")[2].strip():  # another statement stands on the same line
        before = before.rstrip().removesuffix(";") + "\n"
    return before, value, re.sub(r"^\s*;", "", after)


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

    What it reads of the page before it binds the name itself comes in as a parameter.

    Args:
        block: a block that draws or tabulates.
        known: names that the page has bound before it.
    """
    before, value, after = final_expression(block)
    early = read_early(ast.parse(block.source).body)
    parameters = sorted(bound(block.source) & known & early)
    name = (block.fig or block.table).replace("-", "_")
    name = f"draw_{name}" if block.fig else f"tabulate_{name}"
    signature = ", ".join(f"{parameter}={parameter}" for parameter in parameters)
    inside = indented(f"{before}return {value}{after}")
    return f"@torch.random.fork_rng(devices=[])\ndef {name}({signature}):\n{inside}\n\n\n{name}()"
