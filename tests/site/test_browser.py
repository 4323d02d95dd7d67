"""The site in a real browser: figures follow the scheme, all can read it, nobody else is asked."""

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext
from watching import Watched, html_pages

pytestmark = [pytest.mark.site, pytest.mark.browser, pytest.mark.filterwarnings("default")]
WEIGHT = 400_000
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
