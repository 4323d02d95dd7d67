"""Hopfield layers: attention with updates before it, and with learnt states or patterns."""

import copy
import math

import pytest
import torch
from building import as_installed
from torch import Tensor, nn
from torch.testing import assert_close

from attnbook import attend, padding
from attnbook.hopfield_layers import Association, Hopfield, HopfieldLayer, HopfieldPooling
from attnbook.layers import MultiHeadAttention
from attnbook.modern_hopfield import retrieve

LAYERS = {
    "Hopfield": lambda **o: Hopfield(6, 2, **o),
    "HopfieldPooling": lambda **o: HopfieldPooling(6, 2, queries=3, **o),
    "HopfieldLayer": lambda **o: HopfieldLayer(6, 2, patterns=5, **o),
}
each_layer = pytest.mark.parametrize("name", LAYERS)


def made(name: str, **options: object) -> nn.Module:
    torch.manual_seed(0)
    layer = LAYERS[name](**options).double().eval()
    with torch.no_grad():
        for parameter in layer.parameters():  # away from special points
            parameter.add_(0.5 * torch.randn_like(parameter))
    return layer


def sets(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1)).double()


Rows = list[list[float]]


def head_by_hand(q: list[float], K: Rows, V: Rows, beta: float, steps: int) -> list[float]:
    """One state in one head: updates among the keys, and then the values are mixed."""
    for step in range(steps):
        strength = [math.exp(beta * sum(a * b for a, b in zip(q, k, strict=True))) for k in K]
        mixed = V if step == steps - 1 else K
        q = [
            sum(s * row[d] for s, row in zip(strength, mixed, strict=True)) / sum(strength)
            for d in range(len(mixed[0]))
        ]
    return q


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("beta", [None, 2.0])
@torch.no_grad()
def test_the_layer_as_a_loop(steps: int, beta: float | None) -> None:
    layer = made("Hopfield", steps=steps, beta=beta)
    states, stored = sets(3, 6), sets(4, 6)
    inside, used = layer.attention, 1 / math.sqrt(3) if beta is None else beta
    q = inside.query(layer.state_norm(states))
    k, v = inside.key(layer.stored_norm(stored)), inside.value(layer.value_norm(stored))
    read = torch.tensor(
        [
            [
                number
                for h in (slice(0, 3), slice(3, 6))
                for number in head_by_hand(
                    q[i, h].tolist(), k[:, h].tolist(), v[:, h].tolist(), used, steps
                )
            ]
            for i in range(3)
        ],
        dtype=torch.float64,
    )
    assert_close(layer(states, stored).output, inside.output(read))


def test_one_step_without_norms_is_multi_head_attention_exactly() -> None:
    layer = made("Hopfield", norm=False)
    plain = MultiHeadAttention(6, 2, attend=attend).double().eval()
    plain.load_state_dict(layer.attention.state_dict())
    states, stored = sets(2, 3, 6), sets(2, 5, 6)
    mask = padding(torch.tensor([5, 2]), 5)
    for inputs in ((states,), (states, stored)):
        rule = mask if len(inputs) == 2 else None
        found, wanted = layer(*inputs, mask=rule), plain(*inputs, mask=rule)
        assert_close(found.output, wanted.output, rtol=0.0, atol=1e-14)
        assert_close(found.weights, wanted.weights, rtol=0.0, atol=1e-14)


def test_many_steps_are_retrieval() -> None:
    query, key = 0.5 * sets(4, 3), 2 * sets(5, 3)
    found = Association(2.0, steps=60)(query, key, key).output
    assert_close(found, retrieve(query, key, beta=2.0, max_steps=60, tolerance=0.0).state)


@each_layer
def test_pooling_and_look_up_are_the_layer_with_learnt_parts(name: str) -> None:
    layer, x = made(name, steps=2), sets(2, 4, 6)
    if name == "HopfieldPooling":
        wanted = layer.memory(layer.state.expand(2, 3, 6), x)
        assert layer(x).output.shape == (2, 3, 6)
    elif name == "HopfieldLayer":
        wanted = layer.memory(x, layer.patterns.expand(2, 5, 6))
    else:
        wanted = layer(x, x, x)
    assert torch.equal(layer(x).output, wanted.output)


def test_pooling_knows_no_order_and_no_padding() -> None:
    layer, bags = made("HopfieldPooling"), sets(2, 7, 6)
    mask = padding(torch.tensor([7, 3]), 7)
    found = layer(bags, mask=mask)
    order = torch.tensor([2, 0, 1])
    alone = layer(bags[1:, :3][:, order])
    assert_close(found.output[1], alone.output[0])
    assert_close(found.weights[1, :, :, :3][..., order], alone.weights[0])
    assert (found.weights[1, :, :, 3:] == 0).all()
    assert_close(found.weights.sum(-1), torch.ones(2, 2, 3).double())


@each_layer
def test_gradients_reach_every_parameter(name: str) -> None:
    layer, x = made(name, steps=2), sets(2, 4, 6).requires_grad_()
    names = [n for n, _ in layer.named_parameters()]
    values = tuple(p.detach().clone().requires_grad_() for p in layer.parameters())

    def run(x: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,)).output

    assert torch.autograd.gradcheck(run, (x, *values), fast_mode=True)
    for n, gradient in zip(
        names, torch.autograd.grad(run(x, *values).square().sum(), values), strict=True
    ):
        # A key's bias adds the same to every score, and softmax does not see it.
        if "key.bias" not in n:
            assert gradient.abs().sum() > 0, n


@each_layer
def test_state_dict_round_trip_and_dropout(name: str) -> None:
    layer, other, x = made(name, dropout=0.5), LAYERS[name](dropout=0.5).double(), sets(2, 4, 6)
    other.load_state_dict(copy.deepcopy(layer.state_dict()))
    assert torch.equal(layer(x).output, other.eval()(x).output)
    dropped = other.train()(x)
    assert not torch.equal(dropped.output, layer(x).output)
    assert torch.equal(dropped.weights, layer(x).weights)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@each_layer
def test_types(name: str, dtype: torch.dtype) -> None:
    layer = made(name, steps=3).to(dtype)
    output = layer(sets(2, 4, 6).to(dtype)).output
    assert output.dtype is dtype
    assert output.isfinite().all()


def test_its_numbers_are_printed() -> None:
    assert "beta=2.0, steps=3" in repr(Hopfield(4, beta=2.0, steps=3))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        ("Association(0.0)", ValueError, "beta must be positive and finite, got 0.0"),
        ("Association(steps=0)", ValueError, "steps must be at least 1, got 0"),
        ("Hopfield(6, steps=1.5)", TypeError, "steps must be an integer, got float"),
        ("Hopfield(6, 4)", ValueError, "num_heads must divide embed_dim = 6, got 4"),
        ("Hopfield(6, dropout=1.0)", ValueError, r"dropout must be in \[0, 1\), got 1.0"),
        ("HopfieldPooling(6, queries=0)", ValueError, "queries must be at least 1, got 0"),
        ("HopfieldLayer(6, patterns=0)", ValueError, "patterns must be at least 1, got 0"),
        ("HopfieldLayer(0, patterns=1)", ValueError, "embed_dim must be at least 1, got 0"),
        (
            "Hopfield(6)(torch.zeros(2, 3, 6), torch.zeros(2, 4, 6).double())",
            (TypeError, RuntimeError),
            ".*",
        ),
    ],
)
def test_clear_errors(call: str, error: type[Exception], message: str) -> None:
    with as_installed():
        from attnbook import hopfield_layers

        with pytest.raises(error, match=f"^{message}$"):
            eval(call, {**vars(hopfield_layers), "torch": torch})
