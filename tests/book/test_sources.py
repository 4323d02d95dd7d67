"""Source panels: a mechanism's own lines."""

import ast
import inspect
from pathlib import Path
from typing import Any

import pytest

import attnbook
from attnbook.book import sources
from attnbook.book.sources import panel

ROOT = Path(attnbook.__file__).parents[1]


def public() -> list[str]:
    found = []
    for name in attnbook.__all__:
        if inspect.isfunction(getattr(attnbook, name)) or inspect.isclass(getattr(attnbook, name)):
            found.append(f"attnbook.{name}")
    return found


@pytest.mark.parametrize("name", public())
def test_a_panel_shows_the_lines_that_it_names(name: str) -> None:
    code, file, first, last = panel(name)
    text = (ROOT / file).read_text(encoding="utf-8").splitlines()[first - 1 : last]
    (node,) = ast.parse(code).body
    assert isinstance(node, ast.FunctionDef | ast.ClassDef)
    assert node.name == name.rpartition(".")[2]
    wanted = iter(line.rstrip() for line in text)
    assert all(line in wanted for line in code.splitlines())  # in order, none changed
    assert '"""' not in code


def test_the_whole_definition_without_its_docstring() -> None:
    code, file, first, last = panel("attnbook.core.aggregate")
    own = (ROOT / file).read_text(encoding="utf-8").splitlines()[first - 1 : last]
    assert file == "attnbook/core.py"
    assert own[0].startswith("def aggregate(")
    body = ast.parse("\n".join(own)).body[0]
    assert isinstance(body, ast.FunctionDef)
    doc = body.body.pop(0)
    assert isinstance(doc, ast.Expr)
    assert ast.dump(ast.parse(code).body[0]) == ast.dump(body)


ODD = '''
def one(x): return x


def doc(x): "Doc."


def doc_and_body(x): "Doc."; return x


def doc_then_body(x):
    "Dóc."; return x


class Doc: "Doc."


class Odd:
    def flush(self):
        """Doc
without a margin.
        """
        return """
  a
b"""

    def deep(self):
        # a comment
  # and one further out
        return f"""
            {self}
                b""", (
            "c"
            "d\\
            e"
        )

    def only(self):
        """Doc."""

    async def both(self):
        ("""Doc.""")

        def inner():
            """Doc."""
            return 1

        return inner
'''
PANELS = {
    "one": "def one(x): return x",
    "doc": "def doc(x): ...",
    "doc_and_body": "def doc_and_body(x): return x",
    "doc_then_body": "def doc_then_body(x):\n    return x",
    "Doc": "class Doc: ...",
    "Odd.flush": 'def flush(self):\n    return """\n  a\nb"""',
    "Odd.deep": "def deep(self):\n    # a comment\n# and one further out\n"
    '    return f"""\n            {self}\n                b""", (\n'
    '        "c"\n        "d\\\n            e"\n    )',
    "Odd.only": "def only(self):\n    ...",
    "Odd.both": "async def both(self):\n    def inner():\n        return 1\n\n    return inner",
}


def without_docstrings(tree: ast.AST) -> ast.AST:
    for node in ast.walk(tree):
        if isinstance(node, sources._Definition) and ast.get_docstring(node) is not None:
            node.body[:1] = [] if len(node.body) > 1 else [ast.Expr(ast.Constant(...))]
    return tree


@pytest.mark.parametrize("name", [*PANELS, "Odd"])
def test_every_form_of_body_is_shown_as_it_is(name: str, tmp_path: Path) -> None:
    """One line, several; docstrings in any place; strings whose lines have margins of their own."""
    package = tmp_path / "attnbook"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "odd.py").write_text(ODD, encoding="utf-8")
    code, *_ = panel(f"attnbook.odd.{name}", package)
    assert code == PANELS.get(name, code)
    tree: Any = ast.parse(ODD)
    for part in name.split("."):
        (tree,) = (n for n in tree.body if n.name == part)
    assert ast.dump(ast.parse(code).body[0]) == ast.dump(without_docstrings(tree))


def test_methods_decorators_and_values(tmp_path: Path) -> None:
    package = tmp_path / "attnbook"
    package.mkdir()
    (package / "__init__.py").write_text("from attnbook.thing import Thing as Renamed\n")
    (package / "thing.py").write_text(
        '"""Doc."""\n'
        "import functools\n\n"
        "class Thing:\n"
        '    """A thing."""\n\n'
        "    @functools.cache\n"
        "    def double(self, x):\n"
        '        """Double."""\n'
        "        return 2 * x  # twice\n\n\n"
        "class Empty:\n"
        '    """Only a docstring."""\n\n\n'
        "VALUE = 3\n"
    )
    code, file, first, last = panel("attnbook.thing.Thing.double", package)
    assert code == "@functools.cache\ndef double(self, x):\n    return 2 * x  # twice"
    assert (file, first, last) == ("attnbook/thing.py", 7, 10)
    assert panel("attnbook.Renamed", package).code.startswith("class Thing:\n    @functools.cache")
    assert panel("attnbook.thing.Empty", package).code == "class Empty:\n    ..."
    with pytest.raises(ValueError, match=r"attnbook\.thing\.VALUE is a value"):
        panel("attnbook.thing.VALUE", package)
    with pytest.raises(ValueError, match=r"attnbook\.thing\.Thing has no 'triple'"):
        panel("attnbook.thing.Thing.triple", package)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("attnbook.scores.gausian", r"attnbook\.scores has no 'gausian'"),
        ("attnbook.nothing.at_all", r"attnbook has no 'nothing'"),
        ("attnbook.scores", "is a module"),
        ("torch.nn.Linear", r"must begin with attnbook\."),
        ("attnbook.core.Score", "is a value"),
    ],
)
def test_an_unknown_name_is_a_clear_error(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        panel(name)
