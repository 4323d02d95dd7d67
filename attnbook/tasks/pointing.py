"""Points and the pointers to be written: what the tasks of pointing share.

A pointer is a slot: 0 is the end of an output, `j` is the `j`-th point, counted from 1. After the
end every slot is 0.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["Batch", "Draw", "batches", "join", "trim"]


class Batch(NamedTuple):
    """Inputs and the pointers to be written for them.

    Attributes:
        points: `(B, S, D)`, with zeros behind the true points.
        lengths: `(B,)`, true points of each input.
        target: `(B, T)`, pointers, each row with at least one 0 at its end.
    """

    points: Float[Tensor, "B S D"]
    lengths: Int[Tensor, " B"]
    target: Int[Tensor, "B T"]


Draw = Callable[[int, int, torch.Generator], Batch]
"""`draw(size, n, generator)`: a batch of `size` inputs of `n` points each."""


def batches(
    draw: Draw, numbers: Sequence[int], *, size: int, seed: int, mixed: bool = False
) -> Iterator[Batch]:
    """Training batches without end.

    Args:
        draw: makes a batch of inputs of one size, such as `hull.draw`.
        numbers: how many points an input may have; each is as likely.
        size: inputs in a batch.
        seed: of the drawing.
        mixed: inputs of all sizes in one batch, padded; otherwise one size for each batch, so that
            no step is spent on padding.

    Raises:
        ValueError: size is below 1, or there are no numbers.

    >>> from attnbook.tasks import sorting
    >>> next(batches(sorting.draw, [3], size=2, seed=0)).target.shape
    torch.Size([2, 4])
    """
    if size < 1:
        raise ValueError(f"size must be at least 1, got {size}")
    if not numbers:
        raise ValueError("numbers must not be empty")
    return _batches(draw, tuple(numbers), size, seed, mixed)


def _batches(
    draw: Draw, numbers: tuple[int, ...], size: int, seed: int, mixed: bool
) -> Iterator[Batch]:
    choice, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    while True:
        if mixed:
            drawn = choice.choices(numbers, k=size)
            counts = [(n, drawn.count(n)) for n in dict.fromkeys(drawn)]
            yield join([draw(count, n, generator) for n, count in counts])
        else:
            yield draw(size, choice.choice(numbers), generator)


def join(some: Sequence[Batch]) -> Batch:
    """Batches of any sizes as one, padded.

    Raises:
        ValueError: there are none.

    >>> from attnbook.tasks import sorting
    >>> generator = torch.Generator().manual_seed(0)
    >>> join([sorting.draw(1, 2, generator), sorting.draw(2, 4, generator)]).points.shape
    torch.Size([3, 4, 1])
    """
    if not some:
        raise ValueError("there must be at least one batch")
    S = max(batch.points.shape[1] for batch in some)
    T = max(batch.target.shape[1] for batch in some)
    pad = torch.nn.functional.pad
    return Batch(
        torch.cat([pad(b.points, (0, 0, 0, S - b.points.shape[1])) for b in some]),
        torch.cat([b.lengths for b in some]),
        torch.cat([pad(b.target, (0, T - b.target.shape[1])) for b in some]),
    )


def trim(pointers: Int[Tensor, "B T"]) -> Int[Tensor, "B t"]:
    """The pointers without the columns behind the end of the longest row.

    >>> trim(torch.tensor([[2, 1, 0, 0, 0], [3, 0, 0, 0, 0]]))
    tensor([[2, 1, 0],
            [3, 0, 0]])
    """
    longest = int((pointers > 0).sum(1).max()) if pointers.numel() else 0
    return pointers[:, : longest + 1]


def check_points(points: Tensor, width: int, fewest: int) -> None:
    """Raise a clear error unless these are inputs of at least so many points."""
    if not isinstance(points, Tensor) or not points.is_floating_point():
        got = points.dtype if isinstance(points, Tensor) else type(points).__name__
        raise TypeError(f"points must be a floating-point tensor, got {got}")
    if points.ndim != 3 or points.shape[1] < fewest or points.shape[2] != width:
        raise ValueError(
            f"points must have shape (batch, at least {fewest}, {width}), got {tuple(points.shape)}"
        )
    if not bool(points.isfinite().all()):
        raise ValueError("points must be finite")


def check_pointers(name: str, pointers: Tensor, points: Tensor) -> None:
    """Raise a clear error unless `pointers` are outputs for these points."""
    if not isinstance(pointers, Tensor) or pointers.dtype not in (torch.int32, torch.int64):
        got = pointers.dtype if isinstance(pointers, Tensor) else type(pointers).__name__
        raise TypeError(f"{name} must be an int32 or int64 tensor, got {got}")
    if pointers.ndim != 2 or len(pointers) != len(points):
        raise ValueError(
            f"{name} must have shape ({len(points)}, steps), one row for each input, "
            f"got {tuple(pointers.shape)}"
        )
    S = points.shape[1]
    if pointers.numel() and (pointers.min() < 0 or pointers.max() > S):
        low, high = int(pointers.min()), int(pointers.max())
        raise ValueError(f"{name} must hold slots 0..{S}, got {low}..{high}")
    if bool(((pointers[:, :-1] == 0) & (pointers[:, 1:] > 0)).any()):
        raise ValueError(f"{name} must hold only zeros after the first 0 of a row")


def check_sizes(size: int, n: int, fewest: int) -> None:
    """Raise a clear error unless a task can draw so many inputs of `n` points."""
    if size < 1:
        raise ValueError(f"size must be at least 1, got {size}")
    if n < fewest:
        raise ValueError(f"n must be at least {fewest}, got {n}")


def follow(points: Tensor, pointers: Tensor) -> Tensor:
    """The points in the order of the pointers, `(B, T, D)`; after the end, the last one again."""
    present = pointers > 0
    last = pointers.gather(1, (present.sum(1, keepdim=True) - 1).clamp_min(0))
    slots = torch.where(present, pointers, last).long()
    padded = torch.cat([torch.zeros_like(points[:, :1]), points], dim=1)
    return padded.gather(1, slots[..., None].expand(-1, -1, points.shape[-1]))
