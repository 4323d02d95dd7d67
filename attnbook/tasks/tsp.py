"""Points in the unit square, and the shortest closed tour through all of them.

A tour is written as pointers: from the leftmost point counter-clockwise, then the end. The optimal
tour never crosses itself, so one of its two directions is counter-clockwise. `optimal` is exact and
for few points; `improved` is for more, and nearly so.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from attnbook.tasks.hull import area
from attnbook.tasks.pointing import Batch, check_pointers, check_points, check_sizes, follow

__all__ = ["MOST", "canonical", "draw", "improved", "is_tour", "optimal", "tour_length"]

MOST = 12
"""The most points for which `optimal` is offered: its tables have `2^(S - 1) (S - 1)` entries."""


def draw(size: int, n: int, generator: torch.Generator) -> Batch:
    """`size` inputs of `n` points, uniform in the unit square, and their optimal tours.

    Raises:
        ValueError: size is below 1 or n not in 3..MOST.

    Source:
        Vinyals, Fortunato, Jaitly 2015, section 3.3.

    >>> draw(2, 5, torch.Generator().manual_seed(0)).target
    tensor([[2, 5, 1, 4, 3, 0],
            [2, 5, 1, 4, 3, 0]])
    """
    check_sizes(size, n, fewest=3)
    points = torch.rand(size, n, 2, generator=generator)
    return Batch(points, torch.full((size,), n), optimal(points))


def optimal(points: Float[Tensor, "B S 2"], chunk: int = 500) -> Int[Tensor, "B T"]:
    """The shortest tours, exactly: `S^2 2^S` steps, the batch side by side.

    `cost[visited, j]` is the shortest way from the first point through all of `visited` that stops
    at `j`, one of them. It is the least of `cost[visited without j, i] + distance(i, j)`.

    Args:
        points: `(B, S, 2)` with S in 3..MOST.
        chunk: inputs side by side; for S = 10 each takes some 40 KB.

    Returns:
        Tours `(B, S + 1)` in canonical order, then the end.

    Raises:
        TypeError: points are not floating-point.
        ValueError: the shape does not fit, a point is not finite, or chunk is below 1.

    Source:
        Held, Karp 1962; Bellman 1962.

    >>> square = torch.tensor([[[1.0, 1.0], [0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]])
    >>> optimal(square)
    tensor([[2, 3, 1, 4, 0]])
    """
    check_points(points, width=2, fewest=3)
    if points.shape[1] > MOST:
        raise ValueError(f"points must be at most {MOST} for the exact tour, got {points.shape[1]}")
    if chunk < 1:
        raise ValueError(f"chunk must be at least 1, got {chunk}")
    return torch.cat([canonical(some, _held_karp(some.double())) for some in points.split(chunk)])


def _held_karp(points: Tensor) -> Tensor:
    """The shortest tours from the last point on, as pointers without an end."""
    B, S, _ = points.shape
    m = S - 1  # the last point is where a tour starts and ends
    distance = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    cost = points.new_full((1 << m, B, m), float("inf"))
    previous = torch.zeros(1 << m, B, m, dtype=torch.int64)
    for j in range(m):
        cost[1 << j, :, j] = distance[:, m, j]
    for visited in range(1, 1 << m):
        stops = [j for j in range(m) if visited >> j & 1]
        if len(stops) > 1:
            without = cost[[visited ^ (1 << j) for j in stops]]  # (stops, B, m)
            ways = without + distance[:, stops, :m].transpose(0, 1)
            least, previous[visited][:, stops] = (x.T for x in ways.min(dim=-1))
            cost[visited][:, stops] = least

    row, left = torch.arange(B), torch.full((B,), (1 << m) - 1)
    stop = (cost[-1] + distance[:, m, :m]).argmin(dim=1)
    tour = [torch.full((B,), m), stop]
    for _ in range(m - 1):
        before = previous[left, row, stop]
        left = left - (1 << stop)
        stop = before
        tour.append(stop)
    return torch.stack(tour, dim=1) + 1


def improved(
    points: Float[Tensor, "B S 2"], generator: torch.Generator, restarts: int = 1
) -> Int[Tensor, "B T"]:
    """Short tours of many points: random insertion, then 2-opt, the batch side by side.

    The points are taken in random order, each put where it lengthens the tour least. Then, as long
    as that shortens the tour, two edges are taken out and the stretch between them is turned round:
    always the two that shorten it most.

    Args:
        points: `(B, S, 2)` with S at least 3.
        generator: of the order of insertion.
        restarts: tours to make for each input; the shortest stays.

    Returns:
        Tours `(B, S + 1)` in canonical order, then the end. None crosses itself.

    Raises:
        TypeError: points are not floating-point.
        ValueError: the shape does not fit, a point is not finite, or restarts is below 1.

    Source:
        Rosenkrantz, Stearns, Lewis 1977 (insertion); Croes 1958 (2-opt).

    >>> generator = torch.Generator().manual_seed(0)
    >>> points = torch.rand(50, 8, 2, generator=generator)
    >>> short = improved(points, generator, restarts=10)
    >>> bool((tour_length(points, short) / tour_length(points, optimal(points))).mean() < 1.001)
    True
    """
    check_points(points, width=2, fewest=3)
    if restarts < 1:
        raise ValueError(f"restarts must be at least 1, got {restarts}")
    B, S, _ = points.shape
    many = points.double().repeat_interleave(restarts, dim=0)
    distance = torch.cdist(many, many, compute_mode="donot_use_mm_for_euclid_dist")
    order = torch.rand(len(many), S, generator=generator).argsort(dim=1)
    tours = _two_opt(distance, _insertion(distance, order)) + 1
    lengths = tour_length(many, tours).view(B, restarts)
    best = tours.view(B, restarts, S)[torch.arange(B), lengths.argmin(dim=1)]
    return canonical(points, best)


def _insertion(distance: Tensor, order: Tensor) -> Tensor:
    row = torch.arange(len(order))[:, None]
    tour = order[:, :3]
    for k in range(3, order.shape[1]):
        new, after = order[:, k : k + 1], tour.roll(-1, dims=1)
        longer = distance[row, tour, new] + distance[row, new, after] - distance[row, tour, after]
        place = longer.argmin(dim=1, keepdim=True) + 1  # behind this many points
        step = torch.arange(k + 1).expand(len(order), -1)
        kept = tour.gather(1, (step - (step > place).long()).clamp_max(k - 1))
        tour = torch.where(step == place, new, kept)
    return tour


def _two_opt(distance: Tensor, tour: Tensor) -> Tensor:
    B, S = tour.shape
    row, step = torch.arange(B)[:, None, None], torch.arange(S)
    later = step[:, None] < step  # an edge i and a later one j
    least = 1e-12 * distance.amax(dim=(1, 2))  # what rounding alone never gains, in any unit
    while True:
        after = tour.roll(-1, dims=1)
        a, b, c, d = tour[:, :, None], after[:, :, None], tour[:, None], after[:, None]
        gain = distance[row, a, b] + distance[row, c, d] - distance[row, a, c] - distance[row, b, d]
        best, which = gain.masked_fill(~later, 0.0).flatten(1).max(dim=1)
        if not bool((best > least).any()):
            return tour
        i, j = (which // S)[:, None], (which % S)[:, None]
        turn = (best > least)[:, None] & (step > i) & (step <= j)
        tour = tour.gather(1, torch.where(turn, i + 1 + j - step, step))


def canonical(points: Float[Tensor, "B S 2"], tours: Int[Tensor, "B S"]) -> Int[Tensor, "B T"]:
    """The same closed tours from the leftmost point counter-clockwise, with the end behind.

    Args:
        points: `(B, S, 2)`.
        tours: `(B, S)`, each slot of 1..S once.

    Raises:
        TypeError: points are not floating-point, or tours not of integers.
        ValueError: shapes do not fit, or a row is no tour.

    >>> square = torch.tensor([[[0.0, 0.0], [1.0, 0.1], [1.0, 1.0], [0.1, 1.0]]])
    >>> canonical(square, torch.tensor([[3, 2, 1, 4]]))
    tensor([[1, 2, 3, 4, 0]])
    """
    check_points(points, width=2, fewest=1)
    check_pointers("tours", tours, points)
    B, S, _ = points.shape
    if tours.shape[1] != S or not bool(is_tour(tours, torch.full((B,), S)).all()):
        raise ValueError(f"every row of tours must hold each of 1..{S} once")
    backwards = (area(points.double(), tours) < 0)[:, None]
    tours = torch.where(backwards, tours.flip(1), tours)
    place = points[..., 0].gather(1, tours - 1).argmin(dim=1, keepdim=True)
    turned = tours.gather(1, (place + torch.arange(S)) % S)
    return torch.nn.functional.pad(turned, (0, 1))


def tour_length(
    points: Float[Tensor, "B S 2"], pointers: Int[Tensor, "B T"]
) -> Float[Tensor, " B"]:
    """The length of each closed way, from the last point back to the first, in the points' unit.

    Raises:
        TypeError: points are not floating-point, or pointers not of integers.
        ValueError: shapes or slots do not fit.

    >>> square = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]])
    >>> tour_length(square, torch.tensor([[1, 2, 3, 4, 0]]))
    tensor([4.])
    """
    check_points(points, width=2, fewest=1)
    check_pointers("pointers", pointers, points)
    path = follow(points, pointers)
    return (torch.cat([path[:, 1:], path[:, :1]], dim=1) - path).norm(dim=-1).sum(1)


def is_tour(pointers: Int[Tensor, "B T"], lengths: Int[Tensor, " B"]) -> Bool[Tensor, " B"]:
    """Whether each output visits every point once, and then ends.

    Raises:
        TypeError: pointers or lengths are not of integers.
        ValueError: there is not one length for each row of pointers.

    >>> is_tour(torch.tensor([[2, 1, 3, 0], [2, 2, 3, 0], [2, 1, 0, 0]]), torch.tensor([3, 3, 2]))
    tensor([ True, False,  True])
    """
    for name, x in (("pointers", pointers), ("lengths", lengths)):
        if not isinstance(x, Tensor) or x.dtype not in (torch.int32, torch.int64):
            got = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise TypeError(f"{name} must be an int32 or int64 tensor, got {got}")
    if pointers.ndim != 2 or lengths.shape != pointers.shape[:1]:
        raise ValueError(
            "pointers and lengths must have shapes (B, T) and (B,), "
            f"got {tuple(pointers.shape)} and {tuple(lengths.shape)}"
        )
    step = torch.arange(pointers.shape[1])
    wanted = torch.where(step < lengths[:, None], step + 1, 0)
    there = ((pointers > 0).sum(1) == lengths) & ((pointers > 0) == (wanted > 0)).all(1)
    in_order = pointers.masked_fill(pointers == 0, int(1e9)).sort(dim=1).values
    in_order = in_order.masked_fill(in_order == int(1e9), 0)
    return there & (in_order == wanted).all(1)
