"""A mechanism's own lines, for the "Source" panels of a page: read from the package, never copied.

The file is read and parsed, not imported: while the site is served, an edit of the package shows at
once.
"""

import ast
import textwrap
from pathlib import Path
from typing import NamedTuple

from attnbook.book.reach import PACKAGE, imported_from, locate, parse

_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class Panel(NamedTuple):
    """The lines of a function or class.

    Attributes:
        code: its source, dedented, decorators included, docstrings cut.
        file: the file's path from the root of the repository, such as "attnbook/scores.py".
        first_line: line of the file on which it begins.
        last_line: line of the file on which it ends.
    """

    code: str
    file: str
    first_line: int
    last_line: int


def panel(dotted_name: str, package: Path = PACKAGE) -> Panel:
    """Give the own lines of a function, class or method of the package, without docstrings.

    Args:
        dotted_name: such as "attnbook.scores.gaussian" or "attnbook.scores.Additive.forward"; a
            name that a module only re-exports is followed to where it is defined.
        package: the package's folder.

    Raises:
        ValueError: there is no such name, or it is not a function or class.

    >>> code, file, first_line, last_line = panel("attnbook.aggregate")
    >>> code.splitlines()[0][:14], file, last_line > first_line
    ('def aggregate(', 'attnbook/core.py', True)
    """
    parts = dotted_name.split(".")
    if parts[0] != package.name:
        raise ValueError(f"{dotted_name!r} must begin with {package.name}.")
    count = 1
    while count < len(parts) and locate(".".join(parts[: count + 1]), package):
        count += 1
    if count == len(parts):
        raise ValueError(f"{dotted_name} is a module; a source panel shows a function or a class")
    module = ".".join(parts[:count])
    path, node = _definition(dotted_name, module, parts[count], package)
    for number, part in enumerate(parts[count + 1 :], count + 1):
        inner = next((n for n in node.body if isinstance(n, _Definition) and n.name == part), None)
        if inner is None:
            owner = ".".join(parts[:number])
            raise ValueError(f"unknown name {dotted_name!r}: {owner} has no {part!r}")
        node = inner
    lines = path.read_text(encoding="utf-8").splitlines()
    first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
    last = node.end_lineno or node.lineno
    return Panel(
        _without_docstrings(textwrap.dedent("\n".join(lines[first - 1 : last]))),
        path.relative_to(package.parent).as_posix(),
        first,
        last,
    )


def _definition(wanted: str, module: str, name: str, package: Path) -> tuple[Path, _Definition]:
    """Find the file and the definition of a module's name, through re-exports."""
    path = locate(module, package)
    if path is None:
        raise ValueError(f"unknown name {wanted!r}: there is no module {module}")
    for node in parse(path).body:
        if isinstance(node, _Definition) and node.name == name:
            return path, node
        if isinstance(node, ast.ImportFrom):
            parent = module if path.name == "__init__.py" else module.rpartition(".")[0]
            source = imported_from(node, parent)
            for alias in node.names:
                if (alias.asname or alias.name) == name and source.split(".")[0] == package.name:
                    return _definition(wanted, source, alias.name, package)
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AnnAssign):
            targets = [node.target]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            raise ValueError(f"{wanted} is a value; a source panel shows a function or a class")
    raise ValueError(f"unknown name {wanted!r}: {module} has no {name!r}")


def _without_docstrings(code: str) -> str:
    """Cut the docstring of a definition and of those inside it; every other line stays as it is."""
    lines = code.splitlines()
    nodes = [n for n in ast.walk(ast.parse(code)) if isinstance(n, _Definition)]
    for node in sorted(nodes, key=lambda n: n.lineno, reverse=True):
        first = node.body[0]
        if not isinstance(first, ast.Expr) or not isinstance(first.value, ast.Constant):
            continue
        if not isinstance(first.value.value, str):
            continue
        stop = first.end_lineno or first.lineno
        while stop < len(lines) and not lines[stop].strip():
            stop += 1
        if len(node.body) == 1:
            lines[first.lineno - 1 : stop] = [" " * first.col_offset + "..."]
        else:
            del lines[first.lineno - 1 : stop]
    return "\n".join(lines)
