"""The benchmark checks before it times, and reports what it measured."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from attnbook import Attended, attend
from attnbook.bench import __main__ as bench
from attnbook.bench.cases import IMPLEMENTATIONS, Case
from attnbook.bench.runner import measure


def test_prints_and_saves_a_row_for_each_implementation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "results" / "cpu.json"
    rows = bench.main(["--lengths", "24", "--rounds", "2", "--save", str(file)])
    printed = capsys.readouterr().out
    saved = json.loads(file.read_text())
    assert len(saved["rows"]) == len(rows) == 4 * len(IMPLEMENTATIONS)
    assert saved["rows"][0] == {**rows[0].to_dict(), "shape": list(rows[0].shape)}
    assert saved["device"]["threads"] == 1
    for row in rows:
        assert row.median > 0
        assert f"{1e3 * row.median:.2f}" in printed
    assert [row.speedup for row in rows if row.implementation == "attend"] == [1.0] * 4


def test_prints_without_saving(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bench, "RESULTS", tmp_path / "cpu.json")
    bench.main(["--lengths", "8", "--rounds", "1"])
    assert not list(tmp_path.iterdir())


def test_a_wrong_implementation_is_not_timed() -> None:
    def unscaled(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Attended:
        return attend(2 * query, key, value, mask=mask)

    case = Case((1, 1, 8, 4), implementations={"attend": attend, "unscaled": unscaled})
    with pytest.raises(ArithmeticError, match=r"^unscaled is off by "):
        measure(case, rounds=1)


@pytest.mark.parametrize("backward", [False, True])
def test_peak_memory_counts_the_weights(backward: bool) -> None:
    """The readable path holds L x L numbers several times over; the tiled one does not once."""
    length, threads = 600, torch.get_num_threads()
    peaks = {
        row.implementation: row.peak_bytes
        for row in measure(Case((1, 1, length, 4), backward=backward), rounds=1)
    }
    weights = 4 * length**2
    assert peaks["attend"] >= 2 * weights
    assert 0 < peaks["fused.sdpa"] < weights
    assert torch.get_num_threads() == threads
