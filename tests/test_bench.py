"""The benchmark checks before it times, and reports what it measured."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attnbook import Attended, attend
from attnbook.bench import __main__ as bench
from attnbook.bench import contests, memories, runner
from attnbook.bench.cases import IMPLEMENTATIONS, Case
from attnbook.bench.contests import PEER, Contest, decoding, multi_head, training
from attnbook.bench.runner import hold, measure
from attnbook.hopfield import HopfieldNetwork, Recalled
from attnbook.language_model import LanguageModel
from attnbook.layers import MultiHeadAttention
from attnbook.linear import Linear, chunked
from attnbook.modern_hopfield import Retrieval, retrieve_sdpa


def test_prints_and_saves_a_row_for_each_implementation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "results" / "cpu.json"
    rows = bench.main(["--lengths", "24", "--rounds", "2", "--only", "paths", "--save", str(file)])
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
    bench.main(["--lengths", "8", "--rounds", "1", "--only", "paths"])
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


# Contests


def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the optional peer were not installed."""
    monkeypatch.setattr(contests, "find_spec", lambda _: None)


SMALL: dict[str, Callable[[], Contest]] = {
    "forward": lambda: multi_head(6, False, width=8, heads=2),
    "backward": lambda: multi_head(6, True, width=8, heads=2),
    "training": lambda: training(4, width=8, heads=2, layers=1, batch=2),
    "decoding": lambda: decoding(16, width=8, heads=2, layers=1, batch=2),
}


@pytest.mark.parametrize("name", SMALL)
def test_a_contest_is_held(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    alone(monkeypatch)
    contest, threads = SMALL[name](), torch.get_num_threads()
    assert contest.missing == (PEER,)
    places = hold(contest, rounds=2)
    assert [place.implementation for place in places] == list(contest.runs)
    assert (places[0].implementation, places[0].ratio, places[0].bar) == ("attnbook", 1.0, None)
    assert all(place.median > 0 and place.rounds == 2 for place in places)
    barred = [place.bar for place in places if place.bar is not None]
    assert barred == [contest.bars[k] for k in contest.bars if k != PEER]
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("name", SMALL)
def test_the_optional_peer_takes_part(name: str) -> None:
    pytest.importorskip("x_transformers", reason="x-transformers is not installed: extra 'peers'")
    contest = SMALL[name]()
    assert contest.missing == ()
    contest.runs[PEER]()


MEMORIES: dict[str, Callable[[], Contest]] = {
    "retrieval": lambda: memories.retrieval(9, states=4, width=5, updates=2),
    "recall": lambda: memories.recall(60, load=0.05, states=3),
    "linear": lambda: memories.linear(70, heads=2, width=8),
}


@pytest.mark.parametrize("name", MEMORIES)
def test_a_contest_of_a_memory_is_held(name: str) -> None:
    contest = MEMORIES[name]()
    places = hold(contest, rounds=2)
    assert [place.implementation for place in places] == list(contest.runs)
    assert {place.implementation for place in places if place.bar} == set(contest.bars)


def test_retrieval_without_its_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memories, "find_spec", lambda _: None)
    contest = MEMORIES["retrieval"]()
    assert (contest.missing, contest.bars) == (("hopfield-layers",), {})
    assert list(contest.runs) == ["attnbook", "retrieve, readable"]


def test_hopfield_layers_take_part() -> None:
    pytest.importorskip("difflayers", reason="difflayers is not installed: extra 'peers'")
    contest = MEMORIES["retrieval"]()
    assert (contest.missing, contest.bars) == ((), {"hopfield-layers": 5.0})
    assert runner._version("hopfield-layers")


def test_retrieval_that_differs_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    def sharper(*x: Tensor, beta: float, **options: Any) -> Retrieval:
        return retrieve_sdpa(*x, beta=1 / beta, **options)

    monkeypatch.setattr(memories, "retrieve_sdpa", sharper)
    with pytest.raises(ArithmeticError, match=r"^attnbook is off by"):
        MEMORIES["retrieval"]()


def test_recall_that_differs_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = HopfieldNetwork.recall

    def turned(*x: Any) -> Recalled:
        found = plain(*x)
        return found._replace(state=-found.state)

    monkeypatch.setattr(HopfieldNetwork, "recall", turned)
    with pytest.raises(ArithmeticError, match=r"^unit by unit ends in another state$"):
        MEMORIES["recall"]()


def test_chunks_that_are_wrong_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*x: Tensor) -> Linear:
        return chunked(*x, normalized=False)

    monkeypatch.setattr(memories, "chunked", wrong)
    with pytest.raises(ArithmeticError, match=r"^chunks are off by"):
        memories.linear(70, heads=2, width=8)


def test_ratios_are_of_the_same_round_and_bars_of_the_best(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A slow spell in the second round changes no ratio."""
    seconds = {"attnbook": [1.0, 9.0, 1.0], "slow": [4.0, 36.0, 4.0], "half": [1.0, 9.0, 1.0]}
    monkeypatch.setattr(runner, "_turns", lambda runs, rounds: seconds)
    nothing = dict.fromkeys(seconds, list)
    contest = Contest("naps", nothing, {"best": 2.5, "slow": 4.0}, scale={"half": 2.0})
    ours, slow, half = hold(contest)
    assert [place.ratio for place in (ours, slow, half)] == [1.0, 4.0, 2.0]
    assert [place.ratio_iqr for place in (ours, slow, half)] == [0.0] * 3
    assert [place.median for place in (ours, slow, half)] == [1.0, 4.0, 2.0]
    assert (ours.bar, slow.bar, half.bar) == (None, 4.0, 2.5)
    assert "at least 4 x: reached" in bench._place(slow)
    assert "at least 2.5 x: MISSED" in bench._place(half)


def test_contests_are_printed_and_saved(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone(monkeypatch)
    monkeypatch.setattr(bench, "contests", lambda: [replace(SMALL["training"](), rounds=2)])
    monkeypatch.setattr(bench, "memories", lambda: [])
    bench.main(["--only", "contests", "--save", str(tmp_path / "cpu.json")])
    printed, saved = capsys.readouterr().out, json.loads((tmp_path / "cpu.json").read_text())
    assert "x-transformers is MISSING: pip install 'attnbook[peers]'" in printed
    assert [place["implementation"] for place in saved["contests"]] == [
        "attnbook",
        "nn.Transformer",
    ]
    assert saved["rows"] == []
    for place in saved["contests"]:
        assert f"{1e3 * place['median']:.2f}" in printed


def test_a_layer_that_differs_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    alone(monkeypatch)
    plain = MultiHeadAttention.to_torch

    def scaled(layer: MultiHeadAttention) -> nn.MultiheadAttention:
        made = plain(layer)
        made.out_proj.weight.data.mul_(1.001)
        return made

    monkeypatch.setattr(MultiHeadAttention, "to_torch", scaled)
    with pytest.raises(ArithmeticError, match=r"^nn.MultiheadAttention is off by "):
        SMALL["forward"]()


def test_decoding_that_differs_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    alone(monkeypatch)
    plain = LanguageModel.generate
    monkeypatch.setattr(LanguageModel, "generate", lambda *a, **k: (plain(*a, **k) + 1) % 256)
    with pytest.raises(ArithmeticError, match=r"^with a cache, symbol \d+ is another$"):
        SMALL["decoding"]()
