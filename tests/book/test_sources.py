"""Source panels: a mechanism's own lines."""

import ast
import inspect
from pathlib import Path

import pytest

import attnbook
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
