import itertools

import pytest
import torch
from building import as_installed
from hypothesis import given, settings
from hypothesis import strategies as st

from attnbook.hopfield import (
    BLOCK,
    HopfieldNetwork,
    asynchronous,
    energy,
    field,
    in_order,
    overlap,
    synchronous,
)
from attnbook.hopfield_rules import hebb, pseudo_inverse, storkey

few = settings(max_examples=20)


def signs(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 2, shape, generator=generator).double() * 2 - 1


def whole(*shape, seed, low=-2, high=3):
    """Whole numbers, so that sums are exact and ties are frequent."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(low, high, shape, generator=generator).double()


def symmetric(N, seed, diagonal=False):
    upper = whole(N, N, seed=seed).triu(0 if diagonal else 1)
    return upper + upper.triu(1).mT


def network(weights, thresholds=None):
    made = HopfieldNetwork(len(weights)).to(weights.dtype)
    made.weights = weights
    if thresholds is not None:
        made.thresholds = thresholds
    return made


# The paper's equations, in loops


def field_by_hand(s, w, t, i):
    return sum(w[i][j] * s[j] for j in range(len(s))) - t[i]


def sign_by_hand(h, before):
    return before if h == 0 else 1.0 if h > 0 else -1.0


def energy_by_hand(s, w, t):
    N = range(len(s))
    pairs = -0.5 * sum(w[i][j] * s[i] * s[j] for i in N for j in N)
    return pairs + sum(t[i] * s[i] for i in N)


def sweep_by_hand(s, w, t, order):
    s = list(s)
    for i in order:
        s[i] = sign_by_hand(field_by_hand(s, w, t, i), s[i])
    return s


any_network = given(st.integers(1, 8), st.integers(0, 10_000), st.booleans())


@any_network
@few
def test_field_energy_and_both_updates_are_the_equations(N, seed, skewed):
    w = whole(N, N, seed=seed) if skewed else symmetric(N, seed)
    t, s = whole(N, seed=seed + 1), signs(4, N, seed=seed)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(seed))
    at_once, one_by_one, shuffled = (
        update(s, w, t).tolist() for update in (synchronous, asynchronous, in_order(order))
    )
    for b, row in enumerate(s.tolist()):
        h = [field_by_hand(row, w.tolist(), t.tolist(), i) for i in range(N)]
        assert field(s, w, t)[b].tolist() == h
        assert energy(s, w, t)[b].item() == energy_by_hand(row, w.tolist(), t.tolist())
        assert at_once[b] == [sign_by_hand(h[i], row[i]) for i in range(N)]
        assert one_by_one[b] == sweep_by_hand(row, w.tolist(), t.tolist(), range(N))
        assert shuffled[b] == sweep_by_hand(row, w.tolist(), t.tolist(), order.tolist())


@pytest.mark.parametrize("N", [BLOCK, BLOCK + 1, 2 * BLOCK + 3])
def test_a_sweep_in_blocks_is_the_sweep_one_by_one(N):
    w, t, s = whole(N, N, seed=1), whole(N, seed=2), signs(N)
    order = torch.randperm(N)
    for units, update in [(torch.arange(N), asynchronous), (order, in_order(order))]:
        expected = s.clone()
        for i in units:
            h = w[i] @ expected - t[i]
            expected[i] = sign_by_hand(h, expected[i])
        assert torch.equal(update(s, w, t), expected)
        assert not torch.equal(expected, s)


# What is guaranteed


@given(st.integers(1, 12), st.integers(0, 10_000))
@few
def test_no_asynchronous_change_raises_the_energy_and_recall_ends_at_a_fixed_point(N, seed):
    w, t, s = symmetric(N, seed), whole(N, seed=seed + 1), signs(16, N, seed=seed)
    for i in range(N):  # each unit of the sweep
        after = s.clone()
        after[:, i] = synchronous(s, w, t)[:, i]
        flipped = after[:, i] != s[:, i]
        fall = energy(s, w, t) - energy(after, w, t)
        assert torch.equal(fall, 2 * field(s, w, t)[:, i].abs() * flipped)
        s = after
    found = network(w, t).recall(s)
    assert found.converged.all()
    assert torch.equal(synchronous(found.state, w, t), found.state)
    assert (energy(found.state, w, t) <= energy(s, w, t)).all()


@given(st.integers(1, 7), st.integers(0, 10_000), st.booleans())
@few
def test_all_at_once_end_at_a_fixed_point_or_in_a_cycle_of_two(N, seed, diagonal):
    """From every state there is, with ties, and with self-connections too."""
    w, t = symmetric(N, seed, diagonal), whole(N, seed=seed + 1)
    s = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=N))).double()
    found = network(w, t).recall(s, update=synchronous)
    assert (found.period > 0).all()
    once = synchronous(found.state, w, t)
    assert torch.equal((once == found.state).all(-1), found.converged)
    assert torch.equal(synchronous(once, w, t), found.state)
    for steps, end, row in zip(found.steps, found.state, s, strict=True):
        path = [row]
        while len(path) < 3 or not torch.equal(path[-1], path[-3]):
            path.append(synchronous(path[-1], w, t))
        first = next(n for n, x in enumerate(path) if torch.equal(x, path[n + 2]))
        assert torch.equal(path[first], end)
        assert steps == first


def test_every_small_network_with_ties_ends_in_a_cycle_of_two_at_most():
    """All symmetric weights of three units out of -1, 0, 1, from all states."""
    states = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=3)))
    ties, longer = 0, 0
    for a, b, c in itertools.product((-1.0, 0.0, 1.0), repeat=3):
        w = torch.tensor([[0.0, a, b], [a, 0.0, c], [b, c, 0.0]])
        for own in (torch.zeros(3), torch.tensor([-1.0, 0.0, 1.0])):
            made = network(w + torch.diag(own), -own)
            found = made.recall(states, update=synchronous, max_steps=10)
            assert (found.period > 0).all()
            ties += int((made.field(found.state)[found.period == 2] == 0).any())
        made = network(w.triu() - w.tril())
        longer += int((made.recall(states, update=synchronous, max_steps=10).period == 0).any())
    assert ties > 5  # networks with a unit that stays in a cycle of two, for want of a field
    assert longer > 5  # without symmetry


def test_weights_that_are_not_symmetric_can_run_in_a_circle():
    ring = torch.eye(3).roll(1, dims=0)
    state = torch.tensor([1.0, -1.0, -1.0])
    found = network(ring).recall(state, update=synchronous, max_steps=30)
    assert (found.period, found.steps, bool(found.converged)) == (0, 30, False)
    pair = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])  # one wants to agree, the other to differ
    found = network(pair).recall(torch.ones(2))
    assert found.period == 2


def test_a_negative_self_connection_never_rests():
    assert network(-torch.eye(1)).recall(torch.ones(1)).period == 2


def test_self_connections_make_false_fixed_points():
    """Hebb's rule with its diagonal left in: ten times as many patterns that nobody stored."""
    patterns = signs(4, 12, seed=3)
    w = hebb(patterns)
    every = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=12))).double()

    def fixed(w):
        return int((synchronous(every, w, torch.zeros(12).double()) == every).all(-1).sum())

    assert fixed(w + 4 / 12 * torch.eye(12)) > 10 * fixed(w) > 0


@given(st.integers(2, 40), st.integers(1, 12), st.integers(0, 10_000))
@few
def test_rounding_decides_nothing(N, P, seed):
    """Hebb's weights in single precision move as N times them do, which are whole numbers."""
    x = signs(P, N, seed=seed)
    s, nothing = signs(8, N, seed=seed + 1), torch.zeros(N)
    for update in (synchronous, asynchronous):
        exact = update(s, (hebb(x) * N).round(), nothing.double())
        assert torch.equal(update(s.float(), hebb(x.float()), nothing), exact.float())


# Recall


def test_damaged_patterns_are_recalled():
    x = signs(20, 200)
    damage = torch.rand(20, 200, generator=torch.Generator().manual_seed(5)) < 0.1
    damaged = torch.where(damage, -x, x).float()
    for rule in (storkey, pseudo_inverse):
        found = HopfieldNetwork(200, rule).store(x.float()).recall(damaged)
        assert torch.equal(found.state, x.float())
        assert found.converged.all()
        assert found.steps.min() >= 1


def test_recall_does_not_depend_on_the_batch_and_leaves_its_input_alone():
    made = HopfieldNetwork(60).store(signs(9, 60).float())
    s = signs(2, 3, 60, seed=1).float()
    before = s.clone()
    for update in (synchronous, asynchronous):
        together = made.recall(s, update=update)
        assert torch.equal(s, before)
        assert together.state.shape == s.shape
        assert together.period.shape == together.steps.shape == together.converged.shape == (2, 3)
        for b, c in itertools.product(range(2), range(3)):
            alone = made.recall(s[b, c], update=update)
            assert all(torch.equal(x, y[b, c]) for x, y in zip(alone, together, strict=True))
    assert made.recall(s[:0]).state.shape == (0, 3, 60)


def test_what_is_not_done_in_time_is_said_to_be_so():
    made = HopfieldNetwork(100).store(signs(40, 100).float())
    s = signs(30, 100, seed=1).float()
    slow = made.recall(s, max_steps=2)
    done = made.recall(s)
    assert done.converged.all()
    assert done.steps.max() > 2
    assert torch.equal(slow.converged, done.steps < 2)
    assert (slow.steps[~slow.converged] == 2).all()


def test_the_overlap_counts_agreement():
    x = signs(3, 7)
    s = signs(2, 5, 7, seed=1)
    m = overlap(s, x)
    for b, c, p in itertools.product(range(2), range(5), range(3)):
        agree = int((s[b, c] == x[p]).sum())
        assert m[b, c, p].item() == pytest.approx((2 * agree - 7) / 7)


def test_the_weights_are_saved_and_loaded():
    made = HopfieldNetwork(30).store(signs(4, 30).float())
    made.thresholds = signs(30).float()
    other = HopfieldNetwork(30)
    other.load_state_dict(made.state_dict())
    s = signs(5, 30, seed=1).float()
    assert torch.equal(other(s), made(s))
    assert torch.equal(other.energy(s), made.energy(s))
    assert torch.equal(other.field(s), made.field(s))
    assert made.double().recall(s.double()).state.dtype == torch.float64


def test_a_stored_pattern_leaves_no_gradient_behind():
    network = HopfieldNetwork(3).store(torch.ones(1, 3, requires_grad=True))
    assert not network.weights.requires_grad


def test_nothing_stored_nothing_changed():
    s = signs(5, 30).float()
    found = HopfieldNetwork(30).recall(s)
    assert torch.equal(found.state, s)
    assert found.converged.all()
    assert not found.steps.any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda h: h.HopfieldNetwork(0), "units must be at least 1, got 0"),
        (lambda h: made(h).store(torch.ones(2, 5)), "patterns must have 4 units, got 5"),
        (lambda h: made(h).store(torch.ones(4)), r"patterns must have shape \(P, N\), got \(4,\)"),
        (
            lambda h: made(h).recall(torch.ones(4).int()),
            "states must be a floating-point tensor, got torch.int32",
        ),
        (lambda h: made(h).recall(torch.ones(())), r"states must have shape \(\*b, N\), got \(\)"),
        (lambda h: made(h).recall(torch.ones(3)), "states must have 4 units, got 3"),
        (lambda h: made(h).recall(torch.zeros(4)), r"states must hold -1 and \+1 alone, got 0.0"),
        (
            lambda h: made(h).recall(torch.ones(4).double()),
            "weights are torch.float32 but states are torch.float64",
        ),
        (
            lambda h: made(h).recall(torch.ones(4), max_steps=0),
            "max_steps must be at least 1, got 0",
        ),
        (
            lambda h: h.in_order(torch.tensor([0, 0])),
            r"order must hold each of 0\.\.1 once, got tensor\(\[0, 0\]\)",
        ),
        (
            lambda h: made(h).recall(torch.ones(4), update=h.in_order(torch.arange(3))),
            "order has 3 units but weights have 4",
        ),
    ],
)
def test_clear_errors(call, message):
    with as_installed():
        from attnbook import hopfield

        with pytest.raises((TypeError, ValueError), match=f"^{message}$"):
            call(hopfield)


def made(hopfield):
    return hopfield.HopfieldNetwork(4)
