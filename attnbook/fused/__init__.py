"""Fast paths for softmax attention with the scaled dot product score.

Each does what `attend(query, key, value, mask=mask, dropout=dropout)` does, without ever holding
the weights, and so returns `weights=None`. `attend` is their specification.
"""

from attnbook.fused.compiled import additive_compiled
from attnbook.fused.flexible import flex
from attnbook.fused.kernel import sdpa
from attnbook.fused.rows import query_tiled
from attnbook.fused.separable import Separable, additive
from attnbook.fused.tiles import tiled
from attnbook.fused.windows import local

__all__ = [
    "Separable",
    "additive",
    "additive_compiled",
    "flex",
    "local",
    "query_tiled",
    "sdpa",
    "tiled",
]
