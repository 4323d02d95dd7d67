"""What names a page's code binds, reads and defines, as far as its text tells."""

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

Import = tuple[str, str]  # ("from attnbook import", "softmax") or ("import torch", "")
_SCOPES = (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@dataclass(frozen=True)
class Names:
    """What a script must know of the whole page.

    Attributes:
        bound: the names that the page binds.
        silent: of its functions, those that give nothing back.
        printing: names that, called, print by themselves and may give nothing back.
    """

    bound: frozenset[str] = frozenset()
    silent: frozenset[str] = frozenset()
    printing: frozenset[str] = frozenset({"display", "dis", "help", "pp", "pprint", "print_exc"})

    @classmethod
    def of(cls, sources: Iterable[str]) -> "Names":
        """The names of a page from the code of its blocks."""
        found: set[str] = set()
        giving: set[str] = set()
        silent: set[str] = set()
        printing: set[str] = set()
        for tree in map(ast.parse, sources):
            found |= {name for name, _ in _visited(tree).found}
            for node in ast.walk(tree):
                if isinstance(node, ast.FunctionDef):
                    (silent if _gives_nothing(node) else giving).add(node.name)
                elif isinstance(node, ast.Assign) and "print" in loads(node.value):
                    targets = [t for target in node.targets for t in ast.walk(target)]
                    printing |= {t.id for t in targets if isinstance(t, ast.Name)}
        return cls(frozenset(found), frozenset(silent - giving), cls.printing | printing | silent)


def _gives_nothing(function: ast.FunctionDef) -> bool:
    """Whether a call surely gives None."""
    inner = [node for line in function.body for node in _own(line)]
    gives = (ast.Yield, ast.YieldFrom)
    return not function.decorator_list and not any(
        isinstance(node, gives) or (isinstance(node, ast.Return) and node.value) for node in inner
    )


def _own(node: ast.AST) -> Iterator[ast.AST]:
    """The node and what is in it, but for inner functions."""
    yield node
    if not isinstance(node, (*_DEFINITIONS, ast.Lambda)):
        for child in ast.iter_child_nodes(node):
            yield from _own(child)


def loads(tree: ast.AST) -> set[str]:
    """The names that code reads, changes or deletes, those of inner scopes' own left out.

    >>> sorted(loads(ast.parse("y = [a + b for a in c]; d += 1; f = lambda e, g=g: e")))
    ['b', 'c', 'd', 'g']
    """
    if isinstance(tree, ast.Name):
        return set() if isinstance(tree.ctx, ast.Store) else {tree.id}
    found = {name for child in ast.iter_child_nodes(tree) for name in loads(child)}
    if isinstance(tree, ast.AugAssign) and isinstance(tree.target, ast.Name):
        found.add(tree.target.id)
    if isinstance(tree, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
        own = _stored(*(part.target for part in tree.generators))
        return (found - own) | loads(tree.generators[0].iter)
    if isinstance(tree, ast.Lambda | ast.FunctionDef | ast.AsyncFunctionDef):
        own = {node.arg for node in ast.walk(tree.args) if isinstance(node, ast.arg)}
        return (found - own) | loads(tree.args)
    return found


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
        if isinstance(node, _DEFINITIONS):
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
        elif not isinstance(node, ast.Lambda):  # := in a comprehension binds outside it
            inner = [n.target.id for n in ast.walk(node) if isinstance(n, ast.NamedExpr)]
            self.found += [(name, object()) for name in inner]


def _visited(tree: ast.AST) -> _Bindings:
    visitor = _Bindings()
    visitor.visit(tree)
    return visitor


def meanings(source: str) -> tuple[list[tuple[str, object]], dict[Import, str]]:
    """Each name that code binds, with what it then means; and its imports with their names."""
    visitor = _visited(ast.parse(source))
    return visitor.found, visitor.imports


def bound(source: str) -> set[str]:
    """The names that code binds at the level of its page."""
    return {name for name, _ in meanings(source)[0]}


def known_after(source: str, known: set[str]) -> set[str]:
    r"""The names that a page knows after some code, given those that it knew before.

    >>> known_after("a = 1\ndel b", {"b", "c"}) == {"a", "c"}
    True
    """
    known = set(known)
    for line in ast.parse(source).body:
        known |= {name for name, _ in _visited(line).found}
        for node in _own(line):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Del):
                known.discard(node.id)
            elif isinstance(node, ast.ExceptHandler) and node.name:
                known.discard(node.name)
    return known


def read_early(body: list[ast.stmt], settled: frozenset[str] = frozenset()) -> set[str]:
    r"""The names that code may read before it has surely bound them.

    >>> sorted(read_early(ast.parse("x = 1\nfor i in x, y: i\nif z: w = 1\nw").body))
    ['w', 'y', 'z']
    """
    found: set[str] = set()
    for line in body:
        if isinstance(line, ast.For):
            found |= (loads(line.iter) | loads(line.target)) - settled
            found |= read_early(line.body, settled | _stored(line.target))
            found |= read_early(line.orelse, settled)
        elif isinstance(line, ast.With):
            for item in line.items:
                found |= loads(item) - settled
                settled |= _stored(item.optional_vars)
            found |= read_early(line.body, settled)
        elif isinstance(line, ast.If):
            found |= loads(line.test) - settled
            found |= read_early(line.body, settled) | read_early(line.orelse, settled)
        else:
            found |= loads(line) - settled
            if isinstance(line, ast.Assign):
                settled |= _stored(*line.targets)
            elif isinstance(line, ast.AnnAssign) and line.value:
                settled |= _stored(line.target)
            elif isinstance(line, _DEFINITIONS):
                settled |= {line.name}
            settled |= {name for _, name, _ in imported(line)}
    return found


def _stored(*targets: ast.expr | None) -> set[str]:
    nodes = [node for target in targets if target for node in ast.walk(target)]
    return {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}


def at_prompt(body: list[ast.stmt]) -> Iterator[ast.Expr]:
    """The expressions whose values a prompt shows: those outside functions and classes."""
    for line in body:
        if isinstance(line, ast.Expr):
            yield line
        elif not isinstance(line, _DEFINITIONS):
            inner = [line, *getattr(line, "handlers", []), *getattr(line, "cases", [])]
            for part in inner:
                for field in ("body", "orelse", "finalbody"):
                    yield from at_prompt(getattr(part, field, []))


def mentioned(tree: ast.AST, names: set[str]) -> int:
    """The first line that names one of these, or 0."""
    found = [n.lineno for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id in names]
    return min(found, default=0)


def refused(tree: ast.AST) -> tuple[int, str] | None:
    """What works on a page and not in what a reader takes from it: its line and why."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id == "_" and isinstance(node.ctx, ast.Load):
            why = "`_` is the last value at a prompt alone, not in a script: give the value a name"
            return node.lineno, why
        if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
            return node.lineno, "say what is imported: `*` hides which names a block brings"
    return None
