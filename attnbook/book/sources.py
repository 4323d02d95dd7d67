"""A mechanism's own lines, for the "Source" panels of a page: read from the package, never copied.

The file is read and parsed, not imported: while the site is served, an edit of the package shows at
once.
"""

import ast
import io
import tokenize
from pathlib import Path
from typing import NamedTuple

from attnbook._reach import PACKAGE, imported_from, locate, parse

_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class Panel(NamedTuple):
    """The lines of a function or class.

    Attributes:
        code: its source, flush left, decorators included, docstrings cut.
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
    first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
    last = node.end_lineno or node.lineno
    return Panel(
        _own_lines(path.read_text(encoding="utf-8"), node, first, last),
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


def _own_lines(text: str, node: _Definition, first: int, last: int) -> str:
    """Lines `first` to `last` of a file, which are a definition's, flush left, docstrings cut.

    What stands in a string of several lines stays where it is.
    """
    lines = dict(enumerate(text.encode().split(b"\n"), 1))  # the columns of `ast` count bytes
    lines = {number: lines[number] for number in range(first, last + 1)}
    margin = lines[first][: len(lines[first]) - len(lines[first].lstrip())]
    for inner in ast.walk(node):
        if isinstance(inner, _Definition):
            _cut_docstring(lines, inner)
    inside = _inside_strings(text)
    return b"\n".join(
        line
        if number in inside
        else line[len(margin) :]
        if line.startswith(margin)
        else line.lstrip()
        for number, line in lines.items()
    ).decode()


def _cut_docstring(lines: dict[int, bytes], node: _Definition) -> None:
    """Take the docstring of a definition out of its lines; `...` where nothing else is left."""
    doc, *rest = node.body
    if not isinstance(doc, ast.Expr) or not isinstance(doc.value, ast.Constant):
        return
    if not isinstance(doc.value.value, str):
        return
    first, last = doc.lineno, doc.end_lineno or doc.lineno
    if rest and rest[0].lineno > last:
        last += 1
        while last in lines and not lines[last].strip():
            last += 1
        first, last = first - 1, last - 1
    else:  # on the line of the docstring stands the rest of the body, or there is none
        after = lines[last][rest[0].col_offset :] if rest else b"..."
        lines[first] = lines[first][: doc.col_offset] + after
    for number in range(first + 1, last + 1):
        del lines[number]


def _inside_strings(text: str) -> set[int]:
    """The numbers of the lines that begin inside a string."""
    opens = {getattr(tokenize, f"{kind}STRING_START", None) for kind in "FT"}  # Python 3.12, 3.14
    closes = {getattr(tokenize, f"{kind}STRING_END", None) for kind in "FT"}
    found: set[int] = set()
    starts: list[int] = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in opens:
            starts.append(token.start[0])
        elif token.type in closes:
            found.update(range(starts.pop() + 1, token.end[0] + 1))
        elif token.type == tokenize.STRING:
            found.update(range(token.start[0] + 1, token.end[0] + 1))
    return found
