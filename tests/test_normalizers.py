"""Each normaliser against a loop from its paper's equation, and against other packages."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import entmax as other_package
import pytest
import scipy.optimize
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from attnbook.normalizers import (
    LinearChain,
    entmax,
    gumbel,
    hardmax,
    log_probability,
    sample,
    sigmoid,
    softmax,
    sparsemax,
)

INF = float("inf")
ALPHAS = [1.0 + 1e-9, 1.001, 1.01, 1.1, 1.25, 1.499, 1.5, 1.501, 1.75, 1.9, 1.999, 2.0]

lists_of_scores = st.lists(st.floats(-20, 20), min_size=1, max_size=8)
alphas = st.floats(1.01, 2.0)
few = settings(max_examples=40, deadline=None, derandomize=True)


def rows(count: int = 40, keys: int = 6, spread: float = 2.0) -> Tensor:
    torch.manual_seed(0)
    return spread * torch.randn(count, keys, dtype=torch.float64)


def by_row(oracle: Callable[[list[float]], list[float]], scores: Tensor) -> Tensor:
    return torch.tensor([oracle(row) for row in scores.tolist()], dtype=torch.float64)


# Softmax, sigmoid, hardmax


def softmax_oracle(z: list[float], temperature: float = 1.0) -> list[float]:
    """Bahdanau et al. 2015, equation 6."""
    total = math.fsum(math.exp(x / temperature) for x in z)
    return [math.exp(x / temperature) / total for x in z]


@pytest.mark.parametrize("temperature", [0.3, 1.0, 7.0])
def test_softmax(temperature: float) -> None:
    z = rows()
    expected = by_row(lambda row: softmax_oracle(row, temperature), z)
    assert_close(softmax(z, temperature), expected)


def test_sigmoid() -> None:
    z = rows()
    assert_close(sigmoid(z), by_row(lambda row: [1 / (1 + math.exp(-x)) for x in row], z))


def test_hardmax() -> None:
    z = rows()
    assert_close(hardmax(z), by_row(lambda row: [float(x == max(row)) for x in row], z))


def test_hardmax_sees_a_lead_too_small_for_softmax() -> None:
    """exp(-1e-9) is 1 in float32, but the scores are not equal."""
    z = torch.tensor([0.0, 1e-9, 0.0])
    assert hardmax(z).tolist() == [0.0, 1.0, 0.0]


@pytest.mark.parametrize("soft", [softmax, lambda z: seeded(gumbel(0.6), z)])
def test_straight_through(soft: Callable[[Tensor], Tensor]) -> None:
    """The gradient of the hard weights is that of the soft ones."""
    hard = hardmax if soft is softmax else lambda z: seeded(gumbel(0.6, hard=True), z)
    z, upstream = rows().requires_grad_(), torch.randn(40, 6, dtype=torch.float64)
    assert set(hard(z).unique().tolist()) == {0.0, 1.0}
    gradients = [torch.autograd.grad((f(z) * upstream).sum(), z)[0] for f in (hard, soft)]
    assert_close(*gradients, rtol=0, atol=0)


def seeded(normalize: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    torch.manual_seed(9)
    return normalize(z)


@pytest.mark.parametrize("normalize", [softmax, sparsemax, entmax(1.5), entmax(1.3)])
def test_equal_scores_share_and_the_first_of_them_wins(
    normalize: Callable[[Tensor], Tensor],
) -> None:
    for z in ([0.0] * 5, [3.0, 3.0, 1.0], [-7.0, 2.0, 2.0, 2.0]):
        weights = normalize(torch.tensor(z, dtype=torch.float64))
        top = [x == max(z) for x in z]
        assert len(set(weights[top].tolist())) == 1
        assert hardmax(torch.tensor(z)).tolist().index(1.0) == top.index(True)


# Sparsemax and entmax


def entmax_oracle(z: list[float], alpha: float) -> list[float]:
    """Peters, Niculae, Martins 2019, equation 10, with tau from scipy's root finder.

    tau is written as (alpha - 1)(max - c) - 1, and the power through log1p, so that the oracle
    stays exact as alpha falls to 1.
    """
    top = max(z)

    def weights(c: float) -> list[float]:
        bases = [(alpha - 1) * (x - top - c) for x in z]
        return [math.exp(math.log1p(u) / (alpha - 1)) if u > -1 else 0.0 for u in bases]

    c = scipy.optimize.brentq(
        lambda c: math.fsum(weights(c)) - 1,
        0.0,
        1 / (alpha - 1) if alpha > 1.1 else 50.0,
        xtol=1e-15,
        rtol=1e-14,
    )
    return weights(c)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_entmax(alpha: float) -> None:
    z = rows(20)
    expected = by_row(lambda row: entmax_oracle(row, alpha), z)
    assert_close(entmax(alpha)(z), expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("keys", [1, 2, 7, 1000])
def test_entmax_in_float32_is_as_good_as_float32(alpha: float, keys: int) -> None:
    """The error of a weight is at most that of two roundings of scores of size 10.

    A change of `delta` in the scores changes weight `p` by at most `2 delta p^(2 - alpha)`, as the
    Jacobian in `test_the_gradient_of_entmax` shows.
    """
    z = rows(20, keys, spread=3.0).float()
    weights, exact = entmax(alpha)(z).double(), entmax(alpha)(z.double())
    eps = torch.finfo(torch.float32).eps
    sensitivity = (torch.maximum(weights, exact) + eps) ** (2 - alpha)
    assert ((weights - exact).abs() <= 2 * 10 * eps * sensitivity).all()
    assert ((weights.sum(-1) - 1).abs() <= 10 * eps).all()


def test_sparsemax_is_the_nearest_point_of_the_simplex() -> None:
    """Martins, Astudillo 2016, equation 1: every support is tried, and the nearest point taken."""

    def nearest(z: list[float]) -> list[float]:
        best, best_distance = [], INF
        for support in itertools.product([False, True], repeat=len(z)):
            if not any(support):
                continue
            inside = [x for x, s in zip(z, support, strict=True) if s]
            tau = (math.fsum(inside) - 1) / len(inside)
            point = [x - tau if s else 0.0 for x, s in zip(z, support, strict=True)]
            distance = math.fsum((p - x) ** 2 for p, x in zip(point, z, strict=True))
            if min(point) >= 0 and distance < best_distance:
                best, best_distance = point, distance
        return best

    z = rows()
    assert_close(sparsemax(z), by_row(nearest, z))
    assert (sparsemax(z) == 0).any()


@pytest.mark.parametrize("alpha", [1.2, 1.5, 2.0])
def test_entmax_maximises_what_it_is_defined_to(alpha: float) -> None:
    """Peters et al. 2019, equation 8: p . z + H(p) on the simplex, by a general-purpose solver."""
    z = rows(5, 4, spread=1.0)

    def solve(row: list[float]) -> list[float]:
        def loss(p: Any) -> float:
            tsallis = (1 - sum(x**alpha for x in p)) / (alpha * (alpha - 1))
            return -(sum(x * s for x, s in zip(p, row, strict=True)) + tsallis)

        return scipy.optimize.minimize(
            loss,
            [0.25] * 4,
            bounds=[(0, 1)] * 4,
            method="SLSQP",
            constraints={"type": "eq", "fun": lambda p: sum(p) - 1},
            options={"ftol": 1e-15, "maxiter": 500},
        ).x.tolist()

    assert_close(entmax(alpha)(z), by_row(solve, z), rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (sparsemax, other_package.sparsemax),
        (entmax(1.5), other_package.entmax15),
        (entmax(1.3), lambda z: other_package.entmax_bisect(z, 1.3, n_iter=60)),
        (entmax(1.9), lambda z: other_package.entmax_bisect(z, 1.9, n_iter=60)),
    ],
    ids=["sparsemax", "1.5", "1.3", "1.9"],
)
def test_entmax_is_that_of_its_authors(ours: Any, theirs: Any) -> None:
    """Values and gradients."""
    z = rows().requires_grad_()
    upstream = torch.randn_like(z)
    assert_close(ours(z), theirs(z), rtol=0, atol=1e-12)
    gradients = [torch.autograd.grad((f(z) * upstream).sum(), z)[0] for f in (ours, theirs)]
    assert_close(*gradients, rtol=0, atol=1e-10)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_the_gradient_of_entmax(alpha: float) -> None:
    """Peters et al. 2019, proposition 2: diag(s) - s s^T / sum(s), s = p^(2 - alpha) or 0."""
    z = rows(1)[0]
    jacobian = torch.autograd.functional.jacobian(entmax(alpha), z)
    p = torch.tensor(entmax_oracle(z.tolist(), alpha), dtype=torch.float64)
    s = torch.where(p > 0, p ** (2 - alpha), 0.0)
    assert_close(jacobian, s.diag() - torch.outer(s, s) / s.sum(), rtol=0, atol=1e-8)


def test_entmax_joins_softmax_to_sparsemax() -> None:
    z = rows()
    assert_close(entmax(1 + 1e-12)(z), softmax(z), rtol=0, atol=1e-10)
    assert torch.equal(entmax(2.0)(z), sparsemax(z))
    support = [(entmax(alpha)(z) > 0).sum().item() for alpha in (1.1, 1.5, 2.0)]
    assert support == sorted(support, reverse=True)
    assert support[0] > support[-1]


@pytest.mark.parametrize("alpha", ALPHAS)
def test_entmax_does_not_jump_between_its_algorithms(alpha: float) -> None:
    """A neighbouring alpha gives neighbouring weights: sorting and bisection agree."""
    z = rows()
    near = alpha - 1e-7 if alpha > 1.0001 else alpha + 1e-7
    assert_close(entmax(near)(z), entmax(alpha)(z), rtol=0, atol=1e-5)


# Properties


@few
@given(lists_of_scores, st.floats(-100, 100), alphas)
def test_a_shift_of_all_scores_changes_nothing(z: list[float], shift: float, alpha: float) -> None:
    scores = torch.tensor(z, dtype=torch.float64)
    for normalize in (softmax, sparsemax, entmax(alpha), entmax(1.5)):
        assert_close(normalize(scores + shift), normalize(scores), rtol=0, atol=1e-11)


@few
@given(lists_of_scores, alphas)
def test_weights_are_a_distribution_in_the_order_of_the_scores(
    z: list[float], alpha: float
) -> None:
    scores = torch.tensor(z, dtype=torch.float64)
    for normalize in (softmax, sparsemax, entmax(alpha), entmax(1.5)):
        weights = normalize(scores)
        assert (weights >= 0).all()
        assert_close(weights.sum(), torch.tensor(1.0).double())
        assert (weights[scores.argsort()].diff() >= -1e-12).all()


@few
@given(lists_of_scores, st.floats(0.05, 20))
def test_temperature_divides_the_scores(z: list[float], temperature: float) -> None:
    scores = torch.tensor(z, dtype=torch.float64)
    assert_close(softmax(scores, temperature), softmax(scores / temperature))


@few
@given(lists_of_scores)
def test_sparsemax_leaves_a_distribution_alone(z: list[float]) -> None:
    distribution = softmax(torch.tensor(z, dtype=torch.float64))
    assert_close(sparsemax(distribution), distribution)


# Extremes

LARGE = [1e4, 65504.0, 1e30, torch.finfo(torch.float32).max]
NORMALIZERS = {
    "softmax": softmax,
    "softmax, cold": lambda z: softmax(z, 1e-3),
    "softmax, frozen": lambda z: softmax(z, 1e-42),
    "sparsemax": sparsemax,
    **{f"entmax {alpha}": entmax(alpha) for alpha in (1.0 + 1e-9, 1.2, 1.5, 1.999)},
    "sigmoid": sigmoid,
    "hardmax": hardmax,
    "gumbel": gumbel(0.5),
    "gumbel, frozen": gumbel(1e-42),
    "sample": sample(),
    "LinearChain": LinearChain(),
}


@pytest.mark.parametrize("name", NORMALIZERS)
@pytest.mark.parametrize("large", LARGE)
def test_large_scores_stay_finite(name: str, large: float) -> None:
    """One score far above the rest takes all; the gradient is finite."""
    normalize = NORMALIZERS[name]
    z = torch.tensor([[-large, large, 0.0, -INF]], requires_grad=True)
    weights = normalize(z)
    selected = [0.0, 1.0, 0.5, 0.0] if name in ("sigmoid", "LinearChain") else [0.0, 1.0, 0.0, 0.0]
    assert_close(weights, torch.tensor([selected]))
    if weights.requires_grad:
        (gradient,) = torch.autograd.grad(weights.square().sum(), z)
        assert gradient.isfinite().all()


@pytest.mark.parametrize("name", NORMALIZERS)
@pytest.mark.parametrize("row", [[1.0, math.nan, 0.0, -INF], [math.nan, math.nan, -INF, -INF]])
def test_what_is_not_a_number_is_not_hidden(name: str, row: list[float]) -> None:
    weights = NORMALIZERS[name](torch.tensor([row, [0.0, 1.0, 2.0, -INF]]))
    assert weights[0, 1].isnan()
    assert weights[0, 3] == 0
    assert weights[1].isfinite().all()


def test_an_infinite_score_gives_nan_whichever_the_family() -> None:
    z = torch.tensor([0.0, INF, 1.0])
    for normalize in (softmax, sparsemax, entmax(1.5), entmax(1.3)):
        assert normalize(z).isnan().any()


@pytest.mark.parametrize("name", NORMALIZERS)
def test_one_key_gets_all_the_weight_there_is(name: str) -> None:
    z = torch.tensor([[-3.0], [0.0], [1e4], [-INF]])
    all_there_is = (
        sigmoid(z) if name in ("sigmoid", "LinearChain") else [[1.0], [1.0], [1.0], [0.0]]
    )
    assert_close(NORMALIZERS[name](z).detach(), torch.as_tensor(all_there_is))


# Linear chain


def chain_oracle(z: list[float], transition: list[list[float]]) -> list[float]:
    """Kim et al. 2017, section 3.1, by enumerating the 2^S taggings; -inf is out of the chain."""
    total, selected = 0.0, [0.0] * len(z)
    for tags in itertools.product([0, 1], repeat=len(z)):
        if any(tag and x == -INF for tag, x in zip(tags, z, strict=True)):
            continue
        potential = sum(x for tag, x in zip(tags, z, strict=True) if tag)
        for i in range(len(z) - 1):
            if z[i] != -INF and z[i + 1] != -INF:
                potential += transition[tags[i]][tags[i + 1]]
        total += math.exp(potential)
        for i, tag in enumerate(tags):
            selected[i] += tag * math.exp(potential)
    return [weight / total for weight in selected]


def chain(seed: int = 0) -> LinearChain:
    torch.manual_seed(seed)
    module = LinearChain().double()
    torch.nn.init.normal_(module.transition, std=1.5)
    return module


@pytest.mark.parametrize("keys", [1, 2, 3, 7])
@pytest.mark.parametrize("gaps", [False, True])
def test_linear_chain(keys: int, gaps: bool) -> None:
    module, z = chain(), rows(20, keys)
    if gaps:
        z = z.masked_fill(torch.rand_like(z) < 0.4, -INF)
    expected = by_row(lambda row: chain_oracle(row, module.transition.tolist()), z)
    assert_close(module(z).detach(), expected)


def test_a_gap_cuts_the_chain_in_two() -> None:
    module, z = chain(), rows(1, 5)[0]
    whole = torch.cat([z[:2], torch.tensor([-INF]), z[3:]])
    assert_close(module(whole), torch.cat([module(z[:2]), torch.zeros(1), module(z[3:])]))


def test_a_chain_without_transitions_is_sigmoid() -> None:
    z = rows()
    assert_close(LinearChain().double()(z).detach(), sigmoid(z))


def test_the_gradient_of_a_chain_is_a_covariance() -> None:
    """d marginal_i / d score_j = cov(tag_i, tag_j): symmetric, with p (1 - p) on the diagonal."""
    module, z = chain(), rows(1, 6)[0]
    jacobian = torch.autograd.functional.jacobian(module, z)
    p = module(z).detach()
    assert_close(jacobian, jacobian.mT)
    assert_close(jacobian.diag(), p * (1 - p))


@pytest.mark.parametrize("spread", [1.0, 10.0, 1000.0])
def test_a_long_chain_keeps_its_digits(spread: float) -> None:
    """Float32 errs by the rounding of a few scores, not of their sum along the chain.

    A marginal changes by at most a quarter of the change of its own log-odds, which a rounding of
    each link or score moves by an ever smaller part the further away it is.
    """
    module, z = chain(), rows(4, 400, spread).float()
    exact = module(z.double())
    assert_close(chain().float()(z).double(), exact, rtol=0, atol=20 * spread * 1.2e-7)


# Random normalisers

ROW = [0.5, -1.0, 2.0, 0.0]


def chi_square_p(counts: Tensor, probabilities: Tensor) -> float:
    expected = probabilities * counts.sum()
    assert counts[probabilities == 0].sum() == 0
    live = probabilities > 0
    return scipy.stats.chisquare(counts[live].numpy(), expected[live].numpy()).pvalue


@pytest.mark.parametrize("name", ["sample", "gumbel, hard", "largest of gumbel"])
@pytest.mark.parametrize("z", [ROW, [*ROW, -INF], [0.0, 0.0]])
def test_keys_are_drawn_with_their_probabilities(name: str, z: list[float]) -> None:
    generator = torch.Generator().manual_seed(1)
    normalize = {
        "sample": sample(generator),
        "gumbel, hard": gumbel(0.4, hard=True, generator=generator),
        "largest of gumbel": lambda s: hardmax(gumbel(3.0, generator=generator)(s)),
    }[name]
    scores = torch.tensor(z, dtype=torch.float64)
    draws = normalize(scores.expand(20_000, -1))
    assert (draws.sum(-1) == 1).all()
    assert chi_square_p(draws.sum(0), softmax(scores)) > 1e-3


def test_a_relaxed_sample_has_the_concrete_density() -> None:
    """Of two keys, the log-odds times the temperature are logistic around z_1 - z_2 (Maddison)."""
    z, temperature = torch.tensor([0.3, -0.9], dtype=torch.float64), 0.7
    weights = gumbel(temperature, generator=torch.Generator().manual_seed(2))(z.expand(5_000, 2))
    log_odds = temperature * (weights[:, 0].log() - weights[:, 1].log())
    logistic = scipy.stats.logistic(loc=float(z[0] - z[1]))
    assert scipy.stats.kstest(log_odds.numpy(), logistic.cdf).pvalue > 1e-3


def test_a_generator_is_the_only_source_of_noise() -> None:
    for make in (lambda g: gumbel(generator=g), lambda g: sample(g)):
        z, results = rows(), []
        for seed in (1, 2):
            torch.manual_seed(seed)
            results.append(make(torch.Generator().manual_seed(5))(z))
        assert torch.equal(*results)


def test_no_gradient_passes_through_a_draw() -> None:
    assert not sample()(rows().requires_grad_()).requires_grad


@pytest.mark.parametrize("temperature", [1e-50, 5e-324, 1e-42])
def test_a_temperature_below_the_numbers_of_the_type_takes_the_largest(temperature: float) -> None:
    z = torch.tensor([0.0, 1.0, -INF], requires_grad=True)
    weights = softmax(z, temperature)
    assert weights.tolist() == [0, 1, 0]
    (gradient,) = torch.autograd.grad(weights[0], z)
    assert gradient.isfinite().all()
    assert gumbel(temperature)(z).detach().sort().values.tolist() == [0, 0, 1]


@pytest.mark.parametrize("temperature", [INF, 1e300, 1e39])
def test_a_temperature_above_the_numbers_of_the_type_makes_weights_equal(
    temperature: float,
) -> None:
    z = torch.tensor([0.0, 1.0, -INF])
    assert softmax(z, temperature).tolist() == [0.5, 0.5, 0]
    assert gumbel(temperature)(z).tolist() == [0.5, 0.5, 0]
    assert softmax(z.half(), temperature).tolist() == [0.5, 0.5, 0]


def test_log_probability_of_what_is_forbidden_in_a_dead_row() -> None:
    z = torch.full((2, 2), -INF, requires_grad=True)
    found = log_probability(z, torch.tensor([[0.0, 1.0], [0.0, 0.0]]))
    assert found.tolist() == [-INF, 0]
    (gradient,) = torch.autograd.grad(found.sum(), z)
    assert gradient.eq(0).all()


def test_log_probability() -> None:
    z = torch.tensor([ROW, ROW, [0.0, -INF, 1.0, -INF], [-INF] * 4, ROW], dtype=torch.float64)
    choice = torch.zeros(5, 4, dtype=torch.float64)
    for row, chosen in ((0, 2), (1, 0), (2, 0), (4, None)):
        if chosen is not None:
            choice[row, chosen] = 1.0
    total = sum(math.exp(x) for x in ROW)
    expected = [
        math.log(math.exp(2.0) / total),
        math.log(math.exp(0.5) / total),
        math.log(1 / (1 + math.e)),
        0.0,
        0.0,
    ]
    assert_close(log_probability(z, choice), torch.tensor(expected, dtype=torch.float64))
    forbidden = torch.tensor([0.0, 1.0, 0.0, 0.0], dtype=torch.float64)
    assert log_probability(z[2], forbidden) == -INF
    z.requires_grad_()
    (gradient,) = torch.autograd.grad(log_probability(z, choice).sum(), z)
    assert gradient.isfinite().all()
    assert (gradient[3:] == 0).all()


@pytest.mark.parametrize("z", [ROW, [*ROW, -INF]])
def test_reinforce_is_unbiased(z: list[float]) -> None:
    """Williams 1992: E[reward x gradient of the log-probability] = gradient of E[reward].

    The left side is a sum over every choice, so that this is an identity, not an estimate.
    """
    scores = torch.tensor(z, dtype=torch.float64, requires_grad=True)
    rewards = torch.linspace(-1, 2, len(z), dtype=torch.float64) ** 3
    (expected,) = torch.autograd.grad((softmax(scores) * rewards).sum(), scores)
    estimate = torch.zeros_like(expected)
    for choice, probability, reward in zip(
        torch.eye(len(z)).double(), softmax(scores).detach(), rewards, strict=True
    ):
        if probability > 0:
            score_function = torch.autograd.grad(log_probability(scores, choice), scores)[0]
            estimate += probability * reward * score_function
    assert_close(estimate, expected)


@pytest.mark.parametrize("z", [ROW, [*ROW, -INF]])
def test_a_baseline_leaves_the_mean_and_changes_the_variance(z: list[float]) -> None:
    """Any constant may be taken off the reward; E[r |g|^2] / E[|g|^2] leaves the least variance.

    Every choice that can be drawn is listed, so mean and variance are exact.
    """
    scores = torch.tensor(z, dtype=torch.float64, requires_grad=True)
    rewards = torch.tensor([3.0, -1.0, 0.5, 2.0], dtype=torch.float64)
    probability = softmax(scores).detach()[:4]
    (true,) = torch.autograd.grad((softmax(scores)[:4] * rewards).sum(), scores)
    g = torch.stack(
        [
            torch.autograd.grad(log_probability(scores, choice), scores)[0]
            for choice in torch.eye(4, len(z), dtype=torch.float64)
        ]
    )

    def moments(baseline: float) -> tuple[Tensor, float]:
        estimates = (rewards - baseline)[:, None] * g
        mean = probability @ estimates
        return mean, float(probability @ (estimates - mean).square().sum(-1))

    size = probability * g.square().sum(-1)
    best = float((size * rewards).sum() / size.sum())
    for baseline in (-100.0, 0.0, float(probability @ rewards), best - 0.1, best, best + 0.1):
        mean, variance = moments(baseline)
        assert_close(mean, true)
        assert baseline == best or variance > moments(best)[1]


def test_straight_through_is_exact_where_the_reward_is_linear() -> None:
    """The estimate is J times the reward's slope at the one-hot weights: the same for each draw."""
    z, rewards = rows(1, 4)[0], torch.tensor([3.0, -1.0, 0.5, 2.0], dtype=torch.float64)
    z.requires_grad_()
    (true,) = torch.autograd.grad(softmax(z) @ rewards, z)
    (found,) = torch.autograd.grad(hardmax(z) @ rewards, z)
    assert_close(found, true)
    (true,) = torch.autograd.grad(softmax(z) @ rewards.square(), z)
    (found,) = torch.autograd.grad((hardmax(z) @ rewards).square(), z)
    assert not torch.allclose(found, true)


def test_softmax_keeps_ratios_in_a_window_and_sparsemax_does_not() -> None:
    z, near = rows(20), torch.tensor([True, True, True, False, False, False])
    for normalize, same in ((softmax, True), (sparsemax, False), (entmax(1.5), False)):
        cut = normalize(z) * near
        live = cut.sum(-1) > 0
        cut = cut[live] / cut[live].sum(-1, keepdim=True)
        assert torch.allclose(cut, normalize(z.masked_fill(~near, -INF))[live]) is same


@pytest.mark.parametrize(("alpha", "kink"), [(2.0, 0.5), (1.5, 0.0), (1.25, 0.0)])
def test_sparsemax_has_a_kink_and_entmax_has_none(alpha: float, kink: float) -> None:
    """Of two keys the better takes all from a lead of 1 / (alpha - 1); the slopes on both sides."""
    lead, h = 1 / (alpha - 1), 1e-6
    z = torch.tensor([[lead - h, 0], [lead, 0], [lead + h, 0]], dtype=torch.float64)
    weights = entmax(alpha)(z)[:, 0]
    before, after = (weights.diff() / h).tolist()
    assert weights[1] == 1
    assert abs(before - kink) < 1e-5
    assert after == 0
