"""Fixed sparse patterns: which pairs are compared is settled before anything is read.

A pattern is a boolean mask as in `attnbook.masks`, True = may attend: patterns of one layer join
with `|`, and `& causal(L, S)` keeps the past. A mask alone saves nothing, for `attend` forms
every score and then drops some. What saves is a path that never forms them: `fused.local` for a
window, `fused.flex` for whole blocks.

    Sparse Transformer, strided    causal & window(n, n, l), causal & strided(n, n, l), in turn
    Sparse Transformer, fixed      causal & block(n, n, l), causal & summary(n, n, l, c), in turn
    Longformer                     dilated(n, n, w) | everywhere(n, n, [0])
    BigBird, in blocks             window(n, n, 1) | everywhere(n, n, [0]) | random(n, n, r)
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool
from torch import Tensor

from attnbook.layers import check_sizes
from attnbook.masks import causal

__all__ = [
    "block",
    "blocks",
    "dilated",
    "everywhere",
    "layers_to_reach",
    "random",
    "reach",
    "strided",
    "summary",
]

Device = torch.device | str | None


def strided(
    L: int, S: int, stride: int, offset: int = 0, *, device: Device = None
) -> Bool[Tensor, "{L} {S}"]:
    """Each query sees every `stride`-th key, counted from its own position.

    Args:
        L: number of queries.
        S: number of keys.
        stride: `l` in the paper, near `sqrt(n)`.
        offset: number of keys that precede the first query, as in `masks.causal`.
        device: where the mask is made.

    Returns:
        `(L, S)`, True where `stride` divides `i + offset - j`.

    Raises:
        TypeError: a number is not an integer.
        ValueError: a count is negative, or stride is below 1.

    Source:
        Child et al. 2019, section 4.3, the second head of strided attention; the first is
        `masks.causal` and `masks.window` of width `l`.

    >>> strided(3, 5, stride=2, offset=2).int()
    tensor([[1, 0, 1, 0, 1],
            [0, 1, 0, 1, 0],
            [1, 0, 1, 0, 1]], dtype=torch.int32)
    """
    check_sizes(stride=stride)
    i, j = _places(L, S, offset, device)
    return (i - j) % stride == 0


def block(
    L: int, S: int, size: int, offset: int = 0, *, device: Device = None
) -> Bool[Tensor, "{L} {S}"]:
    """Each query sees the keys of its own block of `size` positions.

    Args:
        L: number of queries.
        S: number of keys.
        size: of a block; `l` in the paper.
        offset: as in `strided`.
        device: where the mask is made.

    Returns:
        `(L, S)`, True where `floor((i + offset) / size) = floor(j / size)`.

    Raises:
        TypeError, ValueError: as `strided`.

    Source:
        Child et al. 2019, section 4.3, the first head of fixed attention.

    >>> block(3, 3, size=2).int()
    tensor([[1, 1, 0],
            [1, 1, 0],
            [0, 0, 1]], dtype=torch.int32)
    """
    check_sizes(size=size)
    i, j = _places(L, S, offset, device)
    return i // size == j // size


def summary(L: int, S: int, size: int, last: int, *, device: Device = None) -> Bool[Tensor, "1 S"]:
    """Every query sees the last positions of every block: they sum up what stands before them.

    Args:
        L: number of queries; the mask is the same for all.
        S: number of keys.
        size: of a block; `l` in the paper.
        last: how many of each block; `c` in the paper.
        device: where the mask is made.

    Returns:
        `(1, S)`, True where `j mod size >= size - last`.

    Raises:
        TypeError, ValueError: as `strided`, and if there are more `last` than `size`.

    Source:
        Child et al. 2019, section 4.3, the second head of fixed attention. The set there ends with
        `l`, which no remainder is.

    >>> summary(2, 6, size=3, last=1).int()
    tensor([[0, 0, 1, 0, 0, 1]], dtype=torch.int32)
    """
    check_sizes(size=size, last=last)
    if last > size:
        raise ValueError(f"last must be at most size = {size}, got {last}")
    _, j = _places(L, S, 0, device)
    return (j % size >= size - last).unsqueeze(0)


def dilated(
    L: int, S: int, width: int, dilation: int = 1, offset: int = 0, *, device: Device = None
) -> Bool[Tensor, "{L} {S}"]:
    """Each query sees `width` keys on either side, with gaps: every `dilation`-th.

    Args:
        L: number of queries.
        S: number of keys.
        width: keys on either side, as in `masks.window`; a window `w` in the paper is `2 width`.
        dilation: distance from one to the next; 1 is `masks.window`.
        offset: as in `strided`.
        device: where the mask is made.

    Returns:
        `(L, S)`, True where `i + offset - j` is `dilation` times something of at most `width`.

    Raises:
        TypeError, ValueError: as `strided`, and if width is below 1.

    Source:
        Beltagy, Peters, Cohan 2020, section 3.1.

    >>> dilated(1, 7, width=1, dilation=2, offset=3).int()
    tensor([[0, 1, 0, 1, 0, 1, 0]], dtype=torch.int32)
    """
    check_sizes(width=width, dilation=dilation)
    i, j = _places(L, S, offset, device)
    return ((i - j).abs() <= width * dilation) & ((i - j) % dilation == 0)


def everywhere(
    L: int, S: int, places: Sequence[int], offset: int = 0, *, device: Device = None
) -> Bool[Tensor, "{L} {S}"]:
    """Global positions: they see all, and all see them.

    Args:
        L: number of queries.
        S: number of keys.
        places: the global positions.
        offset: as in `strided`.
        device: where the mask is made.

    Returns:
        `(L, S)`, True where the query or the key is one of them.

    Raises:
        TypeError, ValueError: as `strided`, and if a place is not in `0..S - 1`.

    Source:
        Beltagy, Peters, Cohan 2020, section 3.1; Zaheer et al. 2020, section 2. Longformer gives
        global attention projections of its own, which a mask cannot.

    >>> everywhere(3, 3, [1]).int()
    tensor([[0, 1, 0],
            [1, 1, 1],
            [0, 1, 0]], dtype=torch.int32)
    """
    i, j = _places(L, S, offset, device)
    for place in places:
        if not isinstance(place, int) or isinstance(place, bool):
            raise TypeError(f"places must be integers, got {type(place).__name__}")
        if not 0 <= place < S:
            raise ValueError(f"places must be in 0..{S - 1}, got {place}")
    chosen = torch.tensor(list(places), dtype=torch.long, device=device)
    return torch.isin(i, chosen) | torch.isin(j, chosen)


def random(
    L: int, S: int, keys: int, generator: torch.Generator | None = None, *, device: Device = None
) -> Bool[Tensor, "{L} {S}"]:
    """Each query sees so many keys, drawn once and for all.

    Args:
        L: number of queries.
        S: number of keys.
        keys: for each query; `r` in the paper.
        generator: of the draws.
        device: where the mask is made.

    Returns:
        `(L, S)`, with `keys` times True in each row.

    Raises:
        TypeError, ValueError: as `strided`, and if more keys are asked for than there are.

    Source:
        Zaheer et al. 2020, section 2.

    >>> random(4, 6, keys=2).sum(1)
    tensor([2, 2, 2, 2])
    """
    check_sizes(keys=keys)
    _places(L, S, 0, device)  # its checks
    if keys > S:
        raise ValueError(f"keys must be at most S = {S}, got {keys}")
    drawn = torch.rand(L, S, generator=generator).argsort(-1)
    return (drawn < keys).to(device or drawn.device)


def blocks(layout: Bool[Tensor, "N M"], size: int) -> Bool[Tensor, "L S"]:
    """A pattern of blocks as one of positions: what hardware can skip.

    Args:
        layout: `(N, M)`, which blocks of queries may attend to which blocks of keys.
        size: positions in a block.

    Returns:
        `(N size, M size)`.

    Raises:
        TypeError: layout is not a boolean tensor, or size not an integer.
        ValueError: layout has not two axes, or size is below 1.

    Source:
        Zaheer et al. 2020, appendix D.

    >>> blocks(torch.eye(2, dtype=torch.bool), 2).int()
    tensor([[1, 1, 0, 0],
            [1, 1, 0, 0],
            [0, 0, 1, 1],
            [0, 0, 1, 1]], dtype=torch.int32)
    """
    check_sizes(size=size)
    _check_pattern("layout", layout)
    return layout.repeat_interleave(size, 0).repeat_interleave(size, 1)


def reach(patterns: Sequence[Bool[Tensor, "n n"]]) -> Bool[Tensor, "n n"]:
    """What each position can know of after several layers, the first of the patterns below.

    Args:
        patterns: one `(n, n)` for each layer. A residual connection goes round each: a position
            keeps what it has.

    Returns:
        `(n, n)`, True where something at `j` can reach position `i`.

    Raises:
        TypeError: a pattern is not a boolean tensor.
        ValueError: there is none, or they are not square and of one size.

    Source:
        Child et al. 2019, section 4.2: a path from `j` to `i`, one step in each layer.

    >>> from attnbook import causal, window
    >>> layer = window(4, 4, 1) & causal(4, 4)
    >>> reach([layer, layer]).int()
    tensor([[1, 0, 0, 0],
            [1, 1, 0, 0],
            [1, 1, 1, 0],
            [0, 1, 1, 1]], dtype=torch.int32)
    """
    if not len(patterns):
        raise ValueError("patterns must hold at least one")
    _check_pattern("a pattern", patterns[0])
    n = len(patterns[0])
    known = torch.eye(n, dtype=torch.bool, device=patterns[0].device)
    for pattern in patterns:
        _check_pattern("a pattern", pattern)
        if pattern.shape != (n, n):
            raise ValueError(f"patterns must be ({n}, {n}), got {tuple(pattern.shape)}")
        known = known | (pattern.float() @ known.float() > 0)
    return known


def layers_to_reach(
    patterns: Sequence[Bool[Tensor, "n n"]], *, is_causal: bool = False
) -> int | None:
    """How many layers until every position has heard of every other, or never.

    Args:
        patterns: of the layers, taken in turn, over and over.
        is_causal: whether it is enough to have heard of all before.

    Returns:
        The number of layers, 0 for a single position; None if more layers change nothing.

    Raises:
        TypeError, ValueError: as `reach`.

    >>> from attnbook import window
    >>> layers_to_reach([window(9, 9, 2)]), layers_to_reach([block(9, 9, 3)])
    (4, None)
    """
    n = len(reach(patterns))  # its checks
    wanted = causal(n, n, device=patterns[0].device) if is_causal else torch.ones_like(patterns[0])
    known = torch.eye(n, dtype=torch.bool, device=wanted.device)
    layers = 0
    while True:
        before = known
        for pattern in patterns:
            if not (wanted & ~known).any():
                return layers
            known = known | (pattern.float() @ known.float() > 0)
            layers += 1
        if torch.equal(known, before):
            return None


def _places(L: int, S: int, offset: int, device: Device) -> tuple[Tensor, Tensor]:
    """Positions of the queries, as a column, and of the keys; the counts are checked."""
    for name, count in (("L", L), ("S", S), ("offset", offset)):
        if isinstance(count, bool) or not isinstance(count, int | torch.SymInt):
            raise TypeError(f"{name} must be an integer, got {type(count).__name__}")
        if count < 0:
            raise ValueError(f"{name} must not be negative, got {count}")
    return torch.arange(L, device=device)[:, None] + offset, torch.arange(S, device=device)


def _check_pattern(name: str, x: Tensor) -> None:
    if not isinstance(x, Tensor) or x.dtype is not torch.bool:
        got = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"{name} must be a boolean tensor, got {got}")
    if x.ndim != 2:
        raise ValueError(f"{name} must have two axes, got shape {tuple(x.shape)}")
