"""Each mask against a loop over its definition."""

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from attnbook import attend
from attnbook.masks import causal, document, padding, window

SIZES = list(itertools.product(range(5), range(6), range(4)))


def by_pair(oracle: Callable[[int, int], bool], L: int, S: int) -> Tensor:
    rows = [[oracle(i, j) for j in range(S)] for i in range(L)]
    return torch.tensor(rows, dtype=torch.bool).reshape(L, S)


@pytest.mark.parametrize(("L", "S", "offset"), SIZES)
def test_causal(L: int, S: int, offset: int) -> None:
    assert torch.equal(causal(L, S, offset), by_pair(lambda i, j: j <= i + offset, L, S))


@pytest.mark.parametrize(("L", "S", "offset"), SIZES)
@pytest.mark.parametrize("width", [0, 1, 2])
def test_window(L: int, S: int, offset: int, width: int) -> None:
    expected = by_pair(lambda i, j: abs(i + offset - j) <= width, L, S)
    assert torch.equal(window(L, S, width, offset), expected)


@pytest.mark.parametrize("lengths", [[0, 3, 5], [[1], [2]], 4, []])
def test_padding(lengths: list[int]) -> None:
    lengths = torch.tensor(lengths, dtype=torch.int64)
    mask = padding(lengths, 5)
    assert mask.shape == (*lengths.shape, 1, 5)
    for index in itertools.product(*map(range, lengths.shape)):
        for j in range(5):
            assert mask[(*index, 0, j)] == (j < lengths[index])


@pytest.mark.parametrize("ids", [[5, 5, 2, 5], [[0, 0, 1], [3, 4, 4]], []])
def test_document(ids: list[int]) -> None:
    ids = torch.tensor(ids, dtype=torch.int32)
    mask = document(ids)
    assert mask.shape == (*ids.shape, ids.shape[-1])
    for *batch, i, j in itertools.product(*map(range, mask.shape)):
        assert mask[(*batch, i, j)] == (ids[(*batch, i)] == ids[(*batch, j)])


def test_a_cache_gives_what_the_whole_sequence_gives() -> None:
    """The last queries alone, with the others' keys in a cache: `offset` is what aligns them."""
    torch.manual_seed(0)
    x = torch.randn(7, 4)
    whole = attend(x, x, x, mask=causal(7, 7)).output
    for cached in range(7):
        mask = causal(7 - cached, 7, offset=cached)
        torch.testing.assert_close(attend(x[cached:], x, x, mask=mask).output, whole[cached:])


def test_masks_join() -> None:
    """Packed documents, causal, the last position padding: as one mask and as one loop."""
    ids, lengths = torch.tensor([[0, 0, 0, 1, 1, 1]]), torch.tensor([5])
    mask = causal(6, 6) & document(ids) & padding(lengths, 6) & window(6, 6, width=1)
    expected = by_pair(lambda i, j: j <= i and i // 3 == j // 3 and j < 5 and i - j <= 1, 6, 6)
    assert torch.equal(mask[0], expected)


def test_heads_take_lengths_with_an_axis_for_them() -> None:
    query, lengths = torch.randn(2, 3, 4, 5), torch.tensor([1, 4])
    weights = attend(query, query, query, mask=padding(lengths[:, None], 4)).weights
    assert (weights[0, ..., 1:] == 0).all()
    assert (weights[1] > 0).all()


@pytest.mark.parametrize("make", [causal, lambda L, S, **k: window(L, S, 1, **k)])
def test_a_mask_is_made_where_it_is_asked_for(make: Callable[..., Tensor]) -> None:
    assert make(2, 3, device="meta").device.type == "meta"
    assert make(2, 3).dtype == torch.bool


def test_padding_and_document_live_with_their_argument() -> None:
    ids = torch.zeros(3, dtype=torch.int64, device="meta")
    assert document(ids).device.type == "meta"
