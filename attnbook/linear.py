"""Linear attention: what is remembered is one matrix of fixed size.

A kernel `phi(q) . phi(k)` takes the place of the exponential of a score. Then the sums can be
reordered, and instead of all keys and values it is enough to keep

    memory = sum of phi(k_j) v_j^T      (*b, F, Dv)
    total  = sum of phi(k_j)            (*b, F)

`parallel` is causal attention as a matrix of weights, `recurrent` reads and writes the memory one
position after another, `chunked` goes chunk by chunk. The three give the same numbers.
The module `delta` has the rule that writes only what the memory does not say yet.

Rows are positions, so a memory is read as `phi(q) @ memory`; papers that write `W phi(q)` hold its
transpose. Features and their sums are formed in at least float32.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from attnbook.core import Attended, check_inputs
from attnbook.scores import check_same_width

__all__ = [
    "Linear",
    "LinearState",
    "chunked",
    "elu_plus_one",
    "linear_attention",
    "parallel",
    "recurrent",
]

FeatureMap = Callable[[Tensor], Tensor]


class LinearState(NamedTuple):
    """What causal linear attention carries from one position to the next.

    Attributes:
        memory: `(*b, F, Dv)`, the sum of `phi(k) v^T` over the past.
        total: `(*b, F)`, the sum of `phi(k)` over the past.
    """

    memory: Float[Tensor, "*b F Dv"]
    total: Float[Tensor, "*b F"]


class Linear(NamedTuple):
    """What causal linear attention returns.

    Attributes:
        output: `(*b, L, Dv)`.
        state: after the last position; pass it on to read a sequence in pieces.
    """

    output: Float[Tensor, "*b L Dv"]
    state: LinearState


def elu_plus_one(x: Float[Tensor, "*b N D"]) -> Float[Tensor, "*b N D"]:
    """The feature map `elu(x) + 1`, positive everywhere: `x + 1` above 0, `exp(x)` below.

    Args:
        x: `(*b, N, D)`, queries or keys.

    Source:
        Katharopoulos et al. 2020, equation 7.

    >>> elu_plus_one(torch.tensor([[-1.0, 0.0, 1.0]]))
    tensor([[0.3679, 1.0000, 2.0000]])
    """
    return torch.relu(x) + x.clamp_max(0).exp()  # elu(x) + 1 would round a small exp(x) to 0


def linear_attention(
    query: Float[Tensor, "*#b L D"],
    key: Float[Tensor, "*#b S D"],
    value: Float[Tensor, "*#b S Dv"],
    *,
    feature_map: FeatureMap = elu_plus_one,
    normalized: bool = True,
) -> Attended:
    """Attention with a kernel for a score, by way of one matrix: every query sees every key.

    The output of `attend(query, key, value, score=log_kernel(feature_map))`, with sums reordered
    so that the cost is linear in `L + S` and no weight is formed.

    Args:
        query: `(*b, L, D)`.
        key: `(*b, S, D)`.
        value: `(*b, S, Dv)`.
        feature_map: `(*b, N, D)` to `(*b, N, F)`, with entries that are never negative if the
            output is normalised. Queries and keys of half precision come to it in float32.
        normalized: divide by the sum of the kernel over the keys; False leaves the bare sum.

    Returns:
        The output `(*b, L, Dv)`, and None for the weights. A query whose kernel is 0 for every
        key gets a row of zeros.

    Raises:
        TypeError: an input is not a floating-point tensor, or feature_map is not callable.
        ValueError: shapes do not fit.

    Source:
        Katharopoulos et al. 2020, equations 4 and 5.

    >>> query, key = torch.zeros(1, 2), torch.zeros(3, 2)
    >>> linear_attention(query, key, torch.tensor([[1.0], [2.0], [6.0]])).output
    tensor([[3.]])
    """
    q, k, v = _features(query, key, value, feature_map)
    output = q @ (k.mT @ v)
    if normalized:
        output = _divided(output, q @ k.sum(dim=-2).unsqueeze(-1))
    return Attended(output.to(value.dtype), None)


def parallel(
    query: Float[Tensor, "*#b L D"],
    key: Float[Tensor, "*#b L D"],
    value: Float[Tensor, "*#b L Dv"],
    *,
    feature_map: FeatureMap = elu_plus_one,
    normalized: bool = True,
    state: LinearState | None = None,
) -> Linear:
    """Causal linear attention as one matrix of weights: the specification, quadratic in `L`.

    Args:
        query: `(*b, L, D)`; query i sees the keys up to i.
        key: `(*b, L, D)`.
        value: `(*b, L, Dv)`.
        feature_map: as in `linear_attention`.
        normalized: as in `linear_attention`.
        state: of what went before; None is nothing.

    Returns:
        The output `(*b, L, Dv)` and the state after the last position.

    Raises:
        TypeError: an input is not a floating-point tensor, or feature_map is not callable.
        ValueError: shapes do not fit.

    Source:
        Katharopoulos et al. 2020, equation 8.

    >>> x = torch.zeros(3, 2)
    >>> parallel(x, x, torch.tensor([[1.0], [3.0], [8.0]])).output.T
    tensor([[1., 2., 4.]])
    """
    q, k, v = _features(query, key, value, feature_map, causal=True)
    memory, total = _begin(q, k, v, state)
    weights = (q @ k.mT).tril()
    output = weights @ v + q @ memory
    if normalized:
        output = _divided(output, weights.sum(-1, keepdim=True) + q @ total.unsqueeze(-1))
    after = LinearState(memory + k.mT @ v, total + k.sum(dim=-2))
    return Linear(output.to(value.dtype), after)


def recurrent(
    query: Float[Tensor, "*#b L D"],
    key: Float[Tensor, "*#b L D"],
    value: Float[Tensor, "*#b L Dv"],
    *,
    feature_map: FeatureMap = elu_plus_one,
    normalized: bool = True,
    state: LinearState | None = None,
) -> Linear:
    """Causal linear attention one position after another: write, then read.

    What it keeps does not grow, so this is the form to write text with.

    Args:
        query: `(*b, L, D)`.
        key: `(*b, L, D)`.
        value: `(*b, L, Dv)`.
        feature_map: as in `linear_attention`.
        normalized: as in `linear_attention`.
        state: of what went before; None is nothing.

    Returns:
        The output `(*b, L, Dv)` and the state after the last position.

    Raises:
        TypeError: an input is not a floating-point tensor, or feature_map is not callable.
        ValueError: shapes do not fit.

    Source:
        Katharopoulos et al. 2020, equations 16 to 20.

    >>> x = torch.zeros(3, 2)
    >>> recurrent(x, x, torch.tensor([[1.0], [3.0], [8.0]])).output.T
    tensor([[1., 2., 4.]])
    """
    q, k, v = _features(query, key, value, feature_map, causal=True)
    memory, total = _begin(q, k, v, state)
    rows = []
    for t in range(q.shape[-2]):
        here = slice(t, t + 1)
        memory = memory + k[..., here, :].mT @ v[..., here, :]
        total = total + k[..., t, :]
        row = q[..., here, :] @ memory
        rows.append(_divided(row, q[..., here, :] @ total.unsqueeze(-1)) if normalized else row)
    output = torch.cat(rows, dim=-2) if rows else (q @ memory)
    return Linear(output.to(value.dtype), LinearState(memory, total))


def chunked(
    query: Float[Tensor, "*#b L D"],
    key: Float[Tensor, "*#b L D"],
    value: Float[Tensor, "*#b L Dv"],
    *,
    feature_map: FeatureMap = elu_plus_one,
    normalized: bool = True,
    state: LinearState | None = None,
    chunk: int = 64,
) -> Linear:
    """Causal linear attention chunk by chunk: parallel within, by the memory from before.

    Linear in `L`, in a few large matrix products.

    Args:
        query: `(*b, L, D)`.
        key: `(*b, L, D)`.
        value: `(*b, L, Dv)`.
        feature_map: as in `linear_attention`.
        normalized: as in `linear_attention`.
        state: of what went before; None is nothing.
        chunk: positions in a chunk.

    Returns:
        The output `(*b, L, Dv)` and the state after the last position.

    Raises:
        TypeError: an input is not a floating-point tensor, or feature_map is not callable.
        ValueError: shapes do not fit, or chunk is below 1.

    Source:
        Hua et al. 2022, for an attention of theirs; Yang et al. 2024, section 2.

    >>> x = torch.zeros(3, 2)
    >>> chunked(x, x, torch.tensor([[1.0], [3.0], [8.0]]), chunk=2).output.T
    tensor([[1., 2., 4.]])
    """
    q, k, v = _features(query, key, value, feature_map, causal=True)
    memory, total = _begin(q, k, v, state)
    check_chunk(chunk)
    outputs = []
    for qc, kc, vc in zip(*(x.split(chunk, dim=-2) for x in (q, k, v)), strict=True):
        weights = (qc @ kc.mT).tril()
        rows = weights @ vc + qc @ memory
        if normalized:
            rows = _divided(rows, weights.sum(-1, keepdim=True) + qc @ total.unsqueeze(-1))
        outputs.append(rows)
        memory = memory + kc.mT @ vc
        total = total + kc.sum(dim=-2)
    return Linear(torch.cat(outputs, dim=-2).to(value.dtype), LinearState(memory, total))


def _features(
    query: Tensor, key: Tensor, value: Tensor, feature_map: FeatureMap, causal: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """`phi(query)`, `phi(key)` and the value, with one batch, in at least float32."""
    check_inputs(query, key, value)
    check_same_width(query, key)
    if not callable(feature_map):
        raise TypeError(f"feature_map must be callable, got {type(feature_map).__name__}")
    if causal:
        check_aligned(query, key)
    q, k, v = widened(query, key, value)
    q, k = feature_map(q), feature_map(k)  # in half precision small features would round to 0
    check_inputs(q, k, v)
    return q, k, v


def widened(*tensors: Tensor) -> tuple[Tensor, ...]:
    """All with the same leading axes, in at least float32."""
    batch = torch.broadcast_shapes(*(x.shape[:-2] for x in tensors))
    return tuple(
        x.to(torch.promote_types(x.dtype, torch.float32)).expand(*batch, *x.shape[-2:])
        for x in tensors
    )


def _begin(q: Tensor, k: Tensor, v: Tensor, state: LinearState | None) -> LinearState:
    """The state to begin with; of nothing it is zero."""
    batch, features, width = k.shape[:-2], k.shape[-1], v.shape[-1]
    if state is None:
        return LinearState(k.new_zeros(*batch, features, width), k.new_zeros(*batch, features))
    check_shape("state.memory", state.memory, (*batch, features, width))
    check_shape("state.total", state.total, (*batch, features))
    return LinearState(state.memory.to(k.dtype), state.total.to(k.dtype))


def _divided(output: Tensor, total: Tensor) -> Tensor:
    """`output / total`, and zeros where there is nothing to divide by."""
    return output / total.masked_fill(total == 0, 1.0)


def check_chunk(chunk: int) -> None:
    if chunk < 1:
        raise ValueError(f"chunk must be at least 1, got {chunk}")


def check_aligned(query: Tensor, key: Tensor) -> None:
    if query.shape[-2] != key.shape[-2]:
        raise ValueError(
            f"query has {query.shape[-2]} positions but key has {key.shape[-2]}: "
            "a causal form needs as many; pass the past as a state"
        )


def check_shape(name: str, x: Tensor, shape: tuple[int, ...]) -> None:
    if x.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {tuple(x.shape)}")
