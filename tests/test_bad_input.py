"""A user's mistake is named: the argument, what was expected, what came.

These run on the package as users import it, so that what is tested is what they see; under the
tests' own run-time type checks some of the same mistakes would stop earlier, with another message.
"""

import importlib
import re
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor


def rows(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.zeros(*shape, dtype=dtype)


GOOD: dict[str, Any] = {"query": rows(2, 3, 4), "key": rows(2, 5, 4), "value": rows(2, 5, 6)}

ATTENTION: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "integer query": (
        {"query": rows(2, 3, 4).long()},
        TypeError,
        "query must be a floating-point tensor, got torch.int64",
    ),
    "boolean key": (
        {"key": rows(2, 5, 4).bool()},
        TypeError,
        "key must be a floating-point tensor, got torch.bool",
    ),
    "complex value": (
        {"value": rows(2, 5, 6, dtype=torch.complex64)},
        TypeError,
        "value must be a floating-point tensor, got torch.complex64",
    ),
    "a list": (
        {"key": [[1.0]]},
        TypeError,
        "key must be a floating-point tensor, got list",
    ),
    "query of one axis": (
        {"query": rows(4)},
        ValueError,
        "query must have at least two axes (positions, width), got shape (4,)",
    ),
    "value of one axis": (
        {"value": rows(5)},
        ValueError,
        "value must have at least two axes (positions, width), got shape (5,)",
    ),
    "dtypes of query and key": (
        {"key": rows(2, 5, 4).double()},
        TypeError,
        "query is torch.float32 but key is torch.float64",
    ),
    "dtypes of query and value": (
        {"value": rows(2, 5, 6).half()},
        TypeError,
        "query is torch.float32 but value is torch.float16",
    ),
    "widths": (
        {"key": rows(2, 5, 3)},
        ValueError,
        "query has width 4 but key has width 3",
    ),
    "numbers of keys and values": (
        {"value": rows(2, 4, 6)},
        ValueError,
        "key has 5 positions but value has 4",
    ),
    "leading axes of query and key": (
        {"key": rows(3, 5, 4)},
        ValueError,
        "leading axes of query (2,) and key (3,) do not broadcast",
    ),
    "leading axes of query and value": (
        {"value": rows(3, 5, 6)},
        ValueError,
        "leading axes of query (2,) and value (3,) do not broadcast",
    ),
    "leading axes of key and value": (
        {"query": rows(3, 4), "value": rows(7, 5, 6)},
        ValueError,
        "leading axes of key (2,) and value (7,) do not broadcast",
    ),
    "float mask": (
        {"mask": torch.zeros(3, 5)},
        TypeError,
        "mask must be a boolean tensor, True = may attend, got torch.float32",
    ),
    "integer mask": (
        {"mask": torch.ones(3, 5).int()},
        TypeError,
        "mask must be a boolean tensor, True = may attend, got torch.int32",
    ),
    "mask that is no tensor": (
        {"mask": True},
        TypeError,
        "mask must be a boolean tensor, True = may attend, got bool",
    ),
    "transposed mask": (
        {"mask": torch.ones(5, 3).bool()},
        ValueError,
        "mask of shape (5, 3) does not broadcast to the scores' shape (2, 3, 5)",
    ),
    "padding mask without its query axis": (
        {"mask": torch.ones(2, 5).bool()},
        ValueError,
        "mask of shape (2, 5) does not broadcast to the scores' shape (2, 3, 5)",
    ),
    "mask with more axes than the scores": (
        {"mask": torch.ones(1, 2, 3, 5).bool()},
        ValueError,
        "mask of shape (1, 2, 3, 5) does not broadcast to the scores' shape (2, 3, 5)",
    ),
    "devices of query and key": (
        {"query": rows(2, 3, 4).to("meta")},
        ValueError,
        "query is on meta but key is on cpu",
    ),
    "devices of query and value": (
        {"value": rows(2, 5, 6).to("meta")},
        ValueError,
        "query is on cpu but value is on meta",
    ),
    "mask on another device": (
        {"mask": torch.ones(3, 5, dtype=torch.bool, device="meta")},
        ValueError,
        "mask is on meta but the scores are on cpu",
    ),
    "dropout of one": ({"dropout": 1.0}, ValueError, "dropout must be in [0, 1), got 1.0"),
    "negative dropout": ({"dropout": -0.1}, ValueError, "dropout must be in [0, 1), got -0.1"),
    "dropout that is no number": (
        {"dropout": float("nan")},
        ValueError,
        "dropout must be in [0, 1), got nan",
    ),
}


@pytest.mark.parametrize(
    "path", ["attend", "fused.sdpa", "fused.tiled", "fused.query_tiled", "fused.flex"]
)
@pytest.mark.parametrize("case", ATTENTION)
def test_attention_names_the_mistake(case: str, path: str, installed: ModuleType) -> None:
    """The readable path and the fast ones say the same."""
    changed, error, message = ATTENTION[case]
    module, _, name = path.rpartition(".")
    attention = getattr(getattr(installed, module) if module else installed, name)
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        attention(**{**GOOD, **changed})


PARTS: dict[str, tuple[str, type[Exception], str]] = {
    # core
    "weights and values": (
        "aggregate(rows(3, 5), rows(4, 2))",
        ValueError,
        "weights have 5 positions but value has 4",
    ),
    "integer weights": (
        "aggregate(rows(3, 5).int(), rows(5, 2))",
        TypeError,
        "weights must be a floating-point tensor, got torch.int32",
    ),
    "weights of one axis": (
        "aggregate(rows(5), rows(5, 2))",
        ValueError,
        "weights must have at least two axes (positions, width), got shape (5,)",
    ),
    "weights of another type than the values": (
        "aggregate(rows(3, 5), rows(5, 2).double())",
        TypeError,
        "weights is torch.float32 but value is torch.float64",
    ),
    "leading axes of weights and values": (
        "aggregate(rows(2, 3, 5), rows(4, 5, 2))",
        ValueError,
        "leading axes of weights (2,) and value (4,) do not broadcast",
    ),
    "weights on another device": (
        "aggregate(rows(3, 5).to('meta'), rows(5, 2))",
        ValueError,
        "weights is on meta but value is on cpu",
    ),
    "a score by its name": (
        "attend(rows(3, 4), rows(5, 4), rows(5, 4), score='dot')",
        TypeError,
        "score must be callable, got str",
    ),
    "no normaliser": (
        "attend(rows(3, 4), rows(5, 4), rows(5, 4), normalize=None)",
        TypeError,
        "normalize must be callable, got NoneType",
    ),
    "a score of another shape": (
        "attend(rows(3, 4), rows(5, 4), rows(5, 4), score=lambda q, k: k @ q.mT)",
        ValueError,
        "score must return (*b, L, S) with (L, S) = (3, 5), got (5, 3)",
    ),
    "a score that sums too much": (
        "attend(rows(3, 4), rows(5, 4), rows(5, 4), score=lambda q, k: (q @ k.mT).sum())",
        ValueError,
        "score must return (*b, L, S) with (L, S) = (3, 5), got ()",
    ),
    "a score that is no tensor": (
        "attend(rows(3, 4), rows(5, 4), rows(5, 4), score=lambda q, k: 0.0)",
        TypeError,
        "score must return a tensor, got float",
    ),
    "a normaliser that was not called": (
        "attend(rows(3, 4), rows(5, 4), rows(5, 4), normalize=sample)",
        TypeError,
        "normalize must return a tensor, got function: entmax, gumbel and sample make a "
        "normaliser when called, as in normalize=sample()",
    ),
    "entmax that was not called": (
        "attend(rows(3, 4), rows(5, 4), rows(5, 4), normalize=entmax)",
        TypeError,
        "alpha must be a number, got Tensor",
    ),
    "gumbel that was not called": (
        "attend(rows(3, 4), rows(5, 4), rows(5, 4), normalize=gumbel)",
        TypeError,
        "temperature must be a number, got Tensor",
    ),
    "a normaliser that sums": (
        "attend(rows(3, 4), rows(5, 4), rows(5, 4), normalize=lambda z: z.sum(-1))",
        ValueError,
        "normalize must return weights of the scores' shape (3, 5), got (3,)",
    ),
    "weights of queries of one axis": (
        "attention_weights(rows(4), rows(5, 4))",
        ValueError,
        "query must have at least two axes (positions, width), got shape (4,)",
    ),
    # scores
    "zero bandwidth": ("gaussian(0.0)", ValueError, "bandwidth must be positive, got 0.0"),
    "bandwidth that is no number": (
        "gaussian(float('nan'))",
        ValueError,
        "bandwidth must be positive, got nan",
    ),
    "a feature map that is none": (
        "log_kernel(3)",
        TypeError,
        "feature_map must be callable, got int",
    ),
    "dot of two widths": (
        "dot()(rows(3, 4), rows(5, 2))",
        ValueError,
        "query has width 4 but key has width 2",
    ),
    "cosine of two widths": (
        "cosine()(rows(3, 4), rows(5, 2))",
        ValueError,
        "query has width 4 but key has width 2",
    ),
    "gaussian of two widths": (
        "gaussian()(rows(3, 4), rows(5, 1))",
        ValueError,
        "query has width 4 but key has width 1",
    ),
    "kernel of two widths": (
        "log_kernel(torch.exp)(rows(3, 4), rows(5, 2))",
        ValueError,
        "query has width 4 but key has width 2",
    ),
    "additive query": (
        "Additive(3, 2, 4)(rows(3, 4), rows(5, 2))",
        ValueError,
        "query has width 4 but query_dim is 3",
    ),
    "additive key": (
        "Additive(3, 2, 4)(rows(3, 3), rows(5, 4))",
        ValueError,
        "key has width 4 but key_dim is 2",
    ),
    "concat query": (
        "Concat(3, 2, 4)(rows(3, 2), rows(5, 3))",  # the sum of the widths is right
        ValueError,
        "query has width 2 but query_dim is 3",
    ),
    "concat key": (
        "Concat(3, 2, 4)(rows(3, 3), rows(5, 3))",
        ValueError,
        "key has width 3 but key_dim is 2",
    ),
    "bilinear query": (
        "Bilinear(3, 2)(rows(3, 2), rows(5, 2))",
        ValueError,
        "query has width 2 but query_dim is 3",
    ),
    "bilinear key": (
        "Bilinear(3, 2)(rows(3, 3), rows(5, 3))",
        ValueError,
        "key has width 3 but key_dim is 2",
    ),
    "location query": (
        "Location(3, 4)(rows(3, 2), rows(4, 2))",
        ValueError,
        "query has width 2 but query_dim is 3",
    ),
    "more keys than locations": (
        "Location(3, 4)(rows(3, 3), rows(5, 2))",
        ValueError,
        "key has 5 positions but Location was built with max_keys=4",
    ),
    # normalizers
    "zero temperature": (
        "softmax(rows(3), 0.0)",
        ValueError,
        "temperature must be positive, got 0.0",
    ),
    "negative temperature": ("gumbel(-1.0)", ValueError, "temperature must be positive, got -1.0"),
    "alpha of one": ("entmax(1.0)", ValueError, "alpha must be in (1, 2], got 1.0"),
    "alpha above two": ("entmax(2.1)", ValueError, "alpha must be in (1, 2], got 2.1"),
    "alpha that is no number": (
        "entmax(float('nan'))",
        ValueError,
        "alpha must be in (1, 2], got nan",
    ),
    **{
        f"{normalizer} of {what}": (
            f"{normalizer}({made})",
            TypeError,
            f"scores must be a floating-point tensor, got {got}",
        )
        for normalizer in (
            "softmax",
            "sparsemax",
            "entmax()",
            "sigmoid",
            "hardmax",
            "gumbel()",
            "sample()",
            "LinearChain()",
        )
        for what, made, got in (
            ("integers", "rows(3).long()", "torch.int64"),
            ("a list", "[1.0]", "list"),
        )
    },
    "scores without an axis": (
        "softmax(torch.tensor(1.0))",
        ValueError,
        "scores must have at least one axis, got a single number",
    ),
    "a choice of another shape": (
        "log_probability(rows(2, 3), rows(3))",
        ValueError,
        "choice has shape (3,) but scores have (2, 3)",
    ),
    "a choice that is an index": (
        "log_probability(rows(2, 3), torch.ones(2, 3).long())",
        TypeError,
        "choice must be a floating-point tensor, got torch.int64",
    ),
    # masks
    "fractional count": ("causal(2.0, 3)", TypeError, "L must be an integer, got float"),
    "boolean count": ("causal(2, True)", TypeError, "S must be an integer, got bool"),
    "negative count": ("causal(2, -3)", ValueError, "S must not be negative, got -3"),
    "negative offset": (
        "causal(2, 3, offset=-1)",
        ValueError,
        "offset must not be negative, got -1",
    ),
    "negative width": ("window(2, 3, width=-1)", ValueError, "width must not be negative, got -1"),
    "fractional width": ("window(2, 3, 1.5)", TypeError, "width must be an integer, got float"),
    "too long": (
        "padding(torch.tensor([2, 4]), 3)",
        ValueError,
        "lengths must be between 0 and S = 3, got 4",
    ),
    "negative length": (
        "padding(torch.tensor([-1, 4]), 3)",
        ValueError,
        "lengths must be between 0 and S = 3, got -1",
    ),
    "fractional lengths": (
        "padding(torch.tensor([2.0]), 3)",
        TypeError,
        "lengths must be an integer tensor, got torch.float32",
    ),
    "a mask for lengths": (
        "padding(torch.tensor([True]), 3)",
        TypeError,
        "lengths must be an integer tensor, got torch.bool",
    ),
    "lengths in a list": (
        "padding([2, 3], 3)",
        TypeError,
        "lengths must be an integer tensor, got list",
    ),
    "no S": ("padding(torch.tensor([2]), 3.0)", TypeError, "S must be an integer, got float"),
    "fractional ids": (
        "document(torch.tensor([0.0, 1.0]))",
        TypeError,
        "ids must be an integer tensor, got torch.float32",
    ),
    "one id": (
        "document(torch.tensor(3))",
        ValueError,
        "ids must have shape (*b, L), got a single number",
    ),
}


@pytest.mark.parametrize("case", PARTS)
def test_a_part_names_the_mistake(case: str, installed: ModuleType) -> None:
    call, error, message = PARTS[case]
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        eval(call, {**vars(installed), "torch": torch, "rows": rows})


MADE: dict[str, str] = {  # by name, what the calls below use
    "layer": "MultiHeadAttention(8, 2)",
    "encoder": "Encoder([EncoderLayer(8, 2, 16)])",
    "decoder": "Decoder([DecoderLayer(8, 2, 16)])",
    "theirs": "torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)",
    "model": "transformer(9, 7, embed_dim=8, num_heads=2, hidden_dim=8, layers=1)",
    "language": "LanguageModel(9, 8, Encoder([EncoderLayer(8, 2, 16)]))",
    "masked": "MaskedModel(9, 8, Encoder([EncoderLayer(8, 2, 16)]))",
    "x": "rows(2, 3, 8)",
    "ids": "torch.ones(2, 3).long()",
}
LAYERS: dict[str, tuple[str, type[Exception], str]] = {
    # sizes
    "a fractional width": (
        "MultiHeadAttention(8.0, 2)",
        TypeError,
        "embed_dim must be an integer, got float",
    ),
    "heads that are a flag": (
        "MultiHeadAttention(8, True)",
        TypeError,
        "num_heads must be an integer, got bool",
    ),
    "no heads": ("MultiHeadAttention(8, 0)", ValueError, "num_heads must be at least 1, got 0"),
    "heads that do not divide": (
        "MultiHeadAttention(8, 3)",
        ValueError,
        "num_heads must divide embed_dim = 8, got 3",
    ),
    "shared heads that do not divide": (
        "MultiHeadAttention(8, 4, num_kv_heads=3)",
        ValueError,
        "num_kv_heads must divide num_heads = 4, got 3",
    ),
    "no shared heads": (
        "MultiHeadAttention(8, 2, num_kv_heads=0)",
        ValueError,
        "num_kv_heads must be at least 1, got 0",
    ),
    "a negative width of keys": (
        "MultiHeadAttention(8, 2, key_dim=-1)",
        ValueError,
        "key_dim must be at least 1, got -1",
    ),
    "an empty head": (
        "MultiHeadAttention(8, 2, head_dim=0)",
        ValueError,
        "head_dim must be at least 1, got 0",
    ),
    "a layer that drops everything": (
        "MultiHeadAttention(8, 2, dropout=1.0)",
        ValueError,
        "dropout must be in [0, 1), got 1.0",
    ),
    "no path": (
        "MultiHeadAttention(8, 2, attend=None)",
        TypeError,
        "attend must be callable, got NoneType",
    ),
    "a score by its name in a layer": (
        "MultiHeadAttention(8, 2, attend=attend, score='dot')",
        TypeError,
        "score must be callable, got str",
    ),
    "a score on a fast path": (
        "MultiHeadAttention(8, 2, score=dot())",
        ValueError,
        "score needs the readable path: pass attend=attnbook.attend",
    ),
    "a normaliser on a fast path": (
        "MultiHeadAttention(8, 2, attend=fused.tiled, normalize=sparsemax)",
        ValueError,
        "normalize needs the readable path: pass attend=attnbook.attend",
    ),
    "heads that do not divide the width of a tensor": (
        "split_heads(rows(3, 8), 3)",
        ValueError,
        "heads must divide the width 8, got 3",
    ),
    "nothing to merge": (
        "merge_heads(rows(3, 8))",
        ValueError,
        "x must have shape (*b, heads, positions, width), got (3, 8)",
    ),
    # what a layer is given
    "nothing": ("layer(None)", TypeError, "query must be a floating-point tensor, got NoneType"),
    "symbols": (
        "layer(rows(2, 3, 8).long())",
        TypeError,
        "query must be a floating-point tensor, got torch.int64",
    ),
    "another width": (
        "layer(rows(2, 3, 7))",
        ValueError,
        "query must have shape (*b, positions, 8), got (2, 3, 7)",
    ),
    "one vector": (
        "layer(rows(8))",
        ValueError,
        "query must have shape (*b, positions, 8), got (8,)",
    ),
    "another width of keys": (
        "layer(x, rows(2, 5, 6))",
        ValueError,
        "key must have shape (*b, positions, 8), got (2, 5, 6)",
    ),
    "another width of values": (
        "layer(x, x, rows(2, 3, 6))",
        ValueError,
        "value must have shape (*b, positions, 8), got (2, 3, 6)",
    ),
    "double precision": (
        "layer(x.double())",
        TypeError,
        "query is torch.float64 but the layer is torch.float32",
    ),
    "another device": (
        "layer(x, x.to('meta'))",
        ValueError,
        "key is on meta but the layer is on cpu",
    ),
    "values without keys": (
        "layer(x, None, x)",
        ValueError,
        "value is given without key",
    ),
    "keys and values of a layer": (
        "layer(x, rows(2, 5, 8), rows(2, 4, 8))",
        ValueError,
        "key has 5 positions but value has 4",
    ),
    "an additive mask": (
        "layer(x, mask=rows(3, 3))",
        TypeError,
        "mask must be a boolean tensor, True = may attend, got torch.float32",
    ),
    "which keys are padding, in PyTorch's shape": (
        "layer(x, mask=torch.ones(2, 3).bool())",
        ValueError,
        "mask of shape (2, 3) does not broadcast to the scores' shape (2, 2, 3, 3)",
    ),
    "a mask of batch times heads, in PyTorch's shape": (
        "layer(x, mask=torch.ones(4, 3, 3).bool())",
        ValueError,
        "mask of shape (4, 1, 3, 3) does not broadcast to the scores' shape (2, 2, 3, 3)",
    ),
    # caches
    "a cache of another kind": (
        "layer(x, cache={})",
        TypeError,
        "cache must be a KVCache, got dict",
    ),
    "no cache to read": ("layer.read(x, None)", TypeError, "cache must be a KVCache, got NoneType"),
    "an empty cache": (
        "layer.read(x, KVCache())",
        ValueError,
        "the cache is empty: append keys and values first",
    ),
    "two caches": (
        "layer(x, KVCache(), cache=KVCache())",
        ValueError,
        "key is a cache, which is all that is read: give no other",
    ),
    "keys without values in a cache": (
        "KVCache().append(rows(1, 2, 3, 4), None)",
        TypeError,
        "value must be a floating-point tensor, got NoneType",
    ),
    "keys and values of a cache": (
        "KVCache().append(rows(1, 2, 3, 4), rows(1, 2, 2, 4))",
        ValueError,
        "key and value must have shapes (*b, heads, positions, width) that differ in width only, "
        "got (1, 2, 3, 4) and (1, 2, 2, 4)",
    ),
    "heads of a cache": (
        "KVCache().index_select(1, torch.tensor([0]))",
        ValueError,
        "dim must be 0, the batch, got 1",
    ),
    "gradients of a cache": (
        "layer(x, cache=KVCache())",
        RuntimeError,
        "a cache holds no gradients: decode under torch.no_grad()",
    ),
    "too many caches": (
        "encoder(x, caches=Caches.empty(2))",
        ValueError,
        "there are 1 layers but 2 caches",
    ),
    "too many memories": (
        "decoder(x, Caches.empty(3))",
        ValueError,
        "there are 1 layers but 3 caches",
    ),
    # kinds
    "maps of a number": (
        "attention_maps(3).__enter__()",
        TypeError,
        "model must be an nn.Module, got int",
    ),
    "maps of a model without attention": (
        "attention_maps(torch.nn.Linear(2, 2)).__enter__()",
        ValueError,
        "Linear has no MultiHeadAttention inside",
    ),
    "a linear map for a layer": (
        "MultiHeadAttention.from_torch(torch.nn.Linear(2, 2))",
        TypeError,
        "layer must be an nn.MultiheadAttention, got Linear",
    ),
    "an encoder's layer for a decoder's": (
        "DecoderLayer.from_torch(theirs)",
        TypeError,
        "layer must be an nn.TransformerDecoderLayer, got TransformerEncoderLayer",
    ),
    "a layer for a stack": (
        "Encoder.from_torch(theirs)",
        TypeError,
        "stack must be an nn.TransformerEncoder, got TransformerEncoderLayer",
    ),
    "an empty stack": ("Encoder([])", ValueError, "layers must hold at least one layer"),
    "a list for a stack": (
        "LanguageModel(9, 8, [EncoderLayer(8, 2, 16)])",
        TypeError,
        "stack must be an Encoder, got list",
    ),
    "no hidden units": (
        "EncoderLayer(8, 2, 0)",
        ValueError,
        "hidden_dim must be at least 1, got 0",
    ),
    "an activation by its name": (
        "FeedForward(8, 16, activation='relu')",
        TypeError,
        "activation must be callable, got str",
    ),
    "a sublayer that is dropped whole": (
        "AddNorm(8, dropout=1.5)",
        ValueError,
        "dropout must be in [0, 1), got 1.5",
    ),
    # stacks and models
    "no memory": (
        "DecoderLayer(8, 2, 16)(x, None)",
        TypeError,
        "memory must be a floating-point tensor or a cache, got NoneType",
    ),
    "a memory of another width": (
        "decoder(x, rows(2, 5, 6))",
        ValueError,
        "key must have shape (*b, positions, 8), got (2, 5, 6)",
    ),
    "a memory of another batch": (
        "decoder(x, rows(3, 5, 8))",
        ValueError,
        "leading axes of query (2, 2) and key (3, 2) do not broadcast",
    ),
    "two vocabularies in one": (
        "transformer(9, 7, shared=True)",
        ValueError,
        "shared embeddings need one vocabulary, got 9 source and 7 target symbols",
    ),
    "no vocabulary": (
        "transformer(0, 7)",
        ValueError,
        "symbols must be at least 1, got 0",
    ),
    "no layers": ("transformer(9, 7, layers=0)", ValueError, "layers must be at least 1, got 0"),
    "real numbers for symbols": (
        "model(x[..., 0], torch.tensor([3, 2]), ids)",
        TypeError,
        "source must be an int32 or int64 tensor, got torch.float32",
    ),
    "a source longer than it is": (
        "model(ids, torch.tensor([3, 4]), ids)",
        ValueError,
        "lengths must be between 0 and S = 3, got 4",
    ),
    "a source without symbols": (
        "model(ids, torch.tensor([3, 0]), ids)",
        ValueError,
        "every source needs at least 1 symbol, got length 0",
    ),
    "a target symbol out of range": (
        "model(ids, torch.tensor([3, 2]), 7 * ids)",
        ValueError,
        "target must hold symbols 0..6, got 7..7",
    ),
    "a step before the first": (
        "warmup_rate(0, 512)",
        ValueError,
        "step must be at least 1, got 0",
    ),
    "a symbol out of range": (
        "language(9 * ids)",
        ValueError,
        "symbols must hold symbols 0..8, got 9..9",
    ),
    "a prompt without symbols": (
        "language.generate(ids[:, :0], 3)",
        ValueError,
        "prompt must have shape (batch, at least 1 position), got (2, 0)",
    ),
    "a prompt in a list": (
        "language.generate([1, 2], 3)",
        TypeError,
        "prompt must be an int32 or int64 tensor, got list",
    ),
    "nothing to generate": (
        "language.generate(ids, 0)",
        ValueError,
        "max_steps must be at least 1, got 0",
    ),
    "half a step": (
        "language.generate(ids, 1.5)",
        TypeError,
        "max_steps must be an integer, got float",
    ),
    "a draw below zero": (
        "language.generate(ids, 3, temperature=-1.0)",
        ValueError,
        "temperature must be at least 0 and finite, got -1.0",
    ),
    "a draw at no temperature": (
        "language.generate(ids, 3, temperature=float('nan'))",
        ValueError,
        "temperature must be at least 0 and finite, got nan",
    ),
    "an end that is no symbol": (
        "language.generate(ids, 3, end=9)",
        ValueError,
        "end must be a symbol 0..8, got 9",
    ),
    "lengths of another batch": (
        "masked(ids, torch.tensor([3]))",
        ValueError,
        "lengths must have shape (2,), one for each source, got (1,)",
    ),
}


@pytest.mark.parametrize("case", LAYERS)
def test_a_layer_names_the_mistake(case: str, installed: ModuleType) -> None:
    call, error, message = LAYERS[case]
    names = {**vars(installed), "torch": torch, "rows": rows}
    for module in ("layers", "transformer", "language_model"):
        names |= vars(importlib.import_module(f"attnbook.{module}"))
    names |= {name: eval(made, names) for name, made in MADE.items() if name in call}
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        eval(call, names)


def test_the_user_sees_no_run_time_type_checks(installed: ModuleType) -> None:
    """The fixture does what it says: annotations are inert, as they are for a user."""
    assert not hasattr(installed.attend, "__wrapped__")
    assert installed.attend.__module__ == "attnbook.core"
