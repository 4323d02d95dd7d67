"""Additive attention without its `(*b, L, S, hidden_dim)` tensor.

    tanh(a + b) = 1 - 2 / (1 + e^2a e^2b)

The exponentials are of one side each, `(L + S) hidden_dim` of them. What is left for each unit of
each pair is an addition and a division.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from attnbook.core import Attended, attend, check_inputs, check_mask
from attnbook.fused.inputs import exact
from attnbook.fused.reciprocals import (
    DIVIDED,
    TANH,
    Sums,
    exponentials,
    fits,
    fits_any_query,
    tiles,
    unclamped,
)
from attnbook.scores import Additive

__all__ = ["Separable", "additive"]


def additive(
    query: Float[Tensor, "*#b L Dq"],
    key: Float[Tensor, "*#b S Dk"],
    value: Float[Tensor, "*#b S Dv"],
    *,
    score: Additive,
    mask: Bool[Tensor, "..."] | None = None,
    dropout: float = 0.0,
) -> Attended:
    """What `attend(query, key, value, score=score, mask=mask, dropout=dropout)` does.

    Scores are computed a tile of queries at a time, with the hidden layer of a tile in cache.
    Where gradients are asked for, the weights `(*b, L, S)` are kept for the backward pass. Where
    queries and keys are projected to large numbers of opposite signs, or small ones meet a large
    `v`, tanh itself is taken, tile by tile. Arithmetic is in at least float32.

    Args:
        query: `(*b, L, Dq)`.
        key: `(*b, S, Dk)`.
        value: `(*b, S, Dv)`, one for each key. Keys and values must be finite at forbidden
            positions too.
        score: the additive score; its parameters have gradients too.
        mask: boolean, True = may attend, broadcast to `(*b, L, S)`.
        dropout: probability with which a weight is dropped. Pass 0 when evaluating.

    Returns:
        The output `(*b, L, Dv)`, and None for the weights, which `attend` with
        `score=Separable(score)` gives.

    Raises:
        TypeError: an input is not a floating-point tensor, the mask is not boolean, or score is not
            an `Additive`.
        ValueError: shapes, widths or devices do not fit, or dropout is not in [0, 1).
        RuntimeError: (from the backward pass) a second derivative is asked for.

    Source:
        Bahdanau, Cho, Bengio 2015, section 3.1 and appendix A.1.2.

    >>> score = Additive(query_dim=3, key_dim=2, hidden_dim=8)
    >>> query, key, value = torch.zeros(4, 3), torch.zeros(5, 2), torch.arange(5.0)[:, None]
    >>> additive(query, key, value, score=score).output.squeeze(-1)
    tensor([2., 2., 2., 2.], grad_fn=<SqueezeBackward1>)
    """
    return additive_by(DIVIDED, query, key, value, score, mask, dropout)


class Separable(nn.Module):
    """An additive score computed by the identity, its parameters shared.

    It stands wherever `score` stands, with the same numbers but for rounding and the same names of
    parameters: `attend(..., score=Separable(score))`, `model.score = Separable(model.score)`. Keys
    that a decoder projects once are held as exponentials, so that a step takes no tanh.

    Args:
        score: the additive score.

    Keys that are projected to large numbers, or that small ones meet a large `v`, and keys of half
    precision without autocast, are held as they are, with one column more to tell them by, and
    compared by tanh.

    Shapes:
        query `(*b, L, query_dim)`, key `(*b, S, key_dim)`, scores `(*b, L, S)`.

    Raises:
        TypeError: score is not an `Additive`.
        ValueError: (when called) a width is not the one it was built with.
        RuntimeError: (from the backward pass) a second derivative is asked for.

    Source:
        Bahdanau, Cho, Bengio 2015, section 3.1 and appendix A.1.2.

    >>> score = Additive(query_dim=3, key_dim=2, hidden_dim=8)
    >>> query, key = torch.randn(4, 3), torch.randn(5, 2)
    >>> torch.allclose(Separable(score)(query, key), score(query, key), atol=1e-6)
    True
    """

    def __init__(self, score: Additive) -> None:
        super().__init__()
        _check_score(score)
        self.query, self.v = score.query, score.v
        self.key = _Keys(score)

    def forward(
        self, query: Float[Tensor, "*#b L Dq"], key: Float[Tensor, "*#b S Dk"]
    ) -> Float[Tensor, "*b L S"]:
        """Scores `(*b, L, S)`."""
        _check_width("query", query, self.query.in_features)
        _check_width("key", key, self.key.weight.shape[1])
        return self.compare(self.query(query), self.key(key))

    def compare(
        self, query: Float[Tensor, "*#b L H"], key: Float[Tensor, "*#b S K"]
    ) -> Float[Tensor, "*b L S"]:
        """Scores of projected queries `W q` and of keys as `key` holds them."""
        H = self.v.in_features
        if key.shape[-1] == H + 1:
            return self.v(torch.tanh(query.unsqueeze(-2) + key[..., None, :, :H])).squeeze(-1)
        _check_width("query", query, H)
        _check_width("key", key, H)
        batch = torch.broadcast_shapes(query.shape[:-2], key.shape[:-2])
        queries, keys = (_flat(x.to(key.dtype).mT, batch) for x in (query, key))
        scores = _Scores.apply(queries, keys, self.v.weight[0].to(key.dtype))
        return scores.view(*batch, *scores.shape[-2:])


class _Keys(nn.Module):
    """`e^2Uk`: the projection of the keys as `Separable` holds them."""

    def __init__(self, score: Additive) -> None:
        super().__init__()
        self.weight = score.key.weight
        self._v = (score.v,)  # not registered again

    def forward(self, x: Tensor) -> Tensor:
        b, v = nn.functional.linear(x, self.weight), self._v[0].weight[0]
        wide = torch.promote_types(b.dtype, torch.float32)
        if b.numel() and (b.dtype == wide or torch.is_autocast_enabled(b.device.type)):
            b = b.to(wide)
            if fits_any_query(b.mT, v.to(wide)):
                return (2 * b).mT.contiguous().exp().mT  # unit by unit, as `compare` reads them
        return nn.functional.pad(b, (0, 1))


def additive_by(
    sums: Sums,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    score: Additive,
    mask: Tensor | None,
    dropout: float,
) -> Attended:
    """Additive attention by one way to compute its sums, and by tanh where that does not fit."""
    _check_score(score)
    check_inputs(query, key, value, dropout)
    _check_width("query", query, score.query.in_features)
    _check_width("key", key, score.key.in_features)
    batch = torch.broadcast_shapes(*(x.shape[:-2] for x in (query, key, value)))
    shape = torch.Size((*batch, query.shape[-2], key.shape[-2]))
    if mask is not None:
        check_mask(mask, shape, query.device)
    if 0 in shape or not score.v.in_features:
        return Attended(attend(query, key, value, score=score, mask=mask).output, None)
    a, b = score.query(query), score.key(key)
    wide = torch.promote_types(a.dtype, torch.float32)
    a, b, v = a.to(wide).mT, b.to(wide).mT, score.v.weight[0].to(wide)
    sums = next((way for way in (sums, DIVIDED) if fits(way, a, b, v)), TANH)
    keep = torch.is_grad_enabled() and any(x.requires_grad for x in (a, b, v, value))
    if mask is not None:
        mask = _flat(mask.expand(shape), batch)
    a, b, value = (_flat(x, batch) for x in (a, b, value))
    output = _Additive.apply(a, b, v, value, mask, dropout, sums, keep)
    return Attended(output.view(shape[:-1] + value.shape[-1:]), None)


class _Additive(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        a: Tensor,
        b: Tensor,
        v: Tensor,
        value: Tensor,
        mask: Tensor | None,
        dropout: float,
        sums: Sums,
        keep: bool,
    ) -> Tensor:
        with exact(a):
            if sums is not TANH:
                a, b = exponentials(-a, sums), exponentials(b, sums)
            (B, _, L), S, wide = a.shape, b.shape[-1], value.to(a.dtype)
            output = value.new_empty(B, L, value.shape[-1])
            kept = a.new_empty(B, L, S) if keep else None
            drawn = torch.empty(B, L, S, dtype=torch.bool, device=a.device) if dropout else None
            for n, i in tiles(sums, B, L, S, a.device):
                scores = sums.forward(a[n, :, i], b[n], v)
                weights = _weights(scores, None if mask is None else mask[n, i])
                if kept is not None:
                    kept[n, i] = weights
                if drawn is not None:
                    drawn[n, i] = torch.rand_like(weights) >= dropout
                    weights = weights * drawn[n, i] / (1 - dropout)
                output[n, i] = (weights @ wide[n]).to(output.dtype)
        if keep:
            ctx.save_for_backward(a, b, v, value, kept, drawn)
        ctx.dropout, ctx.sums = dropout, sums
        return output

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        _refuse_second("additive")
        a, b, v, value, kept, drawn = ctx.saved_tensors
        with exact(a):
            wide = value.to(a.dtype)
            d_a, d_b, d_v, d_value = (torch.zeros_like(x) for x in (a, b, v, wide))
            B, L, S = kept.shape
            for n, i in tiles(ctx.sums, B, L, S, a.device):
                weights, d_output = kept[n, i], gradient[n, i].to(a.dtype)
                d_weights = d_output @ wide[n].mT
                mixed = weights
                if drawn is not None:
                    scale = drawn[n, i] / (1 - ctx.dropout)
                    mixed, d_weights = weights * scale, d_weights * scale
                d_value[n] += mixed.mT @ d_output
                mean = (weights * d_weights).sum(dim=-1, keepdim=True)
                d_scores = d_weights.sub_(mean).mul_(weights)
                d_queries, d_keys, of_v = ctx.sums.backward(a[n, :, i], b[n], v, d_scores)
                d_a[n, :, i] += d_queries
                d_b[n] += d_keys
                d_v += of_v
            if ctx.sums is not TANH:
                d_a, d_b = unclamped(d_a, a, ctx.sums), unclamped(d_b, b, ctx.sums)
        return d_a, d_b, d_v, d_value.to(value.dtype), None, None, None, None


class _Scores(torch.autograd.Function):
    """Scores alone, for keys that are exponentials."""

    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor, v: Tensor) -> Tensor:
        with exact(queries):
            E = exponentials(-queries, DIVIDED)
            (B, _, L), S = E.shape, keys.shape[-1]
            scores = E.new_empty(B, L, S)
            if scores.numel():
                for n, i in tiles(DIVIDED, B, L, S, E.device):
                    scores[n, i] = DIVIDED.forward(E[n, :, i], keys[n], v)
        ctx.save_for_backward(E, keys, v)
        return scores

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        _refuse_second("Separable")
        E, keys, v = ctx.saved_tensors
        with exact(E):
            d_queries, d_keys, d_v = (torch.zeros_like(x) for x in (E, keys, v))
            if gradient.numel():
                B, L, S = gradient.shape
                for n, i in tiles(DIVIDED, B, L, S, E.device):
                    of_queries, of_keys, of_v = DIVIDED.backward(
                        E[n, :, i], keys[n], v, gradient[n, i].contiguous()
                    )
                    d_queries[n, :, i] += of_queries
                    d_keys[n] += of_keys
                    d_v += of_v
            d_queries = unclamped(d_queries, E, DIVIDED)
            return d_queries, d_keys.div_(2 * keys), d_v  # keys are e^2b


def _weights(scores: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return torch.softmax(scores, dim=-1)
    weights = torch.softmax(scores.masked_fill_(~mask, float("-inf")), dim=-1)
    return weights.masked_fill_(~mask.any(dim=-1, keepdim=True), 0.0)


def _flat(x: Tensor, batch: torch.Size) -> Tensor:
    """With the leading axes expanded to `batch`, and then brought to one."""
    return x.expand(*batch, *x.shape[-2:]).reshape(batch.numel(), *x.shape[-2:])


def _refuse_second(name: str) -> None:
    if torch.is_grad_enabled():
        raise RuntimeError(
            f"{name} has first-order gradients only: use attend and Additive for higher ones"
        )


def _check_score(score: Additive) -> None:
    if not isinstance(score, Additive):
        raise TypeError(f"score must be an Additive, got {type(score).__name__}")


def _check_width(name: str, x: Tensor, built: int) -> None:
    if x.shape[-1] != built:
        raise ValueError(f"{name} has width {x.shape[-1]} but {name}_dim is {built}")
