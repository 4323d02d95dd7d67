"""Real numbers, to be pointed at from the smallest to the largest."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from attnbook.tasks.pointing import Batch, check_pointers, check_points, check_sizes

__all__ = ["draw", "order", "same_order"]


def draw(size: int, n: int, generator: torch.Generator) -> Batch:
    """`size` inputs of `n` numbers, uniform in [0, 1), and their order.

    Raises:
        ValueError: size or n is below 1.

    Source:
        Vinyals, Bengio, Kudlur 2016 sort such numbers with a pointer network.

    >>> batch = draw(1, 3, torch.Generator().manual_seed(0))
    >>> batch.points[0, :, 0], batch.target[0]
    (tensor([0.4963, 0.7682, 0.0885]), tensor([3, 1, 2, 0]))
    """
    check_sizes(size, n, fewest=1)
    points = torch.rand(size, n, 1, generator=generator)
    return Batch(points, torch.full((size,), n), order(points))


def order(points: Float[Tensor, "B S 1"]) -> Int[Tensor, "B T"]:
    """Pointers from the smallest to the largest, then the end; of equals the first comes first.

    Raises:
        TypeError: points are not floating-point.
        ValueError: the shape is not `(B, S, 1)`, or a number is not finite.

    >>> order(torch.tensor([[[0.5], [-1.0], [0.5]]]))
    tensor([[2, 1, 3, 0]])
    """
    check_points(points, width=1, fewest=1)
    slots = points[..., 0].argsort(dim=1, stable=True) + 1
    return torch.nn.functional.pad(slots, (0, 1))


def same_order(found: Int[Tensor, "B T"], batch: Batch) -> Bool[Tensor, " B"]:
    """Whether each number is pointed at once, in the right order.

    Numbers are compared, not pointers: two equal ones may stand in either order.

    Raises:
        TypeError: found is not of integers.
        ValueError: found does not fit the batch.

    >>> batch = Batch(torch.tensor([[[0.5], [-1.0]]]), torch.tensor([2]), torch.tensor([[2, 1, 0]]))
    >>> same_order(torch.tensor([[2, 1, 0]]), batch), same_order(torch.tensor([[2, 0, 0]]), batch)
    (tensor([True]), tensor([False]))
    """
    check_pointers("found", found, batch.points)
    counts = (found > 0).sum(1)
    T = min(found.shape[1], batch.target.shape[1])
    values = torch.nn.functional.pad(batch.points[..., 0], (1, 0))
    same = values.gather(1, found[:, :T]) == values.gather(1, batch.target[:, :T])
    once = found.sort(dim=1).values
    once = ((once[:, 1:] != once[:, :-1]) | (once[:, 1:] == 0)).all(1)
    inside = (found <= batch.lengths[:, None]).all(1)  # 0, which pads, may be a number as well
    return (counts == batch.lengths) & inside & once & same.all(1)
