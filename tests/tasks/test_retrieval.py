from itertools import islice

import pytest
import torch

from attnbook.tasks.retrieval import DIGITS, LETTERS, MARK, batches, draw, text


def test_the_answer_is_the_digit_behind_the_letter_that_is_asked():
    batch = draw(60, pairs=5, generator=torch.Generator().manual_seed(0))
    assert batch.symbols.shape == (60, 13)
    for line, answer, place in zip(
        text(batch), batch.answer.tolist(), batch.found_at.tolist(), strict=True
    ):
        listed, letter = line.split("??")
        pairs = dict(zip(listed[::2], listed[1::2], strict=True))
        assert len(pairs) == 5
        assert pairs[letter] == str(answer) == line[place]
        assert "".join(pairs).isalpha()


def test_every_pair_is_asked_for_and_every_symbol_comes():
    batch = draw(3000, pairs=4, generator=torch.Generator().manual_seed(0))
    asked = torch.bincount(batch.found_at, minlength=9)[1:8:2] / 3000
    assert (asked - 0.25).abs().max() < 0.04
    assert (torch.bincount(batch.answer, minlength=DIGITS) / 3000 - 0.1).abs().max() < 0.03
    assert batch.symbols.unique().tolist() == list(range(MARK + 1))
    assert MARK == DIGITS + LETTERS == 36


def test_batches_are_new_and_repeat_with_their_seed():
    one, two = (list(islice(batches(4, pairs=3, seed=1), 2)) for _ in range(2))
    assert torch.equal(one[1].symbols, two[1].symbols)
    assert not torch.equal(one[0].symbols, one[1].symbols)


def test_clear_errors():
    generator = torch.Generator()
    with pytest.raises(ValueError, match=r"^pairs must be in 1\.\.26, got 27$"):
        draw(2, pairs=27, generator=generator)
    with pytest.raises(ValueError, match=r"^size must be at least 1, got 0$"):
        draw(0, pairs=3, generator=generator)
