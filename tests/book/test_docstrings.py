"""The docstrings of the package come out on the pages of the reference as they are meant."""

from collections.abc import Iterator
from typing import Any

import griffe
import pytest

from attnbook._reach import PACKAGE

OPTIONS = {"returns_multiple_items": False, "returns_named_value": False}  # as in mkdocs.yml


def objects(inside: Any) -> Iterator[Any]:
    """Everything that a module or a class defines itself, and so on down."""
    for member in inside.members.values():
        if not member.is_alias:
            yield member
            if member.is_module or member.is_class:
                yield from objects(member)


@pytest.fixture(scope="module")
def documented() -> list[Any]:
    """Everything of the package that has a docstring."""
    package = griffe.load(
        "attnbook",
        search_paths=[PACKAGE.parent],
        docstring_parser="google",
        docstring_options=OPTIONS,
    )
    return [found for found in objects(package) if found.docstring]


def test_what_is_returned_is_no_type(documented: list[Any]) -> None:
    """The words before a colon would be set as the type of what is returned."""
    seen, wrong = 0, {}
    for found in documented:
        for section in found.docstring.parsed if found.is_function else []:
            if section.kind is griffe.DocstringSectionKind.returns:
                seen += 1
                if (said := str(section.value[0].annotation)) != str(found.returns):
                    wrong[found.path] = said
    assert seen > 30
    assert not wrong


def test_no_example_shows_the_marks_of_its_test(documented: list[Any]) -> None:
    shown = [found for found in documented if "<BLANKLINE>" in found.docstring.value]
    assert not [found.path for found in shown if not found.path.startswith("attnbook.book.")]
