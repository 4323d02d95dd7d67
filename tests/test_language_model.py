import copy

import pytest
import torch
from test_layers import every_path
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from attnbook import core
from attnbook.fused import sdpa
from attnbook.language_model import LanguageModel, MaskedModel
from attnbook.layers import attention_maps
from attnbook.positions import ALiBi, Learned, Relative, Rotary, Sinusoidal
from attnbook.transformer import Caches, Encoder, EncoderLayer

V, E, H, FF, B, T = 11, 8, 2, 12, 3, 6
ROOM = 24
KINDS = {  # of a layer, and of positions added to the inputs
    "gpt-2": ({"norm_first": True, "activation": F.gelu}, lambda: Learned(ROOM, E)),
    "post-norm, sinusoidal": ({}, lambda: Sinusoidal(E)),
    "multi-query": ({"norm_first": True, "num_kv_heads": 1}, lambda: Sinusoidal(E)),
    "rotary": ({"norm_first": True, "attend": Rotary(E // H)}, lambda: None),
    "alibi": ({"norm_first": True, "attend": core.attend, "score": ALiBi(H)}, lambda: None),
    "relative": ({"attend": Relative(E // H, 3)}, lambda: None),
    "none": ({"norm_first": True}, lambda: None),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def small(kind="gpt-2", model=LanguageModel, noise=0.6, layers=2, attend=None, **options):
    parts, positions = KINDS[kind]
    parts = parts if attend is None else parts | {"attend": attend}
    stack = Encoder([EncoderLayer(E, H, FF, **copy.deepcopy(parts)) for _ in range(layers)])
    stack.norm = nn.LayerNorm(E) if parts.get("norm_first") else None
    made = model(V, E, stack, positions=positions(), **options).double().eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(noise * torch.randn_like(parameter))
    return made


def symbols(*shape):
    return torch.randint(0, V, shape)


# A language model


@every_kind
def test_no_position_sees_a_later_symbol(kind):
    model, x = small(kind), symbols(1, T)
    logits = model(x)
    for t in range(T):
        other = x.clone()
        other[0, t] = (other[0, t] + 1) % V
        changed = [
            not torch.allclose(*pair) for pair in zip(model(other)[0], logits[0], strict=True)
        ]
        assert not any(changed[:t])
        assert all(changed[t:])


def generated_again(model, prompt, steps):
    """Without a cache: everything is read again for each symbol."""
    for _ in range(steps):
        prompt = torch.cat([prompt, model(prompt)[:, -1].argmax(-1, keepdim=True)], dim=1)
    return prompt


@every_kind
@pytest.mark.parametrize("start", [1, 4])
def test_generation_with_a_cache_is_reading_everything_again(kind, start):
    written = set()
    for seed in range(3):
        torch.manual_seed(seed)
        model, prompt = small(kind, tied=False), symbols(B, start)
        found = model.generate(prompt, 9)
        assert torch.equal(found, generated_again(model, prompt, 9))
        written |= set(found[:, start:].flatten().tolist())
    assert len(written) > 2, "too dull to tell"


@torch.no_grad()
@every_kind
@pytest.mark.parametrize("chunks", [[1] * 6, [3, 1, 2]], ids=str)
def test_logits_with_caches_are_those_without(kind, chunks):
    model, x, caches = small(kind), symbols(B, 6), Caches.empty(2)
    parts = [model(part, caches) for part in x.split(chunks, dim=1)]
    assert_close(torch.cat(parts, dim=1), model(x))
    assert caches.length == 6


@every_path
def test_maps_of_every_layer_are_causal(attend):
    model, x = small(layers=3, attend=attend), symbols(B, T)
    plain = model(x)
    with attention_maps(model) as maps:
        assert_close(model(x), plain)
        model.generate(x, 2)
    assert len(maps) == 3
    for name, calls in maps.items():
        assert (calls[0].triu(1) == 0).all(), name
        assert [tuple(w.shape[-2:]) for w in calls] == [(T, T), (T, T), (1, T + 1)]


def test_it_is_pytorchs_stack_under_a_causal_mask():
    layer = nn.TransformerEncoderLayer(
        E, H, FF, dropout=0.0, norm_first=True, batch_first=True, activation=F.gelu
    )
    theirs = nn.TransformerEncoder(layer, 2, nn.LayerNorm(E), enable_nested_tensor=False).double()
    model = LanguageModel(V, E, Encoder.from_torch(theirs), positions=Learned(ROOM, E)).double()
    x = symbols(B, T)
    inputs = model.embed.weight[x] + model.positions.table[:T]
    mask = nn.Transformer.generate_square_subsequent_mask(T, dtype=torch.float64)
    assert_close(model(x), theirs(inputs, mask) @ model.embed.weight.T)


def test_the_end_fills_up_what_has_ended():
    model, end = small(), 4

    def drawn(prompt, **options):
        generator = torch.Generator().manual_seed(0)
        return model.generate(prompt, 12, temperature=4.0, generator=generator, **options).tolist()

    prompt = symbols(40, 1)
    free, stopped = drawn(prompt), drawn(prompt, end=end)
    assert sum(end in row[1:-1] for row in free) > 10, "too dull to tell"
    for (_, *long), (_, *row) in zip(free, stopped, strict=True):
        n = long.index(end) + 1 if end in long else len(row)
        assert row == long[:n] + [end] * (len(row) - n)
    model.output.weight.data[:] = model.output.weight[[end] * V]
    model.output.weight.data[end] *= 2.0
    soon = [row for row in model.generate(symbols(20, 1), 12).tolist() if row[1] == end]
    assert soon
    prompt = torch.tensor([soon[0][:1]])
    assert model.generate(prompt, 12, end=end).shape == (1, 2), "it stops when all have ended"


def test_draws_follow_the_temperature():
    model, prompt = small(), symbols(1, 3)
    for temperature in (0.7, 2.0):
        chances = (model(prompt)[0, -1] / temperature).softmax(-1)
        drawn = model.generate(prompt.expand(4000, -1), 1, temperature=temperature)[:, -1]
        found = torch.bincount(drawn, minlength=V) / 4000
        assert (found - chances).abs().max() < 4 * 0.5 / 4000**0.5


def test_draws_follow_the_generator():
    model, prompt = small(), symbols(5, 3)

    def drawn(seed):
        generator = torch.Generator().manual_seed(seed)
        return model.generate(prompt, 8, temperature=1.0, generator=generator)

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))
    assert torch.equal(drawn(1)[:, :3], prompt)


def test_a_cold_draw_is_the_likeliest_symbol():
    model, prompt = small(), symbols(5, 3)
    for temperature in (1e-4, 1e-40, 5e-324):
        drawn = model.generate(prompt, 4, temperature=temperature)
        assert torch.equal(drawn, model.generate(prompt, 4))


def test_generation_keeps_no_gradients_and_no_state():
    model, prompt = small(), symbols(2, 3)
    first = model.generate(prompt, 4)
    assert torch.equal(model.generate(prompt, 4), first)
    model(prompt).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_learned_positions_end_somewhere():
    model = small()
    assert model.generate(symbols(1, 2), ROOM - 1).shape == (1, ROOM + 1), "the last is not read"
    with pytest.raises(ValueError, match=f"^there are {ROOM} learned positions, but {ROOM + 1}"):
        model.generate(symbols(1, 2), ROOM)
    assert small("rotary").generate(symbols(1, 2), 2 * ROOM).shape == (1, 2 * ROOM + 2)


def test_learns_one_sequence_by_heart():
    model, x = small("rotary", noise=0.0), torch.tensor([[1, 5, 1, 7, 1, 5, 3, 9, 1, 5]])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(model(x[:, :-1]).mT, x[:, 1:]).backward()
        optimizer.step()
    assert torch.equal(model.generate(x[:, :1], 9), x)


# Both models


@pytest.mark.parametrize("model", [LanguageModel, MaskedModel])
def test_tying_and_scale(model):
    tied, untied = small(model=model), small(model=model, tied=False)
    assert tied.output.weight is tied.embed.weight
    assert untied.output.weight is not untied.embed.weight
    assert len(list(untied.parameters())) == len(list(tied.parameters())) + 1
    scaled = small("none", model=model, scale=3.0)
    seen = []
    scaled.stack.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x = symbols(B, T)
    scaled(x)
    assert torch.equal(seen[0], 3.0 * scaled.embed.weight[x])


@pytest.mark.parametrize("model", [LanguageModel, MaskedModel])
def test_dropout_of_the_inputs_is_for_training(model):
    made, x = small(model=model, dropout=0.5), symbols(B, T)
    assert torch.equal(made(x), made(x))
    made.train()
    assert not torch.equal(made(x), made(x))


@pytest.mark.parametrize("model", [LanguageModel, MaskedModel])
@every_kind
def test_state_dict_round_trip(model, kind):
    one, other, x = small(kind, model), small(kind, model), symbols(B, T)
    assert not torch.equal(one(x), other(x))
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(x), other(x))


# A masked model


@every_kind
def test_padding_changes_nothing(kind):
    model, lengths = small(kind, MaskedModel), torch.tensor([2, 6, 3])
    x = symbols(B, T)
    filled = x.masked_fill(torch.arange(T) >= lengths[:, None], 7)
    logits, other = model(x, lengths), model(filled, lengths)
    for b, n in enumerate(lengths.tolist()):
        assert_close(logits[b, :n], other[b, :n])
        assert_close(logits[b, :n], model(x[b : b + 1, :n])[0])
    assert_close(model(x, torch.full((B,), T)), model(x))


@every_kind
def test_every_position_sees_both_sides(kind):
    model, x = small(kind, MaskedModel), symbols(1, T)
    for t in range(T):
        other = x.clone()
        other[0, t] = (other[0, t] + 1) % V
        changed = (model(other) - model(x)).abs().amax(-1)[0] > 1e-9
        assert changed.all()


def test_maps_of_every_layer_are_zero_on_padding():
    model, lengths = small(model=MaskedModel, layers=3, attend=sdpa), torch.tensor([2, 6, 3])
    with attention_maps(model) as maps:
        model(symbols(B, T), lengths)
    for name, (weights,) in maps.items():
        for b, n in enumerate(lengths.tolist()):
            assert (weights[b, ..., n:] == 0).all(), name
    assert len(maps) == 3
