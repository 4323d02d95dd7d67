"""The associative LSTM: the paper's step in Python's own complex numbers, and what copies buy."""

import cmath
import math
import re

import pytest
import torch
from building import as_installed
from torch import Tensor
from torch.testing import assert_close

from attnbook.associative_lstm import AssociativeLSTM, AssociativeState, bound


def small(copies: int = 3) -> AssociativeLSTM:
    torch.manual_seed(0)
    network = AssociativeLSTM(3, 8, copies=copies).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(3)  # so that some moduli exceed 1
    return network


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def by_the_paper(network: AssociativeLSTM, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Gates, keys, content, cells and state, a number at a time."""
    W, b = network.input.weight.tolist(), network.input.bias.tolist()
    U, orders = network.recurrent.weight.tolist(), network.permutations.tolist()
    N = len(U[0])
    n = N // 2

    def cut(z: complex) -> complex:
        return cmath.rect(min(abs(z), 1.0), cmath.phase(z))

    def sigmoid(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    h, c = [0.0] * N, [[0j] * n for _ in orders]
    rows = []
    for x in inputs.tolist():
        made = [
            sum(w * v for w, v in zip(W[i], x, strict=True))
            + sum(u * v for u, v in zip(U[i], h, strict=True))
            + b[i]
            for i in range(len(W))
        ]
        forget, take, give = ([sigmoid(v) for v in made[k * n : (k + 1) * n]] for k in range(3))
        parts = [made[3 * n + k * N : 3 * n + (k + 1) * N] for k in range(3)]
        r_i, r_o, u = ([cut(complex(p[j], p[n + j])) for j in range(n)] for p in parts)
        for s, order in enumerate(orders):
            for j in range(n):
                c[s][j] = forget[j] * c[s][j] + r_i[order[j]] * take[j] * u[j]
        out = []
        for j in range(n):
            mean = sum(r_o[order[j]] * c[s][j] for s, order in enumerate(orders)) / len(orders)
            out.append(give[j] * cut(mean))
        h = [z.real for z in out] + [z.imag for z in out]
        rows.append(h)
    return torch.tensor(rows).double(), torch.tensor(c).to(torch.complex128)


@pytest.mark.parametrize("copies", [1, 3])
def test_the_network_is_that_of_the_paper(copies):
    network, inputs = small(copies), numbers(5, 3)
    found = network(inputs)
    hidden, cells = by_the_paper(network, inputs)
    assert_close(found.hidden, hidden)
    assert_close(found.state.cells, cells)


def test_bound_cuts_the_modulus_and_keeps_the_phase():
    z = torch.complex(numbers(50), numbers(50, seed=1))
    assert_close(bound(z).abs(), z.abs().clamp_max(1))
    assert_close(bound(z).angle(), z.angle())
    assert bound(torch.zeros(1, dtype=torch.complex64)) == 0


def test_keys_and_contents_are_bound():
    """However large what the step makes of its input is, what it adds to a cell is at most 1."""
    network = small()
    with torch.no_grad():
        network.input.weight.mul_(100)
    assert network(numbers(1, 3)).state.cells.abs().max() <= 1 + 1e-12


def test_a_key_of_modulus_one_gives_its_item_back_and_others_as_noise():
    """Without gates: c = sum of r x, and the conjugate of a key undoes it."""
    phases = numbers(4, 4096, seed=1) * 100
    keys = torch.polar(torch.ones_like(phases), phases)
    items = torch.complex(numbers(4, 4096, seed=2), numbers(4, 4096, seed=3))
    alone = keys[0].conj() * (keys[0] * items[0])
    assert_close(alone, items[0])
    noise = keys[0].conj() * (keys * items).sum(0) - items[0]
    assert noise.mean().abs() < 0.1
    power = items.abs().square().mean()
    assert (noise.abs().square().mean() / (3 * power) - 1).abs() < 0.1


def test_copies_divide_the_power_of_the_noise():
    """The permuted keys make the noise of the copies independent: n copies, an n-th of it."""
    generator = torch.Generator().manual_seed(0)
    phases = 2 * torch.pi * torch.rand(10, 256, generator=generator)
    keys = torch.polar(torch.ones_like(phases), phases)
    items = torch.randn(10, 256, dtype=torch.complex64, generator=generator)
    powers = {}
    for copies in (1, 16):
        orders = torch.stack([torch.randperm(256, generator=generator) for _ in range(copies)])
        permuted = keys[:, orders]  # (items, copies, n)
        cells = (permuted * items[:, None]).sum(0)
        read = (permuted.conj() * cells).mean(1)
        powers[copies] = (read - items).abs().square().mean()
    assert 12 < powers[1] / powers[16] < 21


def test_a_sequence_in_two_pieces_and_a_batch_of_one_are_the_same():
    network, inputs = small(), numbers(2, 6, 3)
    whole, one = network(inputs), network(inputs[:, :4])
    two = network(inputs[:, 4:], one.state)
    assert_close(torch.cat([one.hidden, two.hidden], dim=1), whole.hidden)
    assert_close(two.state, whole.state)
    assert_close(network(inputs[1]).hidden, whole.hidden[1])


def test_an_item_survives_in_a_cell_that_forgets_nothing():
    """Forget gate open, input gate shut: what is in the cells stays."""
    network = small()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.input.bias[:4], network.input.bias[4:8] = 50.0, -800.0
    cells = torch.complex(numbers(3, 4), numbers(3, 4, seed=1))
    state = AssociativeState(torch.zeros(8).double(), cells)
    assert_close(network(numbers(9, 3), state).state.cells, cells)


def test_gradients_are_exact_and_reach_every_parameter():
    network, inputs = small(), numbers(3, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: network(x).hidden, (inputs,))
    network(inputs).hidden.sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad.abs().max() > 1e-6, name


def test_the_permutations_are_saved_with_the_parameters():
    network, other = small(), AssociativeLSTM(3, 8, copies=3).double()
    other.load_state_dict(network.state_dict())
    inputs = numbers(4, 3)
    assert torch.equal(other(inputs).hidden, network(inputs).hidden)
    for order in network.permutations:
        assert sorted(order.tolist()) == list(range(4))


def test_clear_errors():
    with as_installed():
        from attnbook.associative_lstm import AssociativeLSTM, AssociativeState

        network = AssociativeLSTM(3, 8)
        cells = torch.zeros(4, 4, dtype=torch.complex64)
        wrong = [
            (
                lambda: AssociativeLSTM(3, 7),
                ValueError,
                "hidden_dim must be even, real and imaginary parts, got 7",
            ),
            (
                lambda: AssociativeLSTM(3, 8, copies=0),
                ValueError,
                "copies must be at least 1, got 0",
            ),
            (
                lambda: network(torch.zeros(5, 2)),
                ValueError,
                "inputs must have shape (*b, at least 1 step, 3), got (5, 2)",
            ),
            (
                lambda: network(torch.zeros(5, 3), AssociativeState(torch.zeros(1, 8), cells)),
                ValueError,
                "state.hidden must have shape (8,), got (1, 8)",
            ),
            (
                lambda: network(torch.zeros(5, 3), AssociativeState(torch.zeros(8), cells[:1])),
                ValueError,
                "state.cells must have shape (4, 4), got (1, 4)",
            ),
            (
                lambda: network.half()(torch.zeros(5, 3).half()),
                TypeError,
                "inputs must be float32 or float64, got torch.float16",
            ),
        ]
        for call, error, message in wrong:
            with pytest.raises(error, match=f"^{re.escape(message)}$"):
                call()
