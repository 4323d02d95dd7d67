"""The theorems on modern Hopfield networks, in float64, over random sets."""

import math

import pytest
import torch
from building import as_installed
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import lambertw
from torch import Tensor
from torch.testing import assert_close

from attnbook import hopfield_bounds
from attnbook.hopfield_bounds import error_bound, proven_capacity, separation, well_separated
from attnbook.modern_hopfield import retrieve, update

small = settings(max_examples=20, deadline=None)
drawn = given(
    st.integers(2, 9), st.integers(1, 8), st.floats(0.05, 30.0), st.floats(0.0, 2.0),
    st.integers(0, 999),
)  # fmt: skip


def near(S: int, D: int, distance: float, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Patterns, a state at most so far from each, and how far it is."""
    generator = torch.Generator().manual_seed(seed)
    patterns = torch.randn(S, D, generator=generator, dtype=torch.float64)
    away = torch.randn(S, D, generator=generator, dtype=torch.float64)
    share = torch.rand(S, 1, generator=generator, dtype=torch.float64)
    away = distance * share * away / away.norm(dim=-1, keepdim=True)
    return patterns, patterns + away, away.norm(dim=-1)


def error(patterns: Tensor, weights: Tensor) -> Tensor:
    """`|f(xi) - x_i|` as the sum of `p_j (x_j - x_i)`: small errors keep their digits."""
    differences = patterns - patterns[:, None]
    return (weights[..., None] * differences).sum(dim=-2).norm(dim=-1)


def test_separation_is_the_papers() -> None:
    patterns = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0)).double()
    for x, found in zip(patterns, separation(patterns), strict=True):
        for i in range(6):
            gaps = [(x[i] @ x[i] - x[i] @ x[j]).item() for j in range(6) if j != i]
            assert found[i].item() == pytest.approx(min(gaps))
    assert separation(patterns[:, :1]).tolist() == [[math.inf], [math.inf]]


def test_separation_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    patterns = torch.randn(2, 11, 4).double()
    whole = separation(patterns)
    monkeypatch.setattr(hopfield_bounds, "ROWS", 4)
    assert_close(separation(patterns), whole)


@small
@drawn
def test_one_update_lands_within_the_bound(
    S: int, D: int, beta: float, distance: float, seed: int
) -> None:
    """Theorem 5, with the distance of the start alone."""
    patterns, state, away = near(S, D, distance, seed)
    weights = update(state, patterns, beta=beta).weights
    bound = error_bound(patterns, away, beta=beta)
    assert (error(patterns, weights) <= bound * (1 + 1e-9)).all()


@pytest.mark.parametrize("beta", [0.5, 2.0])
def test_the_bound_is_the_papers(beta: float) -> None:
    patterns, _, away = near(5, 4, 1.0, seed=3)
    M = max(x.norm().item() for x in patterns)
    for i, bound in enumerate(error_bound(patterns, away, beta=beta).tolist()):
        gap = min((patterns[i] @ (patterns[i] - patterns[j])).item() for j in range(5) if j != i)
        wanted = 2 * (5 - 1) * math.exp(-beta * (gap - 2 * away[i].item() * M)) * M
        assert bound == pytest.approx(wanted)


@small
@given(
    st.integers(2, 9), st.integers(2, 8), st.floats(0.5, 30.0), st.floats(1.0, 6.0),
    st.integers(0, 999),
)  # fmt: skip
def test_a_well_separated_pattern_is_stored(
    S: int, D: int, beta: float, length: float, seed: int
) -> None:
    """From anywhere in its ball to one fixed point in it, and the balls do not meet."""
    generator = torch.Generator().manual_seed(seed)
    patterns = length * torch.randn(S, D, generator=generator, dtype=torch.float64)
    sure = well_separated(patterns, beta=beta)
    radius = 1 / (beta * S * patterns.norm(dim=-1).max())
    away = torch.randn(6, S, D, generator=generator, dtype=torch.float64)
    away = radius * away / away.norm(dim=-1, keepdim=True)
    found = retrieve(patterns + away, patterns, beta=beta, tolerance=1e-12, max_steps=200)
    inside = (found.state - patterns).norm(dim=-1) <= radius * (1 + 1e-9) + 1e-12
    assert inside[:, sure].all()
    assert found.converged[:, sure].all()
    spread = (found.state - found.state[:1]).norm(dim=-1)
    assert (spread[:, sure] <= 1e-9).all()
    apart = torch.cdist(patterns, patterns)[sure][:, sure].fill_diagonal_(math.inf)
    assert (apart > 2 * radius * (1 - 1e-9)).all()


def test_well_separated_happens_and_does_not() -> None:
    assert well_separated(4 * torch.eye(5)).all()
    assert not well_separated(0.1 * torch.eye(5)).any()  # each is, alone; but not apart
    twins = torch.cat([4 * torch.eye(4), 4 * torch.eye(4)[:1]])
    assert well_separated(twins).tolist() == [False, True, True, True, False]
    assert well_separated(torch.randn(1, 3)).all()


@pytest.mark.parametrize("beta", [0.2, 1.0, 5.0])
@pytest.mark.parametrize("dim", [2, 5, 20, 75, 300])
def test_the_capacity_theorem_with_scipys_lambert(dim: int, beta: float) -> None:
    K, p = 1.7, 0.01
    a = 2 / (dim - 1) * (1 + math.log(2 * beta * K**2 * p * (dim - 1)))
    b = 2 * K**2 * beta / 5
    c = b / lambertw(math.exp(a + math.log(b))).real
    found = proven_capacity(dim, beta=beta, spread=K, failure=p)
    assert found.base == pytest.approx(c)
    assert found.patterns == pytest.approx(math.sqrt(p) * c ** ((dim - 1) / 4))
    assert found.applies == (c >= (2 / math.sqrt(p)) ** (4 / (dim - 1)))


def test_the_papers_two_constants() -> None:
    """3.1546 for d = 20 has K = 3; 1.3718 for d = 75, cut and not rounded, has K = 1."""
    assert f"{proven_capacity(20, spread=3.0).base:.4f}" == "3.1546"
    assert math.floor(1e4 * proven_capacity(75).base) / 1e4 == 1.3718
    assert proven_capacity(75, spread=3.0).base > 3
    assert proven_capacity(20, spread=3.0).applies
    assert proven_capacity(75).applies
    assert not proven_capacity(5).applies


def test_a_capacity_beyond_all_floats_is_infinite() -> None:
    found = proven_capacity(10_000, spread=3.0)
    assert found.patterns == math.inf
    assert found.applies
    assert 1 < found.base < math.inf
    assert not proven_capacity(2, failure=1e-300).applies
    for beta, spread in [(1e-120, 1.0), (1e300, 1e10), (1.0, 1e200), (5e-324, 1.0)]:
        for x in proven_capacity(2, beta=beta, spread=spread):
            assert x >= 0  # not NaN, and no error


def test_bounds_have_gradients() -> None:
    patterns = torch.randn(4, 3).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: error_bound(x, 0.1, beta=0.5), (patterns,))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("separation(torch.zeros(0, 3))", "patterns must hold at least 1 pattern, got 0"),
        ("error_bound(torch.zeros(0, 3))", "patterns must hold at least 1 pattern, got 0"),
        ("well_separated(torch.zeros(0, 3))", "patterns must hold at least 1 pattern, got 0"),
        ("error_bound(torch.eye(2), beta=-1.0)", "beta must be positive and finite, got -1.0"),
        ("error_bound(torch.eye(2), -5.0)", "distance must not be negative, got -5"),
        (
            "error_bound(torch.eye(2), torch.tensor([0.5, -0.25]))",
            "distance must not be negative, got -0.25",
        ),
        ("proven_capacity(1)", "dim must be at least 2, got 1"),
        ("proven_capacity(9, beta=0.0)", "beta must be positive and finite, got 0.0"),
        ("proven_capacity(9, spread=0.0)", "spread must be positive and finite, got 0.0"),
        ("proven_capacity(9, failure=0.0)", r"failure must be in \(0, 1\], got 0.0"),
    ],
)
def test_clear_errors(call: str, message: str) -> None:
    with as_installed():
        from attnbook import hopfield_bounds as installed

        with pytest.raises(ValueError, match=f"^{message}$"):
            eval(call, {**vars(installed), "torch": torch})
