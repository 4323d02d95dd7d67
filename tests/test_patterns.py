"""Sparse patterns: the papers' sets in loops, their counts, and how far several layers reach."""

import math
import re
from collections.abc import Callable

import pytest
import torch
from building import as_installed
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from attnbook import causal, window
from attnbook.patterns import (
    block,
    blocks,
    dilated,
    everywhere,
    layers_to_reach,
    random,
    reach,
    strided,
    summary,
)


def listed(mask: Tensor) -> list[set[int]]:
    """For each query the keys that it sees."""
    return [{j for j, seen in enumerate(row) if seen} for row in mask.tolist()]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 9), st.integers(0, 9), st.integers(1, 5), st.integers(0, 3))
def test_each_is_the_set_of_its_paper(L: int, S: int, size: int, offset: int) -> None:
    """Indices from 0, as the papers' formulas have them; the queries begin at the offset."""
    i, j = range(offset, offset + L), range(S)
    made = strided(L, S, size, offset)
    assert listed(made) == [{b for b in j if (a - b) % size == 0} for a in i]
    made = block(L, S, size, offset)
    assert listed(made) == [
        {b for b in j if math.floor(b / size) == math.floor(a / size)} for a in i
    ]
    for last in range(1, size + 1):
        ends = {b for b in j if b % size in range(size - last, size + 1)}
        assert listed(summary(L, S, size, last).expand(L, S)) == [ends] * L
    for gap in (1, 2, 3):
        seen = [{a + gap * step for step in range(-size, size + 1)} & set(j) for a in i]
        assert listed(dilated(L, S, size, gap, offset)) == seen
    assert torch.equal(dilated(L, S, size, offset=offset), window(L, S, size, offset))
    places = [place for place in (1, 4) if place < S]
    seen = [set(j) if a in places else set(places) for a in i]
    assert listed(everywhere(L, S, places, offset)) == seen


def test_counts_are_those_of_the_papers() -> None:
    """64 positions and a stride of 8, its root."""
    n, size, c = 64, 8, 2
    past = causal(n, n)
    first = (past & window(n, n, size)).sum(1)
    assert (first[size:] == size + 1).all(), "as many before it, and itself"
    second = (past & strided(n, n, size)).sum(1)
    assert second.tolist() == [i // size + 1 for i in range(n)]
    fixed = (past & summary(n, n, size, c)).sum(1)
    assert fixed.tolist() == [c * (i // size) + max(0, i % size - (size - c) + 1) for i in range(n)]
    # Longformer: n (2 w + 1) pairs less w (w + 1) at the ends; g rows and columns of n.
    w, places = 3, [0, 20, 40]
    assert dilated(n, n, w).sum() == n * (2 * w + 1) - w * (w + 1)
    assert everywhere(n, n, places).sum() == 2 * 3 * n - 3 * 3
    # BigBird: a block of queries in the middle sees at most 3 + 1 + r blocks of keys.
    generator = torch.Generator().manual_seed(0)
    drawn = random(16, 16, 2, generator)
    assert (drawn.sum(1) == 2).all()
    assert not torch.equal(drawn, random(16, 16, 2, generator))
    layout = window(16, 16, 1) | everywhere(16, 16, [0]) | drawn
    whole = blocks(layout, 4)
    assert (whole.sum(1)[4:] <= 4 * (3 + 1 + 2)).all()
    assert listed(whole) == [{j for j in range(64) if layout[i // 4, j // 4]} for i in range(64)]


def test_a_sparse_transformer_connects_all_the_past_in_two_layers() -> None:
    """Child et al., section 4.2: a valid choice of sets, strided or fixed, and neither alone."""
    n, size = 36, 6
    past = causal(n, n)
    pairs = {
        "strided": (past & window(n, n, size), past & strided(n, n, size)),
        "fixed": (past & block(n, n, size), past & summary(n, n, size, 1)),
    }
    for first, second in pairs.values():
        assert torch.equal(reach([first, second]), past)
        assert layers_to_reach([first, second], is_causal=True) == 2
        assert layers_to_reach([first], is_causal=True) != 2
        assert layers_to_reach([second], is_causal=True) is None


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 20), st.integers(1, 4), st.integers(1, 3), st.integers(1, 4))
def test_windows_reach_layers_times_width(n: int, width: int, gap: int, layers: int) -> None:
    """Longformer: a receptive field of l w, here 2 l width; dilated, every gap-th of l d w."""
    found = reach([dilated(n, n, width, gap)] * layers)
    assert torch.equal(found, dilated(n, n, width * layers, gap))
    needed = layers_to_reach([window(n, n, width)])
    assert needed == math.ceil((n - 1) / width)
    assert layers_to_reach([window(n, n, 0) | everywhere(n, n, [0])]) == min(2, n - 1)
    assert layers_to_reach([dilated(n, n, width, 2)]) == (0 if n == 1 else None)


def test_reach_counts_paths_as_a_walk_would() -> None:
    """By breadth, one position after another, with a pattern of its own in each layer."""
    generator = torch.Generator().manual_seed(3)
    patterns = [random(12, 12, 2, generator) for _ in range(3)]
    for i in range(12):
        seen = {i}
        for pattern in reversed(patterns):  # from the top down
            seen |= {j for a in seen for j in listed(pattern)[a]}
        assert listed(reach(patterns))[i] == seen


def test_clear_errors() -> None:
    with as_installed():
        from attnbook import patterns

        square = torch.ones(3, 3, dtype=torch.bool)
        wrong: list[tuple[Callable[[], object], type[Exception], str]] = [
            (lambda: patterns.strided(3, 3, 0), ValueError, "stride must be at least 1, got 0"),
            (lambda: patterns.block(3, -1, 2), ValueError, "S must not be negative, got -1"),
            (lambda: patterns.dilated(2.0, 3, 1), TypeError, "L must be an integer, got float"),
            (
                lambda: patterns.summary(3, 3, 2, 3),
                ValueError,
                "last must be at most size = 2, got 3",
            ),
            (
                lambda: patterns.everywhere(3, 3, [3]),
                ValueError,
                "places must be in 0..2, got 3",
            ),
            (
                lambda: patterns.everywhere(3, 3, [True]),
                TypeError,
                "places must be integers, got bool",
            ),
            (lambda: patterns.random(3, 3, 4), ValueError, "keys must be at most S = 3, got 4"),
            (
                lambda: patterns.blocks(square.int(), 2),
                TypeError,
                "layout must be a boolean tensor, got torch.int32",
            ),
            (lambda: patterns.random(-1, 3, 1), ValueError, "L must not be negative, got -1"),
            (lambda: patterns.reach([]), ValueError, "patterns must hold at least one"),
            (
                lambda: patterns.reach([[True]]),  # type: ignore[list-item]
                TypeError,
                "a pattern must be a boolean tensor, got list",
            ),
            (
                lambda: patterns.layers_to_reach([square, square[:2]]),
                ValueError,
                "patterns must be (3, 3), got (2, 3)",
            ),
        ]
        for call, error, message in wrong:
            with pytest.raises(error, match=f"^{re.escape(message)}$"):
                call()
