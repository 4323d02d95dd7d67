"""What is timed: implementations of one mechanism, on inputs of one shape."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from attnbook.core import Attended, attend
from attnbook.fused import sdpa, tiled
from attnbook.masks import causal

__all__ = ["IMPLEMENTATIONS", "Case", "cases"]


def _pytorch(query: Tensor, key: Tensor, value: Tensor, *, mask: Tensor | None = None) -> Attended:
    """The peer: what `fused.sdpa` adds to it is checks and shapes."""
    return Attended(F.scaled_dot_product_attention(query, key, value, attn_mask=mask), None)


IMPLEMENTATIONS: dict[str, Callable[..., Attended]] = {
    "attend": attend,
    "fused.sdpa": sdpa,
    "fused.tiled": tiled,
    "pytorch": _pytorch,
}
"""The readable path, which the others are compared with, comes first."""


@dataclass(frozen=True)
class Case:
    """One row group of the table.

    Attributes:
        shape: `(B, H, L, D)` of query, key and value.
        mask: "none" or "causal".
        backward: time the forward and backward pass, not the forward pass alone.
        implementations: by name, the reference first.
    """

    shape: tuple[int, int, int, int]
    mask: str = "none"
    backward: bool = False
    implementations: dict[str, Callable[..., Attended]] = field(
        default_factory=lambda: dict(IMPLEMENTATIONS)
    )

    def inputs(self) -> tuple[list[Tensor], Tensor | None]:
        """Query, key and value in float32, and the mask; the same at each call."""
        generator = torch.Generator().manual_seed(0)
        tensors = [torch.randn(self.shape, generator=generator) for _ in range(3)]
        length = self.shape[-2]
        return tensors, causal(length, length) if self.mask == "causal" else None


def cases(lengths: Iterable[int], heads: int = 8, width: int = 64) -> Iterator[Case]:
    """Each length without a mask and with a causal one, forward and then with backward."""
    for length in lengths:
        for mask in ("none", "causal"):
            for backward in (False, True):
                yield Case((1, heads, length, width), mask, backward)
