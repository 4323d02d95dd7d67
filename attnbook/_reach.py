"""Which code a piece of code depends on: its imports inside the package, followed all the way.

Digests of code leave out comments, docstrings and layout: an edit of prose makes nothing stale.
"""

import ast
import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
# These draw and publish; they change no number.
OUTSIDE = ("attnbook.plotting", "attnbook.book", "attnbook.bench")

_SILENT = ("ctx", "kind", "type_comment", "type_ignores", "type_params")
_DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def digest(parts: Sequence[str]) -> str:
    """Hash some pieces of text, their boundaries included."""
    return hashlib.sha256("\n# %%\n".join(parts).encode()).hexdigest()


def parse(path: Path) -> ast.Module:
    """Parse a file of Python, once for as long as it stays as it is. Nobody changes the tree."""
    stamp = path.stat()
    return _parsed(path, stamp.st_mtime_ns, stamp.st_size)


@lru_cache(maxsize=512)
def _parsed(path: Path, when: int, size: int) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def code_of(path: Path) -> str:
    """What `code` gives of a file, once for as long as it stays as it is."""
    return _code_of(parse(path))


@lru_cache(maxsize=512)
def _code_of(tree: ast.Module) -> str:
    return code(tree)


def no_magics(cell: str) -> str:
    """Blank the lines of a notebook cell that are not Python."""
    return "\n".join("" if line.startswith(("%", "!")) else line for line in cell.splitlines())


def code(tree: ast.AST) -> str:
    r"""Give a text that stands for code, whatever its comments, docstrings and layout.

    It is the same under every supported version of Python: an unparsed tree is not.

    >>> one = ast.parse("def f(x):\n    'Double.'\n    return 2 * x  # twice")
    >>> other = ast.parse("def f( x ): return 2*x")
    >>> code(one) == code(other) != code(ast.parse("def f(x): return 3 * x"))
    True
    """
    if isinstance(tree, ast.JoinedStr):
        return f"JoinedStr({','.join(_pieces(tree))})"
    fields = []
    for name, value in ast.iter_fields(tree):
        if name in _SILENT or value is None:
            continue
        if name == "body" and isinstance(tree, _DOCUMENTED) and ast.get_docstring(tree) is not None:
            value = value[1:]
        if isinstance(value, list):
            fields += [f"{name}=[{','.join(map(_item, value))}]"] if value else []
        else:
            fields.append(f"{name}={_item(value)}")
    return f"{type(tree).__name__}({','.join(fields)})"


def _item(value: object) -> str:
    return code(value) if isinstance(value, ast.AST) else repr(value)


def _pieces(text: ast.JoinedStr) -> list[str]:
    """The parts of an f-string, runs of plain text joined: versions cut them differently."""
    parts: list[str] = []
    plain = ""
    for value in text.values:
        if isinstance(value, ast.Constant):
            plain += str(value.value)
            continue
        parts += [repr(plain)] if plain else []
        parts.append(code(value))
        plain = ""
    return [*parts, repr(plain)] if plain else parts


def locate(dotted: str, package: Path = PACKAGE) -> Path | None:
    """Find the file of a module or package by its dotted name; None where there is none.

    >>> locate("attnbook.scores").name, locate("attnbook.book").name, locate("attnbook.nothing")
    ('scores.py', '__init__.py', None)
    """
    parts = dotted.split(".")
    if parts[0] != package.name:
        return None
    base = package.joinpath(*parts[1:])
    if parts[1:] and base.with_suffix(".py").is_file():
        return base.with_suffix(".py")
    return base / "__init__.py" if (base / "__init__.py").is_file() else None


def reached(
    trees: Sequence[ast.Module], package: Path = PACKAGE, outside: Sequence[str] = OUTSIDE
) -> dict[str, Path]:
    """Find the modules of the package that some code imports, directly or through each other.

    A name taken from a package, as in `from attnbook import attend`, counts for the module that
    defines it; `*`, or a package that is handed on whole, counts for all that it imports.

    Args:
        trees: the pieces of the code (a notebook's cells), which see each other's names.
        package: the folder of the package.
        outside: modules and packages that do not count.

    >>> names = reached([ast.parse("import attnbook as a"), ast.parse("a.causal(2, 2)")])
    >>> "attnbook.masks" in names, "attnbook.scores" in names
    (True, False)
    """
    found: dict[str, Path] = {}

    def add(dotted: str) -> None:
        path = locate(dotted, package)
        if path is None or dotted in found or any(_within(dotted, name) for name in outside):
            return
        found[dotted] = path
        scan(parse(path), dotted if path.name == "__init__.py" else dotted.rpartition(".")[0])

    def add_name(dotted: str, name: str) -> None:
        if locate(f"{dotted}.{name}", package):
            add(f"{dotted}.{name}")
            return
        path = locate(dotted, package)
        for node in parse(path).body if path and path.name == "__init__.py" else []:
            if isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    if (alias.asname or alias.name) == name:
                        add_name(imported_from(node, dotted), alias.name)
                        return
        add(dotted)

    def scan(tree: ast.Module, parent: str) -> None:
        modules: dict[str, set[str]] = defaultdict(set)  # what a name may stand for
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    if _within(alias.name, package.name):
                        add(alias.name) if "." in alias.name else None
                        name = alias.asname or package.name
                        modules[name].add(alias.name if alias.asname else package.name)
            elif isinstance(node, ast.ImportFrom):
                source = imported_from(node, parent)
                if _within(source, package.name):
                    for alias in node.names:
                        add_name(source, alias.name)
                        if locate(f"{source}.{alias.name}", package):
                            modules[alias.asname or alias.name].add(f"{source}.{alias.name}")
        for name, path in _paths(tree):
            for dotted in modules.get(name, ()):
                follow(dotted, path)

    def follow(dotted: str, path: list[str]) -> None:
        for step in path:
            if locate(f"{dotted}.{step}", package) is None:
                add_name(dotted, step)
                return
            dotted = f"{dotted}.{step}"
        add(dotted)

    scan(ast.Module([node for tree in trees for node in tree.body], []), "")
    return found


def _within(dotted: str, name: str) -> bool:
    return dotted == name or dotted.startswith(name + ".")


def imported_from(node: ast.ImportFrom, parent: str) -> str:
    """Give the absolute name of the module that a `from` statement in package `parent` reads."""
    if not node.level:
        return node.module or ""
    base = parent.split(".")
    base = base[: len(base) - node.level + 1]
    return ".".join([*base, node.module] if node.module else base)


def _paths(tree: ast.Module) -> Iterator[tuple[str, list[str]]]:
    """Each use of a name with the attributes that are taken of it: a.b.c as a, [b, c]."""
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        path: list[str] = []
        while isinstance(node, ast.Attribute) and (path or id(node) not in inner):
            path.insert(0, node.attr)
            node = node.value
        if isinstance(node, ast.Name) and (path or id(node) not in inner):
            yield node.id, path
