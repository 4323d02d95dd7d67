"""Every page of the site in a real browser, each looked at once, in both schemes and narrow."""

import ast
import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext
from watching import Watched, html_pages
from website import ROOT

from attnbook.book import snippets
from attnbook.book.console import steps
from attnbook.book.fences import parse

pytestmark = [pytest.mark.site, pytest.mark.browser, pytest.mark.filterwarnings("default")]
WEIGHT = 400_000
AXE_CORE = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
AXE = """([options, context]) => axe.run(context, {resultTypes: ['violations'], ...options}).then(
  found => found.violations.map(v => v.id + ': ' + v.nodes.slice(0, 3).map(
    n => n.html.slice(0, 120) + ' (' + n.any.map(a => a.message).join('; ') + ')').join(' | ')))"""
COLOURS = ["color-contrast", "link-in-text-block"]
LOOKS = [{"runOnly": COLOURS}, {"include": [[".book-fresh"]]}]
REST = [{"rules": {rule: {"enabled": False} for rule in COLOURS}}, {"include": [["html"]]}]
# The tokens of code, the parts of formulas and of figures have no roles, and are most of a page.
# The rows of a table are alike, and the list of pages is that of the home page.
EMPTY = """home => {
  document.querySelectorAll('pre code, math, figure svg').forEach(
    e => { e.textContent = e.textContent.slice(0, 9); });
  const alike = 'tbody tr:nth-child(n+9)' + (home ? '' : ', .md-nav li:nth-child(n+4)');
  document.querySelectorAll(alike).forEach(e => e.remove());
}"""
# Marks the text whose colour, ground, size and weight no page has shown yet, and the links unlike
# all before them in the text around: they alone need a look.
FRESH = """seen => {
  const known = new Set(seen), all = document.body.querySelectorAll('*');
  for (const e of all) e.classList.remove('book-fresh');
  const once = (of, known = new Map()) => e => {
    if (!known.has(e)) known.set(e, of(e));
    return known.get(e);
  };
  const ground = once(e => {
    const colour = e && getComputedStyle(e).backgroundColor;
    return e && /, 0\\)$|transparent/.test(colour) ? ground(e.parentElement) : colour;
  });
  const faint = once(
    e => e ? Number(getComputedStyle(e).opacity) * faint(e.parentElement) : 1);
  for (const e of all) {
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
    if (!e.checkVisibility()) continue;
    const s = getComputedStyle(e);
    const link = e.closest('a') === e && getComputedStyle(e.parentElement);
    const sign = [s.color, s.fill, s.fontSize, s.fontWeight, ground(e), faint(e),
                  link && [link.color, link.display, s.textDecorationLine]].join();
    if (!known.has(sign)) { known.add(sign); e.classList.add('book-fresh'); }
  }
  return [...known];
}"""
# Colours that are on their way from one scheme to the other are neither.
CALM = """() => document.head.append(Object.assign(document.createElement('style'),
  {textContent: '* { transition: none !important }'}))"""
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
FIGURES = """() => [...document.querySelectorAll('figure svg')].map(svg => {
  const box = svg.getBoundingClientRect();
  const colours = [...svg.querySelectorAll('*')].flatMap(e => {
    const style = getComputedStyle(e);
    return [style.fill, style.stroke];
  });
  return {id: svg.closest('figure').id, label: svg.getAttribute('aria-label'),
          size: [box.width, box.height], colours: [...new Set(colours)].sort()};
})"""

# On a narrow screen: what sticks out of the page, and is not inside something that scrolls by
# itself; where captions end; how wide the cells are that hold words.
NARROW = """() => {
  const scrolls = e => e && e !== document.body && (scrolls(e.parentElement) ||
    /auto|scroll|hidden/.test(getComputedStyle(e).overflowX));
  const all = (selector) => [...document.querySelectorAll(selector)];
  return {
    width: document.documentElement.scrollWidth,
    out: all('.md-content *').filter(
      e => e.getBoundingClientRect().right > 361 && !scrolls(e)).map(e => e.outerHTML.slice(0, 90)),
    captions: all('.md-content :is(figcaption, caption)').map(
      e => [e.textContent.slice(0, 60), e.getBoundingClientRect().right,
            e.scrollWidth - e.clientWidth, Boolean(e.closest('.book-scroll'))]),
    cells: all('.book-grid td').filter(e => e.textContent.trim().length > 30).map(
      e => [e.clientWidth, getComputedStyle(e.querySelector('a') || e).wordBreak,
            e.textContent.trim().slice(0, 40)]),
  };
}"""


@dataclass
class Visit:
    """What one look at a page has shown: in both schemes, its buttons pressed, then 360 wide."""

    faults: list[str]
    requests: set[str]
    figures: dict[str, list[dict[str, Any]]]
    copied: list[dict[str, Any]]
    narrow: dict[str, Any]


@pytest.fixture(scope="module")
def visits(site: Path, address: str, context: BrowserContext) -> dict[str, Visit]:
    """Every page, looked at once."""
    found, seen = {}, []
    names = {"light": "default", "dark": "slate"}
    view = Watched(context.new_page())
    page = view.page
    for name in html_pages(site):
        page.emulate_media(color_scheme="light")
        page.goto(address + name)
        page.evaluate("document.fonts.ready.then(() => true)")
        page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        page.evaluate(CALM)
        page.evaluate(AXE_CORE)
        faults, figures, before = [], {}, len(seen)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            page.wait_for_function(f"document.body.dataset.mdColorScheme === '{names[scheme]}'")
            figures[scheme] = page.evaluate(FIGURES)
            fresh = page.evaluate(FRESH, seen)
            if len(fresh) > len(seen):
                faults += [f"{scheme}: {fault}" for fault in page.evaluate(AXE, LOOKS)]
            seen = fresh
            if len(seen) == before and not figures["light"]:
                figures["dark"] = []
                break  # nothing here that another page has not shown in both
        page.bring_to_front()
        copied = page.evaluate(PRESS)
        page.set_viewport_size({"width": 360, "height": 740})
        narrow = page.evaluate(NARROW)
        page.set_viewport_size({"width": 1280, "height": 900})
        page.evaluate(EMPTY, name == "index.html")
        faults += page.evaluate(AXE, REST) + view.complaints
        found[name] = Visit(faults, set(view.requests), figures, copied, narrow)
        view.complaints.clear()
        view.requests.clear()
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
    page.evaluate(AXE_CORE)
    assert page.evaluate(AXE, LOOKS)[0].startswith("color-contrast: <p")


def test_a_link_known_by_a_shade_alone_would_be_seen(
    address: str, watched: Callable[[str], Watched]
) -> None:
    page = watched(address + "index.html").page
    page.evaluate(CALM)
    seen = page.evaluate(FRESH, [])
    page.evaluate(
        """() => Object.assign(document.querySelector('article p a[href="claims.html"]').style,
          {textDecoration: 'none', color: '#334'})"""
    )
    assert len(page.evaluate(FRESH, seen)) > len(seen)
    page.evaluate(AXE_CORE)
    assert page.evaluate(AXE, LOOKS)[0].startswith("link-in-text-block: <a")


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


def test_no_page_scrolls_sideways_on_a_narrow_screen(visits: dict[str, Visit]) -> None:
    wide = {
        name: (visit.narrow["width"], visit.narrow["out"][:3])
        for name, visit in visits.items()
        if visit.narrow["width"] > 360 or visit.narrow["out"]
    }
    assert not wide


def test_captions_are_whole_on_a_narrow_screen(visits: dict[str, Visit]) -> None:
    """Beside a table or figure that scrolls, its caption wraps and stays where it is."""
    captions = [(name, *c) for name, visit in visits.items() for c in visit.narrow["captions"]]
    assert len(captions) >= 3
    assert not [c for c in captions if c[2] > 360 or c[3] > 0 or c[4]]


def test_columns_of_words_are_wide_enough_on_a_narrow_screen(visits: dict[str, Visit]) -> None:
    """No word or citation of a table is cut in two, and a cell is not a tower of words."""
    cells = [(name, *cell) for name, visit in visits.items() for cell in visit.narrow["cells"]]
    assert len(cells) > 50
    assert not [cell for cell in cells if cell[1] < 80 or cell[2] != "normal"]


def test_what_is_copied_is_what_was_run(visits: dict[str, Visit]) -> None:
    """Every *copy* of every page has the statements that the page ran, and every *copy runnable* is
    the script that tests/book/test_snippets.py knows and runs.
    """
    seen = 0
    for name, visit in visits.items():
        source = ROOT / "docs" / name.replace(".html", ".md")
        page = f"docs/{source.relative_to(ROOT / 'docs')}"
        blocks = parse(source.read_text(encoding="utf-8"), page) if source.exists() else []
        found = snippets.pieces(blocks)
        pressed = {texts.pop("index"): texts for texts in visit.copied}
        assert set(pressed) == {block.index for block in blocks if not block.hide}, name
        for index, texts in pressed.items():
            block = blocks[index]
            assert texts["Copy"].strip() == snippets.plain(block).strip()
            if block.no_run:
                assert set(texts) == {"Copy"}
                continue
            seen += 1
            ran = [step.source for step in steps(block)] if block.language == "pycon" else []
            ran = ran or [block.source]
            assert ast.dump(ast.parse(texts["Copy"])) == ast.dump(ast.parse("\n".join(ran)))
            assert texts["Copy runnable"] == snippets.assembled(found, index)
    assert seen > 100


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
