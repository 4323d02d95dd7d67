"""Softmax attention with the scaled dot product: the readable path, the fast ones, PyTorch's."""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from attnbook.bench.cases import Case, Mixes, Run, Way, attention, backward, exact, forward, part
from attnbook.core import attend
from attnbook.fused import query_tiled, sdpa, tiled
from attnbook.masks import causal

__all__ = ["dot_product", "flops", "traffic"]

PASSES = ("forward", "forward + backward")


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    return attend(q, k, v, mask=mask).output


def _sdpa(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    return sdpa(q, k, v, mask=mask).output


def _tiled(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    return tiled(q, k, v, mask=mask).output


def _query_tiled(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    return query_tiled(q, k, v, mask=mask).output


def _torch(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def _torch_causal(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Without a mask's numbers: half of the work is left out, where no other mask would do."""
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def _flex(causal: bool) -> Callable[[Any], Run]:
    """PyTorch's FlexAttention, compiled: uncompiled, it holds every weight."""

    def make(x: Any) -> Run:
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention

        L, S = x.query.shape[-2], x.key.shape[-2]
        compiled = _compiled_flex(flex_attention)
        seen = (
            create_block_mask(lambda b, h, i, j: i >= j, None, None, L, S, x.query.device.type)
            if causal
            else None
        )
        way = forward(lambda q, k, v, mask: compiled(q, k, v, block_mask=seen))
        return way(x)

    return make


@functools.cache
def _compiled_flex(flex_attention: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return torch.compile(flex_attention, dynamic=False)


def dot_product(
    lengths: Iterable[int],
    dtype: str = "float32",
    *,
    heads: int = 8,
    width: int = 64,
    batch: Callable[[int], int] = lambda length: 1,
    readable: int = 4096,
    masks: Sequence[str] = ("none", "causal"),
    flex: Sequence[int] = (),
    halves: bool = False,
) -> Iterator[Case]:
    """Each length without a mask and with a causal one, forward and then with backward.

    Args:
        lengths: of queries and keys.
        dtype: by name.
        heads: in each sequence.
        width: of a head.
        batch: sequences, by their length.
        readable: the longest for the paths that take one operation after another.
        masks: "none", "causal".
        flex: lengths at which FlexAttention takes part, forward: each is compiled, for seconds.
        halves: whether the path for types of two bytes on a CPU takes part.
    """
    for length in lengths:
        shape = {"B": batch(length), "H": heads, "L": length, "D": width}
        for mask in masks:
            for passes in PASSES:
                run = forward if passes == "forward" else backward
                ways = _ways(run, length <= readable)
                if halves:
                    bar = 1.4 if passes == "forward" else None
                    ways["query_tiled"] = Way(
                        run(_query_tiled), ("attnbook.fused.query_tiled",), bar=bar
                    )
                if mask == "causal":
                    ways["PyTorch SDPA, is_causal"] = Way(run(_torch_causal), package="torch")
                if length in flex and passes == "forward":
                    ways["FlexAttention"] = Way(_flex(mask == "causal"), package="torch")
                yield Case(
                    "dot-product",
                    shape,
                    ways,
                    "PyTorch SDPA",
                    attention(shape, dtype, _causal if mask == "causal" else None),
                    passes,
                    mask,
                    dtype,
                    exact(_attend, passes),
                    part,
                    16.0 if passes == "forward" else 64.0,  # a gradient is a difference
                    {
                        "matmul": flops(shape, mask == "causal", passes),
                        "copy": traffic(shape, dtype, passes),
                    },
                )


def _ways(run: Callable[[Mixes], Callable[[Any], Run]], readable: bool) -> dict[str, Way]:
    ways = {"sdpa": Way(run(_sdpa), ("attnbook.fused.sdpa",), bar=0.97)}
    if readable:
        ways["attend"] = Way(run(_attend), ("attnbook.attend",))
        ways["tiled"] = Way(run(_tiled), ("attnbook.fused.tiled",))
    return {**ways, "PyTorch SDPA": Way(run(_torch), package="torch")}


def _causal(length: int, device: str) -> Tensor:
    return causal(length, length, device=device)


def flops(shape: dict[str, int], half: bool, passes: str) -> float:
    """Of the two matrix products, and of the five more with backward; half where causal."""
    B, H, L, D = (shape[name] for name in "BHLD")
    forward = 4.0 * B * H * L * shape.get("S", L) * D / (2 if half else 1)
    return forward if passes == "forward" else 3.5 * forward


def traffic(shape: dict[str, int], dtype: str, passes: str) -> float:
    """Bytes that must be read and written at least: each input and each output once."""
    B, H, L, D = (shape[name] for name in "BHLD")
    each = B * H * L * D * torch.empty(0, dtype=getattr(torch, dtype)).element_size()
    return each * (4.0 if passes == "forward" else 12.0)
