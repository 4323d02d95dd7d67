"""Fast paths for softmax attention with the scaled dot product score.

Each does what `attend(query, key, value, mask=mask, dropout=dropout)` does, without ever holding
the weights, and so returns `weights=None`. `attend` is their specification.
"""

from attnbook.fused.kernel import sdpa
from attnbook.fused.tiles import tiled

__all__ = ["sdpa", "tiled"]
