"""Linformer: the paper's equation in loops, its sharing, and what it must refuse."""

import math
import re
from collections.abc import Callable

import pytest
import torch
from building import as_installed
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from attnbook import MultiHeadAttention, attend, padding
from attnbook.low_rank import Linformer


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def inputs(*batch: int, queries: int = 4, keys: int = 6) -> list[Tensor]:
    return [
        numbers(*batch, *shape, seed=seed)
        for seed, shape in enumerate([(queries, 4), (keys, 4), (keys, 3)])
    ]


def by_loops(*given: Tensor) -> Tensor:
    """Wang et al., equation 7, a number at a time; E and F are (k, n)."""
    query, key, value, E, F = (x.tolist() for x in given)
    mixed_keys, mixed_values = (
        [
            [sum(w * x[d] for w, x in zip(row, rows, strict=True)) for d in range(len(rows[0]))]
            for row in matrix
        ]
        for matrix, rows in ((E, key), (F, value))
    )
    output = []
    for q in query:
        dots = [sum(a * b for a, b in zip(q, k, strict=True)) for k in mixed_keys]
        weights = [math.exp(dot / math.sqrt(len(q))) for dot in dots]
        sums = [
            sum(w * v for w, v in zip(weights, column, strict=True))
            for column in zip(*mixed_values, strict=True)
        ]
        output.append([s / sum(weights) for s in sums])
    return torch.tensor(output, dtype=torch.float64)


@pytest.mark.parametrize("one_matrix", [False, True])
@pytest.mark.parametrize("num_heads", [None, 2])
def test_it_is_the_equation_of_the_paper(num_heads: int | None, one_matrix: bool) -> None:
    """Six positions of at most eight: the first six columns."""
    torch.manual_seed(0)
    path = Linformer(8, 3, num_heads=num_heads, one_matrix=one_matrix).double()
    query, key, value = inputs(2, 2)
    found = path(query, key, value)
    E = path.key.detach().expand(2, 3, 8)[..., :6]
    F = E if path.value is None else path.value.detach().expand(2, 3, 8)[..., :6]
    for b in range(2):
        for h in range(2):
            wanted = by_loops(query[b, h], key[b, h], value[b, h], E[h], F[h])
            assert_close(found.output[b, h], wanted)
    assert found.weights is not None
    assert found.weights.shape == (2, 2, 4, 3)
    assert_close(found.weights.sum(-1), torch.ones(2, 2, 4).double())
    held = sum(p.numel() for p in path.parameters())
    assert held == 3 * 8 * (num_heads or 1) * (1 if one_matrix else 2)


def test_with_the_identity_for_a_matrix_it_is_attention() -> None:
    path = Linformer(6, 6).double()
    for matrix in (path.key, path.value):
        torch.nn.init.eye_(matrix)
    assert_close(path(*inputs(2)), attend(*inputs(2)))


def test_a_mixture_varies_as_much_as_what_it_mixes() -> None:
    """Variance 1 / n, within five standard errors of 512 x 8 numbers."""
    torch.manual_seed(0)
    mixed = Linformer(256, 512).key @ torch.randn(256, 8)
    assert abs(mixed.square().mean() - 1) < 5 * math.sqrt(2 / 8 + 2 / 512) / math.sqrt(256)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 6), st.integers(0, 3))
def test_padding_is_left_out_of_every_mixture(true: int, more: int) -> None:
    """What stands in the padding has no influence, and no true key gives zeros."""
    query, key, value = inputs(1)
    path = Linformer(6 + more, 3).double()
    mask = padding(torch.tensor([true]), 6)
    found = path(query, key, value, mask=mask).output
    there = torch.arange(6) < true
    zeros = (x * there[:, None] for x in (key, value))
    assert_close(found, path(query, *zeros).output)
    other = (x.masked_fill(~there[:, None], 1e3) for x in (key, value))
    assert torch.equal(path(query, *other, mask=mask).output, found)
    assert true or (found == 0).all()


def test_it_is_a_path_of_a_layer_with_gradients_in_every_type() -> None:
    torch.manual_seed(0)
    path = Linformer(6, 2, num_heads=2)
    layer = MultiHeadAttention(8, 2, attend=path).double()
    x = numbers(1, 4, 8).requires_grad_()
    mask = padding(torch.tensor([3]), 4)
    assert torch.autograd.gradcheck(lambda x: layer(x, mask=mask).output, (x,))
    path(*inputs(2)).output.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in path.parameters())
    for dtype in (torch.float16, torch.bfloat16):
        half = layer.to(dtype)(x.detach().to(dtype)).output
        assert half.dtype == dtype
        assert half.isfinite().all()


def test_clear_errors() -> None:
    with as_installed():
        from attnbook import low_rank

        path, x = low_rank.Linformer(6, 2), torch.zeros(2, 6, 4)
        own = low_rank.Linformer(6, 2, num_heads=3)
        wrong: list[tuple[Callable[[], object], type[Exception], str]] = [
            (
                lambda: path(x, x, x, mask=torch.ones(6, 6, dtype=torch.bool).tril()),
                ValueError,
                "mask must be the same for every query, of shape (*b, 1, 6), got (6, 6): keys and "
                "values are summed before a query sees them",
            ),
            (
                lambda: path(x, x, x, mask=torch.ones(1, 5, dtype=torch.bool)),
                ValueError,
                "mask of shape (1, 5) does not broadcast to the scores' shape (2, 1, 6)",
            ),
            (
                lambda: path(x, x, x, mask=torch.ones(1, 6)),
                TypeError,
                "mask must be a boolean tensor, True = may attend, got torch.float32",
            ),
            (
                lambda: path(x, torch.zeros(2, 7, 4), torch.zeros(2, 7, 4)),
                ValueError,
                "key has 7 positions but Linformer was built with length=6",
            ),
            (
                lambda: path(x.double(), x.double(), x.double()),
                TypeError,
                "key is torch.float64 but the matrices are torch.float32",
            ),
            (
                lambda: own(x, x, x),
                ValueError,
                "key must have 3 heads before its positions, got (2, 6, 4)",
            ),
            (lambda: path(x, x, x[:, :5]), ValueError, "key has 6 positions but value has 5"),
            (lambda: low_rank.Linformer(6, 0), ValueError, "rank must be at least 1, got 0"),
        ]
        for call, error, message in wrong:
            with pytest.raises(error, match=f"^{re.escape(message)}$"):
                call()
