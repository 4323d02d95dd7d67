"""Fixtures for every test file."""

from collections.abc import Iterator
from types import ModuleType

import pytest
from browser import launched
from building import as_installed
from playwright.sync_api import Browser


@pytest.fixture
def installed() -> Iterator[ModuleType]:
    """The package as its users import it: without the type checks that the tests switch on."""
    with as_installed() as attnbook:
        yield attnbook


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One browser for all tests."""
    with launched() as running:
        yield running
