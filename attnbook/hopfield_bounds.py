"""What is proved of a modern Hopfield network: how near a pattern an update lands, how many fit.

`S` stored patterns `x_j` of width `D`, of which the longest has length `M`. All of it holds with
real numbers; in floating point a bound may be smaller than the rounding of what it bounds.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from attnbook.core import check_pair
from attnbook.modern_hopfield import check_beta, check_patterns

__all__ = ["Capacity", "error_bound", "proven_capacity", "separation", "well_separated"]

ROWS = 1024
"""Patterns that `separation` compares with all others at a time."""


class Capacity(NamedTuple):
    """What the capacity theorem promises.

    Attributes:
        base: `c`, the base of the exponential.
        patterns: `sqrt(p) c^((d - 1) / 4)`, how many random patterns can be stored at least;
            infinite where it is more than a float can hold.
        applies: whether `c` is as large as the theorem needs it to be.
    """

    base: float
    patterns: float
    applies: bool


def separation(patterns: Float[Tensor, "*b S D"]) -> Float[Tensor, "*b S"]:
    """How far each pattern stands from the others: `min over j of x_i . x_i - x_i . x_j`.

    Args:
        patterns: `(*b, S, D)`, at least one.

    Returns:
        `(*b, S)`; infinite for a pattern that is alone. It is negative for a pattern that is less
        like itself than like a longer one: lengths count in a dot product.

    Raises:
        TypeError: patterns is not a floating-point tensor.
        ValueError: patterns has fewer than two axes, or there are none.

    Source:
        Ramsauer et al. 2021, section 2, the separation of a pattern.

    >>> separation(torch.tensor([[1.0, 0.0], [0.0, 1.0], [3.0, 0.0]]))
    tensor([-2.,  1.,  6.])
    """
    check_pair(patterns, patterns)
    check_patterns(patterns)
    rows = []
    for start in range(0, patterns.shape[-2], ROWS):
        some = patterns.narrow(-2, start, min(ROWS, patterns.shape[-2] - start))
        products = some @ patterns.mT
        own = products.diagonal(offset=start, dim1=-2, dim2=-1).clone()
        products.diagonal(offset=start, dim1=-2, dim2=-1).fill_(float("-inf"))
        rows.append(own - products.amax(dim=-1))
    return torch.cat(rows, dim=-1)


def error_bound(
    patterns: Float[Tensor, "*b S D"],
    distance: Float[Tensor, "*#b S"] | float = 0.0,
    *,
    beta: float = 1.0,
) -> Float[Tensor, "*b S"]:
    """How far from a pattern one update can land, at most, that starts near it.

    Args:
        patterns: `(*b, S, D)`, at least one.
        distance: `(*b, S)` or a number, how far from its pattern the state starts. The paper takes
            the larger of this and the distance of the pattern's fixed point; the proof needs this
            alone.
        beta: inverse temperature, above 0.

    Returns:
        For each pattern `2 (S - 1) M exp(-beta (separation - 2 M distance))`, `(*b, S)`.

    Raises:
        TypeError: patterns is not a floating-point tensor.
        ValueError: patterns has fewer than two axes, there are none, beta is not positive, or a
            distance is negative.

    Source:
        Ramsauer et al. 2021, theorem 5.

    >>> from attnbook.modern_hopfield import update
    >>> patterns = torch.eye(2)
    >>> error_bound(patterns, beta=4.0)
    tensor([0.0366, 0.0366])
    >>> (update(patterns, patterns, beta=4.0).output - patterns).norm(dim=-1)
    tensor([0.0254, 0.0254])
    """
    check_beta(beta)
    away = torch.as_tensor(distance)
    if not bool((away >= 0).all()):
        raise ValueError(f"distance must not be negative, got {float(away.amin()):g}")
    exponent = -beta * (separation(patterns) - 2 * distance * _longest(patterns))
    return 2 * (patterns.shape[-2] - 1) * _longest(patterns) * exponent.exp()


def well_separated(patterns: Float[Tensor, "*b S D"], *, beta: float = 1.0) -> Bool[Tensor, "*b S"]:
    """Which patterns are surely stored: one fixed point near each, to which all states near it go.

    Args:
        patterns: `(*b, S, D)`, at least one.
        beta: inverse temperature, above 0.

    Returns:
        `(*b, S)`, whether the separation is at least `2 / (beta S) + log(2 (S - 1) S beta M^2) /
        beta`, with 0 for the logarithm where it is negative. Then an update maps the ball of radius
        `1 / (beta S M)` around the pattern into itself and brings any two of its points closer,
        and no two such balls overlap.

    Raises:
        TypeError: patterns is not a floating-point tensor.
        ValueError: patterns has fewer than two axes, there are none, or beta is not positive.

    Source:
        Ramsauer et al. 2021, appendix, the patterns that are well separated.

    >>> well_separated(torch.eye(2), beta=1.0), well_separated(torch.eye(2), beta=8.0)
    (tensor([False, False]), tensor([True, True]))
    """
    check_beta(beta)
    S = patterns.shape[-2]
    spread = 2 * (S - 1) * S * beta * _longest(patterns) ** 2
    return separation(patterns) >= (2 / max(S, 1) + spread.clamp_min(1.0).log()) / beta


def proven_capacity(
    dim: int, *, beta: float = 1.0, spread: float = 1.0, failure: float = 0.001
) -> Capacity:
    """How many random patterns the capacity theorem promises to store.

    The patterns lie on the sphere of radius `M = spread sqrt(dim - 1)`, each direction equally
    likely. With `p` the probability of failure,

        a = 2 / (dim - 1) (1 + log(2 beta spread^2 p (dim - 1)))
        b = 2 spread^2 beta / 5
        c = b / W(exp(a + log b)),    W the upper branch of Lambert's function

    and `sqrt(p) c^((dim - 1) / 4)` patterns can be stored with probability `1 - p`, provided that
    `c >= (2 / sqrt(p))^(4 / (dim - 1))`.

    Args:
        dim: width of the patterns, at least 2.
        beta: inverse temperature, above 0.
        spread: the paper's `K`, above 0.
        failure: `p`, in (0, 1].

    Raises:
        ValueError: an argument is out of its range.

    Source:
        Ramsauer et al. 2021, theorem 3.

    >>> f"{proven_capacity(20, spread=3.0).base:.4f}, {proven_capacity(75).base:.4f}"
    '3.1546, 1.3719'
    >>> proven_capacity(75).patterns
    10.973249
    """
    check_beta(beta)
    if dim < 2:
        raise ValueError(f"dim must be at least 2, got {dim}")
    if not 0 < spread < math.inf:
        raise ValueError(f"spread must be positive and finite, got {spread}")
    if not 0 < failure <= 1:
        raise ValueError(f"failure must be in (0, 1], got {failure}")
    scale = math.log(beta) + 2 * math.log(spread)
    a = 2 / (dim - 1) * (1 + math.log(2) + scale + math.log(failure) + math.log(dim - 1))
    log_base = _lambert_of_exp(a + math.log(2 / 5) + scale) - a  # as log W(x) = log x - W(x)
    return Capacity(
        base=_exp(log_base),
        patterns=_exp(math.log(failure) / 2 + log_base * (dim - 1) / 4),
        applies=log_base >= 4 / (dim - 1) * (math.log(2) - math.log(failure) / 2),
    )


def _longest(patterns: Tensor) -> Tensor:
    """`M`, the length of the longest pattern, `(*b, 1)`."""
    check_patterns(patterns)
    return patterns.norm(dim=-1).amax(dim=-1, keepdim=True)


def _exp(x: float) -> float:
    """`exp(x)`, and infinity in place of an error where that is too large."""
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf


def _lambert_of_exp(z: float) -> float:
    """`W(exp(z))`, the `w` above 0 with `w + log(w) = z`, by Newton's method in `log(w)`."""
    log = min(z, math.log1p(max(z, 0.0)))
    for _ in range(50):
        log -= (math.exp(log) + log - z) / (math.exp(log) + 1)
    return math.exp(log)
