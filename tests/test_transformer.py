import copy
import math

import pytest
import torch
from test_layers import every_path
from test_seq2seq import all_sequences, log_prob_of
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from attnbook import attend, causal, core, padding, sparsemax
from attnbook.fused import sdpa
from attnbook.layers import KVCache, MultiHeadAttention, attention_maps
from attnbook.positions import ALiBi, Rotary
from attnbook.transformer import (
    AddNorm,
    Caches,
    Decoder,
    DecoderLayer,
    Encoder,
    EncoderLayer,
    FeedForward,
    transformer,
    warmup_rate,
)

E, H, FF, B, T, S = 8, 2, 12, 3, 4, 5
END = 2


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def shaken(module, noise=0.3):
    """In float64, and away from special points."""
    module = module.double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(noise * torch.randn_like(parameter))
    return module


def states(*shape):
    return torch.randn(*shape, E, dtype=torch.float64)


# The parts, from the equations


@torch.no_grad()
def test_feed_forward_is_equation_2():
    network, x = shaken(FeedForward(E, FF)), states(B, T)
    W1, b1, W2, b2 = (p.tolist() for p in network.parameters())
    for b in range(B):
        row = x[b, 1].tolist()
        hidden = [
            max(0.0, sum(w * a for w, a in zip(W1[i], row, strict=True)) + b1[i]) for i in range(FF)
        ]
        output = [sum(w * a for w, a in zip(W2[i], hidden, strict=True)) + b2[i] for i in range(E)]
        assert_close(network(x)[b, 1].tolist(), output)


@torch.no_grad()
@pytest.mark.parametrize("norm_first", [False, True])
def test_the_norm_stands_after_the_sum_or_before_the_sublayer(norm_first):
    add, x = shaken(AddNorm(E, norm_first=norm_first, eps=0.1)), states(1)[0]
    gain, bias = add.norm.weight, add.norm.bias

    def norm(row):
        mean = sum(row) / E
        variance = sum((a - mean) ** 2 for a in row) / E
        return gain * (row - mean) / math.sqrt(variance + 0.1) + bias

    expected = x + norm(x) ** 2 if norm_first else norm(x + x**2)
    assert_close(add(x, torch.square), expected)


def test_dropout_falls_on_what_a_sublayer_adds_and_on_hidden_units():
    add, x = AddNorm(1000, norm_first=True, dropout=0.5), torch.zeros(1, 1000)
    added = add(x, lambda y: y + 1)
    assert set(added.unique().tolist()) == {0.0, 2.0}
    assert (add.eval()(x, lambda y: y + 1) == 1).all()
    network = FeedForward(1, 1000, activation=torch.ones_like, dropout=0.5)
    kept = 2 * network.down.weight[:, network.down.weight[0].abs() > 0]
    assert not torch.allclose(network(torch.zeros(1)), kept.sum(1) / 2 + network.down.bias)
    assert_close(network.eval()(torch.zeros(1)), kept.sum(1) / 2 + network.down.bias)


@pytest.mark.parametrize("layer", [EncoderLayer, DecoderLayer])
def test_every_sublayer_is_dropped_from(layer):
    """With everything dropped but a hair, a pre-norm layer hands its input on."""
    made = layer(E, H, FF, norm_first=True, dropout=1 - 1e-7)
    x = states(B, T).float()
    inputs = (x,) if layer is EncoderLayer else (x, x)
    assert_close(made(*inputs), x)
    assert not torch.allclose(made.eval()(*inputs), x)


# PyTorch's layers and stacks

OPTIONS = {
    "post-norm": {},
    "pre-norm": {"norm_first": True},
    "no bias": {"bias": False},
    "gelu, another eps": {"activation": F.gelu, "layer_norm_eps": 1e-3, "norm_first": True},
}
every_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
KEYS = torch.tensor([2, 5, 3])


def agree(ours, theirs, inputs):
    """Outputs, and gradients of the inputs and of every parameter."""
    inputs = [x.requires_grad_() for x in inputs]
    got, want = ours(*inputs), theirs(*inputs)
    assert_close(got, want)
    upstream = torch.randn_like(got)
    parameters = [list(f.parameters()) for f in (ours.module, theirs.module)]
    assert sum(p.numel() for p in parameters[0]) == sum(p.numel() for p in parameters[1])
    of_ours, of_theirs = (
        torch.autograd.grad(y, [*inputs, *own], upstream)
        for y, own in zip((got, want), parameters, strict=True)
    )
    for a, b in zip(of_ours[: len(inputs)], of_theirs, strict=False):
        assert_close(a, b)
    # PyTorch packs query, key and value into one parameter, so the order alone is different.
    flat = [
        torch.cat([g.flatten() for g in of[len(inputs) :]]).sort()[0] for of in (of_ours, of_theirs)
    ]
    assert_close(*flat)


class Call:
    """A module, and how it is called."""

    def __init__(self, module, call):
        self.module, self.call = module, call

    def __call__(self, *inputs):
        return self.call(self.module, *inputs)


@every_option
@every_path
@pytest.mark.parametrize("depth", [0, 1, 3])
def test_encoder_is_pytorchs(options, attend, depth):
    layer = nn.TransformerEncoderLayer(E, H, FF, dropout=0.0, batch_first=True, **options)
    theirs = layer
    if depth:
        norm = nn.LayerNorm(E) if options.get("norm_first") else None
        theirs = nn.TransformerEncoder(layer, depth, norm, enable_nested_tensor=False)
    theirs = shaken(theirs).train()  # its fast path for evaluation keeps no gradients
    ours = (Encoder if depth else EncoderLayer).from_torch(theirs, attend=attend)
    there, past = padding(KEYS, S), causal(S, S)
    agree(
        Call(ours, lambda f, x: f(x, mask=there & past)),
        Call(theirs, lambda f, x: f(x, ~past, ~there[:, 0])),
        [states(B, S)],
    )
    assert ours.training
    assert all(m.training for m in ours.modules())


@every_option
@every_path
@pytest.mark.parametrize("depth", [0, 1, 3])
def test_decoder_is_pytorchs(options, attend, depth):
    theirs = nn.TransformerDecoderLayer(E, H, FF, dropout=0.0, batch_first=True, **options)
    if depth:
        norm = nn.LayerNorm(E) if options.get("norm_first") else None
        theirs = nn.TransformerDecoder(theirs, depth, norm)
    theirs = shaken(theirs)
    ours = (Decoder if depth else DecoderLayer).from_torch(theirs, attend=attend)
    there = padding(KEYS, S)
    agree(
        Call(ours, lambda f, x, m: f(x, m, mask=causal(T, T), memory_mask=there)),
        Call(
            theirs,
            lambda f, x, m: f(x, m, ~causal(T, T), memory_key_padding_mask=~there[:, 0]),
        ),
        [states(B, T), states(B, S)],
    )
    assert not any(m.training for m in ours.modules())


class Stacks(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.encoder = Encoder.from_torch(model.encoder)
        self.decoder = Decoder.from_torch(model.decoder)

    def forward(self, x, y, there):
        memory = self.encoder(x, mask=there)
        return self.decoder(y, memory, mask=causal(T, T), memory_mask=there)


@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True, but:UserWarning")  # torch's
@pytest.mark.parametrize("norm_first", [False, True])
def test_both_stacks_are_pytorchs_transformer(norm_first):
    sizes = {"d_model": E, "nhead": H, "dim_feedforward": FF, "dropout": 0.0}
    depths = {"num_encoder_layers": 2, "num_decoder_layers": 2}
    theirs = shaken(nn.Transformer(**sizes, **depths, batch_first=True, norm_first=norm_first))
    theirs.train()
    there = padding(KEYS, S)
    gone = ~there[:, 0]
    agree(
        Call(Stacks(theirs), lambda f, x, y: f(x, y, there)),
        Call(
            theirs,
            lambda f, x, y: f(
                x,
                y,
                tgt_mask=~causal(T, T),
                src_key_padding_mask=gone,
                memory_key_padding_mask=gone,
            ),
        ),
        [states(B, S), states(B, T)],
    )


def test_what_is_made_from_pytorchs_is_a_copy():
    layer = nn.TransformerEncoderLayer(E, H, FF, dropout=0.3, batch_first=True)
    theirs = nn.TransformerEncoder(layer, 2, nn.LayerNorm(E), enable_nested_tensor=False).double()
    ours, x = Encoder.from_torch(theirs).eval(), states(B, T)
    assert ours.layers[0].add_attention.dropout == ours.layers[1].feed_forward.dropout == 0.3
    assert ours.layers[0].attention.dropout == 0.3
    before = ours(x)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.zero_()
    assert torch.equal(ours(x), before)


# Caches


@torch.no_grad()
@every_path
@pytest.mark.parametrize("chunks", [[1] * 6, [3, 1, 2]], ids=str)
def test_a_stack_with_caches_is_the_stack_on_everything(attend, chunks):
    options = {"norm_first": True, "num_kv_heads": 1, "attend": attend}
    encoder = shaken(Encoder([EncoderLayer(E, H, FF, **options) for _ in range(2)]))
    decoder = shaken(Decoder([DecoderLayer(E, H, FF, **options) for _ in range(2)]))
    n, there = sum(chunks), padding(KEYS, S)
    x, memory, known = states(B, n), states(B, S), {"memory_mask": there}
    full = causal(n, n)
    for stack, whole, more in (
        (encoder, encoder(x, mask=full), ()),
        (decoder, decoder(x, memory, mask=full, **known), (memory, decoder.remember(memory))),
    ):
        for source in more or (None,):
            extra, given = ((), {}) if source is None else ((source,), known)
            caches, outputs = Caches.empty(2), []
            for part in x.split(chunks, dim=1):
                seen, new = caches.length, part.shape[1]
                mask = causal(new, seen + new, offset=seen)
                outputs.append(stack(part, *extra, mask=mask, caches=caches, **given))
            assert_close(torch.cat(outputs, 1), whole)
            assert [cache.length for cache in caches] == [n, n]


@torch.no_grad()
def test_rows_of_caches():
    stack, x = shaken(Encoder([EncoderLayer(E, H, FF) for _ in range(2)])), states(B, 3)
    caches, rows = Caches.empty(2), torch.tensor([2, 2, 0, 1])
    stack(x[:, :2], caches=caches)
    picked = caches.index_select(0, rows)
    assert isinstance(picked, Caches)
    other = Caches.empty(2)
    stack(x[rows, :2], caches=other)
    assert_close(stack(x[rows, 2:], caches=picked), stack(x[rows, 2:], caches=other))
    assert (caches.length, picked.length, Caches().length) == (2, 3, 0)


# Masks reach every layer


def contract_every_map_keeps_the_mask(stack, x, mask, *more):
    with attention_maps(stack) as maps:
        stack(x, *more, mask=mask)
    assert len(maps) == sum(isinstance(m, MultiHeadAttention) for m in stack.modules())
    for name, (weights,) in maps.items():
        if ".cross" not in name:
            assert (weights[..., ~mask] == 0).all(), name


@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("stack", [Encoder, Decoder])
def test_a_mask_dropped_in_any_layer_is_found(stack, layer):
    each = EncoderLayer if stack is Encoder else DecoderLayer
    model = shaken(stack([each(E, H, FF) for _ in range(3)]))
    more = () if stack is Encoder else (states(B, S),)
    x, mask = states(B, T), causal(T, T)
    contract_every_map_keeps_the_mask(model, x, mask, *more)
    attention = model.layers[layer].attention
    attention.attend = lambda *qkv, mask=None, **options: core.attend(*qkv, **options)
    with pytest.raises(AssertionError, match=rf"^layers\.{layer}\.attention"):
        contract_every_map_keeps_the_mask(model, x, mask, *more)


@pytest.mark.parametrize("norm_first", [False, True])
def test_every_map_of_a_transformer_is_zero_where_it_must_be(norm_first):
    model = shaken(small(layers=3, norm_first=norm_first))
    source, lengths = torch.randint(3, 9, (B, S)), KEYS
    target = torch.randint(3, 7, (B, T))
    plain = model(source, lengths, target).logits
    with attention_maps(model) as maps:
        assert_close(model(source, lengths, target).logits, plain)
        model.greedy(source, lengths, 3)
    assert len(maps) == 9
    there, past = padding(lengths, S).unsqueeze(1), causal(T, T)
    for name, calls in maps.items():
        allowed = past if name.startswith("decoder") and ".attention" in name else there
        weights = calls[0]
        assert (weights[~allowed.expand_as(weights)] == 0).all(), name
        assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))
        if ".cross" in name:
            for weights in calls[1:]:
                assert (weights[~there.expand_as(weights)] == 0).all(), name
        assert len(calls) > 1, "a greedy search is recorded too"


# A decoder without self-attention


class Deaf(DecoderLayer):
    """What is often written instead: cross-attention and a feed-forward network."""

    def forward(self, x, memory, *, mask=None, memory_mask=None, cache=None):
        x = self.add_cross(x, lambda y: self.cross(y, memory, mask=memory_mask).output)
        return self.add_feed_forward(x, self.feed_forward)


def contract_reads_what_it_has_written(layer):
    x, memory = states(1, T), states(1, S)
    other = x.clone()
    other[:, 0] += 1
    a, b = (layer(y, memory, mask=causal(T, T)) for y in (x, other))
    assert all(not torch.allclose(a[:, t], b[:, t]) for t in range(T))
    other = x.clone()
    other[:, -1] += 1
    b = layer(other, memory, mask=causal(T, T))
    assert_close(a[:, :-1], b[:, :-1])


def test_a_decoder_without_self_attention_is_found():
    contract_reads_what_it_has_written(shaken(DecoderLayer(E, H, FF)))
    with pytest.raises(AssertionError):
        contract_reads_what_it_has_written(shaken(Deaf(E, H, FF)))


def test_a_path_of_its_own_for_cross_attention():
    """Rotary positions have a meaning inside one sequence, and not between two."""
    layer = DecoderLayer(E, H, FF, attend=Rotary(E // H), cross_attend=sdpa)
    assert isinstance(layer.attention.attend, Rotary)
    assert layer.cross.attend is sdpa
    x, memory = states(1, T).float(), states(1, S).float()
    assert_close(layer(x, memory), layer(x, memory.flip(1)))
    layer = DecoderLayer(E, H, FF, attend=attend, score=ALiBi(H), cross_attend=attend)
    assert isinstance(layer.attention.score, ALiBi)
    assert layer.cross.score is None
    assert_close(layer(x, memory), layer(x, memory.flip(1)))
    layer = DecoderLayer(E, H, FF, attend=attend, normalize=sparsemax, cross_attend=sdpa)
    assert (layer.attention.normalize, layer.cross.normalize) == (sparsemax, None)


# The Transformer


def small(target_symbols=7, **options):
    sizes = {"embed_dim": E, "num_heads": H, "hidden_dim": FF, "layers": 2, "dropout": 0.0}
    return transformer(9, target_symbols, **(sizes | options))


SOURCE = torch.tensor([[5, 1, 8, 4, 3], [7, 6, 0, 0, 0], [4, 4, 6, 0, 0]])
LENGTHS = torch.tensor([5, 2, 3])
both_norms = pytest.mark.parametrize("norm_first", [False, True])


@both_norms
def test_padding_changes_nothing(norm_first):
    model, target = shaken(small(norm_first=norm_first)), torch.tensor([[4, 6], [3, 2], [5, 5]])
    filled = SOURCE.masked_fill(torch.arange(5) >= LENGTHS[:, None], 8)
    logits = model(SOURCE, LENGTHS, target).logits
    assert_close(model(filled, LENGTHS, target).logits, logits)
    for i, n in enumerate(LENGTHS.tolist()):
        alone = model(SOURCE[i : i + 1, :n], LENGTHS[i : i + 1], target[i : i + 1])
        assert_close(alone.logits[0], logits[i])


@both_norms
def test_no_symbol_sees_itself_or_the_future(norm_first):
    model = shaken(small(norm_first=norm_first))
    target = torch.tensor([[3, 4, 5, 2]])
    for i in range(4):
        changed = target.clone()
        changed[0, i] = 6
        a, b = (model(SOURCE[:1], LENGTHS[:1], y).logits for y in (target, changed))
        assert_close(a[:, : i + 1], b[:, : i + 1])
        assert all(not torch.allclose(a[:, t], b[:, t]) for t in range(i + 1, 4))


@both_norms
def test_greedy_with_a_cache_is_reading_everything_again(norm_first):
    model = shaken(small(norm_first=norm_first), 1.0)
    greedy = model.greedy(SOURCE, LENGTHS, 8)
    written = torch.empty(3, 0, dtype=torch.long)
    for t in range(greedy.symbols.shape[1]):
        ended = (written == END).any(1)
        guess = torch.cat([written, torch.zeros(3, 1, dtype=torch.long)], 1)  # never read
        logits = model(SOURCE, LENGTHS, guess).logits[:, -1]
        assert_close(greedy.logits[~ended, t], logits[~ended])
        written = torch.cat([written, logits.argmax(-1).masked_fill(ended, END)[:, None]], 1)
    assert torch.equal(greedy.symbols, written)
    assert greedy.weights is None


@both_norms
def test_a_beam_of_one_is_greedy(norm_first):
    source, lengths = torch.randint(0, 9, (20, 6)), torch.randint(1, 7, (20,))
    for seed in range(3):
        torch.manual_seed(seed)
        model = shaken(small(norm_first=norm_first), 1.0)
        greedy = model.greedy(source, lengths, 9)
        assert torch.equal(model.beam(source, lengths, 9, width=1).symbols, greedy.symbols)


@both_norms
@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
def test_a_wide_beam_is_exhaustive(norm_first, length_penalty):
    V, steps = 4, 4
    model = shaken(small(V, norm_first=norm_first), 1.0)
    every = list(all_sequences(V, steps))
    padded = torch.tensor([(*s, *[END] * (steps - len(s))) for s in every])
    found = model.beam(SOURCE, LENGTHS, steps, width=108, length_penalty=length_penalty)
    for b, n in enumerate(LENGTHS.tolist()):
        alone = SOURCE[b : b + 1, :n].expand(len(every), -1), LENGTHS[b].expand(len(every))
        log_prob = log_prob_of(model, *alone, padded)
        assert log_prob.exp().sum().item() == pytest.approx(1.0)
        score = log_prob / ((5 + torch.tensor([len(s) for s in every])) / 6) ** length_penalty
        ours = found.symbols[b].tolist()
        assert ours == padded[score.argmax()][: len(ours)].tolist()
        assert_close(found.log_prob[b], log_prob[score.argmax()])


@both_norms
def test_a_narrow_beam_is_scored_as_teacher_forcing_does(norm_first):
    """The caches are of the sequences that were kept, not of those they took the place of."""
    model = shaken(small(norm_first=norm_first), 1.0)
    source, lengths = torch.randint(0, 9, (20, 6)), torch.randint(1, 7, (20,))
    found = model.beam(source, lengths, 7, width=3)
    assert_close(found.log_prob, log_prob_of(model, source, lengths, found.symbols))
    greedy = model.greedy(source, lengths, 7).symbols
    assert (
        found.log_prob > log_prob_of(model, source, lengths, greedy) - 1e-9
    ).double().mean() > 0.8


def test_tied_weights_are_one_tensor():
    model = small()
    assert model.decoder.output.weight is model.decoder.embed.weight
    assert model.encoder.embed.weight is not model.decoder.embed.weight
    one = small(9, shared=True)
    assert one.encoder.embed.weight is one.decoder.embed.weight is one.decoder.output.weight
    names = {name for name, _ in one.named_parameters()}
    assert sum("embed" in name or "decoder.output" in name for name in names) == 1
    model = shaken(model)
    decoded = model.decoder.stack(states(B, T), states(B, S))
    assert_close(model.decoder.output(decoded), decoded @ model.decoder.embed.weight.T)


def test_embeddings_are_scaled_and_placed():
    """Section 3.4: times the root of the width; at first that makes their variance 1."""
    model = transformer(500, 500, embed_dim=64, num_heads=2, hidden_dim=8, layers=1)
    assert model.encoder.embed.weight.std().item() == pytest.approx(1 / 8, rel=0.02)
    seen = []
    model.encoder.stack.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model.eval().encoder(torch.tensor([[7, 7]]), torch.tensor([2]))
    row = 8 * model.encoder.embed.weight[7]
    positions = torch.tensor(
        [
            [f(p / 10000 ** (i / 64)) for i in range(0, 64, 2) for f in (math.sin, math.cos)]
            for p in range(2)
        ]
    )
    assert_close(seen[0][0], row + positions)


@both_norms
def test_dropout_of_the_paper(norm_first):
    """On embeddings with positions, on weights, on hidden units, on what each sublayer adds."""
    model = transformer(9, 7, embed_dim=E, num_heads=H, hidden_dim=FF, layers=1, dropout=0.25)
    rates = [m.dropout for m in model.modules() if hasattr(m, "dropout")]
    assert rates == [0.25] * len(rates)
    assert len(rates) == 2 + (1 + 1 + 2) + (2 + 1 + 3)
    inputs = SOURCE, LENGTHS, torch.tensor([[4, 6], [3, 2], [5, 5]])
    assert not torch.equal(model(*inputs).logits, model(*inputs).logits)
    model.eval()
    assert torch.equal(model(*inputs).logits, model(*inputs).logits)


def test_learns_one_batch_by_heart():
    model = small(9, embed_dim=16, hidden_dim=32)
    source, lengths = torch.randint(3, 9, (8, 5)), torch.tensor([5, 5, 5, 4, 4, 3, 2, 5])
    target = torch.cat([torch.randint(3, 7, (8, 3)), torch.full((8, 1), END)], dim=1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(80):
        optimizer.zero_grad()
        F.cross_entropy(model(source, lengths, target).logits.mT, target).backward()
        optimizer.step()
    assert torch.equal(model.greedy(source, lengths, max_steps=9).symbols, target)


def test_state_dict_round_trip():
    model, other = shaken(small()), shaken(small())
    target = torch.tensor([[4, 6], [3, 2], [5, 5]])
    assert not torch.equal(
        model(SOURCE, LENGTHS, target).logits, other(SOURCE, LENGTHS, target).logits
    )
    other.load_state_dict(model.state_dict())
    assert torch.equal(model(SOURCE, LENGTHS, target).logits, other(SOURCE, LENGTHS, target).logits)
    assert other.decoder.output.weight is other.decoder.embed.weight


def test_the_base_model_has_the_papers_size():
    """Table 3: 65 million, with one vocabulary of 37000 (section 5.1)."""
    with torch.device("meta"):
        model = transformer(37000, 37000, shared=True)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6) in (63, 64, 65)


# How it is trained


def test_warm_up_is_equation_3():
    for step in (1, 5, 100, 101, 400):
        expected = E**-0.5 * min(step**-0.5, step * 100**-1.5)
        assert warmup_rate(step, E, 100) == pytest.approx(expected)
    rates = [warmup_rate(step, 512) for step in range(1, 8001)]
    assert rates.index(max(rates)) == 3999
    assert rates[999] == pytest.approx(rates[3999] / 4), "a straight line up"
    assert rates[7999] == pytest.approx(rates[3999] / 2**0.5), "a root down"


def test_label_smoothing_is_pytorchs_own():
    """Szegedy et al. 2016, section 7: (1 - e) of the target and e / K of everything."""
    logits, target, e = torch.randn(5, 7).double(), torch.randint(7, (5,)), 0.1
    wanted = (1 - e) * F.one_hot(target, 7) + e / 7
    by_definition = -(wanted * logits.log_softmax(-1)).sum(-1).mean()
    assert_close(F.cross_entropy(logits, target, label_smoothing=e), by_definition)


def test_a_memory_must_be_there():
    layer = copy.deepcopy(DecoderLayer(E, H, FF))
    with pytest.raises(Exception, match="memory"):
        layer(states(1, T).float(), None)
    with pytest.raises(ValueError, match=r"^the cache is empty: append keys and values first$"):
        layer(states(1, T).float(), KVCache())


def test_from_torch_shares_no_weight_of_an_activation() -> None:
    theirs = nn.TransformerEncoderLayer(8, 2, 16, activation=nn.PReLU(), batch_first=True)
    ours = EncoderLayer.from_torch(theirs)
    assert not {*map(id, ours.parameters())} & {*map(id, theirs.parameters())}
