"""Tiles of queries against all keys at once, in the matrix products of the inputs' own type."""

import math
from collections.abc import Iterator
from itertools import product
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from attnbook.core import Attended
from attnbook.fused.inputs import check, exact

__all__ = ["query_tiled"]

ROWS = 512
"""Queries in one tile, at most."""
ELEMENTS = 2**20
"""Scores in one tile, where there are so many: 2 MB in bfloat16."""

Tile = tuple[Any, slice, Tensor | None, Tensor | None]
"""Places on the leading axes, queries, what to add to their scores, and which have no key."""


def query_tiled(
    query: Float[Tensor, "*#b L D"],
    key: Float[Tensor, "*#b S D"],
    value: Float[Tensor, "*#b S Dv"],
    *,
    mask: Bool[Tensor, "..."] | None = None,
    dropout: float = 0.0,
) -> Attended:
    """Attention for a tile of queries at a time, each with whole rows of scores: for bfloat16.

    A row is complete, so that its softmax is the plain one and nothing is rescaled. Scores and
    weights are of the inputs' type, as in `attend`, and only the sums over tiles of the backward
    pass are kept in at least float32. On a processor with instructions for bfloat16 this is faster
    than `sdpa`, which works in float32 inside; in float32 `sdpa` is faster, and more exact
    throughout. Memory is of order `L + S`, beside one tile.

    Args:
        query: `(*b, L, D)`.
        key: `(*b, S, D)`.
        value: `(*b, S, Dv)`, one for each key. Keys and values must be finite at forbidden
            positions too.
        mask: boolean, True = may attend, broadcast to `(*b, L, S)`; never expanded.
        dropout: probability with which a weight is dropped. Pass 0 when evaluating.

    Returns:
        The output `(*b, L, Dv)`, and None for the weights.

    Raises:
        TypeError: an input is not a floating-point tensor, or the mask is not boolean.
        ValueError: shapes or devices do not fit, or dropout is not in [0, 1).
        RuntimeError: (from the backward pass) a second derivative is asked for.

    Source:
        Rabe, Staats 2021, the loop over queries.

    >>> query, key = torch.eye(2, 4), torch.eye(3, 4)
    >>> value = torch.tensor([[1.0], [2.0], [3.0]])
    >>> query_tiled(query, key, value)
    Attended(output=tensor([[1.8222],
            [2.0000]]), weights=None)
    """
    batch = check(query, key, value, mask, dropout)
    wide = torch.promote_types(torch.promote_types(query.dtype, key.dtype), value.dtype)
    axes = batch or torch.Size([1])  # one leading axis at least, for products of batches
    query, key, value = (x.to(wide).expand(*axes, *x.shape[-2:]) for x in (query, key, value))
    if mask is not None:
        mask = mask.expand(*axes, query.shape[-2], key.shape[-2])  # a view: no memory
    seed = int(torch.randint(2**31, ())) if dropout else 0
    output = _QueryTiled.apply(query, key, value, mask, dropout, seed)
    return Attended(output.reshape(*batch, *output.shape[-2:]), None)


class _QueryTiled(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        dropout: float,
        seed: int,
    ) -> Tensor:
        with exact(query):
            output = query.new_zeros(*query.shape[:-1], value.shape[-1])
            room = query.new_empty(0)
            for n, (heads, rows, bias, dead) in enumerate(_tiles(query, key, mask)):
                weights = room = _weights(query[heads][..., rows, :], key[heads], bias, room)
                if dropout:
                    weights = weights * _kept(weights, dropout, seed + n)
                mixed = weights @ value[heads]
                output[heads][..., rows, :] = mixed if dead is None else mixed * ~dead
        ctx.save_for_backward(query, key, value, mask)
        ctx.dropout, ctx.seed = dropout, seed
        return output

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "query_tiled has first-order gradients only: use attend for higher ones"
            )
        query, key, value, mask = ctx.saved_tensors
        with exact(query):
            wide = torch.promote_types(query.dtype, torch.float32)
            scale = math.sqrt(query.shape[-1])
            d_query = torch.zeros(query.shape, dtype=query.dtype, device=query.device)
            d_key, d_value = (
                torch.zeros(x.shape, dtype=wide, device=x.device) for x in (key, value)
            )
            room = query.new_empty(0)
            for n, (heads, rows, bias, dead) in enumerate(_tiles(query, key, mask)):
                weights = room = _weights(query[heads][..., rows, :], key[heads], bias, room)
                d_output = gradient[heads][..., rows, :]
                d_output = d_output if dead is None else d_output * ~dead
                d_weights, kept = d_output @ value[heads].mT, weights
                if ctx.dropout:
                    factor = _kept(weights, ctx.dropout, ctx.seed + n)
                    d_weights, kept = d_weights * factor, weights * factor
                # weights * (d_weights - the mean of d_weights under the weights), rounded once
                d_scores = torch._softmax_backward_data(d_weights, weights, -1, weights.dtype)
                d_query[heads][..., rows, :] = (d_scores @ key[heads]) / scale
                # Transposed twice: this way round the products of batches are five times as fast.
                d_key[heads] += ((query[heads][..., rows, :] / scale).mT @ d_scores).mT
                d_value[heads] += (d_output.mT @ kept).mT
        return d_query, d_key.to(key.dtype), d_value.to(value.dtype), None, None, None


def _tiles(query: Tensor, key: Tensor, mask: Tensor | None) -> Iterator[Tile]:
    """Several heads in one tile where they are short; none where there are no keys."""
    *outer, heads, queries, _ = query.shape
    keys = key.shape[-2]
    rows = max(1, min(ROWS, queries, 2 * ELEMENTS // max(1, keys)))
    group = max(1, ELEMENTS // (rows * max(1, keys)))
    places = product(*(range(n) for n in outer)) if keys else ()
    for place, row in product(places, range(0, queries, rows)):
        part = slice(row, row + rows)
        bias = dead = None
        for head in range(0, heads, group):
            here: Any = (*place, slice(head, head + group))
            if mask is not None and (bias is None or mask.stride(-3)):  # else shared by all heads
                bias, dead = _bias(mask[here][..., part, :], query.dtype)
            yield here, part, bias, dead


def _bias(mask: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """What to add to the scores: 0, or -inf where forbidden; and which rows have no key.

    Those get 0 throughout: their weights are finite, and what comes of them is left out. Filling
    by a mask would take ten times as long as these sums.
    """
    for axis in (0, 1):
        mask = mask if mask.stride(axis) else mask.narrow(axis, 0, 1)
    allowed = mask.to(dtype)
    dead = allowed.amax(dim=-1, keepdim=True) == 0
    return (allowed + dead).log_(), dead


def _weights(query: Tensor, key: Tensor, bias: Tensor | None, room: Tensor) -> Tensor:
    """The weights of a tile, in the memory of the tile before where it has the same shape."""
    shape = torch.Size((*query.shape[:-1], key.shape[-2]))
    weights = room if room.shape == shape else query.new_empty(shape)
    torch.bmm(query / math.sqrt(query.shape[-1]), key.mT, out=weights)
    if bias is not None:
        weights += bias
    return torch.softmax(weights, dim=-1, out=weights)


def _kept(weights: Tensor, dropout: float, seed: int) -> Tensor:
    """0 for a dropped weight, `1 / (1 - dropout)` for the others; the same when asked again."""
    generator = torch.Generator(weights.device)
    generator.manual_seed(seed)
    return torch.empty_like(weights).bernoulli_(1 - dropout, generator=generator) / (1 - dropout)
