"""Which weights does an output determine? The theorem of chapter 21."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from attnbook import aggregate, attend, attention_weights


def drawn(keys: int, width: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Weights, values and output of one query."""
    generator = torch.Generator().manual_seed(seed)
    query, key, value = (
        torch.randn(*shape, dtype=torch.float64, generator=generator)
        for shape in ((1, 6), (keys, 6), (keys, width))
    )
    weights = attention_weights(query, key)
    return weights[0], value, attend(query, key, value).output[0]


def unknowns(value: Tensor) -> Tensor:
    """The equations that a change of the weights must meet: no output moves, no sum."""
    return torch.cat([value, torch.ones_like(value[:, :1])], dim=1).T


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 5), st.integers(2, 5), st.integers(0, 1000))
def test_other_weights_give_the_same_output(width: int, more: int, seed: int) -> None:
    """With two keys more than channels: positive, of sum 1, and different."""
    weights, value, output = drawn(width + more, width, seed)
    delta = torch.linalg.svd(unknowns(value)).Vh[-1]
    steps = -weights / delta
    others = weights + steps[steps > 0].min() * delta
    assert others.min() >= -1e-12
    assert torch.isclose(others.sum(), torch.ones_like(others.sum()))
    assert (others - weights).abs().max() >= 0.99 * weights.min()
    assert torch.allclose(aggregate(others[None], value)[0], output, rtol=1e-9, atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 6), st.integers(0, 5), st.integers(0, 1000))
def test_with_fewer_keys_the_output_has_them(keys: int, more: int, seed: int) -> None:
    """At most one key more than channels, and values in general position: no other weights."""
    width = max(1, keys - 1) + more
    weights, value, output = drawn(keys, width, seed)
    right = torch.cat([output, torch.ones(1, dtype=torch.float64)])
    found = torch.linalg.lstsq(unknowns(value), right[:, None], driver="gelsd").solution[:, 0]
    assert torch.linalg.matrix_rank(unknowns(value)) == keys
    assert torch.allclose(found, weights, rtol=1e-6, atol=1e-8)
