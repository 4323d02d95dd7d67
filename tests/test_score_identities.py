"""What chapter 03 proves: which scores are one, how far they spread, what softmax passes back."""

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from attnbook import attention_weights, softmax
from attnbook.scores import Bilinear, cosine, dot, gaussian, scaled_dot


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize("bandwidth", [0.3, 1.0, 5.0])
@pytest.mark.parametrize("length", [0.2, 1.0, 7.0])
def test_gaussian_is_dot_for_keys_of_equal_length(bandwidth: float, length: float) -> None:
    """Whatever the lengths of the queries."""
    query, key = normal(5, 3) * torch.logspace(-2, 1, 5)[:, None], normal(6, 3)
    key = length * nn.functional.normalize(key, dim=-1)
    by_distance = attention_weights(query, key, score=gaussian(bandwidth))
    assert_close(by_distance, attention_weights(query, key, score=dot(bandwidth**-2)))
    cosines = attention_weights(query, key, score=cosine(length / bandwidth**2))
    unit = nn.functional.normalize(query, dim=-1)
    assert_close(attention_weights(unit, key, score=gaussian(bandwidth)), cosines)


def test_two_projections_are_a_bilinear_score_of_low_rank() -> None:
    to_query, to_key = nn.Linear(5, 2, bias=False).double(), nn.Linear(7, 2, bias=False).double()
    full = Bilinear(5, 7).double()
    with torch.no_grad():
        full.key.weight.copy_(to_query.weight.T @ to_key.weight)
    query, key = normal(3, 5), normal(4, 7)
    assert_close(full(query, key), dot()(to_query(query), to_key(key)))
    assert torch.linalg.matrix_rank(full.key.weight) == 2


def test_an_additive_score_separates() -> None:
    """tanh(a + b) = 1 - 2 / (exp(2a) exp(2b) + 1)."""
    a, b = 3 * normal(50, 1), 3 * normal(1, 60)
    assert_close(1 - 2 / (torch.exp(2 * a) * torch.exp(2 * b) + 1), torch.tanh(a + b))


def test_scores_of_a_row_spread_as_the_length_of_its_query() -> None:
    """Exactly: one query, and all keys of entries -1 and 1."""
    key = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0]).double()] * 5)
    query = normal(4, 5)
    variances = dot()(query, key).var(dim=-1, correction=0)
    assert_close(variances, query.square().sum(-1))
    assert_close(scaled_dot(query, key).var(dim=-1, correction=0), variances / 5)


@pytest.mark.parametrize("size", [0.1, 1.0, 10.0])
def test_no_eigenvalue_of_the_softmax_jacobian_exceeds_a_half(size: float) -> None:
    scores = size * normal(500, 6)
    scores[0] = torch.tensor([100.0, 100.0, 0.0, 0.0, 0.0, 0.0])
    jacobians = torch.vmap(torch.func.jacrev(softmax))(scores)
    alpha = softmax(scores)
    assert_close(jacobians, torch.diag_embed(alpha) - alpha[:, :, None] * alpha[:, None, :])
    largest = torch.linalg.eigvalsh(jacobians)[:, -1]
    assert largest.max() <= 0.5 + 1e-12
    assert_close(largest[0], torch.tensor(0.5).double())  # two keys share the weight


def test_no_weight_under_cosine_exceeds_its_bound() -> None:
    """It is reached where one key lies along the query and all others against it."""
    beta, keys = 3.0, 8
    bound = 1 / (1 + (keys - 1) * torch.exp(torch.tensor(-2 * beta).double()))
    query, key = normal(200, 2), normal(keys, 2)
    assert attention_weights(query, key, score=cosine(beta)).max() <= bound
    signs = torch.tensor([1.0] + [-1.0] * (keys - 1)).double()
    best = attention_weights(query[:1], signs[:, None] * query[:1], score=cosine(beta))
    assert_close(best[0, 0], bound)
