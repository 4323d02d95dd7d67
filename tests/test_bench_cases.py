"""Every family of cases runs at a small size, with its peers where they are installed."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attnbook.bench import additive, decoding, efficient, memories, models, timing, windows
from attnbook.bench.cases import Case
from attnbook.bench.runner import measure
from attnbook.hopfield import HopfieldNetwork, Recalled
from attnbook.language_model import LanguageModel
from attnbook.layers import MultiHeadAttention
from attnbook.linear import Linear, chunked
from attnbook.modern_hopfield import Retrieval, retrieve_sdpa


def without_compiler(case: Case) -> Case:
    """Compiled loops have their own tests, and take long to compile."""
    return replace(case, ways={k: v for k, v in case.ways.items() if "compiled" not in k})


SMALL: dict[str, Callable[[], Case]] = {
    "additive": lambda: without_compiler(next(additive.additive_attention([70], width=6))),
    "pointer": lambda: additive.pointing(5, batch=2, width=6),
    "window": lambda: next(windows.windows([40], width=9, heads=2, head_width=8)),
    "layer": lambda: models.multi_head(6, "forward", width=8, heads=2),
    "layer, backward": lambda: models.multi_head(6, "forward + backward", width=8, heads=2),
    "training": lambda: models.training(4, width=8, heads=2, layers=1, batch=2),
    "decoding": lambda: decoding.decoding(16, width=8, heads=2, layers=1, batch=2),
    "retrieval": lambda: memories.retrieval(9, states=4, width=5, updates=2),
    "recall": lambda: memories.recall(60, load=0.05, states=3),
    "linear": lambda: next(efficient.linear([70], heads=2, width=8)),
    "low rank": lambda: next(efficient.low_rank([20], heads=2, width=8, rank=3)),
    "features": lambda: next(efficient.random_features([20], heads=2, width=8, features=6)),
}


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of one run."""
    monkeypatch.setattr(timing, "BLOCK", 0.0)


@pytest.mark.parametrize("name", SMALL)
def test_a_case_is_measured(name: str) -> None:
    case = SMALL[name]()
    for row in measure(case, rounds=1):
        if row.status == "missing":
            assert row.version is None
            assert "is not installed: pip install" in row.message
            continue
        assert (row.status, row.message) == ("ok", "")
        assert (row.max_error is not None) == bool(
            case.exact and case.ways[row.implementation].equal
        )
        assert (row.peak_bytes is not None) == case.peak
        theirs = case.ways[row.implementation].package or row.implementation == "unit by unit"
        assert bool(row.sources) != bool(theirs)
    assert row.reference == case.reference


def status(case: Case, implementation: str) -> tuple[str, str]:
    rows = {row.implementation: row for row in measure(case, rounds=1)}
    return rows[implementation].status, rows[implementation].message


def test_a_layer_that_differs_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = MultiHeadAttention.to_torch

    def scaled(layer: MultiHeadAttention) -> nn.MultiheadAttention:
        made = plain(layer)
        made.out_proj.weight.data.mul_(1.001)
        return made

    monkeypatch.setattr(MultiHeadAttention, "to_torch", scaled)
    got, message = status(SMALL["layer"](), "nn.MultiheadAttention")
    assert (got, message[:23]) == ("error", "ArithmeticError: off by")


def test_training_of_another_function_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = models.Stacks.run
    monkeypatch.setattr(models.Stacks, "run", lambda stacks: 1.01 * plain(stacks))
    got, message = status(SMALL["training"](), "nn.Transformer")
    assert (got, message[:39]) == ("error", "ArithmeticError: nn.Transformer differs")


def test_decoding_that_differs_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = LanguageModel.generate
    monkeypatch.setattr(LanguageModel, "generate", lambda *a, **k: (plain(*a, **k) + 1) % 256)
    got, message = status(SMALL["decoding"](), "reading all again")
    assert (got, message[:38]) == ("error", "ArithmeticError: with a cache, symbol ")


def test_retrieval_that_differs_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    def sharper(*x: Tensor, beta: float, **options: Any) -> Retrieval:
        return retrieve_sdpa(*x, beta=1 / beta, **options)

    monkeypatch.setattr(memories, "retrieve_sdpa", sharper)
    assert status(SMALL["retrieval"](), "retrieve_sdpa")[0] == "error"


def test_pointing_by_another_score_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = additive.Separable.compare
    monkeypatch.setattr(additive.Separable, "compare", lambda *x: 1.1 * plain(*x))
    got, message = status(SMALL["pointer"](), "Separable, keys cached")
    assert (got, message[:38]) == ("error", "ArithmeticError: a probability is off ")


def test_recall_that_differs_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = HopfieldNetwork.recall

    def turned(*x: Any) -> Recalled:
        found = plain(*x)
        return found._replace(state=-found.state)

    monkeypatch.setattr(HopfieldNetwork, "recall", turned)
    assert status(SMALL["recall"](), "recall")[0] == "error"


def test_chunks_that_are_wrong_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*x: Tensor) -> Linear:
        return chunked(*x, normalized=False)

    monkeypatch.setattr(efficient, "chunked", wrong)
    assert status(SMALL["linear"](), "chunked")[0] == "error"


def test_installed_peers_take_part() -> None:
    pytest.importorskip("difflayers", reason="difflayers is not installed: extra 'peers'")
    rows = {row.implementation: row for row in measure(SMALL["retrieval"](), rounds=1)}
    theirs, ours = rows["hopfield-layers"], rows["retrieve_sdpa"]
    assert theirs.version
    assert (ours.best_peer, ours.peer_bar) == ("hopfield-layers", 5.0)
    assert torch.get_num_threads() >= 1
