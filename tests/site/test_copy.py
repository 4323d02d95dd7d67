"""What the buttons of a page copy is the code, and it runs."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from watching import Watched, html_pages
from website import ROOT

from attnbook.book import snippets
from attnbook.book.fences import parse

pytestmark = [pytest.mark.site, pytest.mark.browser, pytest.mark.filterwarnings("default")]
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


def source_of(page: str) -> Path:
    return ROOT / "docs" / page.replace(".html", ".md")


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
    """Every *copy* of every page is run, in order; every *copy runnable* is the script that
    tests/book/test_snippets.py knows, and the first and the last of a page are run.
    """
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
        sample = {*running[:1], *running[-1:]}
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
