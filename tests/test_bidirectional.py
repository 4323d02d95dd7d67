import pytest
import torch
from building import as_installed
from hypothesis import given, settings
from hypothesis import strategies as st

from attnbook.bidirectional import BidirectionalMemory
from attnbook.hopfield import energy, in_order

few = settings(max_examples=20)


def signs(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 2, shape, generator=generator).double() * 2 - 1


def any_memory(N, M, seed):
    made = BidirectionalMemory(N, M).double()
    generator = torch.Generator().manual_seed(seed)
    made.weights = torch.randint(-2, 3, (N, M), generator=generator).double()
    return made


def pass_by_hand(a, b, w):
    """There and back, in loops."""

    def sign(x, before):
        return before if x == 0 else 1.0 if x > 0 else -1.0

    N, M = range(len(a)), range(len(b))
    b = [sign(sum(a[i] * w[i][j] for i in N), b[j]) for j in M]
    return [sign(sum(w[i][j] * b[j] for j in M), a[i]) for i in N], b


any_size = given(st.integers(1, 7), st.integers(1, 7), st.integers(0, 10_000))


@any_size
@few
def test_every_matrix_comes_to_rest_by_the_paper(N, M, seed):
    made = any_memory(N, M, seed)
    w = made.weights.tolist()
    first, second = signs(6, N, seed=seed), signs(6, M, seed=seed + 1)
    found = made.recall(first, second)
    assert found.converged.all()
    for row in range(6):
        a, b, steps = first[row].tolist(), second[row].tolist(), 0
        low = sum(-a[i] * w[i][j] * b[j] for i in range(N) for j in range(M))
        while pass_by_hand(a, b, w) != (a, b):
            a, b = pass_by_hand(a, b, w)
            now = sum(-a[i] * w[i][j] * b[j] for i in range(N) for j in range(M))
            assert now <= low
            low, steps = now, steps + 1
        assert (found.first[row].tolist(), found.second[row].tolist()) == (a, b)
        assert found.steps[row] == steps
        assert made.energy(found.first, found.second)[row].item() == low


@any_size
@few
def test_it_is_a_hopfield_network_of_two_layers(N, M, seed):
    """One pass is one sweep, the second layer first; the energies are the same."""
    made = any_memory(N, M, seed)
    weights = torch.zeros(N + M, N + M).double()
    weights[:N, N:], weights[N:, :N] = made.weights, made.weights.mT
    nothing = torch.zeros(N + M).double()
    first, second = signs(6, N, seed=seed), signs(6, M, seed=seed + 1)
    both = torch.cat([first, second], dim=-1)
    torch.testing.assert_close(energy(both, weights, nothing), made.energy(first, second))
    order = torch.cat([torch.arange(N, N + M), torch.arange(N)])
    found = made.recall(first, second, max_steps=1)
    swept = in_order(order)(both, weights, nothing)
    assert torch.equal(swept, torch.cat([found.first, found.second], dim=-1))


def test_a_damaged_half_recalls_the_whole_pair():
    first, second = signs(4, 120).float(), signs(4, 80, seed=1).float()
    memory = BidirectionalMemory(120, 80).store(first, second)
    for given_first, half, width in [(True, first, 12), (False, second, 8)]:
        damaged = half.clone()
        damaged[:, :width] *= -1
        found = memory.recall(first=damaged) if given_first else memory.recall(second=damaged)
        assert torch.equal(found.first, first)
        assert torch.equal(found.second, second)
        assert found.converged.all()
    assert torch.equal(memory(first), second)


def test_the_second_layer_alone_speaks_first():
    """Whichever half is given, it is the other that answers, whatever the layers are called."""
    made = any_memory(5, 6, seed=2)
    turned = BidirectionalMemory(6, 5).double()
    turned.weights = made.weights.mT
    half = signs(9, 6)
    one, two = made.recall(second=half), turned.recall(first=half)
    assert torch.equal(one.first, two.second)
    assert torch.equal(one.second, two.first)


def test_recall_does_not_depend_on_the_batch_and_is_saved():
    memory = BidirectionalMemory(30, 20).store(signs(3, 30).float(), signs(3, 20, seed=1).float())
    half = signs(2, 3, 30, seed=2).float()
    found = memory.recall(half)
    alone = memory.recall(half[1, 2])
    assert all(torch.equal(x, y[1, 2]) for x, y in zip(alone, found, strict=True))
    other = BidirectionalMemory(30, 20)
    other.load_state_dict(memory.state_dict())
    assert torch.equal(other(half), found.second)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m(0, 2), "first_units must be at least 1, got 0"),
        (lambda m: m(2, 0), "second_units must be at least 1, got 0"),
        (
            lambda m: m(2, 3).store(torch.ones(2, 2), torch.ones(3, 3)),
            "first has 2 patterns but second has 3",
        ),
        (
            lambda m: m(2, 3).store(torch.ones(2, 3), torch.ones(2, 3)),
            "first must have 2 units, got 3",
        ),
        (lambda m: m(2, 3).recall(), "first or second must be given, got neither"),
        (
            lambda m: m(2, 3).recall(second=torch.zeros(3)),
            r"second must hold -1 and \+1 alone, got 0.0",
        ),
        (
            lambda m: m(2, 3).recall(torch.ones(2).double()),
            "weights are torch.float32 but first is torch.float64",
        ),
        (
            lambda m: m(2, 3).recall(torch.ones(4, 2), torch.ones(3)),
            r"first and second must have the same leading axes, got \(4, 2\) and \(3,\)",
        ),
        (
            lambda m: m(2, 3).recall(torch.ones(2), max_steps=0),
            "max_steps must be at least 1, got 0",
        ),
    ],
)
def test_clear_errors(call, message):
    with as_installed():
        from attnbook.bidirectional import BidirectionalMemory

        with pytest.raises((TypeError, ValueError), match=f"^{message}$"):
            call(BidirectionalMemory)
