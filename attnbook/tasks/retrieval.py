"""Associative retrieval: letters with a digit each, then the question which digit a letter had.

    c9k8j3f1??c  ->  9

The pairs are new in every sequence, and only the answer counts: nothing else is predicted. `P`
pairs make `T = 2 P + 3` symbols.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

__all__ = ["DIGITS", "LETTERS", "MARK", "Retrieval", "batches", "draw", "text"]

DIGITS = 10
"""How many values there are."""
LETTERS = 26
"""How many keys there are."""
MARK = DIGITS + LETTERS
"""The question mark; digits are symbols 0 to 9, letters 10 to 35."""


class Retrieval(NamedTuple):
    """Sequences with their answers.

    Attributes:
        symbols: `(B, 2 P + 3)`: letters and digits in turn, two question marks, a letter.
        answer: `(B,)`, the digit that stood behind that letter.
        found_at: `(B,)`, the place where it stood.
    """

    symbols: Int[Tensor, "B T"]
    answer: Int[Tensor, " B"]
    found_at: Int[Tensor, " B"]


def draw(size: int, pairs: int, generator: torch.Generator) -> Retrieval:
    """Random sequences.

    Args:
        size: `B`.
        pairs: `P`. The letters of a sequence differ from one another; its digits need not.
        generator: of the random numbers.

    Raises:
        ValueError: size is below 1, or pairs is not in 1..26.

    Source:
        Ba et al. 2016, section 4.1.

    >>> batch = draw(2, pairs=4, generator=torch.Generator().manual_seed(0))
    >>> text(batch), batch.answer
    (['m3c1d1s0??s', 'j3r6b6s7??b'], tensor([0, 6]))
    """
    if size < 1:
        raise ValueError(f"size must be at least 1, got {size}")
    if not 1 <= pairs <= LETTERS:
        raise ValueError(f"pairs must be in 1..{LETTERS}, got {pairs}")
    letters = torch.rand(size, LETTERS, generator=generator).argsort(-1)[:, :pairs] + DIGITS
    digits = torch.randint(DIGITS, (size, pairs), generator=generator)
    asked = torch.randint(pairs, (size, 1), generator=generator)
    listed = torch.stack([letters, digits], dim=-1).flatten(1)
    marks = torch.full((size, 2), MARK)
    symbols = torch.cat([listed, marks, letters.gather(1, asked)], dim=1)
    return Retrieval(symbols, digits.gather(1, asked)[:, 0], 2 * asked[:, 0] + 1)


def batches(size: int, pairs: int, seed: int) -> Iterator[Retrieval]:
    """Batches without end, each drawn anew.

    Args:
        size: `B`.
        pairs: `P`.
        seed: of the random numbers.

    Raises:
        ValueError: (at the first batch) as `draw`.

    >>> next(batches(3, pairs=2, seed=0)).symbols.shape
    torch.Size([3, 7])
    """
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield draw(size, pairs, generator)


def text(batch: Retrieval) -> list[str]:
    """The sequences as they are printed.

    >>> text(Retrieval(torch.tensor([[12, 9, 36, 36, 12]]), torch.tensor([9]), torch.tensor([1])))
    ['c9??c']
    """
    names = "0123456789abcdefghijklmnopqrstuvwxyz?"
    return ["".join(names[s] for s in row) for row in batch.symbols.tolist()]
