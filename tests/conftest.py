"""Fixtures for every test file."""

from collections.abc import Iterator
from types import ModuleType

import pytest
from building import as_installed


@pytest.fixture
def installed() -> Iterator[ModuleType]:
    """The package as its users import it: without the type checks that the tests switch on."""
    with as_installed() as attnbook:
        yield attnbook
