import itertools
import math
from collections import Counter

import pytest
import torch

from attnbook.tasks.sequences import associative_recall, copy, repeat_copy, wrong_bits


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def bits(row):
    return [tuple(step) for step in row.int().tolist()]


def test_copy_can_be_answered_from_its_input():
    batch = copy(20, length=7, generator=generator(), bits=5)
    assert batch.inputs.shape == (20, 15, 6)
    for inputs, answer in zip(batch.inputs, batch.answers, strict=True):
        mark = inputs[:, 5].tolist().index(1.0)
        assert bits(inputs[:mark, :5]) == bits(answer)
        assert inputs[:, 5].sum() == 1
        assert not inputs[mark + 1 :].any()
        assert len(inputs) - mark - 1 == len(answer)


@pytest.mark.parametrize(("length", "repeats"), [(1, 1), (3, 4), (5, 10), (4, 20)])
def test_repeat_copy_can_be_answered_from_its_input(length, repeats):
    batch = repeat_copy(5, length, repeats, generator(), bits=4)
    for inputs, answer in zip(batch.inputs, batch.answers, strict=True):
        mark = inputs[:, 4].nonzero().item()
        number = round(inputs[mark, 4].item() * 8.25**0.5 + 5.5)  # of 1..10: mean and variance
        sequence = bits(inputs[:mark, :4])
        assert [step[:4] for step in bits(answer)] == sequence * number + [(0, 0, 0, 0)]
        assert answer[:, 4].tolist() == [0.0] * (number * len(sequence)) + [1.0]
        assert not inputs[mark + 1 :].any()
        assert len(inputs) - mark - 1 == len(answer)


def test_repeat_numbers_of_training_have_mean_zero_and_variance_one():
    numbers = torch.stack(
        [repeat_copy(1, 1, n, generator(), bits=1, most=6).inputs[0, 1, 1] for n in range(1, 7)]
    )
    assert numbers.mean().item() == pytest.approx(0, abs=1e-6)
    assert numbers.var(correction=0).item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(("items", "width"), [(2, 3), (6, 3), (4, 1)])
def test_recall_can_be_answered_from_its_input(items, width):
    batch = associative_recall(30, items, generator(), bits=2, width=width)
    places = set()
    for inputs, answer in zip(batch.inputs, batch.answers, strict=True):
        starts = inputs[:, 2].nonzero().flatten().tolist()
        listed = [tuple(bits(inputs[s + 1 : s + 1 + width, :2])) for s in starts]
        assert len(set(listed)) == len(listed) == items
        opened, closed = inputs[:, 3].nonzero().flatten().tolist()
        asked = listed.index(tuple(bits(inputs[opened + 1 : closed, :2])))
        assert tuple(bits(answer)) == listed[asked + 1]
        assert not inputs[closed + 1 :].any()
        assert len(inputs) - closed - 1 == len(answer) == width
        places.add(asked)
    assert places == set(range(items - 1))  # any but the last is asked for


@pytest.mark.parametrize("items", [2, 4])
def test_every_list_of_different_items_is_as_likely(items):
    """Of four items, by drawing again what is there already and, for all four, by an order."""
    size = 12_000
    batch = associative_recall(size, items, generator(), bits=2, width=1)
    listed = [tuple(bits(row[1 : 2 * items : 2, :2])) for row in batch.inputs]
    counts, share = Counter(listed), 1 / math.perm(4, items)
    assert set(counts) == set(itertools.permutations(itertools.product((0, 1), repeat=2), items))
    spread = math.sqrt(size * share * (1 - share))
    assert all(abs(count - size * share) < 5 * spread for count in counts.values())


def test_all_items_there_are_can_be_listed():
    batch = associative_recall(1, 2**10, generator(), bits=5, width=2)
    listed = batch.inputs[0, : 3 * 2**10].view(2**10, 3, 7)[:, 1:, :5].flatten(1)
    assert len(listed.unique(dim=0)) == 2**10


@pytest.mark.parametrize("draw", [copy, associative_recall])
def test_the_seed_decides(draw):
    first, same, other = (draw(4, 3, generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(first.inputs, same.inputs)
    assert not torch.equal(first.inputs, other.inputs)


def test_only_answers_are_judged():
    batch = copy(3, length=4, generator=generator())
    right = torch.full((3, 9, 8), 7.0)
    right[:, 5:] = 2 * batch.answers - 1
    assert wrong_bits(right, batch) == 0.0
    assert wrong_bits(-right, batch) == 1.0
    right[0, -1, 0] *= -1
    assert wrong_bits(right, batch) == pytest.approx(1 / (3 * 4 * 8))
    with pytest.raises(ValueError, match=r"output must have shape \(3, 9, 8\), got \(3, 4, 8\)"):
        wrong_bits(right[:, 5:], batch)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda g: copy(0, 3, g), "size must be at least 1, got 0"),
        (lambda g: copy(1, 0, g), "length must be at least 1, got 0"),
        (lambda g: repeat_copy(1, 3, 0, g), "repeats must be at least 1, got 0"),
        (lambda g: repeat_copy(1, 3, 1, g, most=1), "most must be at least 2, got 1"),
        (lambda g: associative_recall(1, 1, g), r"items must be in 2\.\.262144, got 1"),
        (lambda g: associative_recall(1, 5, g, bits=2, width=1), r"items must be in 2\.\.4, got 5"),
    ],
)
def test_clear_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call(generator())
