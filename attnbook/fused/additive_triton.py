"""Additive scores in one Triton kernel: no `(*b, L, S, hidden_dim)` tensor, on a GPU.

    tanh(q + k) = 1 - 2 r,  r = 1 / (1 + e^2q e^2k)
    score_ij    = sum_d v_d - 2 sum_d v_d r_ijd
    gradients   of q_id: sum_j g_ij v_d 4 r (1 - r);  of v_d: sum_ij g_ij (1 - 2 r)

A program holds one tile of scores in registers and reads `e^2q` and `e^2k` unit by unit: the only
work for a pair and a unit is one multiply-add and one reciprocal. This module needs Triton, the
extra `triton`, which PyTorch for CUDA brings along; no other module imports it.
"""

from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor, nn

from attnbook.scores import Additive

__all__ = ["TritonAdditive"]

LARGEST = 43.0
"""Beyond it `e^2q`, or its inverse, is no number of float32: `e^2(q + k)` is then taken by the
pair."""

ROWS, COLUMNS = tl.constexpr(64), tl.constexpr(64)  # the scores of one program
SIDE, UNITS = tl.constexpr(16), tl.constexpr(16)  # positions of either kind, and hidden units


class TritonAdditive(nn.Module):
    """An additive score, its parameters shared, computed by a Triton kernel.

    It is the same function as `score`, so that it stands in its place anywhere:
    `attend(query, key, value, score=TritonAdditive(score), mask=mask)`. Arithmetic is in at least
    float32.

    Args:
        score: the additive score, on a GPU.

    Shapes:
        query `(*b, L, query_dim)`, key `(*b, S, key_dim)`, scores `(*b, L, S)`.

    Raises:
        TypeError: score is not an `Additive`.
        ValueError: (when called) a width is not the one it was built with, or a tensor is not on a
            GPU.
        RuntimeError: (from the backward pass) a second derivative is asked for.

    Source:
        Bahdanau, Cho, Bengio 2015, section 3.1; Tillet, Kung, Cox 2019 for Triton.
    """

    def __init__(self, score: Additive) -> None:
        super().__init__()
        if not isinstance(score, Additive):
            raise TypeError(f"score must be an Additive, got {type(score).__name__}")
        self.score = score

    def forward(
        self, query: Float[Tensor, "*#b L Dq"], key: Float[Tensor, "*#b S Dk"]
    ) -> Float[Tensor, "*b L S"]:
        """Scores `(*b, L, S)`."""
        return self.compare(self.query(query), self.key(key))

    def query(self, query: Float[Tensor, "*b L Dq"]) -> Float[Tensor, "*b L H"]:
        """The projected queries, `W q`."""
        return _project("query", query, self.score.query)

    def key(self, key: Float[Tensor, "*b S Dk"]) -> Float[Tensor, "*b S H"]:
        """The projected keys, `U k`: once for all steps of a decoder."""
        return _project("key", key, self.score.key)

    def compare(
        self, query: Float[Tensor, "*#b L H"], key: Float[Tensor, "*#b S H"]
    ) -> Float[Tensor, "*b L S"]:
        """Scores of projected queries and keys."""
        for name, x in (("query", query), ("key", key)):
            if not (x.is_cuda or triton.knobs.runtime.interpret):
                raise ValueError(f"{name} must be on a GPU, got one on {x.device}")
            if x.shape[-1] != self.score.v.in_features:  # the kernel would read on
                units = self.score.v.in_features
                raise ValueError(f"{name} must have {units} hidden units, got {x.shape[-1]}")
        batch = torch.broadcast_shapes(query.shape[:-2], key.shape[:-2])
        flat = (x.expand(*batch, *x.shape[-2:]) for x in (query, key))
        flat = (x.flatten(0, -3) if batch else x[None] for x in flat)
        scores: Tensor = _Scores.apply(*flat, self.score.v.weight[0])
        return scores.view(*batch, *scores.shape[-2:])


class _Scores(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, v: Tensor) -> Tensor:
        wide = torch.promote_types(query.dtype, torch.float32)
        # Unit by unit, so that neighbours in memory are neighbours in the sequence.
        q, k = (x.to(wide).mT.contiguous() for x in (query, key))
        largest = torch.stack([x.abs().amax() if x.numel() else x.new_zeros(()) for x in (q, k)])
        separable = (largest <= LARGEST).all()  # stays on the device: the kernel reads it
        q, k = (torch.where(separable, (2 * x).exp(), 2 * x) for x in (q, k))
        weight = v.to(wide).contiguous()
        (B, H, L), S = q.shape, k.shape[-1]
        scores = q.new_empty(B, L, S)
        if scores.numel():
            grid = (triton.cdiv(L, ROWS.value), triton.cdiv(S, COLUMNS.value), B)
            with torch.cuda.device_of(q):
                _scores_kernel[grid](q, k, weight, separable, scores, L, S, H)
        ctx.save_for_backward(q, k, weight, separable)
        ctx.dtypes = query.dtype, key.dtype, v.dtype
        return scores.to(query.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError("TritonAdditive has first-order gradients only: use Additive")
        q, k, weight, separable = ctx.saved_tensors
        gradient = gradient.to(q.dtype).contiguous()
        of_query, of_v = _gradients(q, k, weight, separable, gradient)
        of_key, _ = _gradients(k, q, weight, separable, gradient.mT)
        found = (of_query.mT, of_key.mT, of_v.sum(dim=(0, 1)))
        return tuple(x.to(dtype) for x, dtype in zip(found, ctx.dtypes, strict=True))


def _project(name: str, x: Tensor, projection: nn.Linear) -> Tensor:
    if x.shape[-1] != projection.in_features:
        raise ValueError(f"{name} must have width {projection.in_features}, got {x.shape[-1]}")
    projected: Tensor = projection(x)
    return projected


def _gradients(
    one: Tensor, other: Tensor, weight: Tensor, separable: Tensor, gradient: Tensor
) -> tuple[Tensor, Tensor]:
    """The gradient of `one`, and of `v` from each tile of its positions."""
    (B, H, L), S = one.shape, other.shape[-1]
    tiles = triton.cdiv(L, SIDE.value)
    of_one, of_v = torch.zeros_like(one), one.new_zeros(B, tiles, H)
    if gradient.numel():
        grid = (tiles, triton.cdiv(H, UNITS.value), B)
        with torch.cuda.device_of(one):
            _gradients_kernel[grid](
                one, other, weight, separable, gradient, of_one, of_v, L, S, H, *gradient.stride()
            )
    return of_one, of_v


@no_type_check
@triton.jit
def _scores_kernel(q, k, v, separable, scores, L, S, H):
    """One tile of scores."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    b = tl.program_id(2).to(tl.int64)
    q += b * H * L + rows
    k += b * H * S + columns
    total = tl.zeros((ROWS, COLUMNS), dtype=scores.dtype.element_ty)
    constant = tl.zeros((), dtype=scores.dtype.element_ty)
    product = tl.load(separable)
    for d in range(H):
        of_q = tl.load(q + d * L, mask=rows < L, other=0.0)[:, None]
        of_k = tl.load(k + d * S, mask=columns < S, other=0.0)[None, :]
        unit = tl.load(v + d)
        if product:
            total += unit / (1 + of_q * of_k)
        else:
            total += unit / (1 + tl.exp(of_q + of_k))
        constant += unit
    there = (rows < L)[:, None] & (columns < S)[None, :]
    place = scores + b * L * S + rows[:, None] * S + columns[None, :]
    tl.store(place, constant - 2 * total, mask=there)


@no_type_check
@triton.jit
def _gradients_kernel(
    one, other, v, separable, gradient, of_one, of_v, L, S, H, stride_b, stride_l, stride_s
):
    """The gradient of some units of a tile of positions, and what they add to that of `v`."""
    tile, b = tl.program_id(0), tl.program_id(2).to(tl.int64)
    rows = tile * SIDE + tl.arange(0, SIDE)
    units = tl.program_id(1) * UNITS + tl.arange(0, UNITS)
    here = (rows < L)[:, None] & (units < H)[None, :]
    place = b * H * L + units[None, :] * L + rows[:, None]
    mine = tl.load(one + place, mask=here, other=0.0)[:, None, :]
    slopes = tl.zeros((SIDE, SIDE, UNITS), dtype=of_one.dtype.element_ty)
    slopes_v = tl.zeros((SIDE, SIDE, UNITS), dtype=of_one.dtype.element_ty)
    product = tl.load(separable)
    for start in range(0, S, SIDE):
        columns = start + tl.arange(0, SIDE)
        theirs = tl.load(
            other + b * H * S + units[None, :] * S + columns[:, None],
            mask=(columns < S)[:, None] & (units < H)[None, :],
            other=0.0,
        )[None, :, :]
        upstream = tl.load(
            gradient + b * stride_b + rows[:, None] * stride_l + columns[None, :] * stride_s,
            mask=(rows < L)[:, None] & (columns < S)[None, :],
            other=0.0,
        )[:, :, None]
        if product:  # noqa: SIM108 (a branch, of which only one side runs)
            r = 1 / (1 + mine * theirs)
        else:
            r = 1 / (1 + tl.exp(mine + theirs))
        slopes += upstream * r * (1 - r)
        slopes_v += upstream * (1 - 2 * r)
    weight = tl.load(v + units, mask=units < H, other=0.0)
    tl.store(of_one + place, 4 * weight[None, :] * tl.sum(slopes, axis=1), mask=here)
    tiles = tl.num_programs(0)
    tl.store(
        of_v + (b * tiles + tile) * H + units,
        tl.sum(tl.sum(slopes_v, axis=1), axis=0),
        mask=units < H,
    )
