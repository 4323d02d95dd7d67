import itertools
import math
import re
from collections import Counter

import pytest
import torch
from building import as_installed
from hypothesis import given, settings
from hypothesis import strategies as some
from told import D, V, moved, sentence_by_hand

from attnbook.sentences import SentenceTable, ages, position_encoding


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


@given(some.integers(1, 9), some.integers(1, 9))
@settings(max_examples=20, deadline=None)
def test_position_encoding_is_that_of_the_paper(J, dim):
    found = position_encoding(J, dim)
    for j, k in itertools.product(range(1, J + 1), range(1, dim + 1)):
        wanted = (1 - j / J) - (k / dim) * (1 - 2 * j / J)
        assert found[j - 1, k - 1].item() == pytest.approx(wanted, abs=1e-6)


def test_a_sentence_is_the_sum_of_its_position_encoded_words():
    table = SentenceTable(V, D)
    words = torch.tensor([3, 1, 5, 3])
    wanted = (position_encoding(4, D) * table.word.weight[words]).sum(0)
    torch.testing.assert_close(table(words), wanted)


def test_words_that_are_not_there_count_for_nothing():
    table = moved(SentenceTable(V, D))
    weights = table.word.weight.tolist()
    for words in ([3, 1, 5], [3, 0, 5, 0], [0, 0], []):
        found = table(torch.tensor(words, dtype=torch.int64))
        wanted = torch.tensor(sentence_by_hand(words, weights)).double()
        torch.testing.assert_close(found, wanted)


# Ages


@given(some.lists(some.integers(0, 7), min_size=1, max_size=5), some.floats(0, 1.5))
@settings(max_examples=40, deadline=None)
def test_ages_fall_and_leave_gaps_for_what_was_empty(lengths, empty):
    mask = torch.arange(7) < torch.tensor(lengths)[:, None]
    old = ages(mask, empty=empty, generator=torch.Generator().manual_seed(len(lengths)))
    for row, n in zip(old.tolist(), lengths, strict=True):
        assert all(a > b for a, b in itertools.pairwise(row[:n]))
        assert not any(row[n:])
        assert all(0 <= age < n + math.ceil(empty * n) for age in row[:n])


def test_without_empty_memories_ages_count_the_sentences():
    mask = torch.tensor([[True, True, True], [True, False, False], [False, True, True]])
    assert ages(mask).tolist() == [[2, 1, 0], [0, 0, 0], [0, 1, 0]]


def test_every_number_and_place_of_empty_memories_is_as_likely():
    N = 12_000
    old = ages(
        torch.ones(N, 2, dtype=torch.bool), empty=0.5, generator=torch.Generator().manual_seed(0)
    )
    counts = Counter(map(tuple, old.tolist()))
    shares = {(1, 0): 1 / 2 + 1 / 6, (2, 0): 1 / 6, (2, 1): 1 / 6}  # one empty one half the time
    assert set(counts) == set(shares)
    for row, share in shares.items():
        assert abs(counts[row] / N - share) < 4.5 * math.sqrt(share * (1 - share) / N)


# Mistakes

MISTAKES = {
    "fewer than no empty ones": (
        lambda m: m.ages(torch.ones(1, 2, dtype=torch.bool), empty=-0.1),
        "empty must not be negative, got -0.1",
    ),
    "no words": (lambda m: m.position_encoding(0, 2), "words must be at least 1, got 0"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_named(mistake):
    make, message = MISTAKES[mistake]
    with as_installed():
        from attnbook import sentences

        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            make(sentences)
