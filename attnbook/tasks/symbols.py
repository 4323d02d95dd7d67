"""Texts as symbols: a vocabulary, padded batches of pairs, and batches without end.

The tasks of translation share it: dates, spellings, summaries. 0 pads, 1 starts, 2 ends.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import torch
from jaxtyping import Int
from torch import Tensor

__all__ = ["Batch", "Vocabulary", "batches", "pad"]

Example = TypeVar("Example")


class Batch(NamedTuple):
    """Pairs as symbols, each side padded at the end.

    Attributes:
        source: `(B, S)`.
        lengths: `(B,)`, of the sources.
        target: `(B, T)`, each with the end symbol.
    """

    source: Int[Tensor, "B S"]
    lengths: Int[Tensor, " B"]
    target: Int[Tensor, "B T"]


class Vocabulary:
    """Tokens to symbols and back; 0 pads, 1 starts, 2 ends.

    Args:
        tokens: in the order of their symbols, which begin at 3; a token given twice counts once.
        separator: stands between the tokens of a text; if empty, a token is one character.

    Raises:
        ValueError: a token is empty, holds the separator, or, without one, is not one character;
            (from `encode`) the text is empty or has a token outside the vocabulary.

    >>> digits = Vocabulary("0123456789-")
    >>> digits.encode("20-")
    [5, 3, 13]
    >>> phones = Vocabulary(["K", "AE", "T"], separator=" ")
    >>> phones.decode([*phones.encode("K AE T"), phones.END, phones.PAD])
    'K AE T'
    """

    PAD, START, END = 0, 1, 2

    def __init__(self, tokens: Iterable[str], separator: str = "") -> None:
        self.tokens = tuple(dict.fromkeys(tokens))
        self.separator = separator
        for token in self.tokens:
            if not token or (separator in token if separator else len(token) != 1):
                want = f"not empty and without {separator!r}" if separator else "one character"
                raise ValueError(f"tokens must be {want}, got {token!r}")
        self._symbol = {token: i for i, token in enumerate(self.tokens, start=3)}

    def __len__(self) -> int:
        return len(self.tokens) + 3

    def encode(self, text: str) -> list[int]:
        """The symbols of a text, one for each token."""
        if not text:
            raise ValueError("text must not be empty")
        tokens = text.split(self.separator) if self.separator else text
        unknown = sorted(set(tokens) - self._symbol.keys())
        if unknown:
            raise ValueError(f"text {text!r} has tokens outside the vocabulary: {unknown}")
        return [self._symbol[token] for token in tokens]

    def decode(self, symbols: Iterable[int]) -> str:
        """The text up to the first end symbol; padding and start symbols are left out.

        Raises:
            ValueError: a symbol is negative or beyond the vocabulary.
        """
        found = []
        for symbol in symbols:
            if not 0 <= symbol < len(self):
                raise ValueError(f"symbols must be in 0..{len(self) - 1}, got {symbol}")
            if symbol == self.END:
                break
            if symbol > self.END:
                found.append(self.tokens[symbol - 3])
        return self.separator.join(found)


def pad(sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]) -> Batch:
    """Pairs of symbols as one batch; each target gets its end symbol.

    Raises:
        ValueError: there are none, not as many targets as sources, or a source is empty.

    >>> pad([[3, 4, 5], [6]], [[7], [8, 9]])
    Batch(source=tensor([[3, 4, 5],
            [6, 0, 0]]), lengths=tensor([3, 1]), target=tensor([[7, 2, 0],
            [8, 9, 2]]))
    """
    if not sources or not all(sources):
        raise ValueError("sources must not be empty, nor any of them")
    if len(sources) != len(targets):
        raise ValueError(f"sources has {len(sources)} sequences but targets has {len(targets)}")
    padded = (
        torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
        for rows in (sources, [[*row, Vocabulary.END] for row in targets])
    )
    source, target = padded
    return Batch(source, torch.tensor([len(row) for row in sources]), target)


def batches(
    draw: Callable[[int, random.Random], list[Example]],
    make: Callable[[list[Example]], Batch],
    length: Callable[[Example], int],
    *,
    size: int,
    seed: int,
    pool: int = 20,
) -> Iterator[Batch]:
    """Training batches without end: `pool` of them drawn at a time, sorted by length.

    Sorting within a pool wastes little on padding (Bahdanau, Cho, Bengio 2015, appendix B.2).

    Args:
        draw: `draw(n, generator)` gives `n` training examples.
        make: makes a batch of some examples.
        length: what the examples of a pool are sorted by.
        size: examples in a batch.
        seed: of the drawing.
        pool: batches drawn at a time.

    Raises:
        ValueError: size or pool is below 1.

    >>> some = batches(lambda n, g: [g.randint(3, 9) for _ in range(n)],
    ...     lambda many: pad([[n] for n in many], [[n] for n in many]), abs, size=2, seed=0)
    >>> next(some).lengths
    tensor([1, 1])
    """
    for name, number in (("size", size), ("pool", pool)):
        if number < 1:
            raise ValueError(f"{name} must be at least 1, got {number}")
    return _batches(draw, make, length, size, random.Random(seed), pool)


def _batches(
    draw: Callable[[int, random.Random], list[Example]],
    make: Callable[[list[Example]], Batch],
    length: Callable[[Example], int],
    size: int,
    generator: random.Random,
    pool: int,
) -> Iterator[Batch]:
    while True:
        examples = sorted(draw(size * pool, generator), key=length)
        for i in generator.sample(range(pool), pool):
            yield make(examples[i * size : (i + 1) * size])
