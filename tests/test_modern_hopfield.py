"""Modern Hopfield networks: the paper's equations as loops, and what follows from them."""

import math

import pytest
import torch
from building import as_installed
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from attnbook import attend, dot, scaled_dot
from attnbook.layers import MultiHeadAttention
from attnbook.modern_hopfield import energy, retrieve, retrieve_sdpa, update

BETAS = (0.3, 1.0, 8.0)
each_beta = pytest.mark.parametrize("beta", BETAS)
small = settings(max_examples=12, deadline=None)
drawn = given(st.integers(1, 7), st.integers(1, 6), st.floats(0.05, 20.0), st.integers(0, 999))


def sets(S: int, D: int, seed: int = 0, L: int = 4) -> tuple[Tensor, Tensor]:
    """States and patterns in float64."""
    generator = torch.Generator().manual_seed(seed)
    state = torch.randn(L, D, generator=generator, dtype=torch.float64)
    return state, torch.randn(S, D, generator=generator, dtype=torch.float64)


def update_by_the_paper(xi: list[float], X: list[list[float]], beta: float) -> list[float]:
    """`xi_new = X softmax(beta X^T xi)`, index by index."""
    strength = [math.exp(beta * sum(a * b for a, b in zip(x, xi, strict=True))) for x in X]
    return [
        sum(strength[j] / sum(strength) * X[j][i] for j in range(len(X))) for i in range(len(xi))
    ]


def energy_by_the_paper(xi: list[float], X: list[list[float]], beta: float) -> float:
    """`E = -lse(beta, X^T xi) + xi^T xi / 2 + log(N) / beta + M^2 / 2`."""
    total = sum(math.exp(beta * sum(a * b for a, b in zip(x, xi, strict=True))) for x in X)
    longest = max(math.sqrt(sum(a * a for a in x)) for x in X)
    lse = math.log(total) / beta
    return -lse + sum(a * a for a in xi) / 2 + math.log(len(X)) / beta + longest**2 / 2


@each_beta
def test_the_update_is_the_papers(beta: float) -> None:
    state, patterns = sets(5, 3)
    found = update(state, patterns, beta=beta)
    wanted = [update_by_the_paper(xi, patterns.tolist(), beta) for xi in state.tolist()]
    assert_close(found.output, torch.tensor(wanted, dtype=torch.float64))
    assert_close(found.weights @ patterns, found.output)


@each_beta
def test_the_energy_is_the_papers(beta: float) -> None:
    state, patterns = sets(5, 3)
    wanted = [energy_by_the_paper(xi, patterns.tolist(), beta) for xi in state.tolist()]
    assert_close(energy(state, patterns, beta=beta), torch.tensor(wanted, dtype=torch.float64))


@each_beta
def test_retrieval_is_the_papers_iteration(beta: float) -> None:
    state, patterns = sets(5, 3)
    found = retrieve(state, patterns, beta=beta, tolerance=1e-9, max_steps=2000)
    for i, xi in enumerate(state.tolist()):
        steps, moved = 0, 1.0
        while moved > 1e-9:
            new = update_by_the_paper(xi, patterns.tolist(), beta)
            moved, xi = math.dist(new, xi), new
            steps += moved > 1e-9
        assert_close(found.state[i], torch.tensor(xi, dtype=torch.float64))
        assert found.steps[i] == steps
    assert found.converged.all()
    assert_close(found.weights @ patterns, found.state)


# Attention


@each_beta
def test_an_update_is_attention_exactly(beta: float) -> None:
    state, patterns = sets(6, 4)
    found = update(state, patterns, beta=beta)
    wanted = attend(state, patterns, patterns, score=dot(beta))
    assert torch.equal(found.output, wanted.output)
    assert torch.equal(found.weights, wanted.weights)
    stepped = retrieve(state, patterns, beta=beta, max_steps=1)
    assert torch.equal(stepped.state, wanted.output)
    assert torch.equal(stepped.weights, wanted.weights)


def test_at_one_over_the_root_of_the_width_it_is_the_transformers() -> None:
    """In the paper's words: projected states and patterns, one update, one more projection."""
    states, stored = torch.randn(2, 5, 8).double(), torch.randn(2, 7, 8).double()
    layer = MultiHeadAttention(8, 1, bias=False, attend=attend).double()
    query, key = layer.query(states), layer.key(stored)
    found = update(query, key, beta=1 / math.sqrt(8))
    mapped = torch.linalg.lstsq(layer.key.weight.T, layer.value.weight.T).solution  # W_K^-1 W_V
    assert_close(layer.output(found.output @ mapped), layer(states, stored).output)
    assert_close(found.weights, layer(states, stored).weights[:, 0])
    assert_close(found.output, attend(query, key, key, score=scaled_dot).output)


@pytest.mark.parametrize("masked", [False, True])
@each_beta
def test_the_fast_path_is_the_readable_one(beta: float, masked: bool) -> None:
    state, patterns = torch.randn(3, 1, 4, 5).double(), torch.randn(2, 6, 5).double()
    mask = torch.arange(6) < torch.tensor([6, 1, 0])[:, None, None, None] if masked else None
    slow, fast = (
        path(state, patterns, beta=beta, mask=mask, max_steps=60)
        for path in (retrieve, retrieve_sdpa)
    )
    assert_close(fast.state, slow.state, rtol=0.0, atol=1e-11)
    assert torch.equal(fast.steps, slow.steps)
    assert torch.equal(fast.converged, slow.converged)
    assert fast.weights is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_error_of_the_fast_path(dtype: torch.dtype) -> None:
    """Within twice that of the readable path in the same type, as every fast path."""
    state, patterns = sets(40, 16, L=30)
    given_ = [x.to(dtype) for x in (state, patterns)]
    exact = retrieve(*(x.double() for x in given_), beta=0.5, max_steps=3, tolerance=0.0).state
    slow, fast = (
        (path(*given_, beta=0.5, max_steps=3, tolerance=0.0).state.double() - exact).abs().max()
        for path in (retrieve, retrieve_sdpa)
    )
    assert fast <= 2 * (slow + torch.finfo(dtype).eps)


def test_gradients_are_exact_and_the_same_on_both_paths() -> None:
    state, patterns = (x.requires_grad_() for x in sets(5, 3, L=2))

    def unrolled(path: object, *inputs: Tensor) -> Tensor:
        return path(*inputs, beta=0.7, max_steps=3, tolerance=0.0).state  # type: ignore[operator]

    assert torch.autograd.gradcheck(lambda *x: unrolled(retrieve, *x), (state, patterns))
    assert torch.autograd.gradcheck(lambda *x: energy(*x, beta=0.7), (state, patterns))
    slow, fast = (
        torch.autograd.grad(unrolled(path, state, patterns).square().sum(), (state, patterns))
        for path in (retrieve, retrieve_sdpa)
    )
    for a, b in zip(slow, fast, strict=True):
        assert_close(a, b)


# Energy


@small
@drawn
def test_no_update_raises_the_energy(S: int, D: int, beta: float, seed: int) -> None:
    state, patterns = sets(S, D, seed)
    before = energy(state, patterns, beta=beta)
    for _ in range(5):
        new = update(state, patterns, beta=beta).output
        after = energy(new, patterns, beta=beta)
        # The drop is at least half the square of the step: |xi|^2 / 2 is that convex.
        drop = (new - state).square().sum(-1) / 2
        assert (after <= before - drop + 1e-12 * (1 + before.abs())).all()
        state, before = new, after


@small
@drawn
def test_the_energy_is_never_negative(S: int, D: int, beta: float, seed: int) -> None:
    state, patterns = sets(S, D, seed)
    assert (energy(state, patterns, beta=beta) >= -1e-12).all()
    assert (energy(patterns, patterns, beta=beta) >= -1e-12).all()


@small
@drawn
def test_a_fixed_point_is_where_the_gradient_vanishes(
    S: int, D: int, beta: float, seed: int
) -> None:
    """The gradient of the energy is the state less its update."""
    state, patterns = sets(S, D, seed)
    state.requires_grad_()
    (gradient,) = torch.autograd.grad(energy(state, patterns, beta=beta).sum(), state)
    assert_close(gradient, state - update(state, patterns, beta=beta).output)


def test_one_over_beta_would_blur_what_beta_pulls_apart() -> None:
    """At a high beta a pattern is found; at its inverse, everything is the mean."""
    patterns = torch.eye(8).double()
    state = 0.6 * patterns + 0.05
    assert_close(update(state, patterns, beta=20.0).output, patterns, atol=1e-3, rtol=0.0)
    mean = patterns.mean(dim=0).expand(8, 8)
    assert_close(update(state, patterns, beta=1 / 20.0).output, mean, atol=5e-3, rtol=0.0)


def test_metastable_states_are_averages() -> None:
    """Two groups: at a middle beta the mean of a group is found, at a low one the mean of all."""
    groups = torch.eye(12).double()[:2].repeat_interleave(3, dim=0)
    patterns = 4 * groups + torch.eye(12).double()[2:8]
    means = patterns.view(2, 3, 12).mean(dim=1).repeat_interleave(3, dim=0)
    for beta, wanted in [(20.0, patterns), (0.5, means), (0.01, patterns.mean(0).expand(6, 12))]:
        found = retrieve(patterns, patterns, beta=beta)
        assert found.converged.all()
        assert_close(found.state, wanted, atol=0.02, rtol=0.0)


# Contracts


def test_each_state_rests_by_itself() -> None:
    state, patterns = sets(6, 4, L=5)
    state[1] = float("nan")
    for path in (retrieve, retrieve_sdpa):
        together = path(state, patterns, beta=2.0, max_steps=50)
        for i in (0, 2, 3, 4):
            alone = path(state[i : i + 1], patterns, beta=2.0)
            assert_close(alone.state[0], together.state[i], rtol=0.0, atol=1e-12)
            assert alone.steps[0] == together.steps[i]
        for wrong in (float("nan"), float("inf")):
            lost = path(torch.full((1, 4), wrong).double(), patterns, beta=2.0, max_steps=5)
            assert (lost.steps.item(), lost.converged.item()) == (5, False)
            assert lost.state.isnan().all()


def test_more_patterns_behind_a_mask_change_nothing() -> None:
    state, patterns = sets(5, 4)
    padded = torch.cat([patterns, torch.full((3, 4), 1e3).double()])
    mask = torch.arange(8) < 5
    for beta in BETAS:
        alone, beside = (
            retrieve(state, x, beta=beta, mask=m) for x, m in ((patterns, None), (padded, mask))
        )
        assert_close(alone.state, beside.state)
        assert torch.equal(alone.steps, beside.steps)
        assert (beside.weights[:, 5:] == 0).all()
        assert_close(
            energy(state, patterns, beta=beta), energy(state, padded, beta=beta, mask=mask)
        )


def test_permuted_patterns_give_the_same_states() -> None:
    state, patterns = sets(6, 4)
    order = torch.tensor([3, 0, 5, 1, 2, 4])
    here, there = (retrieve(state, x, beta=3.0) for x in (patterns, patterns[order]))
    assert_close(here.state, there.state)
    assert_close(here.weights[:, order], there.weights)
    assert_close(energy(state, patterns), energy(state, patterns[order]))


def test_where_nothing_is_stored() -> None:
    state, patterns = (x.requires_grad_() for x in sets(3, 4))
    nothing = torch.zeros(4, 3).bool()
    for path in (retrieve, retrieve_sdpa):
        found = path(state, patterns, mask=nothing)
        assert torch.equal(found.state, torch.zeros(4, 4).double())
        assert found.converged.all()
    levels = energy(state, patterns, mask=nothing)
    assert_close(levels, state.square().sum(-1) / 2)
    gradients = torch.autograd.grad(levels.sum() + found.state.sum(), (state, patterns))
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert torch.equal(update(state, patterns[:0]).output, torch.zeros(4, 4).double())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_types_are_kept_and_finite(dtype: torch.dtype) -> None:
    state, patterns = (30 * x.to(dtype) for x in sets(9, 16))
    for path in (retrieve, retrieve_sdpa):
        found = path(state, patterns, beta=4.0)
        assert found.state.dtype is dtype
        assert found.state.isfinite().all()


def test_a_start_at_rest_takes_no_step_and_a_limit_is_kept() -> None:
    patterns = 10 * torch.eye(3)
    assert retrieve(patterns, patterns).steps.tolist() == [0, 0, 0]
    slow = retrieve(torch.tensor([[0.5, 0.4]]), torch.eye(2), beta=2.1, max_steps=4)
    assert (slow.steps.item(), slow.converged.item()) == (4, False)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"beta": 0.0}, ValueError, "^beta must be positive and finite, got 0.0$"),
        ({"beta": math.nan}, ValueError, "^beta must be positive and finite, got nan$"),
        ({"beta": math.inf}, ValueError, "^beta must be positive and finite, got inf$"),
        ({"max_steps": 0}, ValueError, "^max_steps must be at least 1, got 0$"),
        ({"max_steps": 1.5}, TypeError, "^max_steps must be an integer, got float$"),
        ({"tolerance": -1.0}, ValueError, "^tolerance must not be negative, got -1.0$"),
        ({"state": torch.zeros(2, 4)}, ValueError, "^query has width 4 but key has width 3$"),
        ({"state": torch.zeros(2, 3).long()}, TypeError, "^query must be a floating-point tensor"),
        ({"patterns": torch.zeros(3)}, ValueError, "^key must have at least two axes"),
        ({"patterns": torch.zeros(5, 3).double()}, TypeError, "^query is torch.float32 but key is"),
        ({"mask": torch.zeros(5)}, TypeError, "^mask must be a boolean tensor"),
    ],
)
@pytest.mark.parametrize("name", ["energy", "update", "retrieve", "retrieve_sdpa"])
def test_clear_errors(name: str, change: dict, error: type[Exception], message: str) -> None:
    if name in ("energy", "update") and set(change) & {"max_steps", "tolerance"}:
        return
    with as_installed():
        from attnbook import modern_hopfield

        arguments = {"state": torch.zeros(2, 3), "patterns": torch.zeros(5, 3), **change}
        with pytest.raises(error, match=message):
            getattr(modern_hopfield, name)(
                arguments.pop("state"), arguments.pop("patterns"), **arguments
            )


def test_no_energy_without_patterns() -> None:
    with pytest.raises(ValueError, match=r"^patterns must hold at least 1 pattern, got 0$"):
        energy(torch.zeros(2, 3), torch.zeros(0, 3))
