"""Sums over hidden units of `v tanh(a + b)`, by one reciprocal for each unit of each pair.

    tanh(a + b) = 2 r - 1,  r = 1 / (1 + e^-2a e^-2b) = P / (P + E),  P = e^2b,  E = e^-2a

`P` and `E` are exponentials of one side each. A tile of pairs takes one addition and one division
for each unit, in place, in memory that stays in cache. `B` is one leading axis, `H` hidden units.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = [
    "DIVIDED",
    "TANH",
    "Sums",
    "exponentials",
    "fits",
    "fits_any_query",
    "tiles",
    "unclamped",
]

TILE = 2**17
"""Numbers in a tile on a CPU: 512 KB in float32."""

TILE_OF_A_GPU = 2**24
"""Numbers in a tile elsewhere: what counts there is that launches are few."""

GROUP = 16
"""Hidden units that are summed before they join the others: a long sum would round more often."""

ROOM = {torch.float32: (1, 10.0), torch.float64: (8, 20.0)}
"""How many times the exponents of float32 a type has, and from where on tanh is 1 in it."""


class Sums(NamedTuple):
    """A way to compute a tile of scores, and what each input did to them.

    Attributes:
        forward: `E (B, H, L)`, `P (B, H, S)` and `v (H,)` to scores `(B, L, S)`.
        backward: these and the gradient of the scores to those of `a`, `b` and `v`.
        limit: how large `a` and `b` may be in float32.
        size: how many times `TILE` scores it takes at once, as it keeps few units of them.
    """

    forward: Callable[[Tensor, Tensor, Tensor], Tensor]
    backward: Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
    limit: float
    size: int = 1


def fits(sums: Sums, a: Tensor, b: Tensor, v: Tensor) -> bool:
    """Whether the exponentials give what tanh gives, to rounding, for `(*b, H, N)` projections.

    Where tanh is 1 or -1 whatever the other side is, a side may be clamped.
    """
    times, one = ROOM[a.dtype]
    of_a, of_b = _largest(a), _largest(b)
    smaller, larger = torch.minimum(of_a.max(), of_b.max()), torch.maximum(of_a.max(), of_b.max())
    within = (larger < times * sums.limit) | (smaller <= times * sums.limit - one)
    return bool(within & _is_felt(of_a + of_b, v))


def fits_any_query(b: Tensor, v: Tensor) -> bool:
    """Whether `fits` holds for `DIVIDED` with these keys, whatever the queries are."""
    (times, one), of_b = ROOM[b.dtype], _largest(b)
    return bool((of_b.max() <= times * DIVIDED.limit - one) & _is_felt(of_b, v))


def exponentials(x: Tensor, sums: Sums) -> Tensor:
    """`e^2x`, with `x` clamped to the limit."""
    limit = 2 * ROOM[x.dtype][0] * sums.limit
    return (2 * x.contiguous()).clamp_(-limit, limit).exp_()


def unclamped(gradient: Tensor, exponential: Tensor, sums: Sums) -> Tensor:
    """The gradient of `x`, which is 0 where it was clamped: tanh is 1 or -1 there."""
    ends = exponential.new_tensor([-torch.inf, torch.inf])
    low, high = exponentials(ends, sums)
    return gradient.masked_fill_((exponential <= low) | (exponential >= high), 0.0)


def tiles(
    sums: Sums, B: int, L: int, S: int, device: torch.device
) -> Iterator[tuple[slice, slice]]:
    """The pairs, a tile at a time: a slice of the batch, and one of the queries."""
    size = sums.size * _size(device)
    rows = max(1, min(L, size // S))
    batches = max(1, size // (L * S))
    for n in range(0, B, batches):
        for i in range(0, L, rows):
            yield slice(n, n + batches), slice(i, i + rows)


def _divided(E: Tensor, P: Tensor, v: Tensor) -> Tensor:
    """`sum_h v_h (2 r_h - 1)`."""
    (B, H, L), S = E.shape, P.shape[-1]
    total = (-v.sum()).expand(B, L, S).contiguous()
    units = _units(total, H)
    if units > 1:
        t = total.new_empty(B, units, L, S)
        for e, p, w in zip(_parts(E, -1, units), _parts(P, -2, units), v.split(units), strict=True):
            total += _weigh(2 * w, _reciprocals(e, p, t))
        return total
    t, group = torch.empty_like(total), torch.empty_like(total)
    queries, keys = E.unsqueeze(-1).unbind(1), P.unsqueeze(-2).unbind(1)
    numerators = ((2 * v)[:, None] * P).unsqueeze(-2).unbind(1)
    for h in range(H):
        torch.add(keys[h], queries[h], out=t)
        if h % GROUP == 0:
            torch.div(numerators[h], t, out=group)
        else:
            group.addcdiv_(numerators[h], t)
        if h % GROUP == GROUP - 1 or h == H - 1:
            total += group
    return total


def _divided_backward(E: Tensor, P: Tensor, v: Tensor, g: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The derivative of tanh is `4 r (1 - r)`; that of the score by `v` is `2 r - 1`."""
    units = _units(g, len(v))
    t = g.new_empty(g.shape[0], units, *g.shape[1:])
    of_a, of_b, of_v, g = [], [], [], g.unsqueeze(1)
    for e, p in zip(_parts(E, -1, units), _parts(P, -2, units), strict=True):
        r = _reciprocals(e, p, t)
        slope = torch.addcmul(r, r, r, value=-1)
        of_v.append(r.mul_(g).sum((0, 2, 3)))
        of_a.append(slope.mul_(g).sum(-1))
        of_b.append(slope.sum(-2))
    factor, constant = (4 * v)[:, None], g.sum()
    by_v = torch.cat(of_v).mul_(2).sub_(constant)
    return torch.cat(of_a, 1).mul_(factor), torch.cat(of_b, 1).mul_(factor), by_v


def _parts(x: Tensor, axis: int, units: int) -> tuple[Tensor, ...]:
    """`(B, H, N)` to tensors of some units each, with one axis more for the other side."""
    return x.unsqueeze(axis).split(units, dim=1)


def _weigh(w: Tensor, units: Tensor) -> Tensor:
    """`(units,)` and `(B, units, L, S)` to `(B, L, S)`. `w @ ...` would first copy the units."""
    B, _, L, S = units.shape
    return torch.bmm(w.expand(B, 1, -1), units.flatten(2)).view(B, L, S)


def _reciprocals(E: Tensor, P: Tensor, out: Tensor) -> Tensor:
    """`r` for some units, `(B, units, L, S)`, into `out`."""
    if E.shape[1] != out.shape[1]:
        out = out[:, : E.shape[1]]
    return torch.div(P, torch.add(P, E, out=out), out=out)


def _tanh(a: Tensor, b: Tensor, v: Tensor) -> Tensor:
    """The sum as it is written, for arguments whose exponentials are no numbers."""
    total = a.new_zeros(a.shape[0], a.shape[-1], b.shape[-1])
    units, group = _units(total, len(v)), torch.zeros_like(total)
    parts = zip(_parts(a, -1, units), _parts(b, -2, units), v.split(units), strict=True)
    for k, (x, y, w) in enumerate(parts, 1):
        group += _weigh(w, (x + y).tanh_())
        if k * units % GROUP < units or k * units >= len(v):
            total += group
            group.zero_()
    return total


def _tanh_backward(a: Tensor, b: Tensor, v: Tensor, g: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    units = _units(g, len(v))
    of_a, of_b, of_v, g = [], [], [], g.unsqueeze(1)
    for x, y in zip(_parts(a, -1, units), _parts(b, -2, units), strict=True):
        t = (x + y).tanh_()
        of_v.append((g * t).sum((0, 2, 3)))
        slope = (1 - t.square_()).mul_(g)
        of_a.append(slope.sum(-1))
        of_b.append(slope.sum(-2))
    factor = v[:, None]
    return torch.cat(of_a, 1).mul_(factor), torch.cat(of_b, 1).mul_(factor), torch.cat(of_v)


DIVIDED = Sums(_divided, _divided_backward, 40.0)
"""By the identity above. `P + E` and `v P` are numbers, and none so small that it loses digits."""

TANH = Sums(_tanh, _tanh_backward, math.inf)
"""By tanh, of `a` and `b` in place of `E` and `P`."""


def _largest(x: Tensor) -> Tensor:
    """`(*b, H, N)` to the largest magnitude of each unit."""
    return x.detach().abs().amax(-1).reshape(-1, x.shape[-2]).amax(0)


def _is_felt(reach: Tensor, v: Tensor) -> Tensor:
    """Whether an error of one rounding of `v` is small beside the scores, or beside 1.

    Near 0, tanh has more digits than `2 r - 1`. That counts where `v` is large.
    """
    v = v.detach()
    whole, heard = v.norm(), (v * reach.clamp(max=1.0)).norm()
    return ((whole <= 4) | (whole <= 4 * heard)) & (v.abs().max() <= 1e3)


def _size(device: torch.device) -> int:
    return TILE if device.type == "cpu" else TILE_OF_A_GPU


def _units(scores: Tensor, H: int) -> int:
    """How many hidden units of these scores make a tile."""
    return max(1, min(H, 4 * GROUP, _size(scores.device) // max(1, scores.numel())))
