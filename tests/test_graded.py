import copy
import math

import pytest
import torch
from building import as_installed
from hypothesis import given, settings
from hypothesis import strategies as st

from attnbook.graded import GradedNetwork
from attnbook.hopfield import HopfieldNetwork, energy
from attnbook.hopfield_rules import storkey

few = settings(max_examples=15)


def signs(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 2, shape, generator=generator).double() * 2 - 1


def random_network(N, gain, seed):
    generator = torch.Generator().manual_seed(seed)
    w = torch.randn(N, N, generator=generator).double()
    made = GradedNetwork(N, gain).double()
    made.weights = (w + w.mT) / 2
    made.thresholds = torch.randn(N, generator=generator).double()
    return made, torch.randn(5, N, generator=generator).double()


def energy_by_hand(V, w, t, gain):
    """The integral of the inverse response in 2,000 slices, each by its middle."""
    N, slices = range(len(V)), 2_000
    pairs = -0.5 * sum(w[i][j] * V[i] * V[j] for i in N for j in N)
    held = 0.0
    for v in V:
        width = v / slices
        held += sum(math.atanh(width * (k + 0.5)) / gain * width for k in range(slices))
    return pairs + sum(t[i] * V[i] for i in N) + held


def test_energy_and_step_are_the_equations():
    made, u = random_network(4, 1.7, seed=0)
    w, t = made.weights.tolist(), made.thresholds.tolist()
    after = made.step(u, 0.3)
    for b, row in enumerate(u.tolist()):
        V = [math.tanh(1.7 * x) for x in row]
        found = made.energy(made.output(u))[b].item()
        assert found == pytest.approx(energy_by_hand(V, w, t, 1.7), abs=1e-4)
        for i in range(4):
            h = sum(w[i][j] * V[j] for j in range(4)) - t[i]
            assert after[b, i].item() == pytest.approx(0.7 * row[i] + 0.3 * h)


def test_the_slope_of_the_energy_is_potential_less_field():
    made, u = random_network(6, 0.8, seed=1)
    V = made.output(u).requires_grad_()
    (slope,) = torch.autograd.grad(made.energy(V).sum(), V)
    torch.testing.assert_close(slope, u - (made.step(u, 1.0)))
    assert torch.autograd.gradcheck(made.energy, V)


@given(st.integers(1, 8), st.floats(0.1, 20.0), st.integers(0, 10_000))
@few
def test_no_step_up_to_the_largest_raises_the_energy(N, gain, seed):
    made, u = random_network(N, gain, seed)
    size = made.largest_step()
    assert 0 < size <= 1
    for share in (1.0, 0.3):
        now = u
        for _ in range(20):
            after = made.step(now, share * size)
            rise = made.energy(made.output(after)) - made.energy(made.output(now))
            assert (rise <= 1e-9).all()
            now = after


def test_a_larger_step_can_raise_the_energy():
    """Two units that want to differ, both at once: they go back and forth together."""
    made = GradedNetwork(2, gain=10.0).double()
    made.weights = torch.tensor([[0.0, -1.0], [-1.0, 0.0]]).double()
    assert made.largest_step() == pytest.approx(1 / 11)
    u = torch.tensor([[0.5, 0.4]]).double()
    before, after = (made.energy(made.output(x)) for x in (u, made.step(u, 1.0)))
    assert after > before - 1e-9
    assert not made.recall(u, size=1.0).converged.any()
    assert made.recall(u).converged.all()


def test_with_a_high_gain_it_is_the_network_of_signs():
    x = signs(6, 80)
    damaged = x.clone()
    damaged[:, :8] *= -1
    made = GradedNetwork(80, gain=50.0).double().store(x)
    found = made.recall(damaged)
    assert found.converged.all()
    assert torch.equal(found.state.sign(), x)
    assert torch.equal(HopfieldNetwork(80).double().store(x).recall(damaged).state, x)
    off = made.energy(x) - energy(x, made.weights, made.thresholds)  # 80 log 2 / gain
    torch.testing.assert_close(off, torch.full_like(off, 80 * math.log(2) / 50))


def test_below_the_critical_gain_everything_is_forgotten():
    x = signs(1, 50)
    w = GradedNetwork(50, 1.0).double().store(x).weights
    critical = 1 / torch.linalg.eigvalsh(w)[-1].item()
    for share, size in [(0.9, 0.0), (1.1, 0.5)]:
        found = GradedNetwork(50, share * critical).double().store(x).recall(x, tolerance=1e-7)
        assert found.converged.all()
        assert (found.state.abs() > size - 1e-3).all()
        assert (size > 0) or (found.state.abs() < 1e-3).all()


def test_recall_does_not_depend_on_the_batch_and_is_saved():
    made = GradedNetwork(40, 3.0).store(signs(3, 40).float())
    u = signs(2, 3, 40, seed=1).float() / 2
    found = made.recall(u)
    assert found.converged.shape == found.steps.shape == (2, 3)
    alone = made.recall(u[1, 2])
    torch.testing.assert_close(alone.state, found.state[1, 2])
    assert alone.steps == found.steps[1, 2]
    other = GradedNetwork(40, 3.0)
    other.load_state_dict(made.state_dict())
    assert torch.equal(other(u), found.state)
    assert not made.recall(u, max_steps=2).converged.any()


def test_what_is_no_number_never_comes_to_rest():
    made = GradedNetwork(3, gain=2.0).store(torch.ones(1, 3))
    found = made.recall(torch.tensor([[float("nan"), 1.0, 1.0], [1.0, 1.0, 1.0]]), max_steps=50)
    assert found.converged.tolist() == [False, True]


def test_half_precision_finds_a_step():
    assert GradedNetwork(3, gain=2.0).half().store(torch.ones(1, 3).half()).largest_step() <= 1


def test_weights_that_are_not_symmetric_have_no_sure_step():
    made = GradedNetwork(3, 2.0)
    made.weights = torch.tensor([[0.0, 1.0, 5.0], [-1.0, 0.0, 3.0], [0.0, 0.0, 0.0]])
    for sure in (made.largest_step, lambda: made.recall(torch.ones(3))):
        with pytest.raises(ValueError, match=r"^weights must be symmetric"):
            sure()
    assert made.recall(torch.ones(3), size=0.5).steps >= 0
    for dtype in (torch.float16, torch.bfloat16, torch.float32):  # rounding is no asymmetry
        learnt = GradedNetwork(40, 2.0, storkey).to(dtype).store(signs(9, 40).float())
        assert 0 < learnt.largest_step() <= 1


def test_eigenvalues_are_found_once_and_again_when_the_weights_change(monkeypatch):
    calls, found = [], torch.linalg.eigvalsh
    monkeypatch.setattr(torch.linalg, "eigvalsh", lambda w: calls.append(w) or found(w))
    made, u = random_network(6, 1.3, seed=2)
    for _ in range(3):
        made.recall(u)
    assert len(calls) == 1

    def fresh(network):
        same = GradedNetwork(6, 1.3).double()
        same.weights = network.weights.clone()
        return same.largest_step()

    twin = copy.deepcopy(made)
    for network, changes in [
        (made, lambda w: w.mul_(-2)),
        (made, lambda w: w.fill_diagonal_(-3.0)),
        (twin, lambda w: w.mul_(3)),
    ]:
        changes(network.weights)
        assert network.largest_step() == fresh(network)
    made.load_state_dict(twin.state_dict())
    assert made.largest_step() == twin.largest_step() == fresh(twin)
    made.gain = 2.6
    assert made.largest_step() < twin.largest_step()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda g: g(0, 1.0), "units must be at least 1, got 0"),
        (lambda g: g(3, 0.0), "gain must be positive and finite, got 0.0"),
        (lambda g: g(3, math.inf), "gain must be positive and finite, got inf"),
        (lambda g: g(3, 1.0).store(torch.ones(1, 2)), "patterns must have 3 units, got 2"),
        (
            lambda g: g(3, 1.0).recall(torch.ones(3).double()),
            "potential must be a tensor of torch.float32, got torch.float64",
        ),
        (
            lambda g: g(3, 1.0).recall(torch.ones(2)),
            r"potential must have 3 units, got shape \(2,\)",
        ),
        (
            lambda g: g(3, 1.0).recall(torch.ones(3), size=0.0),
            "size must be above 0 and at most 1, got 0.0",
        ),
        (
            lambda g: g(3, 1.0).recall(torch.ones(3), tolerance=float("nan")),
            "tolerance must be above 0, got nan",
        ),
        (
            lambda g: g(3, 1.0).recall(torch.ones(3), max_steps=0),
            "max_steps must be at least 1, got 0",
        ),
    ],
)
def test_clear_errors(call, message):
    with as_installed():
        from attnbook.graded import GradedNetwork

        with pytest.raises((TypeError, ValueError), match=f"^{message}$"):
            call(GradedNetwork)
