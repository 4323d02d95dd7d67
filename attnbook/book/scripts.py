"""Sessions as scripts: a block's code without prompts, printing what the page shows."""

import ast
import builtins
from typing import Literal

from attnbook.book.bindings import Names, at_prompt
from attnbook.book.blocks import Block
from attnbook.book.console import Step, steps

_VALUES = (
    *(ast.Constant, ast.JoinedStr, ast.Tuple, ast.List, ast.Dict, ast.Set, ast.Lambda),
    *(ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp),
    *(ast.Compare, ast.BinOp, ast.UnaryOp),
)  # these are never None


def code(
    block: Block,
    use: Literal["copy", "earlier", "last", "cell"] = "copy",
    names: Names = Names(),  # noqa: B008
) -> str:
    r"""The block's code without prompts and outputs.

    Args:
        block: a block of either language.
        use: "copy" gives it as it stands. In a script, an error that the page shows is caught; the
            "last" block of a script prints what a session shows; so does the "cell" of a notebook,
            but for its last expression, whose value the notebook shows anyway.
        names: what the page's names are.

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
            parts.append(_caught(step, use == "earlier", names))
        elif use in ("last", "cell"):
            parts.append(_printed(step, names, shown=use == "cell" and step is found[-1]))
        else:
            parts.append(step.source.rstrip("\n"))
        if parts[-1].rpartition("\n")[2].startswith(" "):
            parts[-1] += "\n"  # a blank line after a compound statement, as a console wants it
    return "\n".join(parts).strip("\n")


def cut(source: str, node: ast.stmt) -> tuple[str, str, str]:
    """The source before a statement, of it, and after it."""
    lines = source.encode().splitlines(keepends=True)
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    start = sum(map(len, lines[: node.lineno - 1])) + node.col_offset
    end = sum(map(len, lines[: node.end_lineno - 1])) + node.end_col_offset
    text = b"".join(lines)
    return text[:start].decode(), text[start:end].decode(), text[end:].decode()


def _printed(step: Step, names: Names, shown: bool) -> str:
    """The step's code, its bare expressions printed as the prompt does, if the page shows any.

    Args:
        step: one prompt of a session.
        names: what the page's names are.
        shown: the last expression is shown anyway.
    """
    text = step.source.rstrip("\n")
    if not step.want:
        return text
    body = ast.parse(step.source).body
    for node in reversed(list(at_prompt(body))):
        if shown and node is body[-1]:
            continue
        before, value, after = cut(text, node)
        text = before + _print(node.value, value, len(body) == 1 and node is body[0], names) + after
    return text


def _print(node: ast.expr, text: str, alone: bool, names: Names) -> str:
    """Code that prints the value of an expression, unless it is None.

    Args:
        node: the expression.
        text: its code.
        alone: it alone prints what the page shows, so it has a value or prints by itself.
        names: what the page's names are.
    """
    called = node.func if isinstance(node, ast.Call) else None
    if isinstance(called, ast.Name) and called.id in {"print", *names.silent}:
        return text
    name = getattr(called, "id", getattr(called, "attr", ""))
    if isinstance(node, ast.Constant) and node.value is None:
        return text
    if isinstance(node, ast.Tuple) and not _enclosed(node, text):
        text = f"({text})"
    if isinstance(node, _VALUES) or (alone and name not in names.printing):
        return f"print({text})"
    return f"(_ := {text}) is None or print(_)"


def _enclosed(node: ast.Tuple, text: str) -> bool:
    """Whether the code of a tuple has its own parentheses."""
    call = ast.parse(f"f({text})", mode="eval").body
    assert isinstance(call, ast.Call)
    return len(call.args) == 1 and ast.dump(call.args[0]) == ast.dump(node)


def _caught(step: Step, silent: bool, names: Names) -> str:
    """A step that shows an error, so that the script goes on."""
    kind_name = step.error.partition(":")[0]
    kind = getattr(builtins, kind_name, None)
    caught = kind_name if isinstance(kind, type) and issubclass(kind, Exception) else "Exception"
    head = f"try:\n{indented(step.source)}\nexcept {caught}"
    if silent:
        return f"{head}:\n    pass"
    free = next(name for name in ("error", "caught", "raised", "_") if name not in names.bound)
    return f"{head} as {free}:\n    print(repr({free}))"


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
