"""The site in a real browser: what is copied runs, figures follow the scheme, nothing is in the way."""

import gzip
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request
from website import ROOT

from attnbook.book import snippets
from attnbook.book.fences import parse

pytestmark = [pytest.mark.site, pytest.mark.browser, pytest.mark.filterwarnings("default")]
WEIGHT = 400_000
SCHEMES = ("light", "dark")
# Runs many scripts, each in a process of its own that has imported torch and nothing else of theirs.
RUNNER = """
import ast, contextlib, io, json, os, sys, tempfile, traceback, warnings
import torch
torch.set_num_threads(1)

def run(name, script, errors):
    os.chdir(tempfile.mkdtemp())
    names = {"__name__": "__main__"}
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        for part in script if isinstance(script, list) else [script]:
            for node in ast.parse(part).body:
                try:
                    exec(compile(ast.Module([node], []), name, "exec"), names)
                except Exception:
                    if not errors:
                        raise

failed = {}
for name, script, errors in json.load(sys.stdin):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            run(name, script, errors)
        except BaseException:
            os.write(write, traceback.format_exc()[-1500:].encode())
            os._exit(1)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    if os.waitpid(child, 0)[1]:
        failed[name] = said
json.dump(failed, sys.stdout)
"""


def html_pages(site: Path) -> list[str]:
    return sorted(path.relative_to(site).as_posix() for path in site.rglob("*.html"))


def source_of(page: str) -> Path:
    return ROOT / "docs" / page.replace(".html", ".md")


@dataclass
class Watched:
    """A page of the browser, and what happened in it."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("request", self._request)
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _request(self, request: Request) -> None:
        if not request.url.startswith(("data:", "blob:")):
            self.requests.append(request.url)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)


@pytest.fixture(scope="module")
def contexts(browser: Browser) -> Iterator[dict[str, BrowserContext]]:
    """One window a scheme."""
    made = {
        scheme: browser.new_context(color_scheme=scheme, viewport={"width": 1280, "height": 900})
        for scheme in SCHEMES
    }
    for context in made.values():
        context.grant_permissions(["clipboard-read", "clipboard-write"])
    yield made
    for context in made.values():
        context.close()


@pytest.fixture
def watched(contexts: dict[str, BrowserContext]) -> Iterator[Any]:
    """Open a page in a scheme."""
    opened: list[Page] = []

    def open_page(url: str, scheme: str = "light") -> Watched:
        view = Watched(contexts[scheme].new_page())
        opened.append(view.page)
        view.page.goto(url)
        view.page.wait_for_load_state("networkidle")
        return view

    yield open_page
    for page in opened:
        page.close()


def test_every_page_is_accessible_quiet_and_asks_nobody_else(
    site: Path, address: str, watched: Any
) -> None:
    """axe-core finds nothing in either scheme; no request to elsewhere; no console error."""
    faults = []
    axe = Axe()
    for name in html_pages(site):
        for scheme in SCHEMES:
            view = watched(address + name, scheme)
            faults += [f"{name}: asked for {url}" for url in view.requests if address not in url]
            for violation in axe.run(view.page).response["violations"]:
                nodes = "; ".join(node["html"][:120] for node in violation["nodes"][:3])
                faults.append(f"{name}, {scheme}: {violation['id']}: {nodes}")
            faults += [f"{name}, {scheme}: {text}" for text in view.complaints]
            view.page.close()
    assert not faults, "\n".join(faults)


def test_open_solutions_and_panels_are_accessible(site: Path, address: str, watched: Any) -> None:
    faults = []
    for name in html_pages(site):
        if not name.startswith("chapters/"):
            continue
        for scheme in SCHEMES:
            view = watched(address + name, scheme)
            view.page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
            for violation in Axe().run(view.page).response["violations"]:
                nodes = "; ".join(node["html"][:120] for node in violation["nodes"][:3])
                faults.append(f"{name}, {scheme}: {violation['id']}: {nodes}")
    assert not faults, "\n".join(faults)


def test_no_page_scrolls_sideways_on_a_narrow_screen(
    site: Path, address: str, browser: Browser
) -> None:
    wide = {}
    context = browser.new_context(viewport={"width": 360, "height": 740})
    page = context.new_page()
    for name in html_pages(site):
        page.goto(address + name)
        page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        # What sticks out of the page, and is not inside something that scrolls by itself.
        width, out = page.evaluate(
            """() => {
              const scrolls = e => e && e !== document.body &&
                (/auto|scroll|hidden/.test(getComputedStyle(e).overflowX) || scrolls(e.parentElement));
              const out = [...document.querySelectorAll('.md-content *')].filter(
                e => e.getBoundingClientRect().right > 361 && !scrolls(e));
              return [document.documentElement.scrollWidth, out.map(e => e.outerHTML.slice(0, 90))];
            }"""
        )
        if width > 360 or out:
            wide[name] = (width, out[:3])
    context.close()
    assert not wide


def test_figures_take_the_colours_of_the_scheme(site: Path, address: str, watched: Any) -> None:
    seen = 0
    for name in html_pages(site):
        found = []
        for scheme in SCHEMES:
            view = watched(address + name, scheme)
            found.append(
                view.page.evaluate(
                    """() => [...document.querySelectorAll('figure svg')].map(svg => {
                      const box = svg.getBoundingClientRect();
                      const colours = [...svg.querySelectorAll('*')].flatMap(e => {
                        const s = getComputedStyle(e);
                        return [s.fill, s.stroke];
                      });
                      return {id: svg.closest('figure').id, label: svg.getAttribute('aria-label'),
                              size: [box.width, box.height], colours: [...new Set(colours)].sort()};
                    })"""
                )
            )
            view.page.close()
        for light, dark in zip(*found, strict=True):
            seen += 1
            assert light["id"], name
            assert light["label"], (name, light["id"])
            assert min(light["size"]) > 50, (name, light["id"])
            assert light["size"] == dark["size"], (name, light["id"])
            assert light["colours"] != dark["colours"], (name, light["id"])
    assert seen >= 3


def test_a_page_is_light(site: Path, address: str, watched: Any) -> None:
    """Transferred, compressed, without the search index."""
    heavy = {}
    for name in html_pages(site):
        size = 0
        for url in set(watched(address + name).requests):
            path = site / url.removeprefix(address).partition("?")[0]
            if path.name == "search_index.json" or "/workers/" in path.as_posix():
                continue
            data = path.read_bytes()
            size += len(data) if path.suffix in (".woff2", ".png") else len(gzip.compress(data))
        if size > WEIGHT:
            heavy[name] = size
    assert not heavy


def copied(page: Page, block: Any, label: str) -> str:
    """What is on the clipboard after a press of a block's button, by keyboard."""
    button = block.get_by_role("button", name=label, exact=True)
    page.evaluate("navigator.clipboard.writeText('nothing was copied')")
    button.focus()
    page.keyboard.press("Enter")
    block.locator("button[data-done=yes]").first.wait_for()
    text: str = page.evaluate("navigator.clipboard.readText()")
    return text


def test_what_is_copied_is_the_code_and_it_runs(site: Path, address: str, watched: Any) -> None:
    """Every *copy* of every page, run in order; every *copy runnable*, a sample of them run."""
    jobs: list[tuple[str, str | list[str], bool]] = []
    for name in html_pages(site):
        source = source_of(name)
        if not source.exists():
            continue
        blocks = parse(
            source.read_text(encoding="utf-8"), f"docs/{source.relative_to(ROOT / 'docs')}"
        )
        if not blocks:
            continue
        page = watched(address + name).page
        page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        shown = page.locator(".book-code[data-block]")
        assert shown.count() == sum(not block.hide for block in blocks)
        plain = {b.index: snippets.plain(b) for b in blocks if b.hide and not b.no_run}
        running = [b.index for b in blocks if not b.no_run and not b.hide]
        sample = {*running[-1:], *running[:: max(1, len(running) // 3)]}
        for n in range(shown.count()):
            block = shown.nth(n)
            index = int(block.get_attribute("data-block") or -1)
            text = copied(page, block, "Copy")
            assert ">>>" not in text
            assert text.strip() == snippets.plain(blocks[index]).strip()
            if blocks[index].no_run:
                assert block.get_by_role("button").count() == 1
                continue
            plain[index] = text
            time.sleep(0)
            script = copied(page, block, "Copy runnable")
            assert script == snippets.runnable(blocks, index)
            if index in sample:
                jobs.append((f"{name}, line {blocks[index].line}", script, False))
        parts = ["import torch; torch.manual_seed(0)", *(plain[index] for index in sorted(plain))]
        jobs.append((f"{name}, every block as copied", parts, True))
    assert jobs
    environment = os.environ | {"MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", RUNNER],
        input=json.dumps(jobs),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {}


def test_the_buttons_say_what_they_did(address: str, watched: Any) -> None:
    page = watched(address + "index.html").page
    status = page.get_by_role("status").last
    assert status.get_attribute("aria-live") == "polite"
    button = page.get_by_role("button", name="Copy", exact=True).first
    box = button.bounding_box()
    assert box["height"] >= 24
    assert box["width"] >= 24
    button.focus()
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Space")
    page.wait_for_function(
        "document.querySelector('.book-status').textContent.startsWith('Copied')"
    )


def test_buttons_copy_where_the_clipboard_is_closed_to_scripts(address: str, watched: Any) -> None:
    """A page from a disk, or from a plain address, has no clipboard of its own."""
    view = watched(address + "index.html")
    view.page.evaluate(
        "navigator.clipboard.writeText = () => Promise.reject(new Error('not allowed'))"
    )
    button = view.page.get_by_role("button", name="Copy", exact=True).first
    button.click()
    view.page.locator("button[data-done=yes]").first.wait_for()
    assert "import torch" in view.page.evaluate("navigator.clipboard.readText()")


def test_prompts_cannot_be_selected(address: str, watched: Any) -> None:
    page = watched(address + "index.html").page
    style = "getComputedStyle(document.querySelector('.gp')).userSelect"
    assert page.evaluate(style) == "none"


def test_the_site_can_be_read_from_a_disk(site: Path, browser: Browser) -> None:
    """Without a server: style, figures, formulas, links."""
    page = browser.new_page()
    page.goto((site / "index.html").as_uri())
    assert page.locator("figure svg").first.bounding_box()["width"] > 200
    assert page.evaluate("[...document.styleSheets].length") >= 2
    links = page.locator(".md-nav a[href*='chapters/']")
    page.goto(page.evaluate("e => e.href", links.first.element_handle()))
    assert page.locator("h1").count() == 1
    assert page.locator("math").count() > 1
    page.close()
