"""The tables of the benchmark page say what the result file says, and what has become stale."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from attnbook.bench.results import CPU, Results, Row, digests, save
from attnbook.book.benchmarks import tables
from attnbook.book.citations import Bibliography
from attnbook.book.claims import Ledger
from attnbook.book.fences import PageError
from attnbook.book.weave import Sources, Weave

SHAPE = {"B": 1, "L": 512}
ROW = Row(
    "local, L512", "local", "ours", None, "forward", "float32", SHAPE, "window 8", "measure <it>",
    n=3, median=0.002, iqr=0.0001, peak_bytes=2**20, max_error=1e-7, reference="theirs",
    ratio=11.5, ratio_iqr=0.2, bar=10.0, sources=digests(["attnbook.masks.window"]),
)  # fmt: skip


def written(folder: Path, *rows: Row) -> list[tuple[str, str]]:
    when = "2026-01-02T03:04:05+00:00"
    results = Results(when, "0123456789abcdef", False, CPU, "2.13.0", None, "0.1.0")
    results.rows += rows
    save(results, folder / "cpu.json")
    return tables(folder)


def cells(html: str) -> list[list[str]]:
    rows = re.findall(r"<tr>(.*?)</tr>", html, re.S)
    return [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, re.S) for row in rows]


def test_a_table_says_what_the_file_says(tmp_path: Path) -> None:
    longer = replace(ROW, case="local, L1024", shape={"B": 1, "L": 1024}, median=0.004, bar=None)
    lost = replace(
        ROW, case="local, L1024", shape={"B": 1, "L": 1024}, implementation="theirs", n=0,
        median=None, iqr=None, peak_bytes=None, max_error=None, ratio=None, ratio_iqr=None,
        bar=None, sources={}, status="oom", message="needs 9 GB",
    )  # fmt: skip
    (_, nothing), (head, html) = written(tmp_path, ROW, longer, lost)
    assert nothing == ""
    assert head == "### Local\n\nIn every row: B\u00a01."
    heads, first, second, third = cells(html)
    assert heads[0] == "What was done"
    assert heads[-1] == "Reproduce"
    assert first[:4] == ["forward, window 8, L\u00a0512", "ours", "2 ms", "11.50 (reached: 10)"]
    assert first[-1] == '<code class="book-command">measure &lt;it&gt;</code>'
    assert second[3] == "11.50"
    assert third[1:4] == ["theirs", "out of memory", ""]
    assert 'data-value="0.002"' in html


def test_a_row_whose_code_has_changed_says_so(tmp_path: Path) -> None:
    assert "stale" not in written(tmp_path, ROW)[1][1]
    old = replace(ROW, sources={**ROW.sources, "attnbook/masks.py": "0" * 64})
    assert "ours (stale: attnbook/masks.py changed since)" in written(tmp_path, old)[1][1]
    missed = replace(ROW, ratio=9.5)
    assert "9.50 (missed: 10)" in written(tmp_path, missed)[1][1]


def test_a_broken_file_stops_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, ROW)
    report = json.loads((tmp_path / "cpu.json").read_text(encoding="utf-8"))
    del report["rows"][0]["median"]
    (tmp_path / "cpu.json").write_text(json.dumps(report), encoding="utf-8")
    monkeypatch.setattr(tables, "__defaults__", (tmp_path,))
    sources = Sources(Ledger({}), Bibliography(Path("none.bib")))
    with pytest.raises(PageError, match=r"x\.md:3: cpu\.json: .*median"):
        Weave("# B\n\n{benchmarks}\n", "docs/x.md", sources)
    with pytest.raises(PageError, match=r"'\{benchmark\}' is not carried out: it is written"):
        Weave("# B\n\nHere {benchmark}\n", "docs/x.md", sources)
