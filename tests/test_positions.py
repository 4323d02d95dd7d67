"""Positions: each against a loop from its paper, then the laws that all of them share."""

import math
from collections.abc import Callable

import pytest
import torch
from building import as_installed
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from attnbook import attend, causal, dot
from attnbook.fused import sdpa, tiled
from attnbook.layers import KVCache, MultiHeadAttention
from attnbook.masks import padding
from attnbook.positions import (
    ALiBi,
    Learned,
    Relative,
    Rotary,
    Sinusoidal,
    alibi_slopes,
    sinusoidal,
    to_halves,
    to_interleaved,
)

E, H, D, S = 16, 4, 4, 11


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


# --- Sinusoidal and learned


@pytest.mark.parametrize(("dim", "base", "offset"), [(6, 10000.0, 0), (2, 50.0, 7), (64, 1e6, 3)])
def test_sinusoidal_is_the_papers_formula(dim: int, base: float, offset: int) -> None:
    made = Sinusoidal(dim, base=base)(torch.zeros(9, dim, dtype=torch.float64), offset)
    for row in range(9):
        for i in range(dim // 2):
            angle = (row + offset) / base ** (2 * i / dim)
            assert made[row, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-12)
            assert made[row, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-12)
    assert torch.equal(sinusoidal(9, dim, base=base, offset=offset), made.float())


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 500), st.integers(0, 500))
def test_one_matrix_shifts_every_sinusoid(position: int, shift: int) -> None:
    """PE(p + k) = M_k PE(p), and M_k does not know p: section 3.5."""
    dim = 8
    rotations = []
    for i in range(dim // 2):
        a = shift / 10000 ** (2 * i / dim)
        rotations.append(torch.tensor([[math.cos(a), math.sin(a)], [-math.sin(a), math.cos(a)]]))
    moved = torch.block_diag(*rotations) @ sinusoidal(1, dim, offset=position)[0]
    assert torch.allclose(moved, sinusoidal(1, dim, offset=position + shift)[0], atol=1e-5)


def test_sinusoids_stay_exact_far_out() -> None:
    """An angle of a million in float32 would be off in the second digit."""
    row = sinusoidal(1, 4, offset=1_000_003)[0]
    expected = [f(a) for a in (1_000_003, 10_000.03) for f in (math.sin, math.cos)]
    assert row.tolist() == pytest.approx(expected, abs=1e-6)


def test_learned_positions_are_rows_of_a_table() -> None:
    learned, x = Learned(6, E), torch.randn(2, 3, E)
    assert torch.equal(learned(x, offset=2), x + learned.table[2:5])
    with pytest.raises(ValueError, match="there are 6 learned positions, but 7 are asked"):
        learned(x, offset=4)


# --- Relative


@torch.no_grad()
def shaw(query: Tensor, key: Tensor, value: Tensor, relative: Relative, seen: Tensor) -> Tensor:
    """Equations 3 to 5 of Shaw et al., a number at a time."""
    k, L, S = relative.max_distance, len(query), len(key)
    output = torch.zeros(L, value.shape[1], dtype=torch.float64)
    for i in range(L):
        place, scores = S - L + i, []
        for j in range(S):
            apart = max(-k, min(k, j - place)) + k
            compared = key[j] + relative.key[apart]
            scores.append(float(query[i] @ compared) / math.sqrt(len(query[i])))
        weights = [math.exp(e) if seen[i, j] else 0.0 for j, e in enumerate(scores)]
        for j in range(S):
            apart = max(-k, min(k, j - place)) + k
            added = 0 if relative.value is None else relative.value[apart]
            output[i] += weights[j] / sum(weights) * (value[j] + added)
    return output


@pytest.mark.parametrize("values", [True, False])
@pytest.mark.parametrize("reach", [0, 2, 20])
@pytest.mark.parametrize("L", [S, 3])
def test_relative_is_equations_3_to_5(values: bool, reach: int, L: int) -> None:
    relative = Relative(D, reach, values=values).double()
    query, key, value = numbers(L, D), numbers(S, D, seed=1), numbers(S, D, seed=2)
    for mask in (torch.ones(L, S, dtype=torch.bool), causal(L, S, offset=S - L)):
        found = relative(query, key, value, mask=mask).output
        assert torch.allclose(found, shaw(query, key, value, relative, mask), atol=1e-12)


def test_relative_has_the_gradient_of_finite_differences() -> None:
    relative, step = Relative(2, 1).double(), 1e-6
    inputs = [numbers(3, 2, seed=seed).requires_grad_() for seed in range(3)]
    varied = [*inputs, *relative.parameters()]
    ways = [numbers(*x.shape, seed=9) for x in varied]

    def total() -> Tensor:
        return (relative(*inputs).output * numbers(3, 2, seed=8)).sum()

    gradients = torch.autograd.grad(total(), varied)
    with torch.no_grad():
        ends = []
        for side in (step, -2 * step):
            for x, way in zip(varied, ways, strict=True):
                x += side * way
            ends.append(total().item())
    slope = sum((g * way).sum().item() for g, way in zip(gradients, ways, strict=True))
    assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(slope, rel=1e-6)


# --- Rotary


@pytest.mark.parametrize("interleaved", [True, False])
def test_rotary_is_equation_34(interleaved: bool) -> None:
    rotary, x = Rotary(6, interleaved=interleaved), numbers(5, 6)
    found = rotary.rotate(x, offset=3)
    for row in range(5):
        for i in range(3):
            first, second = (2 * i, 2 * i + 1) if interleaved else (i, i + 3)
            angle = (row + 3) / 10000 ** (2 * i / 6)
            a, b = float(x[row, first]), float(x[row, second])
            turned = a * math.cos(angle) - b * math.sin(angle)
            assert found[row, first].item() == pytest.approx(turned, abs=1e-12)
            turned = b * math.cos(angle) + a * math.sin(angle)
            assert found[row, second].item() == pytest.approx(turned, abs=1e-12)


@pytest.mark.parametrize("interleaved", [True, False])
@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6))
def test_rotary_scores_know_the_distance_alone(interleaved: bool, shift: int) -> None:
    """q_m . k_n = q R(n - m) k: equation 16. Moved together, all scores stay."""
    rotary, query, key = Rotary(8, interleaved=interleaved), numbers(S, 8), numbers(S, 8, seed=1)
    here = rotary.rotate(query) @ rotary.rotate(key).mT
    there = rotary.rotate(query, shift) @ rotary.rotate(key, shift).mT
    assert torch.allclose(here, there, atol=1e-8)
    assert torch.allclose(rotary.rotate(query, shift).norm(dim=-1), query.norm(dim=-1))


def rotary_layer(interleaved: bool) -> MultiHeadAttention:
    """Heads of width 8: in width 4 a conversion is its own reverse, and hides a wrong one."""
    rotary = Rotary(8, interleaved=interleaved)
    torch.manual_seed(0)
    return MultiHeadAttention(E, H, num_kv_heads=2, head_dim=8, attend=rotary).double()


def converted(layer: MultiHeadAttention, change: Callable[[Tensor, int], Tensor]) -> dict:
    state = layer.state_dict()
    for name, heads in (("query", H), ("key", 2)):
        for part in ("weight", "bias"):
            state[f"{name}.{part}"] = change(state[f"{name}.{part}"], heads)
    return state


def test_one_layout_becomes_the_other_exactly() -> None:
    one, other, x = rotary_layer(True), rotary_layer(False), numbers(2, S, E)
    nn.init.normal_(one.query.bias)
    other.load_state_dict(converted(one, to_halves))
    assert torch.allclose(one(x).output, other(x).output, atol=1e-12)
    back = converted(other, to_interleaved)
    assert all(torch.equal(value, back[name]) for name, value in one.state_dict().items())


def test_mixed_layouts_are_another_function() -> None:
    """The mistake: weights of one layout loaded into the other. Everything runs."""
    one, other, x = rotary_layer(True), rotary_layer(False), numbers(2, S, E)
    other.load_state_dict(one.state_dict())
    assert (one(x).output - other(x).output).abs().max() > 0.01
    other.load_state_dict(converted(one, to_interleaved))  # converted the wrong way
    assert (one(x).output - other(x).output).abs().max() > 0.01


# --- ALiBi


def authors_slopes(heads: int) -> list[float]:
    """The rule of the authors' code: every second slope of twice as many heads fills the rest."""
    if math.log2(heads).is_integer():
        first = 2 ** (-8 / heads)
        return [first ** (i + 1) for i in range(heads)]
    below = 2 ** math.floor(math.log2(heads))
    return authors_slopes(below) + authors_slopes(2 * below)[::2][: heads - below]


@pytest.mark.parametrize("heads", [1, 2, 3, 5, 6, 7, 8, 12, 16, 20, 25, 40, 64])
def test_slopes_are_those_of_the_authors(heads: int) -> None:
    assert alibi_slopes(heads).tolist() == pytest.approx(authors_slopes(heads))


def test_eight_heads_halve_from_one_half() -> None:
    assert alibi_slopes(8).tolist() == [2.0**-i for i in range(1, 9)]


@pytest.mark.parametrize("L", [S, 2])
def test_alibi_takes_the_slope_times_the_distance(L: int) -> None:
    query, key = numbers(2, H, L, D), numbers(2, H, S, D, seed=1)
    found = ALiBi(H)(query, key)
    for h in range(H):
        for i in range(L):
            for j in range(S):
                plain = float(query[1, h, i] @ key[1, h, j]) / math.sqrt(D)
                expected = plain - 2 ** (-8 * (h + 1) / H) * abs(S - L + i - j)
                assert found[1, h, i, j].item() == pytest.approx(expected)


def test_alibi_has_nothing_to_learn_and_nothing_to_save() -> None:
    assert not [*ALiBi(H).parameters(), *ALiBi(H).state_dict()]


# --- What all share


ENCODINGS: dict[str, Callable[[], tuple[nn.Module, MultiHeadAttention]]] = {
    "none": lambda: (nn.Identity(), MultiHeadAttention(E, H)),
    "sinusoidal": lambda: (Sinusoidal(E), MultiHeadAttention(E, H)),
    "learned": lambda: (Learned(40, E), MultiHeadAttention(E, H)),
    "relative": lambda: (nn.Identity(), MultiHeadAttention(E, H, attend=Relative(D, 3))),
    "rotary": lambda: (nn.Identity(), MultiHeadAttention(E, H, attend=Rotary(D))),
    "rotary, halves": lambda: (
        nn.Identity(),
        MultiHeadAttention(E, H, attend=Rotary(D, interleaved=False, attend=tiled)),
    ),
    "ALiBi": lambda: (nn.Identity(), MultiHeadAttention(E, H, attend=attend, score=ALiBi(H))),
}
RELATIVE = ("relative", "rotary", "rotary, halves", "ALiBi")


def build(name: str) -> tuple[Callable[..., Tensor], MultiHeadAttention]:
    """The positions that are added to the input, and the layer."""
    torch.manual_seed(1)
    positions, layer = ENCODINGS[name]()
    layer.double(), positions.double()

    def placed(x: Tensor, offset: int = 0) -> Tensor:
        return x if isinstance(positions, nn.Identity) else positions(x, offset)

    return placed, layer


@pytest.mark.parametrize("name", ENCODINGS)
def test_order_counts_exactly_where_positions_are_encoded(name: str) -> None:
    placed, layer = build(name)
    x, shuffle = numbers(2, S, E), torch.randperm(S, generator=torch.Generator().manual_seed(3))
    plain, shuffled = layer(placed(x)).output, layer(placed(x[:, shuffle])).output
    assert torch.allclose(plain[:, shuffle], shuffled, atol=1e-10) == (name == "none")


@torch.no_grad()
def stepwise(name: str, chunks: list[int], x: Tensor, aligned: bool = True) -> Tensor:
    """The sequence in chunks, over a cache."""
    placed, layer = build(name)
    cache, outputs, before = KVCache(), [], 0
    for length in chunks:
        new = placed(x[:, before : before + length], before if aligned else 0)
        after = before + length
        mask = causal(length, after, offset=before if aligned else 0)
        outputs.append(layer(new, mask=mask, cache=cache).output)
        before = after
    return torch.cat(outputs, dim=1)


@pytest.mark.parametrize("name", ENCODINGS)
def test_step_by_step_over_a_cache_is_the_whole_at_once(name: str) -> None:
    placed, layer = build(name)
    x = numbers(2, S, E)
    whole = layer(placed(x), mask=causal(S, S)).output
    for chunks in ([1] * S, [4, 1, 3, 3]):
        assert torch.allclose(stepwise(name, chunks, x), whole, atol=1e-10)


@pytest.mark.parametrize("name", ENCODINGS)
def test_top_left_alignment_under_a_cache_is_caught(name: str) -> None:
    """The mistake: a new query is put, and masked, as if it were the first."""
    placed, layer = build(name)
    x = numbers(2, S, E)
    whole = layer(placed(x), mask=causal(S, S)).output
    wrong = stepwise(name, [1] * S, x, aligned=False)
    assert torch.allclose(wrong[:, 0], whole[:, 0])
    assert (wrong[:, 1:] - whole[:, 1:]).abs().amax(dim=(0, 2)).min() > 0.01


@pytest.mark.parametrize("name", RELATIVE)
def test_a_query_at_the_wrong_place_is_caught(name: str) -> None:
    """As above, the mask being right: the positions alone are misplaced."""
    _, layer = build(name)
    x = numbers(1, S, E)
    right = layer(x, mask=causal(S, S)).output[:, -1]
    alone = layer(x[:, -1:], x[:, :1].expand(-1, S, -1) * 0 + x).output[:, 0]
    assert torch.allclose(alone, right, atol=1e-10)  # the last query, and every key
    first = layer(torch.cat([x[:, -1:], x[:, 1:]], dim=1), x).output[:, 0]
    assert (first - right).abs().max() > 0.01  # the same query as the first


@pytest.mark.parametrize("name", RELATIVE)
def test_what_is_relative_does_not_see_a_common_shift(name: str) -> None:
    """A text behind 5 keys that may not be looked at reads as if it began the sequence."""
    _, layer = build(name)
    x, before = numbers(2, S, E), numbers(2, 5, E, seed=9)
    mask = causal(S + 5, S + 5)
    mask[:, :5] = torch.arange(S + 5)[:, None] < 5
    moved = layer(torch.cat([before, x], dim=1), mask=mask).output[:, 5:]
    assert torch.allclose(moved, layer(x, mask=causal(S, S)).output, atol=1e-10)


@pytest.mark.parametrize("name", ["sinusoidal", "learned"])
def test_what_is_absolute_does(name: str) -> None:
    placed, layer = build(name)
    x = numbers(2, S, E)
    moved = layer(placed(x, 5), mask=causal(S, S)).output
    assert (moved - layer(placed(x), mask=causal(S, S)).output).abs().max() > 0.01


@pytest.mark.parametrize("name", ENCODINGS)
def test_causal_and_padding_masks_hold(name: str) -> None:
    placed, layer = build(name)
    x, other = numbers(2, S, E), numbers(2, S, E)
    other[:, 6:] += 1
    mask = causal(S, S)
    before, after = (layer(placed(y), mask=mask).output[:, :6] for y in (x, other))
    assert torch.equal(before, after)
    real = padding(torch.tensor([6, 6]), S)
    before, after = (layer(placed(y), mask=real).output[:, :6] for y in (x, other))
    assert torch.allclose(before, after, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in ENCODINGS if name != "learned"])
def test_a_longer_text_leaves_what_came_before_as_it_was(name: str) -> None:
    placed, layer = build(name)
    x = numbers(1, 100, E)
    short = layer(placed(x[:, :9]), mask=causal(9, 9)).output
    assert torch.allclose(layer(placed(x), mask=causal(100, 100)).output[:, :9], short, atol=1e-10)


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_finite(name: str, dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    positions, layer = ENCODINGS[name]()
    x = torch.randn(1, 40, E).to(dtype)
    output = layer.to(dtype)(positions.to(dtype)(x), mask=causal(40, 40)).output
    assert output.dtype is dtype
    assert output.isfinite().all()


def test_rotary_takes_any_path() -> None:
    query, key, value = (numbers(2, S, D, seed=seed) for seed in range(3))
    paths = [Rotary(D, attend=path) for path in (attend, sdpa, tiled)]
    outputs = [path(query, key, value, mask=causal(S, S)).output for path in paths]
    assert all(torch.allclose(outputs[0], other, atol=1e-12) for other in outputs[1:])


def test_alibi_without_a_slope_is_plain_attention() -> None:
    score, x = ALiBi(1), numbers(1, S, D)
    score.slopes = [0.0]
    assert torch.allclose(score(x, x), dot(D**-0.5)(x, x))


def test_clear_errors() -> None:
    with as_installed():
        from attnbook.positions import (
            ALiBi,
            Learned,
            Relative,
            Rotary,
            Sinusoidal,
            alibi_slopes,
            sinusoidal,
            to_halves,
        )

        x = torch.zeros(1, 3, 4)
        wrong: list[tuple[Callable[[], object], str]] = [
            (lambda: sinusoidal(3, 5), "the width must be even and at least 2, got 5"),
            (lambda: sinusoidal(-1, 4), "length must not be negative, got -1"),
            (lambda: sinusoidal(3, 4, base=0.0), "base must be positive, got 0"),
            (lambda: Sinusoidal(6)(x), "x must have width dim = 6, got 4"),
            (lambda: Sinusoidal(4)(x, offset=-1), "offset must not be negative, got -1"),
            (lambda: Learned(0, 4), "max_length and dim must be at least 1, got 0 and 4"),
            (lambda: Learned(9, 4)(x, offset=-2), "offset must not be negative, got -2"),
            (lambda: Learned(9, 1)(x), "x must have width dim = 1, got 4"),
            (lambda: Rotary(3), "the width must be even and at least 2, got 3"),
            (lambda: Rotary(6)(x, x, x), "x must have width head_dim = 6, got 4"),
            (lambda: Rotary(4)(x, x[:, :2], x[:, :2]), "query has 3 positions but key only 2"),
            (lambda: Relative(4, -1), "max_distance must not be negative, got -1"),
            (lambda: Relative(6, 2)(x, x, x), "query must have width head_dim = 6, got 4"),
            (lambda: Relative(4, 2)(x, x, x[..., :1]), "value must have width head_dim = 4, got 1"),
            (lambda: ALiBi(2)(x, x), "query must have 2 heads before its positions"),
            (lambda: alibi_slopes(0), "num_heads must be at least 1, got 0"),
            (lambda: to_halves(torch.zeros(6, 4), 2), "weight must have 2 heads of even width"),
        ]
        for run, message in wrong:
            with pytest.raises(ValueError, match=message):
                run()


def test_relative_takes_a_mask_with_axes_of_the_value_alone() -> None:
    path = Relative(D, 2).double()
    query, key, value = numbers(S, D), numbers(S, D, seed=1), numbers(3, S, D, seed=2)
    mask = torch.stack([causal(S, S), ~causal(S, S), torch.ones(S, S).bool()])
    whole = path(query, key, value, mask=mask)
    for n in range(3):
        alone = path(query, key, value[n], mask=mask[n])
        assert torch.allclose(whole.output[n], alone.output, atol=1e-12)
        assert torch.allclose(whole.weights[n], alone.weights, atol=1e-12)


@pytest.mark.parametrize("heads", [3, 16])
def test_slopes_survive_changes_of_type_and_place(heads: int) -> None:
    with torch.device("meta"):
        score = ALiBi(heads)
    x = numbers(heads, S, D)
    falling = score.to_empty(device="cpu").float().double()(x, x) - dot(D**-0.5)(x, x)
    assert falling[:, 0, 1].tolist() == pytest.approx(
        [-s for s in authors_slopes(heads)], abs=1e-15
    )
