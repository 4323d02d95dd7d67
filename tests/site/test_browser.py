"""The site in a real browser: what is copied runs, figures follow the scheme, all can read it."""

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request
from website import ROOT

from attnbook.book import snippets
from attnbook.book.fences import parse

pytestmark = [pytest.mark.site, pytest.mark.browser, pytest.mark.filterwarnings("default")]
WEIGHT = 400_000
# Runs many scripts, each in a process of its own that has imported torch and nothing else.
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


AXE = """([options, context]) => axe.run(context, {resultTypes: ['violations'], ...options}).then(
  found => found.violations.map(v => v.id + ': ' + v.nodes.slice(0, 3).map(
    n => n.html.slice(0, 120) + ' (' + n.any.map(a => a.message).join('; ') + ')').join(' | ')))"""
CONTRAST = [{"runOnly": ["color-contrast"]}, {"include": [[".book-fresh"]]}]
REST = [{"rules": {"color-contrast": {"enabled": False}}}, {"include": [["html"]]}]
# Marks the text whose colour, ground, size and weight no page has shown yet: it alone needs a look.
FRESH = """seen => {
  const known = new Set(seen), all = document.body.querySelectorAll('*');
  for (const e of all) e.classList.remove('book-fresh');
  const ground = e => {
    for (; e; e = e.parentElement) {
      const colour = getComputedStyle(e).backgroundColor;
      if (!/, 0\\)$|transparent/.test(colour)) return colour;
    }
  };
  const faint = e => e ? Number(getComputedStyle(e).opacity) * faint(e.parentElement) : 1;
  for (const e of all) {
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
    if (!e.checkVisibility()) continue;
    const s = getComputedStyle(e);
    const sign = [s.color, s.fill, s.fontSize, s.fontWeight, ground(e), faint(e)].join();
    if (!known.has(sign)) { known.add(sign); e.classList.add('book-fresh'); }
  }
  return [...known];
}"""
# Colours that are on their way from one scheme to the other are neither.
CALM = """() => document.head.append(Object.assign(document.createElement('style'),
  {textContent: '* { transition: none !important }'}))"""
FIGURES = """() => [...document.querySelectorAll('figure svg')].map(svg => {
  const box = svg.getBoundingClientRect();
  const colours = [...svg.querySelectorAll('*')].flatMap(e => {
    const style = getComputedStyle(e);
    return [style.fill, style.stroke];
  });
  return {id: svg.closest('figure').id, label: svg.getAttribute('aria-label'),
          size: [box.width, box.height], colours: [...new Set(colours)].sort()};
})"""


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


@dataclass
class Visit:
    """What one look at a page, in both schemes, has shown."""

    faults: list[str]
    requests: set[str]
    figures: dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def visits(site: Path, address: str, context: BrowserContext) -> dict[str, Visit]:
    """Every page, looked at once."""
    found, seen = {}, []
    names = {"light": "default", "dark": "slate"}
    axe = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    for name in html_pages(site):
        view = Watched(context.new_page())
        page = view.page
        page.emulate_media(color_scheme="light")
        page.goto(address + name)
        page.evaluate("document.fonts.ready.then(() => true)")
        page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        page.evaluate(axe)
        figures = {"light": page.evaluate(FIGURES)}
        faults = page.evaluate(AXE, REST)
        page.evaluate(CALM)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            page.wait_for_function(f"document.body.dataset.mdColorScheme === '{names[scheme]}'")
            fresh = page.evaluate(FRESH, seen)
            if len(fresh) > len(seen):
                faults += [f"{scheme}: {fault}" for fault in page.evaluate(AXE, CONTRAST)]
            seen = fresh
        figures["dark"] = page.evaluate(FIGURES)
        found[name] = Visit(faults + view.complaints, set(view.requests), figures)
        page.close()
    return found


def test_every_page_is_accessible_and_quiet(visits: dict[str, Visit]) -> None:
    """In both schemes axe-core finds nothing, and the console has no error."""
    faults = {name: visit.faults for name, visit in visits.items() if visit.faults}
    assert not faults, json.dumps(faults, indent=1)


def test_pale_text_would_be_seen(address: str, watched: Callable[[str], Watched]) -> None:
    page = watched(address + "index.html").page
    seen = page.evaluate(FRESH, [])
    assert page.evaluate(FRESH, seen) == seen
    page.evaluate("document.querySelector('article h2 + p').style.color = '#999'")
    assert len(page.evaluate(FRESH, seen)) > len(seen)
    page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8"))
    assert page.evaluate(AXE, CONTRAST)[0].startswith("color-contrast: <p")


def test_nothing_is_asked_of_anyone_else(visits: dict[str, Visit], address: str) -> None:
    asked = {url for visit in visits.values() for url in visit.requests}
    assert asked
    assert not [url for url in asked if not url.startswith(address)]


def test_figures_take_the_colours_of_the_scheme(visits: dict[str, Visit]) -> None:
    seen = 0
    for name, visit in visits.items():
        for light, dark in zip(visit.figures["light"], visit.figures["dark"], strict=True):
            seen += 1
            where = f"{name}: {light['id']}"
            assert light["id"], name
            assert light["label"], where
            assert min(light["size"]) > 50, where
            assert light["size"] == dark["size"], where
            assert light["colours"] != dark["colours"], where
    assert seen >= 3


def test_a_page_is_light(visits: dict[str, Visit], site: Path, address: str) -> None:
    """Transferred, compressed, without the search index."""
    sizes = {}
    for name, visit in visits.items():
        total = 0
        for url in visit.requests:
            path = site / url.removeprefix(address).partition("?")[0]
            if path.name == "search_index.json" or "/workers/" in path.as_posix():
                continue
            data = path.read_bytes()
            total += len(data) if path.suffix in (".woff2", ".png") else len(gzip.compress(data))
        sizes[name] = total
    print("heaviest:", sorted(sizes.items(), key=lambda pair: -pair[1])[:4])
    assert not {name: size for name, size in sizes.items() if size > WEIGHT}


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
              const scrolls = e => e && e !== document.body && (scrolls(e.parentElement) ||
                /auto|scroll|hidden/.test(getComputedStyle(e).overflowX));
              const out = [...document.querySelectorAll('.md-content *')].filter(
                e => e.getBoundingClientRect().right > 361 && !scrolls(e));
              return [document.documentElement.scrollWidth, out.map(e => e.outerHTML.slice(0, 90))];
            }"""
        )
        if width > 360 or out:
            wide[name] = (width, out[:3])
    context.close()
    assert not wide


def test_captions_are_whole_on_a_narrow_screen(site: Path, address: str, browser: Browser) -> None:
    """Beside a table or figure that scrolls, its caption wraps and stays where it is."""
    context = browser.new_context(viewport={"width": 360, "height": 740})
    page = context.new_page()
    seen, cut = 0, {}
    for name in html_pages(site):
        page.goto(address + name)
        page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        captions = page.evaluate(
            """() => [...document.querySelectorAll('.md-content :is(figcaption, caption)')].map(
              e => [e.textContent.slice(0, 60), e.getBoundingClientRect().right,
                    e.scrollWidth - e.clientWidth, Boolean(e.closest('.book-scroll'))])"""
        )
        seen += len(captions)
        if bad := [c for c in captions if c[1] > 360 or c[2] > 0 or c[3]]:
            cut[name] = bad
    context.close()
    assert seen >= 3
    assert not cut


def test_columns_of_words_are_wide_enough_on_a_narrow_screen(
    site: Path, address: str, browser: Browser
) -> None:
    """No word or citation of a table is cut in two, and a cell is not a tower of words."""
    context = browser.new_context(viewport={"width": 360, "height": 740})
    page = context.new_page()
    seen, bad = 0, {}
    for name in html_pages(site):
        page.goto(address + name)
        page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        cells = page.evaluate(
            """() => [...document.querySelectorAll('.book-grid td')].filter(
              e => e.textContent.trim().length > 30).map(
              e => [e.clientWidth, getComputedStyle(e.querySelector('a') || e).wordBreak,
                    e.textContent.trim().slice(0, 40)])"""
        )
        seen += len(cells)
        if wrong := [c for c in cells if c[0] < 80 or c[1] != "normal"]:
            bad[name] = wrong[:3]
    context.close()
    assert seen > 50
    assert not bad


def test_no_line_begins_with_the_stop_behind_a_formula(
    address: str, watched: Callable[[str], Watched]
) -> None:
    page = watched(address + "chapters/03-scores.html").page
    loose = page.evaluate(
        """() => [...document.querySelectorAll('article p math')].filter(
          e => /^[.,;:)]/.test(e.nextSibling?.data ?? '') &&
            getComputedStyle(e.parentElement).whiteSpace !== 'nowrap').map(
          e => e.parentElement.textContent.slice(0, 60))"""
    )
    assert not loose


# Presses every button of a page, and reads the clipboard after each.
PRESS = """async () => {
  const all = [];
  for (const block of document.querySelectorAll('.book-code[data-block]')) {
    const found = {index: Number(block.dataset.block)};
    for (const button of block.querySelectorAll('button')) {
      const label = button.textContent;
      await navigator.clipboard.writeText('nothing was copied');
      button.click();
      while (!button.dataset.done) await new Promise(done => setTimeout(done, 1));
      found[label] = await navigator.clipboard.readText();
    }
    all.push(found);
  }
  return all;
}"""


def test_what_is_copied_is_the_code_and_it_runs(
    site: Path, address: str, watched: Callable[[str], Watched]
) -> None:
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
        pressed = {found.pop("index"): found for found in page.evaluate(PRESS)}
        assert set(pressed) == {block.index for block in blocks if not block.hide}
        plain = {b.index: snippets.plain(b) for b in blocks if b.hide and not b.no_run}
        running = [index for index in pressed if not blocks[index].no_run]
        sample = {*running[-1:], *running[:: max(1, len(running) // 3)]}
        for index, texts in pressed.items():
            assert ">>>" not in texts["Copy"]
            assert texts["Copy"].strip() == snippets.plain(blocks[index]).strip()
            if blocks[index].no_run:
                assert set(texts) == {"Copy"}
                continue
            plain[index] = texts["Copy"]
            assert texts["Copy runnable"] == snippets.runnable(blocks, index)
            if index in sample:
                where = f"{name}, line {blocks[index].line}"
                jobs.append((where, texts["Copy runnable"], False))
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


def test_the_buttons_say_what_they_did(address: str, watched: Callable[[str], Watched]) -> None:
    page = watched(address + "index.html").page
    status = page.get_by_role("status").last
    assert status.get_attribute("aria-live") == "polite"
    button = page.get_by_role("button", name="Copy", exact=True).first
    box = button.bounding_box()
    assert box["height"] >= 24
    assert box["width"] >= 24
    button.focus()
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    page.wait_for_function(
        "document.querySelector('.book-status').textContent.startsWith('Copied')"
    )


def test_buttons_copy_where_the_clipboard_is_closed_to_scripts(
    address: str, watched: Callable[[str], Watched]
) -> None:
    """A page from a disk, or from a plain address, has no clipboard of its own."""
    page = watched(address + "index.html").page
    page.evaluate("window.open_clipboard = navigator.clipboard.readText.bind(navigator.clipboard)")
    page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    page.get_by_role("button", name="Copy", exact=True).first.click()
    page.locator("button[data-done=yes]").first.wait_for()
    assert page.evaluate("open_clipboard()").startswith("import torch\n")


def test_a_root_ends_where_its_letter_ends(address: str, watched: Callable[[str], Watched]) -> None:
    page = watched(address + "chapters/03-scores.html").page
    gaps = page.evaluate(
        """() => [...document.querySelectorAll('msqrt.book-root')].map(e =>
          e.getBoundingClientRect().right - e.firstElementChild.getBoundingClientRect().right)"""
    )
    assert gaps
    assert max(gaps) < 1


def test_code_keeps_its_lines_and_folds_the_colours_of_the_book(
    address: str, watched: Callable[[str], Watched]
) -> None:
    """Of the theme's own markup, too: sources with line numbers, notes of every kind."""
    for name in ("reference/scores.html", "chapters/03-scores.html"):
        page = watched(address + name).page
        joined = page.evaluate(
            """() => [...document.querySelectorAll('pre code')].filter(
              e => !getComputedStyle(e).whiteSpace.startsWith('pre')).map(e => e.innerText)"""
        )
        assert not joined, name
        grounds = page.evaluate(
            """() => [...new Set([...document.querySelectorAll('.md-content summary')].map(
              e => getComputedStyle(e).backgroundColor))]"""
        )
        assert grounds == ["rgba(0, 0, 0, 0)"], name


def test_a_source_of_the_reference_is_copied_without_its_numbers(
    address: str, watched: Callable[[str], Watched]
) -> None:
    page = watched(address + "reference/scores.html").page
    source = page.locator(".mkdocstrings-source").first
    source.get_by_role("button", name="Copy", exact=True).click()
    source.locator("button[data-done=yes]").wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("def dot(")
    assert copied.strip() in (ROOT / "attnbook" / "scores.py").read_text(encoding="utf-8")


def test_prompts_cannot_be_selected(address: str, watched: Callable[[str], Watched]) -> None:
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
