"""The built site and the browser, for the tests of the site."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page
from watching import Watched
from website import build, served, shared_folder

INDEX = "search/search_index.json"


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built site."""
    return build(shared_folder(tmp_path_factory))


@pytest.fixture(scope="session")
def address(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the site is served, with nothing to be searched: every page that is opened reads all
    that there is, for a second, and test_search.py alone looks for any of it.
    """
    index = json.loads((site / INDEX).read_text(encoding="utf-8"))
    empty = tmp_path_factory.mktemp("index") / "empty.json"
    empty.write_text(json.dumps(index | {"docs": []}), encoding="utf-8")
    with served(site, {INDEX: empty}) as url:
        yield url


@pytest.fixture(scope="module")
def context(browser: Browser) -> Iterator[BrowserContext]:
    """One window that may use the clipboard."""
    made = browser.new_context(color_scheme="light", viewport={"width": 1280, "height": 900})
    made.grant_permissions(["clipboard-read", "clipboard-write"])
    yield made
    made.close()


@pytest.fixture
def watched(context: BrowserContext) -> Iterator[Callable[[str], Watched]]:
    """Open a page, everything that is folded opened."""
    opened: list[Page] = []

    def open_page(url: str) -> Watched:
        view = Watched(context.new_page())
        opened.append(view.page)
        view.page.goto(url)
        view.page.evaluate("document.fonts.ready.then(() => true)")
        view.page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        return view

    yield open_page
    for page in opened:
        page.close()
