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

GROUP = 32
"""Hidden units that are summed before they join the others: a long sum would round more often."""

LINE = 16
"""Numbers that one load takes. Rows are an odd number of them, so that caches hold many rows."""


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
        Bahdanau, Cho, Bengio 2015, section 3.1 and appendix A.1.2.
    """
    return additive_by(COMPILED, query, key, value, score, mask, dropout)


def _scores(E: Tensor, P: Tensor, N: Tensor) -> Tensor:
    """`sum_h N_h / (P_h + E_h)`: `E (H, L)`, `P` and `N (H, S)` to `(L, S)`. `GROUP` divides `H`.

    Two units share a division.
    """
    queries, keys, above = (x.unflatten(0, (-1, GROUP // 2, 2)) for x in (E, P, N))
    s, t = (keys[:, :, k, None] + queries[:, :, k, :, None] for k in (0, 1))
    pairs = (above[:, :, 0, None] * t + above[:, :, 1, None] * s) / (s * t)
    return pairs.sum(1).sum(0)


def _of_queries(E: Tensor, P: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
    """`sum_j g r` and `sum_j g r (1 - r)`: `E (H, L)`, `P (H, S)` and `g (L, S)` to `(H, L)`."""
    r = P[:, None] / (P[:, None] + E[..., None])
    gr = g * r
    return gr.sum(-1), (gr - gr * r).sum(-1)


def _of_keys(E: Tensor, P: Tensor, g: Tensor) -> Tensor:
    """`sum_i g r (1 - r)`: `E (H, L)`, `P (H, S)` and `g (S, L)` to `(H, S)`."""
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
    """One sequence at a time."""
    (B, H, L), S = E.shape, P.shape[-1]
    E, P = _pad(E), _pad(P)
    N = nn.functional.pad(2 * v, (0, P.shape[1] - H))[:, None] * P
    scores = [_run(_scores, E[n], P[n], N[n])[:L, :S] for n in range(B)]
    return torch.stack(scores).sub_(v.sum())


def _backward(E: Tensor, P: Tensor, v: Tensor, g: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    (B, H, L), S = E.shape, P.shape[-1]
    E, P = _pad(E), _pad(P)
    g = nn.functional.pad(g, (0, P.shape[-1] - S, 0, E.shape[-1] - L))
    of_a, of_b, of_v = torch.empty_like(E), torch.empty_like(P), torch.zeros_like(E[0, :, 0])
    for n in range(B):
        by_v, of_a[n] = _run(_of_queries, E[n], P[n], g[n])
        of_b[n] = _run(_of_keys, E[n], P[n], g[n].mT.contiguous())
        of_v += by_v.sum(-1)
    factor = (4 * v)[:, None]
    by_v = (2 * of_v[:H]).sub_(g.sum())
    return of_a[:, :H, :L] * factor, of_b[:, :H, :S] * factor, by_v


def _pad(x: Tensor) -> Tensor:
    """`(B, H, N)` with ones, to whole groups of hidden units and rows of an odd number of lines.

    No length is then 1, for which another loop would be compiled.
    """
    H, N = x.shape[1:]
    units, lines = max(2, -(-H // GROUP)) * GROUP, -(-N // LINE) | 1
    return nn.functional.pad(x, (0, lines * LINE - N, 0, units - H), value=1.0).contiguous()


COMPILED = Sums(_forward, _backward, 19.0, 2)
"""By the same identity as `DIVIDED`; the product of two `P + E` is a number too."""
