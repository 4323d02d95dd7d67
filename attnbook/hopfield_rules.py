"""How a Hopfield network learns: rules that make weights of patterns.

`P` patterns of `N` units, each -1 or +1, become weights `(N, N)`, symmetric and without
self-connections.

| rule | weights | local | incremental |
|---|---|---|---|
| `hebb` | sum of the products of the patterns | yes | yes |
| `storkey` | the same, less what is known already | yes | yes |
| `pseudo_inverse` | projection onto the patterns | no | no |
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["Rule", "hebb", "pseudo_inverse", "storkey"]

Rule = Callable[[Tensor], Tensor]
"""Patterns `(P, N)` to weights `(N, N)`."""


def hebb(
    patterns: Float[Tensor, "P N"], weights: Float[Tensor, "N N"] | None = None
) -> Float[Tensor, "N N"]:
    """Hebb's rule: units that agree are tied together, `w_ij = (1/N) sum_p x_pi x_pj`.

    Args:
        patterns: `(P, N)`, of -1 and +1.
        weights: `(N, N)`, what was learnt before; nothing when None.

    Returns:
        Weights `(N, N)`, symmetric, with a diagonal of 0.

    Raises:
        TypeError: patterns are not floating-point.
        ValueError: patterns are not `(P, N)` of -1 and +1, or weights not `(N, N)`.

    Source:
        Hopfield 1982, divided by `N`: then the field of a stored pattern is about 1.

    >>> hebb(torch.tensor([[1.0, 1.0, -1.0]]))
    tensor([[ 0.0000,  0.3333, -0.3333],
            [ 0.3333,  0.0000, -0.3333],
            [-0.3333, -0.3333,  0.0000]])
    """
    check_signs("patterns", patterns, axes=2)
    _check_weights(weights, patterns.shape[1])
    found = _without_diagonal(patterns.mT @ patterns / patterns.shape[1])
    return found if weights is None else weights + found


def storkey(
    patterns: Float[Tensor, "P N"], weights: Float[Tensor, "N N"] | None = None
) -> Float[Tensor, "N N"]:
    """Storkey's rule: Hebb's, less what the network already says of the new pattern.

    One pattern after the other, each with the weights that the earlier ones left:

        h_ij = sum_k w_ik x_k, over k other than i and j
        w_ij = w_ij + (x_i x_j - x_i h_ji - h_ij x_j) / N

    Local (a weight needs its two units only) and incremental, like Hebb's rule, but the order of
    the patterns matters.

    Args:
        patterns: `(P, N)`, of -1 and +1, in the order in which they are learnt.
        weights: `(N, N)`, what was learnt before, symmetric and without diagonal; nothing when
            None.

    Returns:
        Weights `(N, N)`, symmetric, with a diagonal of 0.

    Raises:
        TypeError: patterns are not floating-point.
        ValueError: patterns are not `(P, N)` of -1 and +1, or weights not `(N, N)`.

    Source:
        Storkey 1997, as reported.

    >>> first = torch.tensor([[1.0, 1.0, -1.0, 1.0]])
    >>> bool(torch.equal(storkey(first), hebb(first)))  # nothing was known yet
    True
    """
    check_signs("patterns", patterns, axes=2)
    N = patterns.shape[1]
    _check_weights(weights, N)
    found = patterns.new_zeros(N, N) if weights is None else weights.clone()
    for x in patterns:
        h = found @ x  # with x_j^2 = 1 the sum without k = j is h_i - w_ij x_j
        cross = torch.outer(x, h)
        found += _without_diagonal(torch.outer(x, x) - cross - cross.mT + 2 * found) / N
    return found


def pseudo_inverse(patterns: Float[Tensor, "P N"]) -> Float[Tensor, "N N"]:
    """The pseudo-inverse rule: the projection onto the patterns, without its diagonal.

    With `C` the overlaps of the patterns, `w_ij = (1/N) sum_pq x_pi (C^-1)_pq x_qj`. Every stored
    pattern is a fixed point, however alike the patterns are, as long as no diagonal entry of the
    projection is 1. Neither local nor incremental: each new pattern changes the whole inverse.

    Args:
        patterns: `(P, N)`, of -1 and +1. They need not be linearly independent.

    Returns:
        Weights `(N, N)`, symmetric, with a diagonal of 0.

    Raises:
        TypeError: patterns are not floating-point.
        ValueError: patterns are not `(P, N)` of -1 and +1.

    Source:
        Personnaz, Guyon, Dreyfus 1986; without the diagonal as in Kanter, Sompolinsky 1987.

    >>> alike = torch.ones(3, 10)
    >>> alike[1, :2] = alike[2, 2:4] = -1.0
    >>> [bool(((alike @ rule(alike)).sign() == alike).all()) for rule in (hebb, pseudo_inverse)]
    [False, True]
    """
    check_signs("patterns", patterns, axes=2)
    x = patterns.double()
    projection = x.mT @ torch.linalg.pinv(x @ x.mT, hermitian=True) @ x
    return _without_diagonal((projection + projection.mT) / 2).to(patterns.dtype)


def _without_diagonal(weights: Tensor) -> Tensor:
    return weights - torch.diag_embed(weights.diagonal())


def _check_weights(weights: Tensor | None, units: int) -> None:
    if weights is not None and weights.shape != (units, units):
        raise ValueError(f"weights must be {(units, units)}, got {tuple(weights.shape)}")


def check_signs(name: str, x: Tensor, axes: int | None = None, units: int | None = None) -> None:
    if not isinstance(x, Tensor) or not x.is_floating_point():
        got = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"{name} must be a floating-point tensor, got {got}")
    if x.ndim == 0 or x.shape[-1] == 0 or (axes is not None and x.ndim != axes):
        wanted = "(*b, N)" if axes is None else "(P, N)"
        raise ValueError(f"{name} must have shape {wanted}, got {tuple(x.shape)}")
    if units is not None and x.shape[-1] != units:
        raise ValueError(f"{name} must have {units} units, got {x.shape[-1]}")
    if not bool((x.abs() == 1).all()):
        wrong = x[x.abs() != 1][0].item()
        raise ValueError(f"{name} must hold -1 and +1 alone, got {wrong}")
