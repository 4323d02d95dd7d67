"""The one equation against a loop over indices, and against PyTorch's own attention."""

import math
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention.flex_attention import flex_attention
from torch.testing import assert_close

from attnbook import (
    Attended,
    aggregate,
    apply_mask,
    attend,
    attention_weights,
    causal,
    padding,
    sigmoid,
)


def inputs(*axes: int, L: int = 5, S: int = 7, D: int = 4, Dv: int = 3) -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(*axes, *shape).double() for shape in ((L, D), (S, D), (S, Dv))]


def loop(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Vaswani et al. 2017, equation 1, for one sequence, index by index."""
    (L, D), (S, Dv) = query.shape, value.shape
    output, weights = torch.zeros(L, Dv).double(), torch.zeros(L, S).double()
    for i in range(L):
        allowed = [j for j in range(S) if mask[i, j]]
        score = {
            j: math.fsum(float(query[i, d] * key[j, d]) for d in range(D)) / math.sqrt(D)
            for j in allowed
        }
        total = math.fsum(math.exp(score[j]) for j in allowed)
        for j in allowed:
            weights[i, j] = math.exp(score[j]) / total
            for d in range(Dv):
                output[i, d] += weights[i, j] * value[j, d]
    return output, weights


@pytest.mark.parametrize("chance", [0.0, 0.3, 0.6, 1.0])
def test_attend(chance: float) -> None:
    """With that share of the pairs allowed; at 0 and 0.3 some queries may attend to nothing."""
    query, key, value = inputs()
    mask = torch.rand(5, 7) < chance
    attended = attend(query, key, value, mask=mask)
    assert isinstance(attended, Attended)
    output, weights = loop(query, key, value, mask)
    assert_close(attended.output, output)
    assert_close(attended.weights, weights)
    assert_close(attention_weights(query, key, mask=mask), weights)


def test_apply_mask() -> None:
    scores, mask = torch.randn(2, 3, 4), torch.rand(2, 3, 4) < 0.5
    masked = apply_mask(scores, mask)
    for index in torch.cartesian_prod(*map(torch.arange, scores.shape)).tolist():
        index = tuple(index)
        assert masked[index] == (scores[index] if mask[index] else float("-inf"))
    assert apply_mask(scores, None) is scores


@pytest.mark.parametrize("shape", [(), (4,), (3, 1), (1, 4), (2, 1, 1), (1, 3, 4)])
def test_a_mask_broadcasts(shape: tuple[int, ...]) -> None:
    scores, mask = torch.randn(2, 3, 4), torch.rand(shape) < 0.5
    assert torch.equal(apply_mask(scores, mask), apply_mask(scores, mask.expand(2, 3, 4)))


def test_aggregate() -> None:
    weights, value = torch.randn(5, 7).double(), torch.randn(7, 3).double()
    expected = [
        [math.fsum(float(weights[i, j] * value[j, d]) for j in range(7)) for d in range(3)]
        for i in range(5)
    ]
    assert_close(aggregate(weights, value), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("axes", [(), (2,), (2, 3), (2, 3, 2)])
def test_attend_is_pytorchs(axes: tuple[int, ...]) -> None:
    query, key, value = inputs(*axes)
    for mask in (None, causal(5, 7, offset=2), torch.rand(*axes, 5, 7) < 0.4):
        expected = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        assert_close(attend(query, key, value, mask=mask).output, expected)


def test_attend_is_flex_attention() -> None:
    query, key, value = (x.float() for x in inputs(2, 3))
    mask = causal(5, 7, offset=1) & padding(torch.tensor([[3], [7]]), 7)

    def score(s: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return torch.where(mask[b, 0, i, j], s, float("-inf"))

    with pytest.warns(UserWarning, match="flex_attention called without torch.compile"):
        expected = flex_attention(query, key, value, score_mod=score)
    assert_close(attend(query, key, value, mask=mask).output, expected)


def test_heads_are_a_leading_axis() -> None:
    """`nn.MultiheadAttention` with its own weights; its masks say the opposite of ours."""
    torch.manual_seed(0)
    module, x = nn.MultiheadAttention(8, 2, batch_first=True).double(), torch.randn(3, 5, 8)
    x, mask, lengths = x.double(), causal(5, 5), torch.tensor([2, 5, 3])
    there = padding(lengths[:, None], 5)
    expected, expected_weights = module(
        x, x, x, attn_mask=~mask, key_padding_mask=~there[:, 0, 0], average_attn_weights=False
    )
    projected = F.linear(x, module.in_proj_weight, module.in_proj_bias)
    query, key, value = (
        part.unflatten(-1, (2, 4)).transpose(1, 2) for part in projected.chunk(3, dim=-1)
    )
    output, weights = attend(query, key, value, mask=mask & there)
    assert_close(weights, expected_weights)
    assert_close(module.out_proj(output.transpose(1, 2).flatten(2)), expected)


def test_score_and_normaliser_are_any_callables() -> None:
    query, key, value = inputs(2)

    def distance(query: Tensor, key: Tensor) -> Tensor:
        return -torch.cdist(query, key)

    output, weights = attend(query, key, value, score=distance, normalize=sigmoid)
    assert_close(weights, torch.sigmoid(-torch.cdist(query, key)))
    assert_close(output, weights @ value)


def test_dropout_acts_on_the_weights_and_returns_them_whole() -> None:
    """Values that are the rows of the identity show each weight that reached them."""
    query, key, _ = inputs(L=300, S=40)
    identity, dropout = torch.eye(40).double(), 0.3
    seen, weights = attend(query, key, identity, dropout=dropout)
    assert_close(weights, attention_weights(query, key))
    kept = seen != 0
    assert_close(seen[kept], weights[kept] / (1 - dropout))
    deviation = math.sqrt(dropout * (1 - dropout) / kept.numel())
    assert abs(kept.double().mean() - (1 - dropout)) < 4 * deviation


def test_a_lone_value_at_a_forbidden_position_may_be_anything_finite() -> None:
    query, key, value = inputs()
    mask = causal(5, 7)
    expected = attend(query, key, value, mask=mask).output
    value[5:] = 1e300
    assert_close(attend(query, key, value, mask=mask).output, expected)


@pytest.mark.parametrize("axes", [(), (2,), (0,)])
def test_no_queries(axes: tuple[int, ...]) -> None:
    query, key, value = inputs(*axes, L=0)
    output, weights = attend(query, key, value)
    assert output.shape == (*axes, 0, 3)
    assert weights.shape == (*axes, 0, 7)


def test_importing_the_package_needs_torch_and_jaxtyping_alone() -> None:
    """What it imports beyond those two and their own needs is the standard library and itself."""
    program = """if True:
        import sys, torch, jaxtyping
        before = set(sys.modules)
        import attnbook
        print(*{name.partition(".")[0] for name in set(sys.modules) - before})
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    roots = {name.partition(".")[0] for name in done.stdout.split()}
    assert roots - set(sys.stdlib_module_names) - {"torch"} == {"attnbook"}
