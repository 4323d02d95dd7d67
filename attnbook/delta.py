"""The delta rule: a memory of fixed size into which only what it does not say yet is written.

The memory is a matrix `(*b, F, Dv)`, as in `linear`, and is read as `query @ memory`; papers that
write `W q` hold its transpose. `delta_recurrent` reads and writes one position after another,
`delta_chunked` goes chunk by chunk. The two give the same numbers. Sums are formed in at least
float32.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from attnbook.core import check_inputs
from attnbook.linear import check_aligned, check_chunk, check_shape, widened
from attnbook.scores import check_same_width

__all__ = ["Delta", "delta_chunked", "delta_recurrent"]


class Delta(NamedTuple):
    """What the delta rule returns.

    Attributes:
        output: `(*b, L, Dv)`.
        memory: `(*b, F, Dv)`, after the last position.
    """

    output: Float[Tensor, "*b L Dv"]
    memory: Float[Tensor, "*b F Dv"]


def delta_recurrent(
    query: Float[Tensor, "*#b L F"],
    key: Float[Tensor, "*#b L F"],
    value: Float[Tensor, "*#b L Dv"],
    rate: Float[Tensor, "*#b L"],
    *,
    memory: Float[Tensor, "*b F Dv"] | None = None,
) -> Delta:
    """The delta rule one position after another: ask the memory, write the difference, read.

        said   = key @ memory
        memory = memory + key^T rate (value - said)
        output = query @ memory

    With keys of length 1, rate 1 writes over what stood under a key and rate 0 writes nothing.
    With longer ones, `rate * |key|^2` above 2 blows up.

    Args:
        query: `(*b, L, F)`, as features: any feature map, and any scaling, comes before.
        key: `(*b, L, F)`, likewise.
        value: `(*b, L, Dv)`.
        rate: `(*b, L)`, how much of the difference is written.
        memory: `(*b, F, Dv)`, from before; None is zero.

    Returns:
        The output `(*b, L, Dv)` and the memory after the last position.

    Raises:
        TypeError: an input is not a floating-point tensor, or they differ in dtype.
        ValueError: shapes do not fit.

    Source:
        Schlag, Irie, Schmidhuber 2021, section 4.2; Widrow, Hoff 1960.

    >>> key = torch.tensor([[1.0, 0.0], [1.0, 0.0]])  # the same key twice
    >>> delta_recurrent(key, key, torch.tensor([[5.0], [7.0]]), torch.ones(2)).output.T
    tensor([[5., 7.]])
    """
    q, k, v, beta, memory = _delta(query, key, value, rate, memory)
    rows = []
    for t in range(q.shape[-2]):
        here = slice(t, t + 1)
        said = k[..., here, :] @ memory
        memory = memory + k[..., here, :].mT @ (beta[..., here, :] * (v[..., here, :] - said))
        rows.append(q[..., here, :] @ memory)
    output = torch.cat(rows, dim=-2) if rows else (q @ memory)
    return Delta(output.to(value.dtype), memory)


def delta_chunked(
    query: Float[Tensor, "*#b L F"],
    key: Float[Tensor, "*#b L F"],
    value: Float[Tensor, "*#b L Dv"],
    rate: Float[Tensor, "*#b L"],
    *,
    memory: Float[Tensor, "*b F Dv"] | None = None,
    chunk: int = 64,
) -> Delta:
    """The delta rule chunk by chunk: what each position writes, from one triangular system.

    Let row i of `u` be what position i of a chunk writes under its key. It is

        u_i = rate_i (v_i - k_i @ memory - sum over j < i of (k_i . k_j) u_j),

    with the memory from before the chunk: a linear system with a unit triangular matrix.

    Args:
        query: `(*b, L, F)`, as features.
        key: `(*b, L, F)`, as features.
        value: `(*b, L, Dv)`.
        rate: `(*b, L)`.
        memory: `(*b, F, Dv)`, from before; None is zero.
        chunk: positions in a chunk.

    Returns:
        The output `(*b, L, Dv)` and the memory after the last position.

    Raises:
        TypeError: an input is not a floating-point tensor, or they differ in dtype.
        ValueError: shapes do not fit, or chunk is below 1.

    Source:
        Yang et al. 2024, section 3.

    >>> key = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    >>> delta_chunked(key, key, torch.tensor([[5.0], [7.0]]), torch.ones(2)).output.T
    tensor([[5., 7.]])
    """
    q, k, v, beta, memory = _delta(query, key, value, rate, memory)
    check_chunk(chunk)
    outputs = []
    for qc, kc, vc, bc in zip(*(x.split(chunk, dim=-2) for x in (q, k, v, beta)), strict=True):
        earlier = bc * (kc @ kc.mT).tril(-1)
        system = earlier + torch.eye(kc.shape[-2], dtype=kc.dtype, device=kc.device)
        wanted = bc * (vc - kc @ memory)
        u = torch.linalg.solve_triangular(system, wanted, upper=False, unitriangular=True)
        outputs.append(qc @ memory + (qc @ kc.mT).tril() @ u)
        memory = memory + kc.mT @ u
    return Delta(torch.cat(outputs, dim=-2).to(value.dtype), memory)


def _delta(
    query: Tensor, key: Tensor, value: Tensor, rate: Tensor, memory: Tensor | None
) -> tuple[Tensor, ...]:
    check_inputs(query, key, value)
    check_same_width(query, key)
    check_aligned(query, key)
    _check_rate(rate, query, key, value)
    q, k, v, beta = widened(query, key, value, rate.unsqueeze(-1))
    shape = (*k.shape[:-2], k.shape[-1], v.shape[-1])
    if memory is None:
        return q, k, v, beta, k.new_zeros(shape)
    check_shape("memory", memory, shape)
    return q, k, v, beta, memory.to(k.dtype)


def _check_rate(rate: Tensor, query: Tensor, key: Tensor, value: Tensor) -> None:
    """What `check_inputs` asks of the others."""
    if not isinstance(rate, Tensor) or not rate.is_floating_point():
        got = rate.dtype if isinstance(rate, Tensor) else type(rate).__name__
        raise TypeError(f"rate must be a floating-point tensor, got {got}")
    if rate.ndim < 1 or rate.shape[-1] != key.shape[-2]:
        raise ValueError(
            f"rate must have shape (*b, {key.shape[-2]}), one for each key, got {tuple(rate.shape)}"
        )
    if rate.dtype != key.dtype and not torch.is_autocast_enabled(key.device.type):
        raise TypeError(f"rate is {rate.dtype} but key is {key.dtype}")
    if rate.device != key.device:
        raise ValueError(f"rate is on {rate.device} but key is on {key.device}")
    for name, x in [("query", query), ("key", key), ("value", value)]:
        try:
            torch.broadcast_shapes(rate.shape[:-1], x.shape[:-2])
        except RuntimeError:
            raise ValueError(
                f"leading axes of rate {tuple(rate.shape[:-1])} and {name} {tuple(x.shape[:-2])} "
                "do not broadcast"
            ) from None
