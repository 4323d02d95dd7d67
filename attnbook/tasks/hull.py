"""Points in the unit square, and the corners of their convex hull.

A hull is written as pointers: from the leftmost corner counter-clockwise, then the end. This order
depends on the points alone, not on the order in which they come. Vinyals, Fortunato, Jaitly 2015
also go counter-clockwise, but start from the point of the lowest index.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from attnbook.tasks.pointing import (
    Batch,
    check_pointers,
    check_points,
    check_sizes,
    follow,
    trim,
)

__all__ = ["area", "draw", "hull", "same_polygon", "simple"]


def draw(size: int, n: int, generator: torch.Generator) -> Batch:
    """`size` inputs of `n` points, uniform in the unit square, and their hulls.

    Raises:
        ValueError: size is below 1 or n below 3.

    Source:
        Vinyals, Fortunato, Jaitly 2015, section 3.1.

    >>> batch = draw(2, 5, torch.Generator().manual_seed(0))
    >>> batch.points.shape, batch.target
    (torch.Size([2, 5, 2]), tensor([[2, 5, 1, 4, 3, 0],
            [2, 1, 4, 3, 0, 0]]))
    """
    check_sizes(size, n, fewest=3)
    points = torch.rand(size, n, 2, generator=generator)
    return Batch(points, torch.full((size,), n), hull(points))


def hull(points: Float[Tensor, "B S 2"]) -> Int[Tensor, "B T"]:
    """The corners of each convex hull, from the leftmost counter-clockwise, then the end.

    The points are passed from left to right for the lower chain and back for the upper one. A point
    is dropped again when the next one does not turn left from it. The whole batch does so in step:
    at each of at most `4 S` steps, each input drops one point or takes one.

    Args:
        points: `(B, S, 2)`. Points on an edge of the hull are no corners; of equal points one is;
            of points that lie on one line, the two ends.

    Returns:
        `(B, T)`. Of several leftmost points, the lowest comes first.

    Raises:
        TypeError: points are not floating-point.
        ValueError: the shape is not `(B, S, 2)`, or a point is not finite.

    Source:
        Andrew 1979, the monotone chain algorithm.

    >>> square = [[1.0, 1.0], [0.5, 0.5], [0.0, 1.0], [0.0, 0.0], [1.0, 0.0]]
    >>> hull(torch.tensor([square]))
    tensor([[4, 5, 1, 3, 0]])
    """
    check_points(points, width=2, fewest=1)
    points = points.double()  # or rounding would decide some turns
    B, S, _ = points.shape
    by_height = points[..., 1].argsort(dim=1, stable=True)
    by_place = points[..., 0].gather(1, by_height).argsort(dim=1, stable=True)
    order = by_height.gather(1, by_place)  # from left to right, and from below
    lower, lower_size = _chain(points, order)
    upper, upper_size = _chain(points, order.flip(1))

    step = torch.arange(2 * S).expand(B, -1)
    joint = (lower_size - 1)[:, None]  # a chain's last corner is the other's first
    ends = joint + (upper_size - 1)[:, None]
    both = torch.cat([lower, upper], dim=1)
    place = torch.where(step < joint, step, step - joint + S)
    slots = both.gather(1, place.clamp_max(2 * S - 1))
    slots = torch.where(step < ends.clamp_min(1), slots + 1, 0)
    return trim(torch.nn.functional.pad(slots, (0, 1)))


def _chain(points: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
    """The corners that turn left along `order`, `(B, S)`, and how many there are, `(B,)`."""
    B, S = order.shape
    row = torch.arange(B)
    corners, size, next_one = torch.zeros_like(order), torch.zeros_like(row), torch.zeros_like(row)
    while bool((going := next_one < S).any()):
        candidate = order[row, next_one.clamp_max(S - 1)]
        here, there = corners[row, (size - 1).clamp_min(0)], points[row, candidate]
        before = corners[row, (size - 2).clamp_min(0)]
        turn = cross(points[row, here] - points[row, before], there - points[row, here])
        same = (points[row, here] == there).all(1)
        drop = going & (((size >= 2) & (turn <= 0)) | ((size == 1) & same))
        take = going & ~drop
        size = size - drop.long()
        corners[row[take], size[take]] = candidate[take]
        size, next_one = size + take.long(), next_one + take.long()
    return corners, size


def cross(a: Float[Tensor, "*#b 2"], b: Float[Tensor, "*#b 2"]) -> Float[Tensor, "*b"]:
    """Twice the signed area between two vectors; positive if the second lies to the left."""
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def area(points: Float[Tensor, "B S 2"], pointers: Int[Tensor, "B T"]) -> Float[Tensor, " B"]:
    """The area of each polygon, in squares of the points' unit; positive if counter-clockwise.

    Of a polygon that crosses itself, parts may count more than once or be subtracted: ask `simple`.

    Raises:
        TypeError: points are not floating-point, or pointers not of integers.
        ValueError: shapes or slots do not fit.

    >>> square = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]])
    >>> area(square, torch.tensor([[1, 2, 3, 4, 0]])), area(square, torch.tensor([[1, 4, 3, 0, 0]]))
    (tensor([1.]), tensor([-0.5000]))
    """
    check_points(points, width=2, fewest=1)
    check_pointers("pointers", pointers, points)
    path = follow(points, pointers)
    from_first = path - path[:, :1]
    return cross(from_first[:, :-1], from_first[:, 1:]).sum(1) / 2


def simple(points: Float[Tensor, "B S 2"], pointers: Int[Tensor, "B T"]) -> Bool[Tensor, " B"]:
    """Whether each polygon is valid: three corners or more, and no edge meets another.

    Two edges may share a corner only where one follows the other, and may not overlap there.

    Raises:
        TypeError: points are not floating-point, or pointers not of integers.
        ValueError: shapes or slots do not fit.

    >>> square = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]])
    >>> ways = torch.tensor([[1, 2, 3, 4, 0]]), torch.tensor([[1, 3, 2, 4, 0]])
    >>> [simple(square, way) for way in ways]
    [tensor([True]), tensor([False])]
    """
    check_points(points, width=2, fewest=1)
    check_pointers("pointers", pointers, points)
    T = pointers.shape[1]
    count = (pointers > 0).sum(1)[:, None]
    step = torch.arange(T).expand(len(points), -1)
    after = pointers.gather(1, torch.where(step + 1 < count, step + 1, 0))
    start, end = follow(points.double(), pointers), follow(points.double(), after * (pointers > 0))

    a, b = start[:, :, None], end[:, :, None]  # edge i, from a to b
    c, d = start[:, None], end[:, None]  # edge j, from c to d
    sides = [cross(b - a, c - a), cross(b - a, d - a), cross(d - c, a - c), cross(d - c, b - c)]
    apart = (sides[0].sign() * sides[1].sign() < 0) & (sides[2].sign() * sides[3].sign() < 0)
    touch = torch.stack(
        [
            (side == 0) & _within(p, ends)
            for side, p, ends in zip(
                sides, (c, d, a, b), ((a, b), (a, b), (c, d), (c, d)), strict=True
            )
        ]
    )
    meet = apart | touch.any(0)
    # Of neighbours, only what they share may touch: the end of the one and the start of the other.
    i, j = step[:, :, None], step[:, None]
    size = count[..., None]
    follows = (i + 1) % size.clamp_min(1) == j
    overlap = touch[1] | touch[2]  # d on edge i, or a on edge j
    meet = torch.where(follows, overlap, torch.where(follows.mT, overlap.mT, meet))
    present = (step < count)[..., None] & (step < count)[:, None] & (i != j)
    return (count[:, 0] >= 3) & ~(meet & present).any(dim=(1, 2))


def _within(point: Tensor, ends: tuple[Tensor, Tensor]) -> Tensor:
    """Whether a point of the line through both ends lies between them, or on one."""
    low, high = torch.minimum(*ends), torch.maximum(*ends)
    return ((low <= point) & (point <= high)).all(-1)


def same_polygon(found: Int[Tensor, "B T"], batch: Batch) -> Bool[Tensor, " B"]:
    """Whether each output is the true polygon, wherever it starts and whichever way it goes.

    Raises:
        TypeError: found is not of integers.
        ValueError: found does not fit the batch.

    Source:
        Vinyals, Fortunato, Jaitly 2015, section 4: two outputs that are the same polygon are equal.

    >>> batch = draw(1, 5, torch.Generator().manual_seed(0))
    >>> batch.target
    tensor([[2, 5, 1, 4, 3, 0]])
    >>> others = [1, 5, 2, 3, 4], [1, 2, 3, 4, 5]
    >>> [bool(same_polygon(torch.tensor([other]), batch)) for other in others]
    [True, False]
    """
    check_pointers("found", found, batch.points)
    T = max(found.shape[1], batch.target.shape[1])
    pad = torch.nn.functional.pad
    here, there = (pad(x, (0, T - x.shape[1])) for x in (found, batch.target))
    one_way = (_from_lowest(here, 1) == _from_lowest(there, 1)).all(1)
    other_way = (_from_lowest(here, -1) == _from_lowest(there, 1)).all(1)
    return one_way | other_way


def _from_lowest(pointers: Tensor, way: int) -> Tensor:
    """The cycle from its lowest slot on, forwards (1) or backwards (-1)."""
    count = (pointers > 0).sum(1, keepdim=True)
    first = pointers.masked_fill(pointers == 0, int(1e9)).argmin(1, keepdim=True)
    step = torch.arange(pointers.shape[1]).expand_as(pointers)
    return pointers.gather(1, (first + way * step) % count.clamp_min(1)) * (step < count)
