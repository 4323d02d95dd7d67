"""Every fast path against its reference, case by case, within its error budget."""

import warnings
from collections.abc import Iterator

import pytest
import torch
from fused_cases import CASES, PATHS, Case, Path, scores_of
from torch import Tensor
from torch.nn.attention.flex_attention import flex_attention

from attnbook import Attended, attend, fused
from attnbook.fused import compiled, flexible, rows, tiles, windows


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Several tiles in every case, ragged ones at the ends; nothing is compiled."""
    monkeypatch.setattr(tiles, "TILE", 3)
    monkeypatch.setattr(rows, "ROWS", 3)
    monkeypatch.setattr(rows, "ELEMENTS", 24)
    monkeypatch.setattr(windows, "BLOCK", 3)
    monkeypatch.setattr(windows, "PART", 100)
    monkeypatch.setattr(compiled, "_quick", lambda loop: loop)
    monkeypatch.setattr(flexible, "_compiled", lambda: flex_attention)
    monkeypatch.setattr(
        "torch.nn.attention.flex_attention._FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "flex_attention called without torch.compile")
        warnings.filterwarnings("ignore", "overflow encountered in exp")  # Triton's interpreter
        yield


def results(attended: Attended, given: list[Tensor], gradients: bool) -> list[Tensor]:
    """The output and, where there are any, the gradients, in float64."""
    found = [attended.output]
    if gradients:
        torch.manual_seed(1)
        direction = torch.randn(attended.output.shape, dtype=torch.float64)
        found += torch.autograd.grad(attended.output, given, direction.to(attended.output))
    return [x.detach().double() for x in found]


ALL = [
    pytest.param(path, case, dtype, id=f"{name}, {kind}, {dtype}")
    for name, path in PATHS.items()
    for kind, case in CASES.items()
    for dtype in path.dtypes
]


@pytest.mark.parametrize(("path", "case", "dtype"), ALL)
def test_path_keeps_its_error_budget(path: Path, case: Case, dtype: torch.dtype) -> None:
    exact_inputs = case.inputs(dtype)
    narrow = [x.detach().clone().to(dtype).requires_grad_(path.gradients) for x in exact_inputs]
    L, S = case.shapes[0][-2], case.shapes[1][-2]
    mask = None if case.mask is None else case.mask(L, S)
    whole = mask
    if path.only is not None:
        whole = path.only(L, S) if mask is None else mask & path.only(L, S)
    score, given = scores_of(path, case, dtype)
    plain_score = given.get("score", score)

    exact = results(attend(*exact_inputs, score=score, mask=whole), exact_inputs, path.gradients)
    plain = results(attend(*narrow, score=plain_score, mask=whole), narrow, path.gradients)
    attended = path.run(*narrow, mask=mask, **given)
    assert attended.weights is None
    assert attended.output.dtype == dtype
    fast = results(attended, narrow, path.gradients)

    for name, want, readable, got in zip(
        ("output", "query", "key", "value"), exact, plain, fast, strict=False
    ):
        assert got.shape == want.shape
        assert got.isfinite().all(), name
        error, budget = ((x - want).abs().amax().item() for x in (got, readable))
        size = max(1.0, want.abs().amax().item())
        budget += torch.finfo(dtype).eps * size
        if path.keeps_log and case.largest is not None and name != "output":
            budget += torch.finfo(dtype).eps * size * case.largest
        if dtype == torch.float64:  # the readable path is the reference: its own error is unknown
            budget = 1e-10 * size
        assert error <= (2 if name == "output" else 3) * budget, name


def test_every_fast_path_is_in_the_table() -> None:
    paths = {name for name in fused.__all__ if not name[0].isupper()}
    assert paths == {name.partition(",")[0] for name in PATHS} - {"additive in Triton"}


@pytest.mark.parametrize(
    ("L", "S", "offset"), [(0, 5, 0), (0, 0, 0), (4, 0, 0), (1, 1, 9), (7, 3, 9)]
)
@pytest.mark.parametrize("causal", [False, True])
def test_a_window_may_hold_nothing(L: int, S: int, offset: int, causal: bool) -> None:
    """No queries, no keys, or queries that stand beyond the last key."""
    query, key, value = (torch.randn(2, n, 4, requires_grad=True) for n in (L, S, S))
    mask = torch.ones(L, 1, dtype=torch.bool)
    output = fused.local(query, key, value, width=1, causal=causal, offset=offset, mask=mask).output
    assert torch.equal(output, torch.zeros(2, L, 4))
    for gradient in torch.autograd.grad(output.sum(), (query, key, value)):
        assert (gradient == 0).all()
