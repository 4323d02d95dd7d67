import copy
import itertools
import math
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from attnbook import Additive, Attended, causal, core, dot, layers, padding, sparsemax
from attnbook.fused import sdpa, tiled
from attnbook.layers import (
    KVCache,
    MultiHeadAttention,
    attention_maps,
    merge_heads,
    split_heads,
)

E, H, B, L, S = 8, 4, 2, 3, 5
PATHS = {"attend": core.attend, "sdpa": sdpa, "tiled": tiled}
every_path = pytest.mark.parametrize("attend", PATHS.values(), ids=PATHS)
KINDS = {
    "plain": {},
    "no bias": {"bias": False},
    "one head": {"num_heads": 1},
    "grouped": {"num_kv_heads": 2},
    "multi-query": {"num_kv_heads": 1},
    "other inputs": {"key_dim": 6, "value_dim": 7},
    "other heads": {"head_dim": 3, "value_head_dim": 5},
    "all of it": {"key_dim": 6, "value_dim": 7, "head_dim": 3, "value_head_dim": 2}
    | {"num_kv_heads": 2, "bias": False},
}
every_kind = pytest.mark.parametrize("kind", KINDS)
MASKS = {
    "none": None,
    "shared": torch.rand(L, S, generator=torch.Generator().manual_seed(0)) < 0.6,
    "dead rows": torch.tensor([[True], [False], [True]]).expand(L, S),
    "padding": padding(torch.tensor([2, 5]), S),
    "of each sequence": torch.arange(B * L * S).reshape(B, L, S) % 3 != 0,
    "of each head": torch.arange(H * L * S).reshape(1, H, L, S) % 3 != 0,
    "of each head and sequence": torch.arange(B * H * L * S).reshape(B, H, L, S) % 5 > 1,
}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def made(kind="plain", attend=core.attend, dtype=torch.float64, **options):
    options = {"num_heads": H, **KINDS[kind], "attend": attend, **options}
    layer = MultiHeadAttention(E, **options).to(dtype)
    with torch.no_grad():
        for parameter in layer.parameters():  # away from special points
            parameter.add_(0.3 * torch.randn_like(parameter))
    return layer.eval()


def inputs_for(layer, dtype=torch.float64):
    widths = (layer.query.in_features, layer.key.in_features, layer.value.in_features)
    places = (L, S, S)
    return [
        torch.randn(B, n, w, dtype=torch.float64).to(dtype)
        for n, w in zip(places, widths, strict=True)
    ]


def gradients(layer, inputs, mask, upstream):
    leaves = [x.detach().requires_grad_() for x in inputs]
    output = layer(*leaves, mask=mask).output
    return output, torch.autograd.grad(output, [*leaves, *layer.parameters()], upstream)


# The oracle: one number after another


def linear_by_hand(projection, x):
    bias = [0.0] * projection.out_features if projection.bias is None else projection.bias.tolist()
    weight = projection.weight.tolist()
    return [sum(w * a for w, a in zip(weight[o], x, strict=True)) + b for o, b in enumerate(bias)]


@torch.no_grad()
def by_the_paper(layer, query, key, value, allowed):
    """Section 3.2.2 for one sequence: output `(L, E)` and weights `(H, L, S)`.

    `allowed(h, l, s)` says whether query l of head h may attend to key s.
    """
    heads, group = layer.num_heads, layer.num_heads // layer.num_kv_heads
    Q, K, V = (
        [linear_by_hand(projection, row) for row in rows.tolist()]
        for projection, rows in ((layer.query, query), (layer.key, key), (layer.value, value))
    )
    d_k, d_v = len(Q[0]) // heads, len(V[0]) // layer.num_kv_heads
    weights = torch.zeros(heads, len(Q), len(K), dtype=torch.float64)
    output = []
    for n, q in enumerate(Q):
        joined = []
        for h in range(heads):
            of_q, of_k, of_v = h * d_k, h // group * d_k, h // group * d_v
            seen = [s for s in range(len(K)) if allowed(h, n, s)]
            e = {
                s: math.exp(sum(q[of_q + d] * K[s][of_k + d] for d in range(d_k)) / math.sqrt(d_k))
                for s in seen
            }
            for s in seen:
                weights[h, n, s] = e[s] / sum(e.values())
            joined += [
                sum(float(weights[h, n, s]) * V[s][of_v + d] for s in seen) for d in range(d_v)
            ]
        output.append(linear_by_hand(layer.output, joined))
    return torch.tensor(output, dtype=torch.float64), weights


def contract_is_that_of_the_paper(layer, mask=None):
    inputs = inputs_for(layer)
    output, weights = layer(*inputs, mask=mask)
    full = torch.ones(B, layer.num_heads, L, S, dtype=torch.bool)
    if mask is not None:
        full &= mask if mask.ndim == 4 else mask.expand(B, L, S).unsqueeze(1)
    for b in range(B):
        one = [x[b] for x in inputs]
        expected, looked = by_the_paper(layer, *one, lambda h, n, s, b=b: bool(full[b, h, n, s]))
        assert_close(output[b], expected)
        if weights is not None:
            assert_close(weights[b], looked)


@every_kind
@every_path
def test_layer_is_that_of_the_paper(kind, attend):
    layer = made(kind, attend)
    contract_is_that_of_the_paper(layer)
    assert (layer(*inputs_for(layer)).weights is None) == (attend is not core.attend)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("kind", ["plain", "grouped"])
@every_path
def test_masks_are_for_every_head_or_for_each(mask, kind, attend):
    contract_is_that_of_the_paper(made(kind, attend), MASKS[mask])


@every_kind
@pytest.mark.parametrize("attend", [sdpa, tiled])
@pytest.mark.parametrize("mask", ["none", "shared", "dead rows", "of each head"])
def test_a_path_changes_nothing_but_the_speed(kind, attend, mask):
    slow, mask = made(kind), MASKS[mask]
    if slow.num_heads == 1 and mask is not None and mask.ndim == 4:
        mask = mask[:, :1]
    fast = copy.deepcopy(slow)
    fast.attend = attend
    inputs = inputs_for(slow)
    upstream = torch.randn(B, L, E, dtype=torch.float64)
    (output, of_slow), (same, of_fast) = (
        gradients(layer, inputs, mask, upstream) for layer in (slow, fast)
    )
    assert_close(same, output)
    for got, want in zip(of_fast, of_slow, strict=True):
        assert_close(got, want)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("attend", [sdpa, tiled])
@pytest.mark.parametrize("kind", ["plain", "grouped"])
def test_error_budget(kind, attend, dtype):
    """Against float64, at most twice the readable path's error in the same type; gradients, 3 x."""
    slow = made(kind, dtype=dtype, bias=False)  # a key's bias has gradient 0, all of it error
    fast, exact = copy.deepcopy(slow), copy.deepcopy(slow).double()
    fast.attend = attend
    inputs = [4 * x for x in inputs_for(slow, dtype)]
    mask, upstream = causal(L, S, offset=S - L), torch.randn(B, L, E).to(dtype)
    (want, wants), (plain, plains), (got, gots) = (
        gradients(layer, [x.to(u.dtype) for x in inputs], mask, u)
        for layer, u in ((exact, upstream.double()), (slow, upstream), (fast, upstream))
    )
    eps = torch.finfo(dtype).eps
    named = [("output", 2, want, plain, got)] + [
        (f"gradient {n}", 3, *parts)
        for n, parts in enumerate(zip(wants, plains, gots, strict=True))
    ]
    for name, factor, reference, slower, faster in named:
        assert faster.dtype == dtype
        errors = [(x.double() - reference).abs().amax() for x in (slower, faster)]
        assert errors[1] <= factor * (errors[0] + eps * reference.abs().amax()), name


# Heads


def test_splitting_cuts_the_width_and_merging_puts_it_back():
    x = torch.arange(2.0 * 3 * 8).reshape(2, 3, 8)
    heads = split_heads(x, 4)
    for b, h, n, d in itertools.product(range(2), range(4), range(3), range(2)):
        assert heads[b, h, n, d] == x[b, n, 2 * h + d]
    assert torch.equal(merge_heads(heads), x)
    assert torch.equal(merge_heads(split_heads(x[0], 2)), x[0])


def test_the_output_is_the_sum_of_what_the_heads_add():
    """Concat W^O, by columns: each head writes to the output on its own."""
    layer = made(bias=False)
    (x, *_) = inputs_for(layer)
    weights, width = layer(x).weights, E // H
    summed = torch.zeros(B, L, E, dtype=torch.float64)
    for h in range(H):
        rows = slice(h * width, (h + 1) * width)
        value = x @ layer.value.weight[rows].T
        summed += weights[:, h] @ value @ layer.output.weight[:, rows].T
    assert_close(layer(x).output, summed)


def test_shared_heads_are_copies_of_one():
    """Grouped-query attention is multi-head attention whose groups have equal keys and values."""
    few, many = made("grouped"), made()
    many.load_state_dict(
        few.state_dict()
        | {
            f"{name}.{part}": torch.cat([block for block in state.chunk(2) for _ in range(2)])
            for name in ("key", "value")
            for part, state in getattr(few, name).state_dict().items()
        }
    )
    inputs = inputs_for(few)
    assert_close(many(*inputs), few(*inputs))


@every_kind
def test_parameters_are_counted(kind):
    layer = made(kind)
    options = {"num_heads": H, "num_kv_heads": None, "key_dim": E, "value_dim": E} | KINDS[kind]
    heads = options["num_heads"]
    shared = options["num_kv_heads"] or heads
    d_k = options.get("head_dim", E // heads)
    d_v = options.get("value_head_dim", d_k)
    count = heads * d_k * E + shared * d_k * options["key_dim"]
    count += shared * d_v * options["value_dim"] + heads * d_v * E
    if options.get("bias", True):
        count += heads * d_k + shared * d_k + shared * d_v + E
    assert sum(p.numel() for p in layer.parameters()) == count


def test_leading_axes_are_free():
    layer = made()
    query, key = torch.randn(3, 2, L, E).double(), torch.randn(2, S, E).double()
    output, weights = layer(query, key)
    assert weights.shape == (3, 2, H, L, S)
    for i in range(3):
        assert_close(output[i], layer(query[i], key).output)
    assert_close(layer(query[0, 0], key[0]).output, output[0, 0])


@every_path
def test_a_mask_may_have_the_axes_of_the_keys(attend):
    """One question for a batch of memories, of as many sequences as there are heads."""
    layer = made(attend=attend)
    query, key = torch.randn(L, E).double(), torch.randn(H, S, E).double()
    mask = padding(torch.tensor([2, 5, 3, 4]), S)
    together = layer(query, key, mask=mask).output
    for b in range(H):
        assert_close(together[b], layer(query, key[b], mask=mask[b]).output)


def test_self_attention_and_keys_for_values_are_the_defaults():
    layer = made()
    query, key, _ = inputs_for(layer)
    assert torch.equal(layer(query).output, layer(query, query, query).output)
    assert torch.equal(layer(query, key).output, layer(query, key, key).output)


@every_path
def test_empty_inputs(attend):
    layer = made(attend=attend)
    x = torch.zeros(B, L, E, dtype=torch.float64)
    assert layer(x[:0]).output.shape == (0, L, E)
    assert layer(x[:, :0]).output.shape == (B, 0, E)
    assert torch.equal(layer(x, x[:, :0]).output, layer.output.bias.expand(B, L, E))


def test_dropout_falls_on_weights_in_training_alone():
    layer = made(dropout=0.5)
    (x, *_) = inputs_for(layer)
    plain = layer(x)
    assert_close(layer(x).output, plain.output, rtol=0, atol=0)
    layer.train()
    dropped = layer(x)
    assert torch.equal(dropped.weights, plain.weights), "those before dropout"
    assert not torch.allclose(dropped.output, plain.output)
    mean = layer(x.expand(2000, B, L, E)).output.mean(0)
    assert_close(mean, plain.output, rtol=0, atol=0.15)


def test_projections_start_from_glorot():
    layer = MultiHeadAttention(64, 4, key_dim=32)
    for projection in (layer.query, layer.key, layer.value, layer.output):
        limit = math.sqrt(6 / sum(projection.weight.shape))
        assert 0.95 * limit < projection.weight.abs().max() <= limit
        assert (projection.bias == 0).all()


def test_scores_and_normalisers_with_parameters_are_registered():
    layer = made(score=Additive(2, 2, 3), normalize=sparsemax)
    assert {n.partition(".")[0] for n, _ in layer.named_parameters()} >= {"score", "query"}
    output, weights = layer(*inputs_for(layer))
    output.sum().backward()
    assert layer.score.v.weight.grad.abs().sum() > 0
    assert (weights == 0).any(), "the normaliser is the one that was given"


def test_state_dict_round_trip():
    for kind in KINDS:
        one, other = made(kind), made(kind)
        inputs = inputs_for(one)
        assert not torch.equal(one(*inputs).output, other(*inputs).output)
        other.load_state_dict(one.state_dict())
        assert torch.equal(one(*inputs).output, other(*inputs).output)


# PyTorch's layer

TORCH = {
    "plain": {},
    "no bias": {"bias": False},
    "other inputs": {"kdim": 6, "vdim": 7},
    "other values, no bias": {"vdim": 7, "bias": False},
    "dropout": {"dropout": 0.3},
    "positions first": {"batch_first": False},
}
every_torch = pytest.mark.parametrize("options", TORCH.values(), ids=TORCH)


def torch_layer(options, dtype=torch.float64):
    layer = nn.MultiheadAttention(E, H, **{"batch_first": True, **options}).to(dtype).eval()
    with torch.no_grad():
        for p in layer.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return layer


@every_torch
@pytest.mark.parametrize("mask", ["none", "shared", "of each head and sequence"])
def test_from_torch_is_the_same_layer(options, mask):
    theirs, mask = torch_layer(options), MASKS[mask]
    ours = MultiHeadAttention.from_torch(theirs, attend=core.attend)
    inputs = [x.requires_grad_() for x in inputs_for(ours)]
    forbidden = None if mask is None else ~(mask if mask.ndim == 2 else mask.flatten(0, 1))
    turned = inputs if theirs.batch_first else [x.transpose(0, 1) for x in inputs]
    expected, looked = theirs(*turned, attn_mask=forbidden, average_attn_weights=False)
    expected = expected if theirs.batch_first else expected.transpose(0, 1)
    output, weights = ours(*inputs, mask=mask)
    assert_close(output, expected)
    assert_close(weights, looked)
    upstream = torch.randn_like(output)
    got, want = (torch.autograd.grad(x, inputs, upstream) for x in (output, expected))
    assert_close(got, want)
    assert not ours.training
    assert MultiHeadAttention.from_torch(theirs.train()).training
    assert ours.dropout == theirs.dropout


@every_torch
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_survive_the_way_there_and_back(options, dtype):
    theirs = torch_layer(options, dtype)
    ours = MultiHeadAttention.from_torch(theirs)
    back = ours.to_torch()
    assert back.batch_first
    assert back.dropout == theirs.dropout
    assert back.state_dict().keys() == theirs.state_dict().keys()
    for name, value in theirs.state_dict().items():
        assert value.dtype == dtype
        assert torch.equal(back.state_dict()[name], value), name
    again = MultiHeadAttention.from_torch(back)
    for name, value in ours.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    theirs.out_proj.weight.data.zero_()
    assert (ours.output.weight != 0).any(), "they share no memory"


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("grouped", {}, "has no grouped or multi-query heads"),
        ("other heads", {}, "has heads of width embed_dim / num_heads only"),
        ("plain", {"score": dot()}, "has the scaled dot product with softmax only"),
        ("plain", {"normalize": sparsemax}, "has the scaled dot product with softmax only"),
    ],
)
def test_what_pytorch_cannot_do_is_said(kind, options, message):
    with pytest.raises(ValueError, match=f"^nn.MultiheadAttention {message}$"):
        made(kind, **options).to_torch()


@pytest.mark.parametrize("option", ["add_bias_kv", "add_zero_attn"])
def test_keys_of_its_own_are_refused(option):
    with pytest.raises(ValueError, match=r"^layer has add_bias_kv or add_zero_attn"):
        MultiHeadAttention.from_torch(nn.MultiheadAttention(E, H, **{option: True}))


# The cache


@torch.no_grad()
def in_chunks(layer, x, chunks, align=lambda n, seen: causal(n, seen + n, offset=seen)):
    """Causal self-attention, so many positions at a time."""
    cache, outputs = KVCache(), []
    for part in x.split(chunks, dim=-2):
        mask = align(part.shape[-2], cache.length)
        outputs.append(layer(part, mask=mask, cache=cache).output)
    assert cache.length == x.shape[-2]
    return torch.cat(outputs, dim=-2)


def contract_cache_changes_nothing(layer, chunks, **options):
    x = torch.randn(B, sum(chunks), E, dtype=torch.float64)
    whole = layer(x, mask=causal(sum(chunks), sum(chunks))).output
    assert_close(in_chunks(layer, x, chunks, **options), whole)


@every_path
@pytest.mark.parametrize("kind", ["plain", "grouped", "multi-query", "other heads"])
@pytest.mark.parametrize("chunks", [[1] * 9, [4, 1, 1, 3], [2, 7]], ids=str)
def test_a_cache_changes_nothing(kind, attend, chunks):
    contract_cache_changes_nothing(made(kind, attend), chunks)


def test_a_cache_without_a_batch():
    layer, x = made(), torch.randn(4, E).double()
    whole = layer(x, mask=causal(4, 4)).output
    assert_close(in_chunks(layer, x, [1, 2, 1]), whole)


@torch.no_grad()
@pytest.mark.parametrize("seen", [0, 1, 3])
def test_a_call_that_raises_leaves_its_cache_as_it_was(seen):
    layer, x = made(), torch.randn(2, 5, E).double()
    cache, bad = KVCache(), torch.ones(3, 7, dtype=torch.bool)
    if seen:
        layer(x[:, :seen], mask=causal(seen, seen), cache=cache)
    with pytest.raises(ValueError, match="mask of shape"):
        layer(torch.randn(2, 2, E).double(), mask=bad, cache=cache)
    assert cache.length == seen
    outputs = in_chunks(layer, x, [seen, 5 - seen]) if seen else in_chunks(layer, x, [5])
    rest = layer(x[:, seen:], mask=causal(5 - seen, 5, offset=seen), cache=cache).output
    assert_close(rest, outputs[:, seen:])


def test_a_cache_forgets_from_the_end():
    cache = KVCache()
    key, value = torch.randn(1, 2, 5, 4), torch.randn(1, 2, 5, 3)
    cache.append(key, value)
    cache.cut(2)
    assert [x.tolist() for x in cache.read()] == [x[:, :, :2].tolist() for x in (key, value)]
    again, _ = cache.append(key[:, :, 4:], value[:, :, 4:])
    assert again.tolist() == key[:, :, [0, 1, 4]].tolist()
    for length in (-1, 4):
        with pytest.raises(ValueError, match=f"^length must be between 0 and 3, got {length}$"):
            cache.cut(length)
    cache.cut(0)
    cache.append(torch.randn(7, 1, 1, 1), torch.randn(7, 1, 1, 1))  # nothing is held to its shape


@torch.no_grad()
@pytest.mark.parametrize("shape", [(2, 3, E), (1, 3, E), (3, E), (2, 2, 3, E)])
def test_the_kernel_without_checks_is_sdpa_with_them(shape):
    layer, fast = made(attend=core.attend), made(attend=sdpa)
    fast.load_state_dict(layer.state_dict())
    x, key = torch.randn(shape).double(), torch.randn(2, 4, E).double()
    keys = key if x.ndim < 4 else key[:, None]
    assert_close(fast(x).output, layer(x).output)
    assert_close(fast(x, keys).output, layer(x, keys).output)
    cache = KVCache()
    cache.append(*fast.project(keys, keys))
    assert_close(fast(x, cache).output, layer(x, keys).output)


@torch.no_grad()
def test_rows_of_a_cache_go_on_by_themselves():
    """As in a beam search: the same sequence twice, another not at all."""
    layer, rows = made(), torch.tensor([1, 1, 0])
    x, new = torch.randn(2, 4, E).double(), torch.randn(3, 1, E).double()
    cache = KVCache()
    layer(x, cache=cache)
    picked = cache.index_select(0, rows)
    output = layer(new, cache=picked).output
    assert_close(output, layer(new, torch.cat([x[rows], new], dim=1)).output)
    assert (cache.length, picked.length) == (4, 5), "the first one is as it was"
    assert_close(layer(x[:, :1], cache).output, layer(x[:, :1], x).output)
    assert KVCache().index_select(0, rows).length == 0


@torch.no_grad()
def test_reading_appends_nothing():
    layer = made("other inputs")
    query, key, value = inputs_for(layer)
    cache = KVCache()
    cache.append(*layer.project(key, value))
    mask = padding(torch.tensor([2, 5]), S)
    for _ in range(2):
        assert_close(layer.read(query, cache, mask=mask), layer(query, key, value, mask=mask))
        assert_close(layer(query, cache, mask=mask), layer(query, key, value, mask=mask))
    assert cache.length == S


def test_room_doubles_so_that_a_step_does_not_copy_the_past():
    cache, held = KVCache(), []
    for n in range(33):
        key, value = cache.append(n * torch.ones(1, 1, 1, 2), -n * torch.ones(1, 1, 1, 3))
        assert key[0, 0, :, 0].tolist() == list(range(n + 1))
        assert (value == -key[..., :1]).all()
        if not held or held[-1] != key.data_ptr():
            held.append(key.data_ptr())
    assert len(held) <= 1 + math.ceil(math.log2(33))


def test_a_cache_is_as_it_was_after_an_error():
    cache = KVCache()
    with pytest.raises(ValueError, match=r"^the cache is empty: append keys and values first$"):
        cache.read()
    cache.append(torch.ones(1, 2, 3, 4), torch.ones(1, 2, 3, 5))
    for key, value, message in (
        (torch.ones(2, 2, 1, 4), torch.ones(2, 2, 1, 5), "key is (2, 2, 1, 4) but the cache"),
        (torch.ones(1, 2, 1, 4), torch.ones(1, 2, 1, 4), "value is (1, 2, 1, 4) but the cache"),
        (torch.ones(1, 2, 1, 4).half(), torch.ones(1, 2, 1, 5), "key is torch.float16 on cpu but"),
    ):
        with pytest.raises(ValueError, match=f"^{message.replace('(', '.').replace(')', '.')}"):
            cache.append(key, value)
        assert cache.length == 3
    key, value = cache.append(torch.zeros(1, 2, 1, 4), torch.zeros(1, 2, 1, 5))
    assert key[0, 0].sum(-1).tolist() == [4, 4, 4, 0]
    assert value[0, 0].sum(-1).tolist() == [5, 5, 5, 0]


def test_a_cache_holds_no_gradients():
    layer, cache = made(), KVCache()
    with pytest.raises(RuntimeError, match=r"^a cache holds no gradients: decode under torch\.no"):
        layer(torch.randn(B, 1, E).double(), cache=cache)
    assert cache.length == 0


# Maps


class Two(nn.Module):
    def __init__(self, attend=sdpa):
        super().__init__()
        self.first, self.second = (made(attend=attend) for _ in range(2))

    def forward(self, x, mask=None):
        x = self.first(x, mask=mask).output
        return self.second(x, x, mask=mask).output


def contract_nothing_looks_where_it_must_not(model, x, mask):
    with attention_maps(model) as maps:
        model(x, mask=mask)
    for name, (weights,) in maps.items():
        assert (weights[..., ~mask] == 0).all(), name
        assert_close(weights.sum(-1), torch.ones_like(weights[..., 0])), name


@pytest.mark.parametrize("attend", [sdpa, tiled])
def test_maps_are_those_of_every_layer(attend):
    model, x = Two(attend), torch.randn(B, L, E).double()
    plain = model(x, causal(L, L))
    with attention_maps(model) as maps:
        assert_close(model(x, causal(L, L)), plain)
        model(x)
    assert list(maps) == ["first", "second"]
    assert [len(found) for found in maps.values()] == [2, 2]
    _, expected = by_the_paper(model.first, x[0], x[0], x[0], lambda h, n, s: s <= n)
    assert_close(maps["first"][0][0], expected)
    assert not maps["first"][0].requires_grad
    contract_nothing_looks_where_it_must_not(model, x, causal(L, L))


def fail(layer):
    assert layer.attend is core.attend
    raise RuntimeError("out of memory")


@pytest.mark.parametrize("attend", [sdpa, core.attend])
def test_paths_are_restored(attend):
    model, x = Two(attend), torch.randn(B, L, E).double()
    with attention_maps(model) as maps:
        model(x)
    model(x)
    assert len(maps["first"]) == 1
    with pytest.raises(RuntimeError, match=r"^out of memory$"), attention_maps(model):
        fail(model.second)
    assert model.first.attend is model.second.attend is attend
    assert not model.first._forward_hooks


def test_a_path_inside_a_path_is_switched_too():
    class Turned(nn.Module):
        def __init__(self):
            super().__init__()
            self.attend = sdpa

        def forward(self, query, key, value, **options):
            return self.attend(query, -key, value, **options)

    layer = made(attend=Turned())
    with attention_maps(nn.Sequential(layer)) as maps:
        layer(torch.randn(B, L, E).double())
    assert maps["0"][0].shape == (B, H, L, L)
    assert layer.attend.attend is sdpa


@torch.no_grad()
def test_maps_are_recorded_while_decoding():
    layer, cache = made(attend=sdpa), KVCache()
    x = torch.randn(B, L, E).double()
    with attention_maps(nn.ModuleDict({"layer": layer})) as maps:
        for n in range(L):
            layer(x[:, n : n + 1], cache=cache)
        layer.read(x, cache)
    assert [tuple(found.shape) for found in maps["layer"]] == [
        *((B, H, 1, n + 1) for n in range(L)),
        (B, H, L, L),
    ]


def test_a_model_without_maps_is_named():
    with pytest.raises(ValueError, match=r"^Linear has no MultiHeadAttention inside$"):
        attention_maps(nn.Linear(2, 2)).__enter__()
    blind = made(attend=lambda q, k, v, **_: Attended(v[..., :L, :], None))
    model = nn.ModuleDict({"blind": blind})
    x = torch.randn(B, L, E).double()
    with (
        attention_maps(model),
        pytest.raises(ValueError, match=r"^the path of layer 'blind' has no weights to give$"),
    ):
        blind(x)


# What is often written instead, and the contract that each fails


def test_merging_without_a_transpose_is_found(monkeypatch):
    monkeypatch.setattr(layers, "merge_heads", lambda x: x.reshape(*x.shape[:-3], x.shape[-2], -1))
    with pytest.raises(AssertionError):
        contract_is_that_of_the_paper(made())


def test_heads_split_along_the_positions_are_found(monkeypatch):
    monkeypatch.setattr(
        layers,
        "split_heads",
        lambda x, heads: x.reshape(*x.shape[:-2], heads, x.shape[-2], -1),
    )
    with pytest.raises(AssertionError):
        contract_is_that_of_the_paper(made())


@pytest.mark.parametrize("scale", [1.0, E**-0.5, 0.5**0.5], ids=["none", "of the model", "right"])
def test_scaling_by_the_width_of_the_model_is_found(scale):
    layer = made(score=dot(scale))
    if scale == (E / H) ** -0.5:
        contract_is_that_of_the_paper(layer)
        return
    with pytest.raises(AssertionError):
        contract_is_that_of_the_paper(layer)


@pytest.mark.parametrize("name", ["first", "second"])
def test_a_dropped_mask_is_found_in_any_layer(name):
    model, x = Two(core.attend), torch.randn(B, L, E).double()
    blind = getattr(model, name)
    blind.attend = lambda *qkv, mask=None, **options: core.attend(*qkv, **options)
    with pytest.raises(AssertionError, match=name):
        contract_nothing_looks_where_it_must_not(model, x, causal(L, L))


def test_top_left_alignment_under_a_cache_is_found():
    """What `is_causal=True` of `scaled_dot_product_attention` does where L != S."""

    def top_left(n, seen):
        return causal(n, seen + n)

    contract_cache_changes_nothing(made(), [5], align=top_left)  # right without a past
    for chunks in ([1, 1], [3, 2]):
        with pytest.raises(AssertionError):
            contract_cache_changes_nothing(made(), chunks, align=top_left)


COMPILED_BEFORE = """
import torch
from attnbook import attend
from attnbook.layers import MultiHeadAttention, attention_maps
layer, x = torch.nn.Sequential(MultiHeadAttention(8, 2, attend=attend)), torch.randn(1, 5, 8)
quick = torch.compile(layer, backend="eager")
quick(x)
with attention_maps(quick) as maps:
    quick(x)
quick(x)
print([tuple(w.shape) for found in maps.values() for w in found])
"""


def test_maps_of_a_model_that_was_compiled_before() -> None:
    """In a process of its own: the type checks of the tests cannot be compiled here."""
    done = subprocess.run(
        [sys.executable, "-c", COMPILED_BEFORE], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[(1, 2, 5, 5)]"
