"""Each score against a loop over indices from its paper's equation, in float64."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from attnbook import attend, softmax
from attnbook.scores import (
    Additive,
    Bilinear,
    Concat,
    Location,
    cosine,
    dot,
    gaussian,
    log_kernel,
    scaled_dot,
)

Vector = list[float]
QUERY_DIM, KEY_DIM, HIDDEN = 3, 2, 4


def vectors(query_dim: int = QUERY_DIM, key_dim: int = QUERY_DIM) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(5, query_dim).double(), torch.randn(6, key_dim).double()


def by_pair(oracle: Callable[[Vector, Vector], float], query: Tensor, key: Tensor) -> Tensor:
    rows = [[oracle(q, k) for k in key.tolist()] for q in query.tolist()]
    return torch.tensor(rows, dtype=torch.float64)


def inner(a: Vector, b: Vector) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def times(matrix: Tensor, x: Vector) -> Vector:
    return [inner(row, x) for row in matrix.tolist()]


def length(x: Vector) -> float:
    return math.sqrt(inner(x, x))


@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_dot(scale: float) -> None:
    query, key = vectors()
    assert_close(dot(scale)(query, key), by_pair(lambda q, k: scale * inner(q, k), query, key))
    assert_close(dot()(query, key), by_pair(inner, query, key))


def test_scaled_dot() -> None:
    query, key = vectors()
    expected = by_pair(lambda q, k: inner(q, k) / math.sqrt(len(q)), query, key)
    assert_close(scaled_dot(query, key), expected)


def test_scaled_dot_has_unit_variance() -> None:
    """Exactly: over all queries and keys of entries -1 and 1, which have mean 0 and variance 1."""
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 5).double()
    scores = scaled_dot(corners, corners)
    assert_close(scores.var(correction=0), torch.tensor(1.0).double())


@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_cosine(scale: float) -> None:
    query, key = vectors()
    expected = by_pair(lambda q, k: scale * inner(q, k) / (length(q) * length(k)), query, key)
    assert_close(cosine(scale)(query, key), expected)
    assert_close(cosine(scale)(100 * query, 0.01 * key), expected)


def test_cosine_of_a_zero_vector_is_zero_with_a_finite_gradient() -> None:
    query, key = (x.requires_grad_() for x in (torch.zeros(1, 3), torch.ones(2, 3)))
    scores = cosine()(query, key)
    assert scores.tolist() == [[0.0, 0.0]]
    for gradient in torch.autograd.grad(scores.sum(), (query, key)):
        assert gradient.isfinite().all()


@pytest.mark.parametrize("size", [1e-36, 1e-25, 1e-8, 1e20, 1e38])
def test_cosine_takes_vectors_of_any_length(size: float) -> None:
    x = torch.tensor([[1.0, -2.0, 0.5]])
    small = (size * x).requires_grad_()
    assert_close(cosine()(small, x), torch.ones(1, 1))
    (gradient,) = torch.autograd.grad(cosine()(small, x.flip(-1)).sum(), small)
    assert gradient.isfinite().all()


def test_cosine_in_float16_takes_any_length() -> None:
    """The length of the first is above float16's largest number; the guard at 0 is below its least.

    Both are there in float32.
    """
    x = torch.tensor([[60000.0] * 4, [0.0] * 4], dtype=torch.float16)
    assert cosine()(x, x).tolist() == [[1.0, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize("bandwidth", [1.0, 0.4, 3.0])
def test_gaussian(bandwidth: float) -> None:
    query, key = vectors()

    def oracle(q: Vector, k: Vector) -> float:
        return -math.fsum((x - y) ** 2 for x, y in zip(q, k, strict=True)) / (2 * bandwidth**2)

    assert_close(gaussian(bandwidth)(query, key), by_pair(oracle, query, key))


def test_gaussian_keeps_its_digits_far_from_the_origin() -> None:
    """|q|^2 - 2 q.k + |k|^2 would lose them: its terms are of the order of a million here."""
    x = (1000 + vectors()[0]).mul(256).round().div(256).float()  # so that x + 0.5 is exact
    assert (gaussian()(x, x).diag() == 0).all()
    assert (gaussian()(x, x + 0.5).diag() == -3 * 0.5**2 / 2).all()


@pytest.mark.parametrize(
    ("dtype", "far"), [(torch.float16, 60000.0), (torch.bfloat16, 1e30), (torch.float32, 1e30)]
)
def test_gaussian_forbids_no_key_however_far(dtype: torch.dtype, far: float) -> None:
    query, key = torch.tensor([[0.0]], dtype=dtype), torch.tensor([[far], [1.0]], dtype=dtype)
    scores = gaussian()(query, key)
    assert scores.tolist() == [[torch.finfo(dtype).min, -0.5]]
    assert softmax(gaussian()(query, key[:1])).tolist() == [[1.0]]


def test_gaussian_attention_is_nadaraya_watson() -> None:
    query, key = vectors()
    value, bandwidth = torch.randn(6, 2).double(), 0.7
    expected = torch.zeros(5, 2).double()
    for i, q in enumerate(query):
        kernel = [math.exp(-float((q - k).square().sum()) / (2 * bandwidth**2)) for k in key]
        for weight, v in zip(kernel, value, strict=True):
            expected[i] += weight * v / sum(kernel)
    assert_close(attend(query, key, value, score=gaussian(bandwidth)).output, expected)


def test_log_kernel() -> None:
    query, key = vectors()

    def oracle(q: Vector, k: Vector) -> float:
        return math.log(inner([math.exp(x) for x in q], [math.exp(x) for x in k]))

    assert_close(log_kernel(torch.exp)(query, key), by_pair(oracle, query, key))


def test_log_kernel_attention_is_linear_attention() -> None:
    """Katharopoulos et al. 2020, equation 4: the sums over keys are taken before the query comes.

    Under ReLU features some kernels are zero, and so are their weights.
    """
    query, key = vectors()
    value = torch.randn(6, 2).double()
    query[0] = -1.0  # no kernel at all: a dead row
    phi_q, phi_k = query.relu(), key.relu()
    numerator, denominator = phi_q @ (phi_k.mT @ value), phi_q @ phi_k.sum(0)[:, None]
    expected = numerator / denominator.masked_fill(denominator == 0, 1.0)
    query.requires_grad_()
    output, weights = attend(query, key, value, score=log_kernel(torch.relu))
    assert (weights[1:] == 0).any()
    assert (output[0] == 0).all()
    assert_close(output, expected)
    (gradient,) = torch.autograd.grad(output.sum(), query)
    assert gradient.isfinite().all()


def test_a_feature_map_that_breaks_its_promise_gives_nan() -> None:
    assert log_kernel(lambda x: x)(torch.ones(1, 2), -torch.ones(1, 2)).isnan().all()


def test_log_kernel_registers_its_feature_map() -> None:
    score = log_kernel(nn.Linear(3, 2))
    assert [name for name, _ in score.named_parameters()] == [
        "feature_map.weight",
        "feature_map.bias",
    ]


def test_additive() -> None:
    torch.manual_seed(1)
    score, (query, key) = Additive(QUERY_DIM, KEY_DIM, HIDDEN).double(), vectors(key_dim=KEY_DIM)
    W, U, (v,) = score.query.weight, score.key.weight, score.v.weight.tolist()

    def oracle(q: Vector, k: Vector) -> float:
        return inner(v, [math.tanh(a + b) for a, b in zip(times(W, q), times(U, k), strict=True)])

    assert_close(score(query, key).detach(), by_pair(oracle, query, key))


def test_additive_compares_keys_projected_before() -> None:
    torch.manual_seed(1)
    score, (query, key) = Additive(QUERY_DIM, KEY_DIM, HIDDEN).double(), vectors(key_dim=KEY_DIM)
    assert torch.equal(score.compare(score.query(query), score.key(key)), score(query, key))


def test_concat() -> None:
    torch.manual_seed(1)
    score, (query, key) = Concat(QUERY_DIM, KEY_DIM, HIDDEN).double(), vectors(key_dim=KEY_DIM)
    W, (v,) = score.joint.weight, score.v.weight.tolist()
    expected = by_pair(
        lambda q, k: inner(v, [math.tanh(x) for x in times(W, [*q, *k])]), query, key
    )
    assert_close(score(query, key).detach(), expected)


def test_concat_and_additive_are_one_family() -> None:
    additive, concat = (kind(QUERY_DIM, KEY_DIM, HIDDEN).double() for kind in (Additive, Concat))
    with torch.no_grad():
        concat.joint.weight.copy_(torch.cat([additive.query.weight, additive.key.weight], 1))
        concat.v.weight.copy_(additive.v.weight)
    query, key = vectors(key_dim=KEY_DIM)
    assert_close(concat(query, key), additive(query, key))


def test_bilinear() -> None:
    torch.manual_seed(1)
    score, (query, key) = Bilinear(QUERY_DIM, KEY_DIM).double(), vectors(key_dim=KEY_DIM)
    W = score.key.weight
    expected = by_pair(lambda q, k: inner(q, times(W, k)), query, key)
    assert_close(score(query, key).detach(), expected)


def test_location() -> None:
    torch.manual_seed(1)
    score, (query, key) = Location(QUERY_DIM, 9).double(), vectors(key_dim=KEY_DIM)
    W = score.position.weight
    expected = torch.tensor([times(W, q)[:6] for q in query.tolist()], dtype=torch.float64)
    assert_close(score(query, key).detach(), expected)
    assert torch.equal(score(query, -key), score(query, key))
    assert score(query, torch.zeros(9, 1).double()).shape == (5, 9)


@pytest.mark.parametrize(
    "score",
    [
        dot(),
        scaled_dot,
        cosine(),
        gaussian(),
        log_kernel(torch.exp),
        Additive(3, 3, 4),
        Concat(3, 3, 4),
        Bilinear(3, 3),
        Location(3, 9),
    ],
    ids=lambda score: getattr(score, "__qualname__", type(score).__name__).partition(".")[0],
)
@pytest.mark.parametrize(
    ("query_axes", "key_axes"), [((2,), ()), ((), (2,)), ((4, 1), (2,)), ((2, 1, 1), (3, 4))]
)
def test_leading_axes_broadcast(
    score: Callable[[Tensor, Tensor], Tensor], query_axes: tuple[int], key_axes: tuple[int]
) -> None:
    query, key = torch.randn(*query_axes, 5, 3), torch.randn(*key_axes, 6, 3)
    axes = torch.broadcast_shapes(query_axes, key_axes)
    expanded = score(query.expand(*axes, 5, 3), key.expand(*axes, 6, 3))
    assert expanded.shape == (*axes, 5, 6)
    assert_close(score(query, key), expanded)


def test_scaling_is_what_keeps_softmax_from_saturating() -> None:
    """At width 4096 an unscaled row is nearly one-hot; a scaled one is as soft as at width 16."""
    torch.manual_seed(0)

    def largest_weight(score: Callable[[Tensor, Tensor], Tensor], width: int) -> float:
        query, key = torch.randn(200, width), torch.randn(64, width)
        return float(softmax(score(query, key)).amax(-1).mean())

    assert largest_weight(dot(), 4096) > 0.8
    assert abs(largest_weight(scaled_dot, 4096) - largest_weight(scaled_dot, 16)) < 0.03
