"""Attention within a window: blocks of queries, each against the keys around it."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from attnbook.core import Attended
from attnbook.fused.inputs import check

__all__ = ["local"]

BLOCK = 64
"""Queries in one block, which also sees so many keys more than one query does."""
PART = 3 * 2**20
"""Numbers in the blocks of keys of one call of the kernel, where a head does not have more."""


def local(
    query: Float[Tensor, "*#b L D"],
    key: Float[Tensor, "*#b S D"],
    value: Float[Tensor, "*#b S Dv"],
    *,
    width: int,
    causal: bool = False,
    offset: int = 0,
    mask: Bool[Tensor, "..."] | None = None,
    dropout: float = 0.0,
) -> Attended:
    """Attention to the keys at most `width` positions away, in time of order `L width`.

    What `attend` does with `masks.window(L, S, width, offset)`, joined with `masks.causal(L, S,
    offset)` if it is to be causal, and with `mask`. No other score is computed, but for those at
    the edges of a block.

    Args:
        query: `(*b, L, D)`.
        key: `(*b, S, D)`.
        value: `(*b, S, Dv)`, one for each key. Keys and values must be finite at forbidden
            positions too.
        width: largest distance, in positions; 0 leaves the query's own position.
        causal: whether a query sees no key after its own position.
        offset: number of keys that precede the first query, such as those in a cache. Query `i` is
            at position `i + offset`.
        mask: boolean, True = may attend, broadcast to `(*b, L, S)`, for what is forbidden within
            the window, as by `masks.padding`.
        dropout: probability with which a weight is dropped. Pass 0 when evaluating.

    Returns:
        The output `(*b, L, Dv)`, and None for the weights.

    Raises:
        TypeError: an input is not a floating-point tensor, the mask is not boolean, or width or
            offset is not an integer.
        ValueError: shapes or devices do not fit, dropout is not in [0, 1), or width or offset is
            negative.

    Source:
        Luong, Pham, Manning 2015, section 3.2; Beltagy, Peters, Cohan 2020, section 3.1.

    >>> query = key = torch.zeros(4, 2)
    >>> value = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    >>> local(query, key, value, width=1).output.flatten()
    tensor([1.5000, 2.0000, 3.0000, 3.5000])
    >>> local(query, key, value, width=1, causal=True).output.flatten()
    tensor([1.0000, 1.5000, 2.5000, 3.5000])
    """
    batch = check(query, key, value, mask, dropout)
    for name, count in (("width", width), ("offset", offset)):
        if not isinstance(count, int) or isinstance(count, bool):
            raise TypeError(f"{name} must be an integer, got {type(count).__name__}")
        if count < 0:
            raise ValueError(f"{name} must not be negative, got {count}")
    queries, keys, block = query.shape[-2], key.shape[-2], min(BLOCK, max(1, query.shape[-2]))
    number, length = max(1, -(-queries // block)), block + width + (0 if causal else width)
    first = min(offset - width, keys)  # where the keys of the first block begin, if there are any
    ends = (-first, first + (number - 1) * block + length - keys)  # to add to the keys, or take off
    i, j = (torch.arange(n, device=query.device) for n in (block, length))
    seen = (i[:, None] <= j) & (j <= i[:, None] + length - block)
    here = F.pad(torch.ones(keys, dtype=torch.bool, device=query.device), ends)
    seen = seen & here.unfold(0, length, block)[:, None]
    if mask is not None:
        seen = seen & _mask_blocks(mask, number, block, length, ends)

    # Less memory at a time is used again, and not asked of the system anew.
    heads = max(1, PART // max(1, number * length * key.shape[-1]))
    seen = seen[None] if seen.ndim == 3 else _joined(seen, batch, 3)
    parts = [_joined(x, batch, 2).split(heads) for x in (query, key, value)]
    masks = seen.split(heads) if len(seen) > 1 else (seen,) * len(parts[0])
    outputs = []
    for *inputs, allowed in zip(*parts, masks, strict=True):
        query = F.pad(inputs[0], (0, 0, 0, number * block - queries))
        query = query.unflatten(-2, (number, block))
        key, value = (_Blocks.apply(F.pad(x, (0, 0, *ends)), length, block) for x in inputs[1:])
        outputs.append(
            F.scaled_dot_product_attention(query, key, value, attn_mask=allowed, dropout_p=dropout)
        )
    output = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
    output = output.reshape(*batch, number * block, output.shape[-1])
    return Attended(output[..., :queries, :], None)


def _joined(x: Tensor, batch: torch.Size, kept: int) -> Tensor:
    """`x` with its leading axes made one, and the last so many kept."""
    return x.expand(*batch, *x.shape[-kept:]).reshape(batch.numel(), *x.shape[-kept:])


def _mask_blocks(
    mask: Tensor, number: int, block: int, length: int, ends: tuple[int, int]
) -> Tensor:
    """The part of a mask `(*m, L, S)` that each block sees: `(*m, number, block, length)`."""
    mask = mask[(None,) * (2 - mask.ndim)]
    *_, queries, keys = mask.shape
    if keys == 1:  # the same for every key
        if queries == 1:
            return mask.unsqueeze(-3)
        spare = number * block - queries
        return F.pad(mask, (0, 0, 0, spare)).unflatten(-2, (number, block))
    if queries == 1:
        return F.pad(mask, ends).unfold(-1, length, block).transpose(-3, -2)
    mask = F.pad(mask, (*ends, 0, number * block - queries)).unflatten(-2, (number, block))
    mask = mask.unfold(-1, length, block)  # each block of queries with each of keys
    return mask.diagonal(dim1=-4, dim2=-2).movedim(-1, -3)


class _Blocks(torch.autograd.Function):
    """Blocks `(*b, blocks, length, D)` of keys `(*b, S, D)`, each one `step` behind the other."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, length: int, step: int) -> Tensor:
        ctx.step = step
        return x.unfold(-2, length, step).mT  # a view: no memory

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        # Sums of long slices: the backward pass of `unfold` takes ten times as long.
        step, (*batch, number, length, width) = ctx.step, gradient.shape
        whole = -(-length // step) * step
        total = gradient.new_zeros(*batch, (number - 1) * step + whole, width)
        for start in range(0, length, step):
            part = gradient[..., start : start + step, :]
            place = total[..., start : start + number * step, :].unflatten(-2, (number, step))
            place[..., : part.shape[-2], :] += part
        return total[..., : (number - 1) * step + length, :], None, None
