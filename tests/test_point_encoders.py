import math

import pytest
import torch

from attnbook.point_encoders import AttentionEncoder, PointEncoder, RecurrentEncoder


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


ENCODERS = {
    "attention": lambda: AttentionEncoder(2, 8, heads=2, blocks=2),
    "recurrent": lambda: RecurrentEncoder(2, 6),
}
each_encoder = pytest.mark.parametrize("encoder", ENCODERS)


def small(encoder):
    model = ENCODERS[encoder]().double()
    with torch.no_grad():
        for parameter in model.parameters():  # away from special points
            parameter.add_(0.5 * torch.randn_like(parameter))
    return model


@torch.no_grad()
def lstm_by_hand(lstm, xs, h, c):
    """The states of an LSTM, unit by unit: gates in the order input, forget, cell, output."""
    W, U = lstm.weight_ih_l0.tolist(), lstm.weight_hh_l0.tolist()
    bias = (lstm.bias_ih_l0 + lstm.bias_hh_l0).tolist()
    n, states = len(h), []
    for x in xs:
        z = [
            sum(w * v for w, v in zip(W[k], x, strict=True))
            + sum(u * v for u, v in zip(U[k], h, strict=True))
            + bias[k]
            for k in range(4 * n)
        ]
        gate = [1 / (1 + math.exp(-v)) for v in z]
        c = [gate[n + k] * c[k] + gate[k] * math.tanh(z[2 * n + k]) for k in range(n)]
        h = [gate[3 * n + k] * math.tanh(c[k]) for k in range(n)]
        states.append(h)
    return states, h, c


def norm_by_hand(norm, x):
    mean = sum(x) / len(x)
    variance = sum((v - mean) ** 2 for v in x) / len(x)
    scale, shift = norm.weight.tolist(), norm.bias.tolist()
    return [
        (v - mean) / math.sqrt(variance + norm.eps) * a + b
        for v, a, b in zip(x, scale, shift, strict=True)
    ]


def linear_by_hand(linear, x):
    return [
        sum(w * v for w, v in zip(row, x, strict=True)) + b
        for row, b in zip(linear.weight.tolist(), linear.bias.tolist(), strict=True)
    ]


def softmax_by_hand(scores):
    total = sum(math.exp(u) for u in scores)
    return [math.exp(u) / total for u in scores]


def add(x, y):
    return [a + b for a, b in zip(x, y, strict=True)]


def attention_encoder_by_hand(encoder, points):
    xs = [linear_by_hand(encoder.embed, p) for p in points]
    for block in encoder.blocks:
        E = len(xs[0])
        d = E // block.heads
        projected = [linear_by_hand(block.project, norm_by_hand(block.norms[0], x)) for x in xs]
        q, k, v = ([p[i * E : (i + 1) * E] for p in projected] for i in range(3))
        mixed = []
        for i in range(len(xs)):
            row = []
            for head in range(block.heads):
                part = slice(head * d, (head + 1) * d)
                scores = [
                    sum(a * b for a, b in zip(q[i][part], kj[part], strict=True)) / math.sqrt(d)
                    for kj in k
                ]
                weights = softmax_by_hand(scores)
                row += [
                    sum(w * vj[part][m] for w, vj in zip(weights, v, strict=True)) for m in range(d)
                ]
            mixed.append(row)
        xs = [add(x, linear_by_hand(block.output, m)) for x, m in zip(xs, mixed, strict=True)]
        after = []
        for x in xs:
            inner = linear_by_hand(block.each[0], norm_by_hand(block.norms[1], x))
            after.append(add(x, linear_by_hand(block.each[2], [max(0.0, u) for u in inner])))
        xs = after
    states = [norm_by_hand(encoder.norm, x) for x in xs]
    mean = [sum(column) / len(states) for column in zip(*states, strict=True)]
    h = [math.tanh(u) for u in linear_by_hand(encoder.first_state, mean)]
    return states, states, h, [0.0] * len(h)


@torch.no_grad()
def encoder_by_hand(encoder, points):
    """States, what the decoder reads, and its first state and cell."""
    if isinstance(encoder, AttentionEncoder):
        return attention_encoder_by_hand(encoder, points)
    zero = [0.0] * encoder.state_dim
    states, h, c = lstm_by_hand(encoder.lstm, points, zero, zero)
    return states, points, h, c


@each_encoder
def test_an_encoder_is_its_equations_whatever_the_padding_holds(encoder):
    model = small(encoder)
    assert isinstance(model, PointEncoder)
    lengths = torch.tensor([4, 1, 3])
    points = torch.randn(3, 5, 2, dtype=torch.float64)
    points[0, 4:], points[1, 1:], points[2, 3:] = float("nan"), float("inf"), 1e9
    found = model(points, lengths)
    assert found.states.shape[-1] == model.state_dim
    assert found.inputs.shape[-1] == model.input_dim
    for b, n in enumerate(lengths.tolist()):
        wanted = [torch.tensor(x).double() for x in encoder_by_hand(model, points[b, :n].tolist())]
        for ours, theirs in zip(found[:2], wanted[:2], strict=True):
            torch.testing.assert_close(ours[b, :n], theirs)
            assert (ours[b, n:] == 0).all()
        for ours, theirs in zip(found[2:4], wanted[2:], strict=True):
            torch.testing.assert_close(ours[b], theirs)
        assert found.mask[b, 0].tolist() == [j < n for j in range(5)]


def test_permuting_the_points_permutes_the_states_of_attention_alone():
    order = torch.tensor([2, 0, 3, 1])
    points, lengths = torch.randn(2, 4, 2, dtype=torch.float64), torch.tensor([4, 4])
    for encoder, same in (("attention", True), ("recurrent", False)):
        model = small(encoder)
        here, there = model(points, lengths), model(points[:, order], lengths)
        assert torch.allclose(here.states[:, order], there.states) == same
        assert torch.allclose(here.hidden, there.hidden) == same


def test_a_point_of_the_lstm_does_not_see_those_behind_it_and_one_of_attention_does():
    points, lengths = torch.randn(1, 4, 2, dtype=torch.float64), torch.tensor([4])
    other = points.clone()
    other[:, 2] += 1.0
    for encoder, seen in (("attention", [True] * 4), ("recurrent", [False, False, True, True])):
        model = small(encoder)
        moved = (model(points, lengths).states - model(other, lengths).states).abs().sum(-1)
        assert (moved[0] > 1e-9).tolist() == seen


@pytest.mark.parametrize("heads", [4, 0, -2])
def test_heads_must_divide_the_width(heads):
    with pytest.raises(ValueError, match=f"heads must divide state_dim = 6, got {heads}"):
        AttentionEncoder(2, 6, heads=heads)
