"""PyTorch's FlexAttention: a kernel made for a change of the scores, by compiling it."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from attnbook.core import Attended
from attnbook.fused.inputs import check, four_axes

__all__ = ["flex"]

ScoreMod = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


def flex(
    query: Float[Tensor, "*#b L D"],
    key: Float[Tensor, "*#b S D"],
    value: Float[Tensor, "*#b S Dv"],
    *,
    mask: Bool[Tensor, "..."] | BlockMask | None = None,
    score_mod: ScoreMod | None = None,
    dropout: float = 0.0,
) -> Attended:
    """Attention by PyTorch's FlexAttention, compiled: any change of the scores in one kernel.

    The first call with inputs of a new kind compiles for seconds. A kind that would be the ninth is
    an error, since PyTorch would run it without compiling, slowly and with all weights in memory.

    Args:
        query: `(*b, L, D)`, with four axes at most.
        key: `(*b, S, D)`.
        value: `(*b, S, Dv)`, one for each key.
        mask: boolean, True = may attend, broadcast to `(*b, L, S)`. Blocks in which it forbids
            everything are left out. To find those takes time of order `L S`: what is used often
            is better given as the `BlockMask` that `create_block_mask` of
            `torch.nn.attention.flex_attention` makes once.
        score_mod: changes a score: `score_mod(score, batch, head, i, j)`, where the last four are
            places. Axes that are not there are counted as 0; those of one batch axis are heads.
        dropout: 0; the kernel has none.

    Returns:
        The output `(*b, L, Dv)`, and None for the weights.

    Raises:
        TypeError: an input is not a floating-point tensor, the mask is neither boolean nor a
            `BlockMask`, or the device's kernel does not take the type (float64 on a processor).
        ValueError: shapes or devices do not fit, there are no queries or no keys, or dropout is
            not 0.
        RuntimeError: a gradient is asked for on a processor, where there is no backward pass; no
            C++ compiler is found; or too many kinds of inputs have been compiled for.

    Source:
        Dong, Feng, Guessous, Liang, He 2024.

    >>> flex(torch.ones(2, 4), torch.ones(3, 4), torch.ones(3, 1), dropout=0.1)
    Traceback (most recent call last):
        ...
    ValueError: flex has no dropout, got 0.1: use sdpa or tiled
    """
    blocks = mask if isinstance(mask, BlockMask) else None
    batch = check(query, key, value, None if isinstance(mask, BlockMask) else mask, dropout)
    if dropout:
        raise ValueError(f"flex has no dropout, got {dropout}: use sdpa or tiled")
    if len(batch) > 2:
        raise ValueError(f"flex takes at most four axes, got leading axes {tuple(batch)}")
    if not (batch.numel() and query.shape[-2] and key.shape[-2]):
        raise ValueError("flex needs at least one query and one key: use sdpa or tiled")
    _check_processor(query, key, value)
    query, key, value = (four_axes(x, batch) for x in (query, key, value))
    if isinstance(mask, Tensor):
        blocks = _blocks(mask, query, key)
    kernel: Any = flex_attention if torch.compiler.is_compiling() else _compiled()
    try:
        output = kernel(query, key, value, score_mod=score_mod, block_mask=blocks)
    except torch._dynamo.exc.FailOnRecompileLimitHit as error:
        raise RuntimeError(
            "flex has been compiled for as many kinds of inputs as PyTorch allows: "
            "torch.compiler.reset() forgets them"
        ) from error
    except torch._dynamo.exc.BackendCompilerFailed as error:
        if "InvalidCxxCompiler" in str(error):
            raise RuntimeError("flex compiles its kernel and finds no C++ compiler") from error
        raise
    return Attended(output.reshape(*batch, *output.shape[-2:]), None)


@cache
def _compiled() -> Any:
    return torch.compile(flex_attention, fullgraph=True)  # so that a ninth kind is an error


def _check_processor(*inputs: Tensor) -> None:
    """Raise a clear error for what FlexAttention has not on a processor (PyTorch 2.13)."""
    if inputs[0].device.type != "cpu":
        return
    if inputs[0].dtype == torch.float64:
        raise TypeError("flex has no float64 on a processor: use sdpa or tiled")
    if torch.is_grad_enabled() and any(x.requires_grad for x in inputs):
        raise RuntimeError(
            "flex has no backward pass on a processor: use sdpa or tiled, or torch.no_grad()"
        )


def _blocks(mask: Tensor, query: Tensor, key: Tensor) -> BlockMask:
    """The blocks of a mask; where it is the same along an axis, they are found once."""
    mask = mask[(None,) * (4 - mask.ndim)]
    mask = mask.expand(*mask.shape[:2], query.shape[2], key.shape[2])
    batches, heads, queries, keys = mask.shape
    axes = [n if n > 1 else None for n in (batches, heads)]
    return create_block_mask(
        lambda b, h, i, j: mask[b if axes[0] else 0, h if axes[1] else 0, i, j],
        axes[0],
        axes[1],
        queries,
        keys,
        device=mask.device,
    )
