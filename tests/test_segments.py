"""Transformer-XL: its score in loops, and pieces that are one text under one mask."""

import math
import re
from collections.abc import Callable

import pytest
import torch
from building import as_installed
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from attnbook.patterns import reach
from attnbook.segments import RelativeScore, SegmentLayer, TransformerXL, as_mask

E = 8


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def stack(layers: int, memory: int, norm_first: bool = False) -> TransformerXL:
    torch.manual_seed(0)
    made = TransformerXL(
        [SegmentLayer(E, 2, 12, norm_first=norm_first) for _ in range(layers)], memory
    ).double()
    torch.nn.init.normal_(made.layers[0].score.u)
    torch.nn.init.normal_(made.layers[0].score.v)
    return made.eval()


def in_pieces(model: TransformerXL, x: Tensor, segment: int) -> Tensor:
    outputs, memories = [], None
    for piece in x.split(segment, dim=1):
        output, memories = model(piece, memories)
        outputs.append(output)
    return torch.cat(outputs, dim=1)


def test_the_score_is_the_four_terms_of_the_paper() -> None:
    """(a) q k + (b) q W r + (c) u k + (d) v W r, with r of sines and cosines of i - j."""
    torch.manual_seed(0)
    score = RelativeScore(num_heads=2, head_dim=3, dim=4).double()
    torch.nn.init.normal_(score.u)
    torch.nn.init.normal_(score.v)
    query, key = numbers(2, 4, 3), numbers(2, 6, 3, seed=1)
    found = score(query, key)
    for h in range(2):
        W = score.distance.weight[3 * h : 3 * h + 3].tolist()
        u, v = score.u[h, 0].tolist(), score.v[h, 0].tolist()
        for a, q in enumerate(query[h].tolist()):
            for j, k in enumerate(key[h].tolist()):
                d = 2 + a - j  # the first query is the third key
                r = [f(d / 10000 ** (n / 2)) for n in range(2) for f in (math.sin, math.cos)]
                Wr = [sum(w * x for w, x in zip(row, r, strict=True)) for row in W]
                wanted = sum(
                    q[n] * k[n] + q[n] * Wr[n] + u[n] * k[n] + v[n] * Wr[n] for n in range(3)
                )
                assert found[h, a, j].item() == pytest.approx(wanted / math.sqrt(3), abs=1e-6)


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 5), st.integers(0, 7), st.booleans())
def test_pieces_are_one_text_under_one_mask(segment: int, memory: int, norm_first: bool) -> None:
    """Every layer under the mask of `as_mask`, over all 11 positions at once."""
    model, x = stack(2, memory, norm_first), numbers(2, 11, E)
    mask = as_mask(11, segment, memory)
    whole = x
    for layer in model.layers:
        attend = lambda y, layer=layer: layer.attention(y, mask=mask).output  # noqa: E731
        whole = layer.add_feed_forward(layer.add_attention(whole, attend), layer.feed_forward)
    assert_close(in_pieces(model, x, segment), whole)


def test_the_mask_is_the_pieces_in_loops() -> None:
    for segment, memory in ((3, 0), (3, 3), (2, 5), (4, 1)):
        found = as_mask(10, segment, memory)
        for i in range(10):
            first = (i // segment) * segment - memory
            assert found[i].tolist() == [first <= j <= i for j in range(10)]


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_each_layer_sees_a_segment_further_back(layers: int) -> None:
    """A change at one position reaches those that the mask's paths say, and no other."""
    model, segment = stack(layers, memory=2), 2
    x = numbers(1, 10, E).expand(10, -1, -1)
    other, t = x.clone(), torch.arange(10)
    other[t, t] += 1.0
    changed = (in_pieces(model, other, segment) - in_pieces(model, x, segment)).abs().amax(-1)
    wanted = reach([as_mask(10, segment, segment)] * layers)
    assert torch.equal(changed.T > 1e-9, wanted)
    assert wanted[9].sum() == segment * (layers + 1)


def test_no_gradient_goes_through_the_memory() -> None:
    model = stack(2, memory=3)
    first, second = (numbers(1, 3, E, seed=s).requires_grad_() for s in range(2))
    _, memories = model(first)
    assert not any(memory.requires_grad for memory in memories)
    output = model(second, memories).output[..., 0]  # a norm's entries sum to a constant
    early, late = torch.autograd.grad(output.sum(), (first, second), allow_unused=True)
    assert early is None
    assert late.abs().sum() > 0
    held = tuple(memory.requires_grad_() for memory in memories)
    model(second, held).output[..., 0].sum().backward()
    assert all(memory.grad is None for memory in held), "a memory given with a gradient has none"


def test_a_memory_is_the_layers_last_inputs() -> None:
    model, x = stack(2, memory=4), numbers(1, 6, E)
    _, memories = model(x[:, :3])
    assert [tuple(m.shape) for m in memories] == [(1, 3, E)] * 2
    assert torch.equal(memories[0], x[:, :3])
    assert torch.equal(memories[1], model.layers[0](x[:, :3]))
    _, memories = model(x[:, 3:], memories)
    assert torch.equal(memories[0], x[:, 2:])
    assert model.memory == 4


def test_biases_are_shared_and_gradients_exact() -> None:
    model = stack(2, memory=2)
    assert model.layers[0].score.u is model.layers[1].score.u
    memories = tuple(numbers(1, 2, E, seed=s) for s in (3, 4))
    x = numbers(1, 2, E).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: model(x, memories).output, (x,))
    model(x, memories).output[..., 0].sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    half = model.to(torch.bfloat16)
    assert half(x.detach().bfloat16()).output.dtype == torch.bfloat16


def test_clear_errors() -> None:
    with as_installed():
        from attnbook import segments

        layer = segments.SegmentLayer(8, 2, 12)
        model = segments.TransformerXL([layer], memory=2)
        x = torch.zeros(2, 3, 8)
        wrong: list[tuple[Callable[[], object], type[Exception], str]] = [
            (
                lambda: layer(x, torch.zeros(1, 2, 8)),
                ValueError,
                "memory is (1, 2, 8) but x is (2, 3, 8)",
            ),
            (
                lambda: model(x, (x, x)),
                ValueError,
                "there are 1 layers but 2 memories",
            ),
            (
                lambda: segments.TransformerXL([], 2),
                ValueError,
                "layers must hold at least one",
            ),
            (
                lambda: segments.TransformerXL([torch.nn.Identity()], 2),
                TypeError,
                "layers must be SegmentLayers, got Identity",
            ),
            (
                lambda: segments.TransformerXL([layer], -1),
                ValueError,
                "memory must be at least 1, got -1",
            ),
            (
                lambda: layer.score(torch.zeros(2, 3, 4), torch.zeros(2, 2, 4)),
                ValueError,
                "query has 3 positions but key only 2: the queries must be the last of them",
            ),
            (
                lambda: layer.score(torch.zeros(3, 3, 4), torch.zeros(3, 3, 4)),
                ValueError,
                "query must have 2 heads of width 4, got shape (3, 3, 4)",
            ),
            (
                lambda: segments.as_mask(4, 0, 1),
                ValueError,
                "segment must be at least 1, got 0",
            ),
        ]
        for call, error, message in wrong:
            with pytest.raises(error, match=f"^{re.escape(message)}$"):
                call()
