import itertools

import pytest
import torch
from building import as_installed

from attnbook.tasks import hull, sorting, tsp
from attnbook.tasks.pointing import batches, follow, join, trim


def some(draw, count=5, **options):
    return list(itertools.islice(batches(draw, [3, 4, 6], size=8, seed=0, **options), count))


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("task", [hull, sorting, tsp])
def test_every_target_is_written_as_the_convention_says(task, mixed):
    for points, lengths, target in some(task.draw, mixed=mixed):
        assert points.dtype == torch.float32
        assert (target[:, -1] == 0).all()
        for row, n, slots in zip(points, lengths, target, strict=True):
            assert (row[n:] == 0).all()
            count = int((slots > 0).sum())
            assert (slots[count:] == 0).all()
            assert slots[:count].unique().numel() == count <= n
            assert slots.max() <= n


def test_one_size_for_each_batch_or_all_sizes_in_each():
    assert all(len(batch.lengths.unique()) == 1 for batch in some(sorting.draw))
    assert {int(batch.lengths[0]) for batch in some(sorting.draw, count=20)} == {3, 4, 6}
    mixed = some(sorting.draw, mixed=True)
    assert all(len(batch.lengths) == 8 for batch in mixed)
    assert any(len(batch.lengths.unique()) == 3 for batch in mixed)


@pytest.mark.parametrize("mixed", [False, True])
def test_batches_repeat_with_their_seed(mixed):
    def first(seed):
        return next(batches(hull.draw, [5, 8], size=4, seed=seed, mixed=mixed)).points

    assert torch.equal(first(0), first(0))
    assert first(0).shape != first(1).shape or not torch.equal(first(0), first(1))


def test_join_keeps_every_input():
    generator = torch.Generator().manual_seed(0)
    parts = [hull.draw(3, n, generator) for n in (4, 9, 6)]
    whole = join(parts)
    assert whole.lengths.tolist() == [4, 4, 4, 9, 9, 9, 6, 6, 6]
    rows = [(p, t) for part in parts for p, t in zip(part.points, part.target, strict=True)]
    for row, points, n, target in zip(rows, *whole, strict=True):
        assert torch.equal(points[:n], row[0])
        assert torch.equal(trim(target[None])[0], trim(row[1][None])[0])


def test_follow_stays_at_the_last_point():
    points = torch.tensor([[[1.0], [2.0], [3.0]], [[4.0], [5.0], [0.0]]])
    path = follow(points, torch.tensor([[3, 1, 2, 0], [2, 0, 0, 0]]))
    assert path[..., 0].tolist() == [[3.0, 1.0, 2.0, 2.0], [5.0, 5.0, 5.0, 5.0]]


def test_trim_of_nothing_but_ends_keeps_one_column():
    assert trim(torch.zeros(2, 4, dtype=torch.int64)).tolist() == [[0], [0]]


POINTS = torch.rand(2, 4, 2, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("area", (POINTS.long(), torch.ones(2, 3).long()), "points must be .* got torch.int64"),
        ("area", (POINTS[0], torch.ones(2, 3).long()), r"at least 1, 2\), got \(4, 2\)"),
        ("area", (POINTS / 0, torch.ones(2, 3).long()), "points must be finite"),
        ("area", (POINTS, torch.ones(2, 3)), "pointers must be an int32 or int64 .* torch.float32"),
        ("area", (POINTS, torch.ones(3, 3).long()), r"pointers must have shape \(2, steps\)"),
        ("area", (POINTS, torch.full((2, 3), 5)), r"slots 0\.\.4, got 5\.\.5"),
        ("area", (POINTS, torch.full((2, 3), -1)), r"slots 0\.\.4, got -1\.\.-1"),
        ("area", (POINTS, torch.tensor([[1, 0, 2]] * 2)), "only zeros after the first 0"),
    ],
)
def test_clear_errors_for_points_and_pointers(name, arguments, message):
    with as_installed():
        from attnbook.tasks import hull

        with pytest.raises((TypeError, ValueError), match=message):
            getattr(hull, name)(*arguments)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: batches(hull.draw, [5], size=0, seed=0), "size must be at least 1, got 0"),
        (lambda: batches(hull.draw, [], size=1, seed=0), "numbers must not be empty"),
        (lambda: join([]), "there must be at least one batch"),
    ],
)
def test_clear_errors_for_batches(make, message):
    with pytest.raises(ValueError, match=message):
        make()
