import itertools
import math

import pytest
import torch
from building import as_installed

from attnbook.tasks import tsp
from attnbook.tasks.hull import area, simple
from attnbook.tasks.tsp import canonical, draw, improved, is_tour, optimal, tour_length


def length_by_definition(points, order):
    pairs = zip(order, order[1:] + order[:1], strict=True)
    return sum(math.dist(points[i], points[j]) for i, j in pairs)


@pytest.mark.parametrize("n", [3, 4, 5, 7])
def test_optimal_is_the_best_of_all_permutations(n):
    batch = draw(20, n, torch.Generator().manual_seed(n))
    assert is_tour(batch.target, batch.lengths).all()
    lengths = tour_length(batch.points.double(), batch.target)
    for row, ours in zip(batch.points.double().tolist(), lengths.tolist(), strict=True):
        orders = ([0, *rest] for rest in itertools.permutations(range(1, n)))
        best = min(length_by_definition(row, order) for order in orders)
        assert ours == pytest.approx(best, rel=1e-12)


def test_chunks_change_nothing():
    points = draw(7, 6, torch.Generator().manual_seed(0)).points
    assert torch.equal(optimal(points, chunk=3), optimal(points))


@pytest.mark.parametrize("make", ["optimal", "improved"])
def test_tours_are_canonical_and_do_not_cross(make):
    generator = torch.Generator().manual_seed(3)
    points = torch.rand(50, 9, 2, generator=generator)
    tours = optimal(points) if make == "optimal" else improved(points, generator)
    assert (points[torch.arange(50), tours[:, 0] - 1, 0] == points[..., 0].amin(1)).all()
    assert (area(points, tours) > 0).all()
    assert simple(points, tours).all()


def test_a_canonical_tour_is_one_of_all_its_writings():
    points = torch.rand(1, 5, 2, generator=torch.Generator().manual_seed(0))
    tour = [2, 5, 3, 1, 4]
    cycles = [tour[i:] + tour[:i] for i in range(5)]
    cycles += [cycle[::-1] for cycle in cycles]
    ways = {tuple(canonical(points, torch.tensor([cycle]))[0].tolist()) for cycle in cycles}
    assert len(ways) == 1
    assert list(ways.pop())[:5] in cycles


@pytest.mark.parametrize("n", [4, 8, 10])
def test_improved_is_never_below_the_optimum_and_close_to_it(n):
    generator = torch.Generator().manual_seed(n)
    points = torch.rand(200, n, 2, generator=generator, dtype=torch.float64)
    best = tour_length(points, optimal(points))
    once, often = (
        tour_length(points, improved(points, generator, restarts=r)) / best for r in (1, 10)
    )
    for ratio in (once, often):
        assert (ratio > 1 - 1e-12).all()
    assert once.mean() < 1.03
    assert often.mean() <= once.mean()
    assert often.mean() < 1.001


def test_improved_cannot_be_improved_by_two_edges():
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(20, 8, 2, generator=generator, dtype=torch.float64)
    tours = improved(points, generator)
    for row, slots in zip(points.tolist(), tours.tolist(), strict=True):
        order = [j - 1 for j in slots if j]
        ours = length_by_definition(row, order)
        for i, j in itertools.combinations(range(1, 9), 2):
            turned = order[:i] + order[i:j][::-1] + order[j:]
            assert length_by_definition(row, turned) > ours - 1e-9


@pytest.mark.parametrize("unit", [1e-13, 1.0, 1e6, 1e12])
def test_improved_knows_no_unit(unit):
    points = torch.rand(50, 10, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    generators = (torch.Generator().manual_seed(1) for _ in range(2))
    here, there = (improved(x, g) for x, g in zip((points, unit * points), generators, strict=True))
    assert torch.equal(here, there)


def test_insertion_puts_each_point_where_it_lengthens_the_tour_least():
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(10, 7, 2, generator=generator, dtype=torch.float64)
    order = torch.rand(10, 7, generator=generator).argsort(1)
    tours = tsp._insertion(torch.cdist(points, points), order)
    for row, taken, found in zip(points.tolist(), order.tolist(), tours.tolist(), strict=True):
        tour = taken[:3]
        for new in taken[3:]:
            places = [[*tour[:i], new, *tour[i:]] for i in range(1, len(tour) + 1)]
            tour = min(places, key=lambda way: length_by_definition(row, way))
        assert found == tour


def test_equal_points_and_points_on_a_line():
    line = torch.tensor([[[0.0, 0.0], [3.0, 0.0], [1.0, 0.0], [1.0, 0.0]]])
    for tour in (optimal(line), improved(line, torch.Generator().manual_seed(0))):
        assert is_tour(tour, torch.tensor([4])).all()
        assert tour_length(line, tour).item() == pytest.approx(6.0)


def test_is_tour_on_every_output_of_three_slots():
    for row in itertools.product(range(4), repeat=3):
        ended = [*row, 0]
        if any(a == 0 and b for a, b in itertools.pairwise(ended)):
            continue
        assert bool(is_tour(torch.tensor([ended]), torch.tensor([3]))) == (sorted(row) == [1, 2, 3])


def test_a_tour_has_no_hole():
    rows = torch.tensor([[2, 0, 1], [0, 2, 1], [2, 1, 0]])
    assert is_tour(rows, torch.tensor([2, 2, 2])).tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("tours", "error", "message"),
    [
        ([[1, 2, 3]], TypeError, "tours must be an int32 or int64 tensor, got list"),
        (torch.rand(2, 3), TypeError, "tours must be an int32 or int64 tensor, got torch.float32"),
        (torch.tensor([1, 2, 3]), ValueError, r"tours must have shape \(2, steps\).* got \(3,\)"),
        (torch.tensor([[1, 2, 3]]), ValueError, r"tours must have shape \(2, .* got \(1, 3\)"),
        (
            torch.tensor([[1, 2, 3, 0]] * 2),
            ValueError,
            r"every row of tours must hold each of 1\.\.3",
        ),
    ],
)
def test_what_is_no_tour_says_so(tours, error, message):
    with as_installed():
        from attnbook.tasks import tsp

        with pytest.raises(error, match=message):
            tsp.canonical(torch.rand(2, 3, 2), tours)


@pytest.mark.parametrize(
    ("pointers", "lengths", "error", "message"),
    [
        ([[1, 2]], torch.tensor([2]), TypeError, "pointers must be an int32 .* got list"),
        (torch.rand(1, 2), torch.tensor([2]), TypeError, "pointers must be .* got torch.float32"),
        (torch.ones(1, 2).long(), [2], TypeError, "lengths must be .* got list"),
        (torch.ones(2).long(), torch.tensor([2]), ValueError, r"got \(2,\) and \(1,\)"),
        (torch.ones(1, 2).long(), torch.tensor([2, 2]), ValueError, r"got \(1, 2\) and \(2,\)"),
    ],
)
def test_is_tour_says_what_it_takes(pointers, lengths, error, message):
    with as_installed():
        from attnbook.tasks import tsp

        with pytest.raises(error, match=message):
            tsp.is_tour(pointers, lengths)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda g: draw(1, 2, g), "n must be at least 3, got 2"),
        (lambda g: draw(0, 3, g), "size must be at least 1, got 0"),
        (lambda g: draw(1, 13, g), "at most 12 for the exact tour, got 13"),
        (lambda g: improved(torch.rand(1, 4, 2), g, restarts=0), "restarts must be at least 1"),
        (lambda g: optimal(torch.rand(1, 4, 2), chunk=0), "chunk must be at least 1, got 0"),
        (lambda g: improved(torch.rand(1, 2, 2), g), r"\(batch, at least 3, 2\), got \(1, 2, 2\)"),
        (lambda g: canonical(torch.rand(1, 3, 2), torch.tensor([[1, 1, 2]])), r"each of 1\.\.3"),
    ],
)
def test_clear_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make(torch.Generator())
