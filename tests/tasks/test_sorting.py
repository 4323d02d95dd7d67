import itertools

import pytest
import torch

from attnbook.tasks.pointing import Batch
from attnbook.tasks.sorting import draw, order, same_order


def test_the_order_is_that_of_pythons_sort():
    batch = draw(50, 8, torch.Generator().manual_seed(0))
    for row, target in zip(batch.points[..., 0].tolist(), batch.target.tolist(), strict=True):
        assert target == [*sorted(range(1, 9), key=lambda j: row[j - 1]), 0]


def test_equal_numbers_keep_their_order_and_may_be_found_in_either():
    points = torch.tensor([[[2.0], [1.0], [2.0], [1.0]]])
    batch = Batch(points, torch.tensor([4]), order(points))
    assert batch.target.tolist() == [[2, 4, 1, 3, 0]]
    right = [
        found
        for found in itertools.product(range(1, 5), repeat=4)
        if same_order(torch.tensor([[*found, 0]]), batch)
    ]
    assert right == [(2, 4, 1, 3), (2, 4, 3, 1), (4, 2, 1, 3), (4, 2, 3, 1)]


def test_an_output_that_stops_early_or_runs_on_is_wrong():
    batch = draw(1, 3, torch.Generator().manual_seed(0))  # 3, 1, 2
    outputs = [[3, 1, 2, 0], [3, 1, 2, 0, 0], [3, 1, 2], [3, 1, 0, 0], [0, 0, 0], [3, 1, 2, 2, 0]]
    assert [bool(same_order(torch.tensor([found]), batch)) for found in outputs] == [
        *(True, True, True),
        *(False, False, False),
    ]


def test_padding_is_no_number_though_it_holds_one():
    points = torch.tensor([[[0.0], [0.5], [0.0]]])
    batch = Batch(points, torch.tensor([2]), torch.tensor([[1, 2, 0]]))
    assert same_order(torch.tensor([[1, 2, 0]]), batch)
    assert not same_order(torch.tensor([[3, 2, 0]]), batch)


@pytest.mark.parametrize(("size", "n"), [(0, 3), (1, 0)])
def test_clear_errors(size, n):
    with pytest.raises(ValueError, match="must be at least 1, got 0"):
        draw(size, n, torch.Generator())
