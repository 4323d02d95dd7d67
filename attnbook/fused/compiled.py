"""Additive attention by loops that are compiled, so that a hidden layer stays in registers."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.fx.experimental import _config as shapes

from attnbook.core import Attended
from attnbook.fused.reciprocals import Sums
from attnbook.fused.separable import additive_by
from attnbook.scores import Additive

__all__ = ["additive_compiled"]

GROUP = 128
"""Hidden units, at most, that are summed before they join others: long sums round more often."""

LINE = 64
"""Keys that are compared at once. All units of so few stay in the first cache."""


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

    The first call of each kind (forward or backward, a type, a number of threads, under inference
    mode, more than 128 hidden units) takes seconds. Sizes may vary from call to call. It needs a
    C++ compiler on a CPU, and Triton on a GPU. Where a query or key is projected to a number of 9
    or more (72 in float64), and where `additive` takes tanh itself, it does what `additive` does.
    It is for long sequences: one query, or many short sequences, are faster by `additive`.

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


def _add_scores(E: Tensor, P: Tensor, N: Tensor, scores: Tensor) -> None:
    """Add `sum_h N_h / (P_h + E_h)` to the scores.

    `E (4, L, H/4, 4)`, `P` and `N (K, H/4, 4, 1, LINE)`, `scores (4 L, K, LINE)`. Four units share
    a division, and four queries a load of keys.
    """
    assert P.shape[-1] == N.shape[-1] == scores.shape[-1] == LINE  # no other is compiled
    parts = []
    for queries in E.permute(0, 2, 3, 1)[..., None]:
        w, x, y, z = (P[:, :, k] + queries[:, k] for k in range(4))
        a, b, c, d = (N[:, :, k] for k in range(4))
        wx, yz = w * x, y * z
        quotient = ((a * x + b * w) * yz + (c * z + d * y) * wx) / (wx * yz)
        parts.append(quotient.sum(1))
    scores.add_(torch.cat(parts, 1).transpose(0, 1))


def _of_queries(E: Tensor, P: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
    """`sum_j g r` and `sum_j g r (1 - r)`: `E (H, L)`, `P (H, S)` and `g (L, S)` to `(H, L)`."""
    r = P[:, None] / (P[:, None] + E[..., None])
    gr = g * r
    return gr.sum(-1), (gr - gr * r).sum(-1)


def _of_keys(E: Tensor, P: Tensor, g: Tensor) -> Tensor:
    """`sum_i g E / (P + E)^2`, of which `P` times is `sum_i g r (1 - r)`.

    `E (H/2, 2, L)`, `P (K, H/2, 2, LINE)` and `g (K, L, LINE)` to the shape of `P`. Two units share
    a division.
    """
    assert P.shape[-1] == g.shape[-1] == LINE  # no other is compiled
    e, f = E[..., None].unbind(1)
    p, q = P[:, :, :, None].unbind(2)
    g, s, t = g[:, None], p + e, q + f
    share = 1 / (s * t)
    one, other = t * share, s * share
    return torch.stack([(g * e * (one * one)).sum(2), (g * f * (other * other)).sum(2)], 2)


KINDS = 64
"""How often a loop may be compiled."""


@cache
def _quick(loop: Callable[..., Any]) -> Callable[..., Any]:
    """`loop`, compiled at its first call; whole or not at all, so that it never runs slowly."""
    return torch.compile(loop, dynamic=True, fullgraph=True)


def _run(loop: Callable[..., Any], *inputs: Tensor) -> Any:
    # Sizes that are equal once may differ later; each type, mode and number of threads is a kind.
    free = shapes.patch(use_duck_shape=False)  # type: ignore[attr-defined]
    try:
        with free, torch._dynamo.config.patch(recompile_limit=KINDS):
            return _quick(loop)(*inputs)
    except Exception as error:
        if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise
        raise RuntimeError(
            "additive_compiled could not compile its loops, for which a CPU needs a C++ compiler "
            "and a GPU needs Triton: take fused.additive, or mend what is said above"
        ) from error


def _forward(E: Tensor, P: Tensor, v: Tensor) -> Tensor:
    """One sequence and one group of units at a time, by lines of keys that stay in cache."""
    (B, H, L), S = E.shape, P.shape[-1]
    groups = -(-H // GROUP)
    units, rows, lines = (max(2, -(-n // k)) for n, k in ((H, 4 * groups), (L, 4), (S, LINE)))
    more = 4 * units * groups - H
    E = nn.functional.pad(E.mT, (0, more, 0, 4 * rows - L), value=1.0)
    P = nn.functional.pad(P, (0, lines * LINE - S, 0, more), value=1.0)
    E = E.contiguous().view(B, 4, rows, groups, units, 4)
    P = P.view(B, groups, units, 4, 1, lines, LINE).movedim(5, 1).contiguous()
    N = P * nn.functional.pad(2 * v, (0, more)).view(groups, units, 4, 1, 1)
    scores = (-v.sum()).expand(B, 4 * rows, lines, LINE).contiguous()
    for n in range(B):
        for k in range(groups):
            _run(_add_scores, E[n, :, :, k], P[n, :, k], N[n, :, k], scores[n])
    return scores.flatten(2)[:, :L, :S]


def _backward(E: Tensor, P: Tensor, v: Tensor, g: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    (B, H, L), S = E.shape, P.shape[-1]
    lines, units = (max(2, -(-n // k)) for n, k in ((S, LINE), (H, 2)))
    rows, width = max(2, L), lines * LINE
    E = nn.functional.pad(E, (0, rows - L, 0, 2 * units - H), value=1.0).contiguous()
    P = nn.functional.pad(P, (0, width - S, 0, 2 * units - H), value=1.0).contiguous()
    g = nn.functional.pad(g, (0, width - S, 0, rows - L))
    keys = P.view(B, units, 2, lines, LINE).movedim(3, 1).contiguous()
    slopes = g.view(B, rows, lines, LINE).transpose(1, 2).contiguous()
    of_a, of_b, of_v = torch.empty_like(E), torch.empty_like(P), torch.zeros_like(E[0, :, 0])
    for n in range(B):
        by_v, of_a[n] = _run(_of_queries, E[n], P[n], g[n])
        of_v += by_v.sum(-1)
        of_key = _run(_of_keys, E[n].view(units, 2, rows), keys[n], slopes[n]).mul_(keys[n])
        of_b[n] = of_key.movedim(0, 2).flatten(2).flatten(0, 1)
    factor = (4 * v)[:, None]
    by_v = (2 * of_v[:H]).sub_(g.sum())
    return of_a[:, :H, :L] * factor, of_b[:, :H, :S] * factor, by_v


COMPILED = Sums(_forward, _backward, 9.0, 4)
"""By the same identity as `DIVIDED`; products of four `P + E` and one `v` are numbers too."""
