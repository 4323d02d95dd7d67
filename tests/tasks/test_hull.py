import itertools
from fractions import Fraction

import pytest
import torch
from scipy.spatial import ConvexHull

from attnbook.tasks.hull import area, draw, hull, same_polygon, simple
from attnbook.tasks.pointing import Batch


@pytest.mark.parametrize("n", [3, 4, 7, 10, 20, 50])
def test_hulls_are_those_of_scipy(n):
    batch = draw(300, n, torch.Generator().manual_seed(n))
    areas = area(batch.points.double(), batch.target)
    for points, slots, found in zip(batch.points, batch.target, areas, strict=True):
        theirs = ConvexHull(points.double().numpy())  # counter-clockwise in the plane
        corners = theirs.vertices.tolist()
        first = min(range(len(corners)), key=lambda i: float(points[corners[i], 0]))
        wanted = [j + 1 for j in corners[first:] + corners[:first]]
        assert slots[slots > 0].tolist() == wanted
        assert float(found) == pytest.approx(theirs.volume, rel=1e-12)  # "volume" is area in 2-D


def corners_by_definition(points):
    """Those points that lie between no two others and in no triangle of others."""

    def turn(a, b, c):
        return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])

    def inside(p, a, b, c):
        sides = turn(a, b, p), turn(b, c, p), turn(c, a, p)
        low = all(min(a[k], b[k], c[k]) <= p[k] <= max(a[k], b[k], c[k]) for k in (0, 1))
        return low and (all(s >= 0 for s in sides) or all(s <= 0 for s in sides))

    corners = set()
    for p in points:
        others = [q for q in points if q != p]
        triples = itertools.combinations_with_replacement(others, 3)
        if not any(inside(p, *triple) for triple in triples):
            corners.add(p)
    return corners


def test_points_on_a_grid_that_repeat_and_lie_on_lines():
    generator = torch.Generator().manual_seed(0)
    grids = torch.randint(0, 4, (200, 7, 2), generator=generator)
    for grid, slots in zip(grids, hull(grids.float()), strict=True):
        points = [tuple(p) for p in grid.tolist()]
        path = [points[j - 1] for j in slots.tolist() if j]
        assert len(path) == len(set(path))
        assert set(path) == corners_by_definition(points)
        assert path[0] == min(points)
    polygons = hull(grids.float())
    assert (area(grids.double(), polygons) >= 0).all()
    big = (polygons > 0).sum(1) >= 3
    assert simple(grids.double()[big], polygons[big]).all()


def test_all_points_equal_or_on_a_line():
    assert hull(torch.ones(1, 4, 2)).tolist() == [[1, 0]]
    assert hull(torch.zeros(1, 1, 2)).tolist() == [[1, 0]]
    line = torch.tensor([[[0.5, 0.5], [1.0, 1.0], [0.0, 0.0]]])
    assert hull(line).tolist() == [[3, 2, 0]]


def test_the_hull_does_not_depend_on_the_order_of_the_points():
    batch = draw(100, 9, torch.Generator().manual_seed(1))
    order = torch.randperm(9, generator=torch.Generator().manual_seed(2))
    where = torch.cat([torch.zeros(1).long(), order.argsort() + 1])
    assert torch.equal(hull(batch.points[:, order]), where[batch.target])


def test_area_against_the_sum_over_triangles():
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(20, 6, 2, generator=generator, dtype=torch.float64)
    pointers = torch.rand(20, 6, generator=generator).argsort(1) + 1
    for p, row, found in zip(
        points.tolist(), pointers.tolist(), area(points, pointers), strict=True
    ):
        path = [p[j - 1] for j in row]
        pairs = zip(path, path[1:] + path[:1], strict=True)
        assert float(found) == pytest.approx(sum(a[0] * b[1] - a[1] * b[0] for a, b in pairs) / 2)


def meets(a, b, c, d):
    """Whether the segments share a point, by exact intersection of two lines."""
    r, s = (b[0] - a[0], b[1] - a[1]), (d[0] - c[0], d[1] - c[1])
    across = r[0] * s[1] - r[1] * s[0]
    gap = (c[0] - a[0], c[1] - a[1])
    if across:
        t = Fraction(gap[0] * s[1] - gap[1] * s[0], across)
        u = Fraction(gap[0] * r[1] - gap[1] * r[0], across)
        return 0 <= t <= 1 and 0 <= u <= 1
    if gap[0] * r[1] - gap[1] * r[0]:
        return False  # parallel
    k = 0 if r[0] or s[0] else 1
    return max(min(a[k], b[k]), min(c[k], d[k])) <= min(max(a[k], b[k]), max(c[k], d[k]))


def simple_by_definition(path):
    """No two points of the closed path are the same, and no edge meets one that is not next."""
    n = len(path)
    if n < 3 or len(set(path)) < n:
        return False
    edges = [(path[i], path[(i + 1) % n]) for i in range(n)]
    for i, j in itertools.combinations(range(n), 2):
        if (i + 1) % n == j or (j + 1) % n == i:
            a, b = (i, j) if (i + 1) % n == j else (j, i)
            (p, q), (_, r) = edges[a], edges[b]
            straight = (q[0] - p[0]) * (r[1] - q[1]) == (q[1] - p[1]) * (r[0] - q[0])
            back = (q[0] - p[0]) * (r[0] - q[0]) + (q[1] - p[1]) * (r[1] - q[1]) < 0
            if straight and back:
                return False
        elif meets(*edges[i], *edges[j]):
            return False
    return True


def test_simple_on_a_grid_with_every_kind_of_touch():
    generator = torch.Generator().manual_seed(0)
    grids = torch.randint(0, 4, (3000, 5, 2), generator=generator)
    counts = torch.randint(0, 6, (3000, 1), generator=generator)
    pointers = torch.randint(1, 6, (3000, 5), generator=generator)  # may repeat
    pointers[::2] = torch.rand(1500, 5, generator=generator).argsort(1) + 1
    pointers = pointers * (torch.arange(5) < counts)
    found = simple(grids.double(), pointers).tolist()
    for grid, row, ours in zip(grids.tolist(), pointers.tolist(), found, strict=True):
        path = [tuple(grid[j - 1]) for j in row if j]
        assert ours == simple_by_definition(path), path
    assert 200 < sum(found) < 2800


def test_same_polygon_is_rotation_or_reflection_and_nothing_else():
    points = torch.zeros(1, 5, 2)
    for truth in ([3, 1, 4], [2, 5, 1, 3]):
        batch = Batch(points, torch.tensor([5]), torch.tensor([[*truth, 0]]))
        n = len(truth)
        cycles = [truth[i:] + truth[:i] for i in range(n)]
        cycles += [cycle[::-1] for cycle in cycles]
        for length in range(6):
            for found in itertools.product(range(1, 6), repeat=length):
                row = torch.tensor([[*found, *[0] * (6 - length)]])
                assert bool(same_polygon(row, batch)) == (list(found) in cycles)


def test_clear_errors():
    with pytest.raises(ValueError, match="n must be at least 3, got 2"):
        draw(1, 2, torch.Generator())
    with pytest.raises(ValueError, match="size must be at least 1, got 0"):
        draw(0, 5, torch.Generator())
