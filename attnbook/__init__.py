"""Attention in a few exact, readable, fast lines: score, mask, normalise, aggregate."""

import attnbook._axes  # noqa: F401  (first: it stands in for jaxtyping where that is missing)
from attnbook import fused, masks, normalizers, scores
from attnbook.core import (
    Attended,
    Normalize,
    Score,
    aggregate,
    apply_mask,
    attend,
    attention_weights,
)
from attnbook.layers import KVCache, MultiHeadAttention, attention_maps
from attnbook.masks import causal, document, padding, window
from attnbook.normalizers import (
    LinearChain,
    entmax,
    gumbel,
    hardmax,
    log_probability,
    sample,
    sigmoid,
    softmax,
    sparsemax,
)
from attnbook.scores import (
    Additive,
    Bilinear,
    Concat,
    Location,
    cosine,
    dot,
    gaussian,
    log_kernel,
    scaled_dot,
)

__all__ = [
    "Additive",
    "Attended",
    "Bilinear",
    "Concat",
    "KVCache",
    "LinearChain",
    "Location",
    "MultiHeadAttention",
    "Normalize",
    "Score",
    "aggregate",
    "apply_mask",
    "attend",
    "attention_maps",
    "attention_weights",
    "causal",
    "cosine",
    "document",
    "dot",
    "entmax",
    "fused",
    "gaussian",
    "gumbel",
    "hardmax",
    "log_kernel",
    "log_probability",
    "masks",
    "normalizers",
    "padding",
    "sample",
    "scaled_dot",
    "scores",
    "sigmoid",
    "softmax",
    "sparsemax",
    "window",
]
__version__ = "0.1.0"
