"""Contests of the memories: each against what a user would otherwise take for the same work."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F

from attnbook.bench.contests import OURS, Contest
from attnbook.linear import chunked, parallel

__all__ = ["linear", "memories"]


@torch.no_grad()
def linear(length: int = 4096, *, heads: int = 8, width: int = 64) -> Contest:
    """Causal attention of one sequence: linear, chunk by chunk, against softmax.

    They are not the same function: linear attention takes another kernel for the exponential. What
    is checked is that the chunks give what the matrix of all weights gives in float64.

    Raises:
        ArithmeticError: the chunks give something else.
    """
    generator = torch.Generator().manual_seed(0)
    query, key, value = torch.randn(3, 1, heads, length, width, generator=generator)
    got = chunked(query, key, value).output
    for head in range(heads):  # one at a time: the matrix is large
        exact = parallel(*(x[:, head].double() for x in (query, key, value))).output
        budget = 8 * torch.finfo(got.dtype).eps * float(exact.abs().max())
        error = float((got[:, head] - exact).abs().max())
        if not error <= budget:
            raise ArithmeticError(f"chunks are off by {error:.1e}, more than {budget:.1e}")
    return Contest(
        f"causal linear attention, L = {length}, forward",
        {
            OURS: lambda: chunked(query, key, value),
            "raw SDPA, softmax": lambda: F.scaled_dot_product_attention(
                query, key, value, is_causal=True
            ),
        },
        {"raw SDPA, softmax": 3.5},
        rounds=9,
    )


def memories() -> Iterator[Contest]:
    """All of them, at their sizes."""
    yield linear()
