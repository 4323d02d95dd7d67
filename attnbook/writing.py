"""How a head changes a memory of slots: it erases, then it adds.

Written from Graves, Wayne, Danihelka 2014 ("the paper" below), whose symbols are used. `H` heads
with weights `w` over `N` slots of width `M`; `attnbook.addressing` says where they point.

    write       M(i) <- M(i) (1 - w(i) e) + w(i) a          (*b, N, M)    equations 3, 4
    read        r = sum_i w(i) M(i)                         (*b, H, M)    equation 2

Reading is `aggregate`, so it is not here.
"""

from jaxtyping import Float
from torch import Tensor

__all__ = ["add", "erase", "write"]


def erase(
    memory: Float[Tensor, "*b N M"],
    weights: Float[Tensor, "*b H N"],
    vectors: Float[Tensor, "*b H M"],
) -> Float[Tensor, "*b N M"]:
    """Wipe out: entry by entry, `M(i) (1 - w(i) e)`, for every head.

    Args:
        memory: `(*b, N, M)`.
        weights: `(*b, H, N)`, where.
        vectors: `(*b, H, M)`, `e`, in [0, 1]; 1 where weight is 1 leaves 0.

    Raises:
        ValueError: slots, widths or the number of heads do not fit.

    Source:
        Graves, Wayne, Danihelka 2014, equation 3.

    >>> import torch
    >>> erase(torch.ones(2, 2), torch.tensor([[1.0, 0.5]]), torch.tensor([[1.0, 0.0]]))
    tensor([[0.0000, 1.0000],
            [0.5000, 1.0000]])
    """
    _check_write(memory, weights, vectors)
    for w, e in zip(weights.unbind(-2), vectors.unbind(-2), strict=True):
        memory = memory * (1 - w.unsqueeze(-1) * e.unsqueeze(-2))
    return memory


def add(
    memory: Float[Tensor, "*b N M"],
    weights: Float[Tensor, "*b H N"],
    vectors: Float[Tensor, "*b H M"],
) -> Float[Tensor, "*b N M"]:
    """Write onto what is there: `M(i) + w(i) a`, for every head.

    Args:
        memory: `(*b, N, M)`.
        weights: `(*b, H, N)`, where.
        vectors: `(*b, H, M)`, `a`, what.

    Raises:
        ValueError: slots, widths or the number of heads do not fit.

    Source:
        Graves, Wayne, Danihelka 2014, equation 4.

    >>> import torch
    >>> add(torch.ones(2, 2), torch.tensor([[1.0, 0.5]]), torch.tensor([[2.0, 0.0]]))
    tensor([[3., 1.],
            [2., 1.]])
    """
    _check_write(memory, weights, vectors)
    return memory + weights.mT @ vectors


def write(
    memory: Float[Tensor, "*b N M"],
    weights: Float[Tensor, "*b H N"],
    erased: Float[Tensor, "*b H M"],
    added: Float[Tensor, "*b H M"],
) -> Float[Tensor, "*b N M"]:
    """Erase with every head, then add with every head; among themselves their order is free.

    Args:
        memory: `(*b, N, M)`.
        weights: `(*b, H, N)`, where.
        erased: `(*b, H, M)`, in [0, 1].
        added: `(*b, H, M)`.

    Raises:
        ValueError: slots, widths or the number of heads do not fit.

    Source:
        Graves, Wayne, Danihelka 2014, section 3.2.

    >>> import torch
    >>> here = torch.tensor([[1.0, 0.0]])
    >>> write(torch.ones(2, 3), here, erased=torch.ones(1, 3), added=torch.full((1, 3), 5.0))
    tensor([[5., 5., 5.],
            [1., 1., 1.]])
    """
    return add(erase(memory, weights, erased), weights, added)


def _check_write(memory: Tensor, weights: Tensor, vectors: Tensor) -> None:
    if weights.shape[-1] != memory.shape[-2]:
        raise ValueError(f"weights have {weights.shape[-1]} slots but memory {memory.shape[-2]}")
    if vectors.shape[-1] != memory.shape[-1]:
        raise ValueError(f"vectors have width {vectors.shape[-1]} but memory {memory.shape[-1]}")
    if vectors.shape[-2] != weights.shape[-2]:
        raise ValueError(f"vectors have {vectors.shape[-2]} heads but weights {weights.shape[-2]}")
