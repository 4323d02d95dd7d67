"""Masks: which query may attend to which key.

A mask is a boolean tensor that broadcasts to `(*b, L, S)`, **True = may attend**: the convention of
`scaled_dot_product_attention`, and the opposite of `nn.MultiheadAttention`. Masks join with `&`.
"""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

__all__ = ["causal", "document", "padding", "window"]


def causal(
    L: int, S: int, offset: int = 0, *, device: torch.device | str | None = None
) -> Bool[Tensor, "{L} {S}"]:
    """Each query sees the keys up to its own position.

    Args:
        L: number of queries.
        S: number of keys.
        offset: number of keys that precede the first query, such as those in a cache. Query `i` is
            at position `i + offset`.
        device: where the mask is made.

    Returns:
        `(L, S)`, True where `j <= i + offset`.

    Raises:
        TypeError: an argument is not an integer.
        ValueError: an argument is negative.

    Source:
        Vaswani et al. 2017, section 3.2.3.

    >>> causal(2, 4, offset=2).int()
    tensor([[1, 1, 1, 0],
            [1, 1, 1, 1]], dtype=torch.int32)
    """
    i, j = _positions(L, S, offset, device)
    return j <= i


def window(
    L: int, S: int, width: int, offset: int = 0, *, device: torch.device | str | None = None
) -> Bool[Tensor, "{L} {S}"]:
    """Each query sees the keys at most `width` positions away, on either side.

    Args:
        L: number of queries.
        S: number of keys.
        width: largest distance, in positions; 0 leaves the query's own position.
        offset: number of keys that precede the first query, as in `causal`.
        device: where the mask is made.

    Returns:
        `(L, S)`, True where `|i + offset - j| <= width`.

    Raises:
        TypeError: an argument is not an integer.
        ValueError: an argument is negative.

    Source:
        Luong, Pham, Manning 2015, section 3.2 (`D` there); Beltagy, Peters, Cohan 2020, section 3.1
        (a window `w` there is `2 width`).

    >>> window(3, 3, width=1).int()
    tensor([[1, 1, 0],
            [1, 1, 1],
            [0, 1, 1]], dtype=torch.int32)
    """
    _check_count("width", width)
    i, j = _positions(L, S, offset, device)
    return (i - j).abs() <= width


def padding(lengths: Int[Tensor, "*b"], S: int) -> Bool[Tensor, "*b 1 {S}"]:
    """Every query sees the keys that are there, and none of the padding behind them.

    Args:
        lengths: `(*b,)`, the number of true keys of each sequence. For attention with heads, give
            `lengths[:, None]`, so that the mask is `(B, 1, 1, S)`.
        S: number of keys with the padding.

    Returns:
        `(*b, 1, S)`, True where `j < length`.

    Raises:
        TypeError: lengths are not an integer tensor, or S is not an integer.
        ValueError: a length is negative or exceeds S.

    >>> padding(torch.tensor([1, 3]), 3)[:, 0].int()
    tensor([[1, 0, 0],
            [1, 1, 1]], dtype=torch.int32)
    """
    _check_integers("lengths", lengths)
    _check_count("S", S)
    if not torch.compiler.is_compiling() and lengths.numel():
        low, high = int(lengths.min()), int(lengths.max())
        if low < 0 or high > S:
            wrong = low if low < 0 else high
            raise ValueError(f"lengths must be between 0 and S = {S}, got {wrong}")
    return torch.arange(S, device=lengths.device) < lengths[..., None, None]


def document(ids: Int[Tensor, "*b L"]) -> Bool[Tensor, "*b L L"]:
    """Each position sees the positions of its own document, for several packed in one sequence.

    Args:
        ids: `(*b, L)`, the document that each position belongs to.

    Returns:
        `(*b, L, L)`, True where the two ids are equal.

    Raises:
        TypeError: ids are not an integer tensor.
        ValueError: ids have no position axis.

    >>> document(torch.tensor([7, 7, 9])).int()
    tensor([[1, 1, 0],
            [1, 1, 0],
            [0, 0, 1]], dtype=torch.int32)
    """
    _check_integers("ids", ids)
    if ids.ndim == 0:
        raise ValueError("ids must have shape (*b, L), got a single number")
    return ids.unsqueeze(-1) == ids.unsqueeze(-2)


def _positions(
    L: int, S: int, offset: int, device: torch.device | str | None
) -> tuple[Tensor, Tensor]:
    for name, count in (("L", L), ("S", S), ("offset", offset)):
        _check_count(name, count)
    return torch.arange(L, device=device)[:, None] + offset, torch.arange(S, device=device)


def _check_count(name: str, count: int) -> None:
    if isinstance(count, bool) or not isinstance(count, int | torch.SymInt):
        raise TypeError(f"{name} must be an integer, got {type(count).__name__}")
    if count < 0:
        raise ValueError(f"{name} must not be negative, got {count}")


def _check_integers(name: str, x: Tensor) -> None:
    if (
        not isinstance(x, Tensor)
        or x.dtype is torch.bool
        or x.is_floating_point()
        or x.is_complex()
    ):
        got = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"{name} must be an integer tensor, got {got}")
