import copy
import math
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attnbook import hopfield
from attnbook.dense_memory import (
    DenseMemory,
    capacity,
    changes,
    energy,
    error_rate,
    power,
    rectified_power,
    sweep,
)

few = settings(max_examples=6, deadline=None)
FUNCTIONS = {
    "z^2": (power(2), lambda z: z**2),
    "z^3": (power(3), lambda z: z**3),
    "z^4": (power(4), lambda z: z**4),
    "rectified z^2": (rectified_power(2), lambda z: max(z, 0) ** 2),
    "rectified z^3": (rectified_power(3), lambda z: max(z, 0) ** 3),
}
each_function = pytest.mark.parametrize("name", FUNCTIONS)


def signs(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 2, shape, generator=generator).double() * 2 - 1


# The paper's equations, in loops over whole numbers


def energy_by_hand(s, patterns, F):
    return -sum(F(sum(a * b for a, b in zip(x, s, strict=True))) for x in patterns)


def sweep_by_hand(s, patterns, F):
    """Krotov and Hopfield's update: which sign of the unit has the higher sum of F?"""
    s = list(s)
    for i in range(len(s)):
        difference = 0
        for x in patterns:
            rest = sum(x[j] * s[j] for j in range(len(s)) if j != i)
            difference += F(x[i] + rest) - F(-x[i] + rest)
        if difference != 0:
            s[i] = 1 if difference > 0 else -1
    return s


@each_function
@given(st.integers(1, 7), st.integers(1, 6), st.integers(0, 10_000))
@few
def test_energy_changes_and_sweep_are_the_equations(name, N, P, seed):
    ours, F = FUNCTIONS[name]
    x, s = signs(P, N, seed=seed), signs(3, N, seed=seed + 1)
    patterns = x.int().tolist()
    after = sweep(s, x, ours)
    for b, row in enumerate(s.int().tolist()):
        E = energy_by_hand(row, patterns, F)
        assert energy(s, x, ours)[b].item() == E
        for i in range(N):
            flipped = [-v if j == i else v for j, v in enumerate(row)]
            assert changes(s, x, ours)[b, i].item() == energy_by_hand(flipped, patterns, F) - E
        assert after[b].int().tolist() == sweep_by_hand(row, patterns, F)


@given(st.integers(2, 20), st.integers(1, 12), st.integers(0, 10_000))
@few
def test_order_two_is_the_hopfield_network_with_hebbs_rule(N, P, seed):
    x, s = signs(P, N, seed=seed), signs(5, N, seed=seed + 1)
    classical = hopfield.HopfieldNetwork(N).double().store(x)
    dense = DenseMemory(N, power(2)).store(x)
    assert torch.allclose(dense.energy(s), 2 * N * classical.energy(s) - N * P)
    step = hopfield.asynchronous(s, classical.weights, classical.thresholds)
    assert torch.equal(sweep(s, x, power(2)), step)
    ours, theirs = dense.recall(s), classical.recall(s)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a, b)


@each_function
def test_no_flip_raises_the_energy_and_recall_ends_where_none_would_lower_it(name):
    F = FUNCTIONS[name][0]
    x, s = signs(9, 11, seed=1), signs(40, 11, seed=2)
    memory = DenseMemory(11, F).store(x)
    found = memory.recall(s)
    assert bool(found.converged.all())
    assert bool((changes(found.state, x, F) >= 0).all())
    for t in range(int(found.steps.max())):
        after = sweep(s, x, F)
        moved = (after != s).any(-1)
        assert torch.equal(moved, found.steps > t)
        assert bool((memory.energy(after) < memory.energy(s))[moved].all())
        s = after
    assert torch.equal(s, found.state)


def test_a_state_of_a_batch_goes_its_own_way():
    x, s = signs(6, 10, seed=3), signs(2, 3, 10, seed=4)
    memory = DenseMemory(10, power(3)).store(x)
    whole = memory.recall(s)
    assert whole.state.shape == s.shape
    assert whole.steps.shape == whole.period.shape == (2, 3)
    assert torch.equal(memory(s), whole.state)
    for i in range(2):
        for j in range(3):
            for one, all_of_them in zip(memory.recall(s[i, j]), whole, strict=True):
                assert torch.equal(one, all_of_them[i, j])


def test_of_an_odd_order_and_of_a_rectified_one_the_negative_is_no_memory():
    x = signs(3, 40, seed=5)
    for F, kept in [
        (power(2), True),
        (power(4), True),
        (power(3), False),
        (rectified_power(2), False),
    ]:
        found = DenseMemory(40, F).store(x).recall(-x)
        assert bool((found.state == -x).all()) == kept


def test_an_exponential_holds_what_a_square_does_not():
    x = signs(200, 30, seed=6)
    damaged = x.clone()
    damaged[:, :2] *= -1
    for F, low, high in [(torch.exp, 0.95, 1.0), (power(2), 0.0, 0.05)]:
        found = DenseMemory(30, F).store(x).recall(damaged)
        assert low <= float((found.state == x).all(-1).double().mean()) <= high


def test_what_rounding_makes_moves_no_unit():
    """Two patterns that pull a unit equally hard: in float32 inputs too, it stays."""
    x = torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, -1.0]])
    state = torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, -1.0]])
    for F in (torch.exp, power(2), power(5), lambda z: (0.1 * z).exp()):
        assert (changes(state, x, F)[:, 2] == 0).all()
        assert torch.equal(sweep(state, x, F), state)


@pytest.mark.parametrize("function", [power(3), rectified_power(2), torch.exp])
def test_a_memory_can_be_copied_and_pickled(function):
    x, s = signs(4, 9), signs(3, 9, seed=1)
    memory = DenseMemory(9, function).store(x)
    for other in (copy.deepcopy(memory), pickle.loads(pickle.dumps(memory))):
        assert torch.equal(other(s), memory(s))


def test_nothing_stored_moves_nothing_and_the_patterns_travel_in_the_state_dict():
    s = signs(2, 5)
    empty = DenseMemory(5, power(3))
    assert torch.equal(empty.recall(s).state, s)
    assert (empty.energy(s) == 0).all()
    full = DenseMemory(5, power(3)).store(signs(4, 5))
    empty.load_state_dict(full.state_dict())
    assert torch.equal(empty.patterns, full.patterns)
    with pytest.raises(RuntimeError, match="size mismatch for patterns"):
        DenseMemory(6, power(3)).load_state_dict(full.state_dict())
    other = DenseMemory(6, power(3)).store(signs(3, 6))
    kept = other.patterns.clone()
    with pytest.raises(RuntimeError, match="size mismatch for patterns"):
        other.load_state_dict(full.state_dict())
    assert torch.equal(other.patterns, kept)


def test_the_scale_of_the_function_changes_no_update():
    x = signs(5, 20)
    damaged = x.clone()
    damaged[:, 0] *= -1
    for F in (power(3), lambda z: 1e-60 * z**3):
        memory = DenseMemory(20, F).store(x.float())
        assert torch.equal(memory.recall(damaged.float()).state, x.float())
    many = signs(2, 1000).float()
    found = DenseMemory(1000, lambda z: torch.exp(z - 1000)).store(many).recall(many)
    assert torch.equal(found.state, many)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_states_keep_their_dtype_and_the_memory_its_answer(dtype):
    x, s = signs(6, 12, seed=3), signs(4, 12, seed=4)
    wanted = DenseMemory(12, power(4)).store(x).recall(s).state
    found = DenseMemory(12, power(4)).store(x.to(dtype)).recall(s.to(dtype)).state
    assert found.dtype == dtype
    assert torch.equal(found.double(), wanted)


# The numbers of the theory


@pytest.mark.parametrize("order", [2, 3, 4, 5])
def test_the_noise_of_the_theory_is_the_variance_of_one_patterns_crosstalk(order):
    """Over all sums of N signs, 2 n z^(n-1) has variance 4 n^2 (2n-3)!! N^(n-1), for large N."""
    N = 3000
    moment = 0.0
    for k in range(N + 1):
        log = math.lgamma(N + 1) - math.lgamma(k + 1) - math.lgamma(N - k + 1) - N * math.log(2)
        moment += math.exp(log) * (2 * k - N) ** (2 * order - 2)
    P = round(3 * N ** (order - 1))
    wanted = 0.5 * math.erfc(N ** (order - 1) / math.sqrt(2 * P * moment))
    assert math.isclose(error_rate(P, N, order), wanted, rel_tol=0.01)


@pytest.mark.parametrize("order", [2, 3, 4])
def test_at_capacity_less_than_one_unit_is_wrong_and_at_twice_it_more(order):
    for N in (100, 1000, 10_000):
        K = capacity(N, order)
        assert N * error_rate(round(K), N, order) < 0.2
        assert N * error_rate(round(2 * K), N, order) > 1


MISTAKES = {
    "order 1": (lambda: power(1), "order must be at least 2, got 1"),
    "rectified order 0": (lambda: rectified_power(0), "order must be at least 2, got 0"),
    "no units": (lambda: DenseMemory(0, power(2)), "units must be at least 1, got 0"),
    "patterns of other units": (
        lambda: DenseMemory(3, power(2)).store(torch.ones(2, 4)),
        "patterns must have 3 units, got 4",
    ),
    "patterns of other numbers": (
        lambda: DenseMemory(3, power(2)).store(torch.tensor([[1.0, 0.0, 1.0]])),
        "patterns must hold -1 and +1 alone, got 0.0",
    ),
    "states of other units": (
        lambda: DenseMemory(3, power(2)).recall(torch.ones(2, 4)),
        "states must have 3 units, got 4",
    ),
    "no steps": (
        lambda: DenseMemory(3, power(2)).recall(torch.ones(2, 3), max_steps=0),
        "max_steps must be at least 1, got 0",
    ),
    "a function too large": (
        lambda: DenseMemory(1000, torch.exp).store(torch.ones(1, 1000)).recall(torch.ones(1000)),
        "function must be finite up to 1002, got a change that is not finite",
    ),
    "capacity of one unit": (lambda: capacity(1, 2), "units must be at least 2, got 1"),
    "capacity of order 1": (lambda: capacity(10, 1), "order must be at least 2, got 1"),
    "no patterns": (
        lambda: error_rate(0, 10, 2),
        "patterns must be at least 1 and units 2, got 0 and 10",
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_named(case):
    call, message = MISTAKES[case]
    with pytest.raises(ValueError, match=message.replace("+", r"\+")):
        call()
