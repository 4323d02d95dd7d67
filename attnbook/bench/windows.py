"""Attention within a window: only the scores that count, against all of them behind a mask."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from attnbook.bench.cases import (
    Case,
    Inputs,
    Run,
    Way,
    attention,
    backward,
    exact,
    forward,
    part,
)
from attnbook.bench.dot_product import traffic
from attnbook.core import attend
from attnbook.fused import local
from attnbook.masks import causal, window

__all__ = ["windows"]

PEER = "local-attention"


def windows(
    lengths: Iterable[int], *, width: int = 128, heads: int = 8, head_width: int = 64
) -> Iterator[Case]:
    """Causal attention to the keys at most `width` back; with backward at the last length alone.

    The mask is made beforehand: it is not in the time.
    """
    lengths = list(lengths)
    for length in lengths:
        for passes in ("forward", "forward + backward"):
            if passes == "forward" or length == lengths[-1]:
                yield _window(length, passes, width, heads, head_width)


def _window(length: int, passes: str, width: int, heads: int, head_width: int) -> Case:
    shape = {"B": 1, "H": heads, "L": length, "D": head_width}
    run = forward if passes == "forward" else backward

    def seen(length: int, device: str) -> Tensor:
        near = window(length, length, width, device=device)
        return near & causal(length, length, device=device)

    def theirs(x: Inputs) -> Run:
        from local_attention import LocalAttention

        layer: Any = LocalAttention(
            width, causal=True, exact_windowsize=True, autopad=True, use_rotary_pos_emb=False
        )
        return run(lambda q, k, v, mask: layer(q, k, v))(x)

    bar = 10.0 if passes == "forward" and length >= 4096 else None
    products = 4.0 * heads * length * (width + 1) * head_width
    return Case(
        "local",
        shape,
        {
            "local": Way(
                run(lambda q, k, v, mask: local(q, k, v, width=width, causal=True).output),
                ("attnbook.fused.local",),
                bar=bar,
            ),
            "PyTorch SDPA, masked": Way(
                run(lambda q, k, v, mask: F.scaled_dot_product_attention(q, k, v, attn_mask=mask)),
                package="torch",
            ),
            PEER: Way(theirs, package=PEER),
        },
        "PyTorch SDPA, masked",
        attention(shape, "float32", seen),
        passes,
        f"window {width}, causal",
        exact=exact(lambda q, k, v, mask: attend(q, k, v, mask=mask).output, passes),
        part=part,
        tolerance=16.0 if passes == "forward" else 64.0,
        work={
            "matmul": products * (1 if passes == "forward" else 3.5),
            "copy": traffic(shape, "float32", passes),
        },
    )
