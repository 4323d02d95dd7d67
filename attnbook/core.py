"""Score, mask, normalise, aggregate: the one equation of the course.

    scores  = score(query, key)         (*b, L, S)
    scores  = apply_mask(scores, mask)  forbidden -> -inf
    weights = normalize(scores)         (*b, L, S)
    output  = aggregate(weights, value) (*b, L, Dv)

`L` queries, `S` keys, `Dv` the width of a value; the leading axes `*b` are free and broadcast.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from attnbook.normalizers import softmax
from attnbook.scores import scaled_dot

__all__ = [
    "Attended",
    "Normalize",
    "Score",
    "aggregate",
    "apply_mask",
    "attend",
    "attention_weights",
]

Score = Callable[[Tensor, Tensor], Tensor]
"""A score: queries `(*b, L, Dq)` and keys `(*b, S, Dk)` to scores `(*b, L, S)`."""

Normalize = Callable[[Tensor], Tensor]
"""A normaliser: scores `(*b, L, S)` to weights of the same shape."""


class Attended(NamedTuple):
    """What attention returns.

    Attributes:
        output: `(*b, L, Dv)`, one mixture of the values for each query.
        weights: `(*b, L, S)` before dropout; `None` from a fast path, which never forms them.
    """

    output: Float[Tensor, "*b L Dv"]
    weights: Float[Tensor, "*b L S"] | None


def attend(
    query: Float[Tensor, "*#b L Dq"],
    key: Float[Tensor, "*#b S Dk"],
    value: Float[Tensor, "*#b S Dv"],
    *,
    score: Score = scaled_dot,
    mask: Bool[Tensor, "..."] | None = None,
    normalize: Normalize = softmax,
    dropout: float = 0.0,
) -> Attended:
    """Attention: for each query, a mixture of the values, weighted by how its key scores.

    Args:
        query: `(*b, L, Dq)`.
        key: `(*b, S, Dk)`.
        value: `(*b, S, Dv)`, one for each key. Keys and values must be finite at forbidden
            positions too: 0 times infinity is no number.
        score: compares a query with a key.
        mask: boolean, True = may attend, broadcast to `(*b, L, S)`.
        normalize: turns a row of scores into a row of weights.
        dropout: probability with which a weight is dropped before the values are mixed; the
            returned weights are those before dropout. Pass 0 when evaluating.

    Returns:
        The output `(*b, L, Dv)` and the weights `(*b, L, S)`.

    Raises:
        TypeError: an input is not a floating-point tensor, the mask is not boolean, or score or
            normalize is not callable.
        ValueError: shapes or devices do not fit, or dropout is not in [0, 1).

    Source:
        Bahdanau, Cho, Bengio 2015, equations 5 and 6; Vaswani et al. 2017, equation 1.

    >>> query, key = torch.eye(2, 4), torch.eye(3, 4)
    >>> value = torch.tensor([[1.0], [2.0], [3.0]])
    >>> attend(query, key, value).output
    tensor([[1.8222],
            [2.0000]])
    >>> attend(query, key, value[:2])
    Traceback (most recent call last):
        ...
    ValueError: key has 3 positions but value has 2
    """
    check_inputs(query, key, value, dropout)
    if mask is not None:  # it may differ along leading axes that only the value has
        leading = (x.shape[:-2] for x in (query, key, value))
        query = query.expand(*torch.broadcast_shapes(*leading), *query.shape[-2:])
    weights = attention_weights(query, key, score=score, mask=mask, normalize=normalize)
    kept = torch.dropout(weights, dropout, train=True) if dropout else weights
    return Attended(aggregate(kept, value), weights)


def attention_weights(
    query: Float[Tensor, "*#b L Dq"],
    key: Float[Tensor, "*#b S Dk"],
    *,
    score: Score = scaled_dot,
    mask: Bool[Tensor, "..."] | None = None,
    normalize: Normalize = softmax,
) -> Float[Tensor, "*b L S"]:
    """The attention distribution alone: where each query looks.

    Args:
        query: `(*b, L, Dq)`.
        key: `(*b, S, Dk)`.
        score: compares a query with a key.
        mask: boolean, True = may attend, broadcast to `(*b, L, S)`.
        normalize: turns a row of scores into a row of weights.

    Returns:
        Weights `(*b, L, S)`.

    Raises:
        TypeError: an input is not a floating-point tensor, the mask is not boolean, or score or
            normalize is not callable.
        ValueError: shapes or devices do not fit, the score returns something other than
            `(*b, L, S)`, or the normaliser something other than the shape of the scores.

    Source:
        Bahdanau, Cho, Bengio 2015, equation 6. Pointer networks (Vinyals, Fortunato, Jaitly 2015,
        equation 3) return these weights as their output.

    >>> attention_weights(torch.eye(2), torch.eye(2))
    tensor([[0.6698, 0.3302],
            [0.3302, 0.6698]])
    """
    check_pair(query, key)
    for name, made in (("score", score), ("normalize", normalize)):
        if not callable(made):
            raise TypeError(f"{name} must be callable, got {type(made).__name__}")
    scores = score(query, key)
    if not isinstance(scores, Tensor):
        raise TypeError(f"score must return a tensor, got {type(scores).__name__}")
    expected = (query.shape[-2], key.shape[-2])
    if scores.shape[-2:] != expected:
        raise ValueError(
            f"score must return (*b, L, S) with (L, S) = {expected}, got {tuple(scores.shape)}"
        )
    weights = normalize(apply_mask(scores, mask))
    if not isinstance(weights, Tensor):
        raise TypeError(
            f"normalize must return a tensor, got {type(weights).__name__}: entmax, gumbel and "
            "sample make a normaliser when called, as in normalize=sample()"
        )
    if weights.shape != scores.shape:
        raise ValueError(
            f"normalize must return weights of the scores' shape {tuple(scores.shape)}, "
            f"got {tuple(weights.shape)}"
        )
    return weights


def apply_mask(
    scores: Float[Tensor, "*b L S"], mask: Bool[Tensor, "..."] | None
) -> Float[Tensor, "*b L S"]:
    """Scores with `-inf` wherever the mask forbids.

    Args:
        scores: `(*b, L, S)`.
        mask: boolean, True = may attend, broadcast to the shape of the scores; None allows all.

    Returns:
        Scores of the same shape, with `-inf` and not a large negative number, since a
        normaliser gives it weight exactly 0, and a row of nothing else becomes a row of zeros.

    Raises:
        TypeError: the mask is not a boolean tensor.
        ValueError: the mask does not broadcast to the scores, or is on another device.

    Source:
        Vaswani et al. 2017, section 3.2.3: illegal connections are set to minus infinity.

    >>> apply_mask(torch.zeros(2, 2), torch.tensor([[True, False], [True, True]]))
    tensor([[0., -inf],
            [0., 0.]])
    """
    if mask is None:
        return scores
    check_mask(mask, scores.shape, scores.device)
    return scores.masked_fill(~mask, float("-inf"))


def aggregate(
    weights: Float[Tensor, "*#b L S"], value: Float[Tensor, "*#b S Dv"]
) -> Float[Tensor, "*b L Dv"]:
    """The mixture of the values that the weights ask for.

    Args:
        weights: `(*b, L, S)`.
        value: `(*b, S, Dv)`.

    Returns:
        `weights @ value`, of shape `(*b, L, Dv)`. Where a row of weights sums to one this is the
        expectation of the value under that distribution.

    Raises:
        TypeError: an input is not a floating-point tensor.
        ValueError: the number of positions or the devices differ, or the leading axes do not
            broadcast.

    Source:
        Bahdanau, Cho, Bengio 2015, equation 5.

    >>> aggregate(torch.tensor([[0.25, 0.75]]), torch.tensor([[0.0], [4.0]]))
    tensor([[3.]])
    """
    _check_tensor("weights", weights)
    _check_tensor("value", value)
    _check_fit("weights", weights, "value", value)
    if weights.shape[-1] != value.shape[-2]:
        raise ValueError(
            f"weights have {weights.shape[-1]} positions but value has {value.shape[-2]}"
        )
    return weights @ value


def check_pair(query: Tensor, key: Tensor) -> None:
    """Raise a clear error unless `query` and `key` can be scored against each other."""
    _check_tensor("query", query)
    _check_tensor("key", key)
    _check_fit("query", query, "key", key)


def check_inputs(query: Tensor, key: Tensor, value: Tensor, dropout: float = 0.0) -> None:
    """Raise a clear error unless `attend` could take these inputs."""
    check_pair(query, key)
    _check_tensor("value", value)
    _check_fit("query", query, "value", value)
    _check_fit("key", key, "value", value)
    if key.shape[-2] != value.shape[-2]:
        raise ValueError(f"key has {key.shape[-2]} positions but value has {value.shape[-2]}")
    if not 0.0 <= dropout < 1.0:
        raise ValueError(f"dropout must be in [0, 1), got {dropout}")


def check_mask(mask: Tensor, shape: torch.Size, device: torch.device) -> None:
    """Raise a clear error unless `mask` is boolean, fits the scores and is where they are."""
    if not isinstance(mask, Tensor) or mask.dtype is not torch.bool:
        got = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise TypeError(f"mask must be a boolean tensor, True = may attend, got {got}")
    if not _broadcasts_to(mask.shape, shape):
        raise ValueError(
            f"mask of shape {tuple(mask.shape)} does not broadcast to the scores' shape "
            f"{tuple(shape)}"
        )
    if mask.device != device:
        raise ValueError(f"mask is on {mask.device} but the scores are on {device}")


def _check_tensor(name: str, x: Tensor) -> None:
    if not isinstance(x, Tensor) or not x.is_floating_point():
        got = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"{name} must be a floating-point tensor, got {got}")
    if x.ndim < 2:
        raise ValueError(
            f"{name} must have at least two axes (positions, width), got shape {tuple(x.shape)}"
        )


def _check_fit(name: str, x: Tensor, other_name: str, other: Tensor) -> None:
    if x.dtype != other.dtype and not torch.is_autocast_enabled(x.device.type):
        raise TypeError(f"{name} is {x.dtype} but {other_name} is {other.dtype}")
    if x.device != other.device:  # PyTorch would compute nonsense where one of them is "meta"
        raise ValueError(f"{name} is on {x.device} but {other_name} is on {other.device}")
    if not _broadcast(x.shape[:-2], other.shape[:-2]):
        raise ValueError(
            f"leading axes of {name} {tuple(x.shape[:-2])} and {other_name} "
            f"{tuple(other.shape[:-2])} do not broadcast"
        )


def _broadcast(a: torch.Size, b: torch.Size) -> bool:
    pairs = zip(reversed(a), reversed(b), strict=False)
    return all(m == n or m == 1 or n == 1 for m, n in pairs)


def _broadcasts_to(shape: torch.Size, target: torch.Size) -> bool:
    pairs = zip(reversed(shape), reversed(target), strict=False)
    return len(shape) <= len(target) and all(m in (n, 1) for m, n in pairs)
