"""Tiles of queries against tiles of keys, with the online softmax."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from attnbook.core import Attended
from attnbook.fused.inputs import check, exact

__all__ = ["tiled"]

TILE = 256
"""Queries, and keys, in one tile of `tiled`: its scores take 256 KB a head in float32."""


def tiled(
    query: Float[Tensor, "*#b L D"],
    key: Float[Tensor, "*#b S D"],
    value: Float[Tensor, "*#b S Dv"],
    *,
    mask: Bool[Tensor, "..."] | None = None,
    dropout: float = 0.0,
) -> Attended:
    """Attention tile by tile with the online softmax, in memory of order `L + S`.

    A tile of queries meets one tile of keys at a time. It keeps, for each query, the largest score
    so far, the sum of the exponentials relative to it, and the mixture so far; a larger score
    shrinks the last two. The backward pass forms each tile of weights again from the first two.
    Arithmetic is in at least float32.

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
        Milakov, Gimelshein 2018, algorithm 3; Rabe, Staats 2021; Dao et al. 2022, algorithms 1
        and 4.

    >>> query, key = torch.eye(2, 4), torch.eye(3, 4)
    >>> value = torch.tensor([[1.0], [2.0], [3.0]])
    >>> tiled(query, key, value)
    Attended(output=tensor([[1.8222],
            [2.0000]]), weights=None)
    """
    batch = check(query, key, value, mask, dropout)
    query, key, value = (x.expand(*batch, *x.shape[-2:]) for x in (query, key, value))
    if mask is not None:
        mask = mask.expand(*batch, query.shape[-2], key.shape[-2])  # a view: no memory
    seed = int(torch.randint(2**31, ())) if dropout else 0
    return Attended(_Tiled.apply(query, key, value, mask, dropout, seed), None)


class _Tiled(torch.autograd.Function):
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
            wide = torch.promote_types(query.dtype, torch.float32)
            output = query.new_empty(*query.shape[:-1], value.shape[-1])
            peak = query.new_empty(*query.shape[:-1], 1, dtype=wide)
            sums = torch.empty_like(peak)
            for i in _tiles(query):
                largest = torch.full_like(peak[..., i, :], float("-inf"))
                total = torch.zeros_like(largest)
                mixture = torch.zeros_like(output[..., i, :], dtype=wide)
                for j in _tiles(key):
                    scores = _scores(query, key, mask, i, j)
                    larger = torch.maximum(largest, scores.amax(dim=-1, keepdim=True))
                    base = larger.masked_fill(larger == float("-inf"), 0.0)  # no key seen yet
                    shrink, weights = (largest - base).exp(), (scores - base).exp()
                    total = shrink * total + weights.sum(dim=-1, keepdim=True)
                    kept = weights * _kept(weights, dropout, seed, i, j)
                    mixture = shrink * mixture + kept @ value[..., j, :].to(wide)
                    largest = larger
                dead = total == 0
                # Kept apart: the log of a sum of two would be lost beside a peak of 1e8.
                peak[..., i, :] = largest.masked_fill(dead, 0.0)
                sums[..., i, :] = total.masked_fill(dead, 1.0)
                output[..., i, :] = (mixture / sums[..., i, :]).to(output.dtype)
        ctx.save_for_backward(query, key, value, mask, output, peak, sums)
        ctx.dropout, ctx.seed = dropout, seed
        return output

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError("tiled has first-order gradients only: use attend for higher ones")
        query, key, value, mask, output, peak, sums = ctx.saved_tensors
        with exact(query):
            wide = peak.dtype
            scale = math.sqrt(query.shape[-1])
            d_query, d_key, d_value = (
                torch.zeros(x.shape, dtype=wide, device=x.device) for x in (query, key, value)
            )
            for i in _tiles(query):
                d_output = gradient[..., i, :].to(wide)
                mean = (d_output * output[..., i, :]).sum(dim=-1, keepdim=True)
                for j in _tiles(key):
                    relative = _scores(query, key, mask, i, j) - peak[..., i, :]
                    weights = relative.exp_().div_(sums[..., i, :])
                    kept = _kept(weights, ctx.dropout, ctx.seed, i, j)
                    d_value[..., j, :] += (weights * kept).mT @ d_output
                    d_weights = kept * (d_output @ value[..., j, :].to(wide).mT)
                    d_scores = weights * (d_weights - mean) / scale
                    d_query[..., i, :] += d_scores @ key[..., j, :].to(wide)
                    d_key[..., j, :] += d_scores.mT @ query[..., i, :].to(wide)
        d_inputs = (d_query.to(query.dtype), d_key.to(key.dtype), d_value.to(value.dtype))
        return *d_inputs, None, None, None


def _tiles(x: Tensor) -> Iterator[slice]:
    """The positions of `x`, a tile at a time."""
    return (slice(i, i + TILE) for i in range(0, x.shape[-2], TILE))


def _scores(query: Tensor, key: Tensor, mask: Tensor | None, i: slice, j: slice) -> Tensor:
    """The masked scores of query tile `i` against key tile `j`."""
    wide = torch.promote_types(query.dtype, torch.float32)
    scaled = query[..., i, :].to(wide) / math.sqrt(query.shape[-1])
    scores = scaled @ key[..., j, :].to(wide).mT
    return scores if mask is None else scores.masked_fill(~mask[..., i, j], float("-inf"))


def _kept(weights: Tensor, dropout: float, seed: int, i: slice, j: slice) -> Tensor | float:
    """0 for a dropped weight, `1 / (1 - dropout)` for the others; the same when asked again."""
    if not dropout:
        return 1.0
    generator = torch.Generator(weights.device)
    generator.manual_seed(seed + (i.start // TILE << 16) + j.start // TILE)
    return torch.empty_like(weights).bernoulli_(1 - dropout, generator=generator) / (1 - dropout)
