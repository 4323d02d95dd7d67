"""Fast paths for softmax attention: what `attend` does, without all of the weights at once.

`sdpa`, `tiled` and `query_tiled` do what `attend(query, key, value, mask=mask, dropout=dropout)`
does; `local` does so within a window, `flex` with any change of the scores, and `additive` with the
additive score. They return `weights=None`. `attend` is their specification. Which of them is taken
is said by name: what a path cannot do is an error, never another path.
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
