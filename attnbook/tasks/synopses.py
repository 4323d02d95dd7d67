"""Descriptions of packages and their synopses, for summaries that copy.

12,000 packages of GNU Guix 1.5.0: the first paragraph of the description, 8 to 80 tokens, and the
synopsis, 3 to 12 tokens, that somebody wrote for it. Two of three words of a synopsis stand in its
description, often a name that no vocabulary has. `attnbook/tasks/data/make_synopses.py` made the
file out of 24,046 such pairs.

GNU Guix is copyright its authors (named in the archive), under the GNU General Public License,
version 3 or later. The data file is under the same licence; it comes with the repository and is no
part of the installable package, whose own licence is MIT.
"""

import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import NamedTuple

from jaxtyping import Int
from torch import Tensor

from attnbook.tasks.archive import shipped
from attnbook.tasks.symbols import Vocabulary, pad

__all__ = ["SHA256", "CopyBatch", "Package", "Synopses", "load", "tokens"]

SHA256 = "0e45e7d5b97ce6e60cad77adf2e34311d9685d96f4b0ada018bc73886f90dee5"
"""Checksum of the data file."""

TOKEN = re.compile(r"\w+(?:[-'./+]\w+)*|[^\w\s]")
UNKNOWN = "<unknown>"


class Package(NamedTuple):
    """A package; those of one family share the name's stem, the synopsis or the description."""

    family: int
    name: str
    description: str
    synopsis: str


class CopyBatch(NamedTuple):
    """Pairs as symbols, twice: as the vocabulary has them, and with the words it lacks.

    A word of a description that the vocabulary lacks is 3 in `source`; in `copied` it is
    `len(vocabulary) + i` if it is the i-th such word of its description.

    Attributes:
        source: `(B, S)`, padded with 0.
        copied: `(B, S)`, the same with numbers for unknown words.
        lengths: `(B,)`, of the sources.
        target: `(B, T)`, each with the end symbol; 3 where the vocabulary lacks the word.
        written: `(B, T)`, the target with the numbers of `copied`; 3 is left where the description
            lacks the word as well.
        unknown: for each pair, the words that the numbers mean.
    """

    source: Int[Tensor, "B S"]
    copied: Int[Tensor, "B S"]
    lengths: Int[Tensor, " B"]
    target: Int[Tensor, "B T"]
    written: Int[Tensor, "B T"]
    unknown: tuple[tuple[str, ...], ...]


@cache
def load() -> tuple[Package, ...]:
    """Read the packages that come with the repository.

    Raises:
        FileNotFoundError: the data file is not there.
        ValueError: the data file is not the one that was published; its checksum differs.

    >>> packages = load()
    >>> len(packages), packages[1].synopsis
    (12000, 'Library implementing Maxflow algorithm')
    """
    try:
        text = shipped("synopses.tar.xz", SHA256)["packages.txt"].decode()
    except FileNotFoundError:
        raise FileNotFoundError(
            "synopses.tar.xz comes with the repository of attnbook, not with the installed package "
            "(it is under the GPL); run this in a clone"
        ) from None
    rows = (line.split("\t") for line in text.splitlines())
    return tuple(Package(int(family), *rest) for family, *rest in rows)


def tokens(text: str) -> list[str]:
    """Words and marks of punctuation, in small letters.

    >>> tokens("A BibTeX-style, e.g. for r-cpp11.")
    ['a', 'bibtex-style', ',', 'e.g', '.', 'for', 'r-cpp11', '.']
    """
    return TOKEN.findall(text.lower())


class Synopses:
    """Descriptions to synopses, split so that no family of packages is on both sides.

    Args:
        words: size of the vocabulary: the most frequent tokens of the training pairs.
        test_share: about this share of the packages is for testing.
        seed: of the split.

    Raises:
        ValueError: words is below 1, or one side would be empty.

    >>> synopses = Synopses(words=2000)
    >>> len(synopses.vocabulary)  # with padding, start, end and unknown
    2004
    """

    def __init__(self, *, words: int = 3000, test_share: float = 0.1, seed: int = 0) -> None:
        if words < 1:
            raise ValueError(f"words must be at least 1, got {words}")
        everything = load()
        families = list(dict.fromkeys(package.family for package in everything))
        random.Random(seed).shuffle(families)
        cut = round(test_share * len(families))
        if not 0 < cut < len(families):
            raise ValueError(f"test_share must leave both sides packages, got {test_share}")
        kept = set(families[:cut])
        self.test_packages = [p for p in everything if p.family in kept]
        self.train_packages = [p for p in everything if p.family not in kept]
        self.counts: Counter[str] = Counter()
        """How often each token occurs in the training pairs."""
        for package in self.train_packages:
            self.counts.update(tokens(package.description) + tokens(package.synopsis))
        frequent = sorted(self.counts, key=lambda token: (-self.counts[token], token))[:words]
        self.vocabulary = Vocabulary([UNKNOWN, *frequent], separator=" ")
        self._symbol = {token: n for n, token in enumerate(self.vocabulary.tokens, start=3)}

    def batch(self, packages: Sequence[Package]) -> CopyBatch:
        """Packages as tensors.

        Raises:
            ValueError: there are none.
        """
        if not packages:
            raise ValueError("packages must not be empty")
        unknown = []
        rows: tuple[list[list[int]], ...] = ([], [], [], [])
        for package in packages:
            said, wanted = tokens(package.description), tokens(package.synopsis)
            lacking = tuple(dict.fromkeys(t for t in said if t not in self._symbol))
            number = {t: len(self.vocabulary) + n for n, t in enumerate(lacking)} | self._symbol
            unknown.append(lacking)
            for row, some, table in zip(
                rows,
                (said, said, wanted, wanted),
                (self._symbol, number, self._symbol, number),
                strict=True,
            ):
                row.append([table.get(t, self._symbol[UNKNOWN]) for t in some])
        source, copied, target, written = rows
        known, extended = pad(source, target), pad(copied, written)
        return CopyBatch(
            known.source,
            extended.source,
            known.lengths,
            known.target,
            extended.target,
            tuple(unknown),
        )

    def batches(self, size: int, seed: int) -> Iterator[CopyBatch]:
        """Training batches without end, each drawn at random.

        Raises:
            ValueError: size is below 1.
        """
        if size < 1:
            raise ValueError(f"size must be at least 1, got {size}")
        return self._batches(size, random.Random(seed))

    def _batches(self, size: int, draw: random.Random) -> Iterator[CopyBatch]:
        while True:
            yield self.batch(draw.choices(self.train_packages, k=size))

    def decode(self, symbols: Iterable[int], unknown: Sequence[str] = ()) -> list[str]:
        """The tokens up to the first end symbol; padding and start symbols are left out.

        Args:
            symbols: of the vocabulary, or numbers beyond it.
            unknown: the words that those numbers mean.

        Raises:
            ValueError: a symbol is negative, or beyond the vocabulary and the unknown words.
        """
        found: list[str] = []
        every = (*self.vocabulary.tokens, *unknown)
        for symbol in symbols:
            if not 0 <= symbol < len(every) + 3:
                raise ValueError(f"symbols must be in 0..{len(every) + 2}, got {symbol}")
            if symbol == Vocabulary.END:
                break
            if symbol > Vocabulary.END:
                found.append(every[symbol - 3])
        return found
