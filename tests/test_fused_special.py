"""The paths that do less than all, or more: a window, and a change of the scores."""

import shutil
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask
from torch.testing import assert_close

from attnbook import attend, scaled_dot
from attnbook.fused import flex, flexible, local, query_tiled, windows


def tensors(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float64) -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(shape, dtype=dtype) for shape in shapes]


# A window


@settings(max_examples=25)
@given(
    lengths=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    width=st.integers(0, 10),
    offset=st.integers(0, 12),
    causal=st.booleans(),
    block=st.integers(1, 5),
)
def test_a_window_is_what_a_loop_over_positions_says(
    lengths: tuple[int, int], width: int, offset: int, causal: bool, block: int
) -> None:
    L, S = lengths
    query, key, value = tensors((L, 2), (S, 2), (S, 3))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows, "BLOCK", block)
        output = local(query, key, value, width=width, causal=causal, offset=offset).output
    for i in range(L):
        at = i + offset
        last = at if causal else at + width
        seen = [j for j in range(S) if at - width <= j <= last]
        weights = torch.softmax(key[seen] @ query[i] / 2**0.5, dim=0)
        assert_close(output[i], weights @ value[seen])  # zeros where nothing is seen


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"width": -1}, ValueError, "width must not be negative, got -1"),
        ({"width": 1.0}, TypeError, "width must be an integer, got float"),
        ({"width": True}, TypeError, "width must be an integer, got bool"),
        ({"width": 1, "offset": -2}, ValueError, "offset must not be negative, got -2"),
        ({"width": 1, "dropout": 1.0}, ValueError, r"dropout must be in \[0, 1\), got 1.0"),
    ],
)
def test_a_window_names_the_mistake(
    options: dict[str, Any], error: type[Exception], message: str, installed: ModuleType
) -> None:
    with pytest.raises(error, match=f"^{message}$"):
        installed.fused.local(*tensors((3, 2), (3, 2), (3, 2)), **options)


def test_a_window_drops_weights_and_has_their_gradients() -> None:
    query, key, _ = tensors((40, 4), (40, 4), (0,))
    identity = torch.eye(40, dtype=torch.float64, requires_grad=True)
    weights = local(query, key, identity, width=5).output
    torch.manual_seed(3)
    seen = local(query, key, identity, width=5, dropout=0.3).output
    kept = seen != 0
    assert_close(seen[kept], weights[kept] / 0.7)
    assert 0.6 < kept.sum() / (weights != 0).sum() < 0.8
    (gradient,) = torch.autograd.grad(seen.sum(), identity)
    assert_close(gradient[:, 0], seen.sum(dim=0).detach())


# Whole rows


@pytest.mark.parametrize("path", [query_tiled, lambda *x: local(*x, width=3)])
def test_gradients_are_those_of_finite_differences(path: Callable[..., Any]) -> None:
    inputs = [x.requires_grad_() for x in tensors((2, 4, 3), (2, 5, 3), (2, 5, 2))]
    assert torch.autograd.gradcheck(lambda *x: path(*x).output, inputs)


def test_dropped_weights_are_the_same_ones_backward() -> None:
    inputs = [x.requires_grad_() for x in tensors((2, 4, 3), (2, 5, 3), (2, 5, 2))]

    def output(*inputs: Tensor) -> Tensor:
        torch.manual_seed(2)
        return query_tiled(*inputs, dropout=0.4).output

    assert torch.autograd.gradcheck(output, inputs)


# A change of the scores


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, as it compiles
@pytest.mark.skipif(
    not any(map(shutil.which, ("g++", "c++", "clang++"))), reason="no C++ compiler for flex"
)
def test_flex_is_compiled_and_equals_attend_with_that_score() -> None:
    """A soft cap, a ragged mask with a dead row, and as many keys as there happen to be."""
    inputs = tensors((2, 7, 4), (2, 9, 4), (2, 9, 4), dtype=torch.float32)
    mask = torch.rand(7, 9) < 0.6
    mask[3] = False

    def capped(query: Tensor, key: Tensor) -> Tensor:
        return 2 * torch.tanh(scaled_dot(query, key) / 2)

    torch.compiler.reset()
    softly = {"score_mod": lambda s, b, h, i, j: 2 * torch.tanh(s / 2)}
    output = flex(*inputs, mask=mask, **softly).output
    assert_close(output, attend(*inputs, mask=mask, score=capped).output)
    assert (output[:, 3] == 0).all()


def test_flex_takes_blocks_made_before(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    def kernel(query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Tensor:
        made.append(options["block_mask"])
        return value[..., : query.shape[-2], :]

    monkeypatch.setattr(flexible, "_compiled", lambda: kernel)
    blocks = create_block_mask(lambda b, h, i, j: i >= j, None, None, 5, 5, device="cpu")
    flex(*tensors(*((5, 2),) * 3, dtype=torch.float32), mask=blocks)
    assert made == [blocks]


@pytest.mark.parametrize(
    ("shape", "dtype", "options", "error", "message"),
    [
        ((3, 2), torch.float32, {"dropout": 0.1}, ValueError, "flex has no dropout"),
        ((1, 1, 1, 3, 2), torch.float32, {}, ValueError, "flex takes at most four axes"),
        ((0, 2), torch.float32, {}, ValueError, "flex needs at least one query and one key"),
        ((3, 2), torch.float64, {}, TypeError, "flex has no float64 on a processor"),
        ((3, 2), torch.float32, {"grad": True}, RuntimeError, "flex has no backward pass"),
    ],
)
def test_flex_refuses_what_it_cannot_do(
    shape: tuple[int, ...],
    dtype: torch.dtype,
    options: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    inputs = tensors(shape, shape, shape, dtype=dtype)
    if options.pop("grad", False):
        inputs[2].requires_grad_()
    with pytest.raises(error, match=f"^{message}"):
        flex(*inputs, **options)


def test_flex_says_when_it_would_run_uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = tensors(*((3, 2),) * 3, dtype=torch.float32)
    limit = torch._dynamo.exc.FailOnRecompileLimitHit("Hard failure")
    missing = Exception.__new__(torch._dynamo.exc.BackendCompilerFailed)
    missing.args = ("InvalidCxxCompiler: none",)
    for failure, message in ((limit, "flex has been compiled"), (missing, "flex compiles its")):

        def kernel(*_: Tensor, failure: Exception = failure, **__: Any) -> Tensor:
            raise failure

        monkeypatch.setattr(flexible, "_compiled", lambda kernel=kernel: kernel)
        with pytest.raises(RuntimeError, match=f"^{message}"):
            flex(*inputs)
