"""Additive attention by loops that are compiled, so that a hidden layer stays in registers."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from attnbook.core import Attended
from attnbook.fused.reciprocals import Sums
from attnbook.fused.separable import additive_by
from attnbook.scores import Additive

__all__ = ["additive_compiled"]

GROUP = 8
"""Hidden units that are summed before they join the others."""

KEYS = 32
"""Keys in a block: of 128 hidden units it takes 16 KB, and as much for its numerators."""


def additive_compiled(
    query: Float[Tensor, "*#b L Dq"],
    key: Float[Tensor, "*#b S Dk"],
    value: Float[Tensor, "*#b S Dv"],
    *,
    score: Additive,
    mask: Bool[Tensor, "..."] | None = None,
    dropout: float = 0.0,
) -> Attended:
    """What `additive` does, with its inner loops compiled by `torch.compile`.

    The first call of each kind (forward or backward, and each type) takes seconds. Sizes may vary
    from call to call. It needs a C++ compiler on a CPU, and Triton on a GPU. Where queries and keys
    are projected to numbers above 19, and where `additive` takes tanh itself, it does what
    `additive` does.

    Args:
        query: `(*b, L, Dq)`.
        key: `(*b, S, Dk)`.
        value: `(*b, S, Dv)`, one for each key. Keys and values must be finite at forbidden
            positions too.
        score: the additive score; its parameters have gradients too.
        mask: boolean, True = may attend, broadcast to `(*b, L, S)`.
        dropout: probability with which a weight is dropped. Pass 0 when evaluating.

    Returns:
        The output `(*b, L, Dv)`, and None for the weights.

    Raises:
        TypeError: an input is not a floating-point tensor, the mask is not boolean, or score is not
            an `Additive`.
        ValueError: shapes, widths or devices do not fit, or dropout is not in [0, 1).
        RuntimeError: nothing here can compile the loops; or, from the backward pass, a second
            derivative is asked for.

    Source:
        Bahdanau, Cho, Bengio 2015, section 3.1 and appendix A.1.2; Ansel et al. 2024 for the
        compiler.
    """
    return additive_by(COMPILED, query, key, value, score, mask, dropout)


def _scores(E: Tensor, P: Tensor, N: Tensor) -> Tensor:
    """`sum_h N_h / (P_h + E_h)`, of `E (L, H)` and keys in blocks, `P` and `N (blocks, H, KEYS)`.

    To `(blocks, L, KEYS)`; a block stays in the nearest cache. Two units share a division. A group
    of units is summed before it joins the others.
    """
    queries, keys, above = (x.unflatten(1, (-1, GROUP)) for x in (E, P, N))

    def two(h: int) -> Tensor:
        s, t = (keys[:, None, :, k] + queries[:, :, k, None] for k in (h, h + 1))
        return (above[:, None, :, h] * t + above[:, None, :, h + 1] * s) / (s * t)

    return ((two(0) + two(2)) + (two(4) + two(6))).sum(-2)


def _of_queries(E: Tensor, P: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
    """For `E (H, L)`, `P (H, S)` and `g (L, S)`: `sum_j g r` and `sum_j g r (1 - r)`, `(H, L)`."""
    r = P[:, None] / (P[:, None] + E[..., None])
    return (g * r).sum(-1), (g * (r - r * r)).sum(-1)


def _of_keys(E: Tensor, P: Tensor, g: Tensor) -> Tensor:
    """For `E (H, L)`, `P (H, S)` and `g (S, L)`: `sum_i g r (1 - r)`, `(H, S)`."""
    r = P[..., None] / (P[..., None] + E[:, None])
    return (g * (r - r * r)).sum(-1)


@cache
def _quick(loop: Callable[..., Any]) -> Callable[..., Any]:
    """`loop`, compiled at its first call; whole or not at all, so that it never runs slowly."""
    return torch.compile(loop, dynamic=True, fullgraph=True)


def _run(loop: Callable[..., Any], *inputs: Tensor) -> Any:
    try:
        return _quick(loop)(*inputs)
    except Exception as error:
        if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise
        raise RuntimeError(
            "additive_compiled could not compile its loops, for which a CPU needs a C++ compiler "
            "and a GPU needs Triton: take fused.additive, or mend what is said above"
        ) from error


def _forward(E: Tensor, P: Tensor, v: Tensor) -> Tensor:
    """One sequence at a time, and nothing of length 1, for which another loop would be compiled."""
    (B, H, L), S = E.shape, P.shape[-1]
    E, P = _pad(E, 2), _pad(P, 2 * KEYS, KEYS)
    blocks = P.unflatten(-1, (-1, KEYS)).transpose(1, 2).contiguous()
    above = nn.functional.pad(2 * v, (0, P.shape[1] - H))[:, None] * blocks
    scores = E.new_empty(B, L, S)
    for n in range(B):
        tile = _run(_scores, E[n].mT.contiguous(), blocks[n], above[n])
        scores[n] = tile.transpose(0, 1).flatten(1)[:L, :S]
    return scores.sub_(v.sum())


def _backward(E: Tensor, P: Tensor, v: Tensor, g: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    (_, H, L), S = E.shape, P.shape[-1]
    E, P = _pad(E, 2), _pad(P, 2)
    g = nn.functional.pad(g, (0, P.shape[-1] - S, 0, E.shape[-1] - L))
    of_a, of_b, of_v = [], [], []
    for e, p, upstream in zip(E, P, g, strict=True):
        e, p = e.contiguous(), p.contiguous()  # else a layout more would be compiled for
        by_v, by_a = _run(_of_queries, e, p, upstream.contiguous())
        of_v.append(by_v.sum(-1))
        of_a.append(by_a)
        of_b.append(_run(_of_keys, e, p, upstream.mT.contiguous()))
    factor = (4 * v)[:, None]
    by_a, by_b = (torch.stack(x)[:, :H] * factor for x in (of_a, of_b))
    by_v = torch.stack(of_v).sum(0)[:H]
    return by_a[..., :L], by_b[..., :S], by_v.mul_(2).sub_(g.sum())


def _pad(x: Tensor, least: int, step: int = 1) -> Tensor:
    """`(B, H, N)` with ones: at least so many positions, and two whole groups of hidden units."""
    H, N = x.shape[1:]
    units, positions = max(2, -(-H // GROUP)) * GROUP, max(least, -(-N // step) * step)
    return nn.functional.pad(x, (0, positions - N, 0, units - H), value=1.0)


COMPILED = Sums(_forward, _backward, 19.0)
"""By the same identity as `DIVIDED`; the product of two `P + E` is a number too."""
