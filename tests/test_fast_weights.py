"""Fast weights: the paper's equations in loops, and the matrix against the past states."""

import itertools
import re

import pytest
import torch
from building import as_installed
from torch import Tensor, nn
from torch.testing import assert_close

from attnbook.fast_weights import FastWeights, FastWeightState, recall, write

VARIANTS = [
    {"inner_steps": steps, "layer_norm": norm}
    for steps, norm in itertools.product([1, 3], [True, False])
]
each_variant = pytest.mark.parametrize("variant", VARIANTS, ids=str)


def small(**options) -> FastWeights:
    """In float64, every parameter away from where it starts."""
    torch.manual_seed(0)
    network = FastWeights(3, 4, **{"decay": 0.9, "rate": 0.3} | options).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.4 * torch.randn_like(parameter))
    return network


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def by_the_paper(network: FastWeights, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Equations 1, 2 and 5, a number at a time; layer norm as in Ba, Kiros, Hinton 2016."""
    W, C = network.slow.weight.tolist(), network.input.weight.tolist()
    b, H = network.input.bias.tolist(), len(network.slow.weight)
    h, A = [0.0] * H, [[0.0] * H for _ in range(H)]
    rows = []
    for x in inputs.tolist():
        z = [
            sum(W[i][j] * h[j] for j in range(H))
            + sum(C[i][j] * x[j] for j in range(len(x)))
            + b[i]
            for i in range(H)
        ]
        inner = [max(v, 0.0) for v in z]
        for _ in range(network.inner_steps):
            s = [z[i] + sum(A[i][j] * inner[j] for j in range(H)) for i in range(H)]
            if isinstance(network.norm, nn.LayerNorm):
                mean = sum(s) / H
                spread = (sum((v - mean) ** 2 for v in s) / H + network.norm.eps) ** 0.5
                gain, shift = network.norm.weight.tolist(), network.norm.bias.tolist()
                s = [gain[i] * (s[i] - mean) / spread + shift[i] for i in range(H)]
            inner = [max(v, 0.0) for v in s]
        h = inner
        A = [
            [network.decay * A[i][j] + network.rate * h[i] * h[j] for j in range(H)]
            for i in range(H)
        ]
        rows.append(h)
    return torch.tensor(rows).double(), torch.tensor(A).double()


@each_variant
def test_the_network_is_that_of_the_paper(variant):
    network, inputs = small(**variant), numbers(6, 3)
    found = network(inputs)
    hidden, fast = by_the_paper(network, inputs)
    assert_close(found.hidden, hidden)
    assert_close(found.state.fast, fast)
    assert_close(found.state.hidden, hidden[-1])
    assert hidden.count_nonzero() > 6


@each_variant
def test_the_matrix_and_attention_to_the_past_are_one_network(variant):
    network, inputs = small(**variant), numbers(2, 3, 6, 3)
    matrix, attending = network(inputs), network.attending(inputs)
    assert_close(attending.hidden, matrix.hidden)
    parameters = tuple(network.parameters())
    upstream = numbers(2, 3, 6, 4, seed=3)
    one = torch.autograd.grad((matrix.hidden * upstream).sum(), parameters)
    two = torch.autograd.grad((attending.hidden * upstream).sum(), parameters)
    assert_close(one, two)


def test_the_weights_are_products_that_fade_with_age():
    """Equation 4: row t holds rate * decay^(t - 1 - j) * h_j . h_s, for the states before t."""
    network, inputs = small(inner_steps=2, layer_norm=False), numbers(5, 3)
    hidden, weights = network.attending(inputs)
    assert torch.equal(weights.triu(), torch.zeros(5, 5).double())
    state = FastWeightState(torch.zeros(4).double(), torch.zeros(4, 4).double())
    for t in range(5):
        before = network.slow(state.hidden) + network.input(inputs[t])
        inner = torch.relu(before)
        inner = torch.relu(before + state.fast @ inner)  # the first of the two inner steps
        for j in range(t):
            product = sum(a * b for a, b in zip(hidden[j], inner, strict=True))
            assert_close(weights[t, j], 0.3 * 0.9 ** (t - 1 - j) * product)
        state = network(inputs[: t + 1]).state


def test_recalling_is_the_matrix_times_the_vector():
    """With `write` from the oldest to the newest; equation 3 against equation 4."""
    past, query = numbers(2, 5, 4), numbers(2, 3, 4, seed=1)
    fast = torch.zeros(2, 4, 4).double()
    for t in range(5):
        fast = write(fast, past[:, t], decay=0.8, rate=0.7)
    by_sums = sum(0.7 * 0.8 ** (4 - t) * past[:, t, :, None] * past[:, t, None] for t in range(5))
    assert_close(fast, by_sums)
    assert_close(recall(query, past, decay=0.8, rate=0.7).output, query @ fast.mT)
    assert_close(fast, fast.mT)


def test_without_a_past_nothing_is_recalled():
    found = recall(numbers(1, 4), numbers(0, 4))
    assert found.weights.shape == (1, 0)
    assert torch.equal(found.output, torch.zeros(1, 4).double())


def test_a_rate_of_zero_leaves_a_plain_recurrent_network():
    network, inputs = small(rate=0.0, layer_norm=False), numbers(6, 3)
    plain = nn.RNN(3, 4, nonlinearity="relu", batch_first=True).double()
    with torch.no_grad():
        plain.weight_ih_l0.copy_(network.input.weight)
        plain.weight_hh_l0.copy_(network.slow.weight)
        plain.bias_ih_l0.copy_(network.input.bias)
        plain.bias_hh_l0.zero_()
    found = network(inputs)
    assert_close(found.hidden, plain(inputs)[0])
    assert not found.state.fast.any()


@each_variant
def test_a_sequence_in_two_pieces_is_the_same(variant):
    network, inputs = small(**variant), numbers(2, 6, 3)
    whole, one = network(inputs), network(inputs[:, :4])
    two = network(inputs[:, 4:], one.state)
    assert_close(torch.cat([one.hidden, two.hidden], dim=1), whole.hidden)
    assert_close(two.state, whole.state)


def test_examples_do_not_meet_and_the_future_changes_nothing():
    network, inputs = small(), numbers(3, 6, 3)
    for read in (network, network.attending):
        together = read(inputs).hidden
        for b in range(3):
            assert_close(read(inputs[b]).hidden, together[b])
        changed = inputs.clone()
        changed[:, 4:] += 1
        assert torch.equal(read(changed).hidden[:, :4], together[:, :4])


@each_variant
def test_gradients_are_exact_and_reach_every_parameter(variant):
    network = small(activation=torch.tanh, **variant)
    inputs = numbers(4, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: network(x).hidden, (inputs,))
    network(inputs).hidden.square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad.abs().max() > 1e-6, name


def test_it_starts_with_a_twentieth_of_the_identity_and_survives_saving():
    network = FastWeights(3, 4)
    assert torch.equal(network.slow.weight, 0.05 * torch.eye(4))
    other = FastWeights(3, 4)
    other.load_state_dict(network.state_dict())
    inputs = torch.randn(2, 5, 3)
    assert torch.equal(other(inputs).hidden, network(inputs).hidden)
    for dtype in (torch.float16, torch.bfloat16):
        found = network.to(dtype)(inputs.to(dtype))
        assert found.hidden.dtype == dtype
        assert found.hidden.isfinite().all()


def test_layer_norm_is_what_keeps_the_states_from_blowing_up():
    torch.manual_seed(0)
    inputs = torch.rand(60, 4)
    for norm, tame in ((True, True), (False, False)):
        network = FastWeights(4, 16, decay=1.0, layer_norm=norm, inner_steps=2)
        assert (network(inputs).hidden.norm(dim=-1).max() < 10).item() == tame


def test_clear_errors():
    with as_installed():
        from attnbook.fast_weights import FastWeights, FastWeightState, recall, write

        network, x = FastWeights(3, 4), torch.zeros(5, 3)
        state = FastWeightState(torch.zeros(3), torch.zeros(3, 3))
        wrong = [
            (lambda: FastWeights(3, 0), "hidden_dim must be at least 1, got 0"),
            (lambda: FastWeights(3, 4, inner_steps=0), "inner_steps must be at least 1, got 0"),
            (lambda: FastWeights(3, 4, decay=1.5), "decay must be between 0 and 1, got 1.5"),
            (lambda: FastWeights(3, 4, rate=-1.0), "rate must not be negative, got -1.0"),
            (
                lambda: network(torch.zeros(5, 2)),
                "inputs must have shape (*b, at least 1 step, 3), got (5, 2)",
            ),
            (
                lambda: network.attending(x[:0]),
                "inputs must have shape (*b, at least 1 step, 3), got (0, 3)",
            ),
            (lambda: network(x, state), "state.hidden must have shape (4,), got (3,)"),
            (
                lambda: network(x, state._replace(hidden=torch.zeros(4))),
                "state.fast must have shape (4, 4), got (3, 3)",
            ),
            (
                lambda: network(x, FastWeightState(torch.zeros(4), torch.zeros(2, 4, 4))),
                "state.fast must have shape (4, 4), got (2, 4, 4)",
            ),
            (
                lambda: write(torch.zeros(3, 3), torch.zeros(4)),
                "fast must have shape (*b, 4, 4) for 4 hidden units, got (3, 3)",
            ),
            (
                lambda: recall(torch.zeros(1, 3), torch.zeros(2, 4)),
                "query has width 3 but key has width 4",
            ),
        ]
        for call, message in wrong:
            with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
                call()
