import itertools

import pytest
import torch

from attnbook.tasks.symbols import Vocabulary, batches, pad


def test_symbols_0_1_2_are_reserved():
    vocabulary = Vocabulary("ab")
    assert len(vocabulary) == 5
    assert vocabulary.encode("ab") == [3, 4]
    assert vocabulary.decode([1, 4, 0, 3, 2, 3]) == "ba"


def test_every_text_comes_back():
    letters, phones = Vocabulary("abc"), Vocabulary(["A", "AA", "B"], separator=" ")
    for n in range(1, 4):
        for text in map("".join, itertools.product("abc", repeat=n)):
            assert letters.decode(letters.encode(text)) == text
        for text in map(" ".join, itertools.product(phones.tokens, repeat=n)):
            assert phones.decode(phones.encode(text)) == text
            assert len(phones.encode(text)) == n


def test_pad_keeps_both_sides_and_ends_the_target():
    sources, targets = [[5, 3], [4], [3, 3, 6]], [[], [7, 8], [9]]
    batch = pad(sources, targets)
    assert batch.lengths.tolist() == [2, 1, 3]
    for row, length, source in zip(batch.source, batch.lengths, sources, strict=True):
        assert row[:length].tolist() == source
        assert (row[length:] == Vocabulary.PAD).all()
    assert batch.target.tolist() == [[2, 0, 0], [7, 8, 2], [9, 2, 0]]
    assert batch.source.dtype == batch.target.dtype == torch.int64


def lengths(seed, pool=10):
    some = batches(
        lambda n, g: [[3] * g.randint(1, 50) for _ in range(n)],
        lambda rows: pad(rows, rows),
        len,
        size=8,
        seed=seed,
        pool=pool,
    )
    return [batch.lengths for batch in itertools.islice(some, 10)]


def test_batches_of_a_pool_hold_neighbours_in_length_and_come_in_any_order():
    spans = [(int(n.min()), int(n.max())) for n in lengths(0)]
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(sorted(spans)))
    assert spans != sorted(spans)


def test_batches_repeat_with_their_seed():
    one, two, other = (torch.stack(lengths(seed)) for seed in (0, 0, 1))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Vocabulary("ab").encode(""), "text must not be empty"),
        (lambda: Vocabulary("ab").encode("a?"), r"'a\?' has tokens outside .*: \['\?'\]"),
        (lambda: Vocabulary(["A"], " ").encode("A  A"), r"tokens outside the vocabulary: \[''\]"),
        (lambda: Vocabulary(["ab"]), "tokens must be one character, got 'ab'"),
        (lambda: Vocabulary(["a b"], " "), "tokens must be not empty and without ' ', got 'a b'"),
        (lambda: Vocabulary(["a", ""], " "), "tokens must be not empty and without ' ', got ''"),
        (lambda: Vocabulary("ab").decode([5]), r"symbols must be in 0\.\.4, got 5"),
        (lambda: Vocabulary("ab").decode([-1]), r"symbols must be in 0\.\.4, got -1"),
        (lambda: pad([], []), "sources must not be empty, nor any of them"),
        (lambda: pad([[3], []], [[3], [3]]), "sources must not be empty, nor any of them"),
        (lambda: pad([[3]], [[3], [3]]), "sources has 1 sequences but targets has 2"),
        (lambda: lengths(0, pool=0), "pool must be at least 1, got 0"),
    ],
)
def test_clear_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
