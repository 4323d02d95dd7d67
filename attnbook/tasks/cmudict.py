"""English spelling to phonemes: a subset of the CMU Pronouncing Dictionary, shipped.

50,003 words of 3 to 12 letters with all their pronunciations, "colonel" is `K ER N AH L`: 39
phonemes, without stress. Some 3,100 words have more than one pronunciation, and a model is scored
against the closest. `attnbook/tasks/data/make_cmudict.py` made the file.

CMUdict is copyright 1993-2015 Carnegie Mellon University, under a licence of two clauses, which is
inside the archive and beside it.
"""

import random
from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

from attnbook.tasks import symbols
from attnbook.tasks.archive import shipped
from attnbook.tasks.symbols import Batch, Vocabulary

__all__ = ["PHONEMES", "SHA256", "Errors", "Spellings", "Word", "distance", "errors", "load"]

PHONEMES = (
    *("AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY", "F", "G", "HH"),
    *("IH", "IY", "JH", "K", "L", "M", "N", "NG", "OW", "OY", "P", "R", "S", "SH", "T", "TH", "UH"),
    *("UW", "V", "W", "Y", "Z", "ZH"),
)
"""The 39 phonemes, in the dictionary's own letters (ARPAbet)."""

SHA256 = "9eb1e44cbb6c16465fdd20be8df5250c1876da3fa87412f379d5171a20ffd6f3"
"""Checksum of the data file."""


class Word(NamedTuple):
    """A spelling, and its pronunciations, each as phonemes with spaces between."""

    spelling: str
    pronunciations: tuple[str, ...]


class Errors(NamedTuple):
    """How far outputs are from the closest pronunciation.

    Attributes:
        phoneme: edits needed, over the number of phonemes in the closest pronunciations.
        word: the share of words that are none of their pronunciations.
    """

    phoneme: float
    word: float


@cache
def load() -> tuple[Word, ...]:
    """Read the words that come with the package.

    Raises:
        FileNotFoundError: the data file is not there.
        ValueError: the data file is not the one that was published; its checksum differs.

    >>> words = load()
    >>> len(words), words[7]
    (50003, Word(spelling='aback', pronunciations=('AH B AE K',)))
    """
    lines = shipped("cmudict.tar.xz", SHA256)["words.txt"].decode().splitlines()
    pairs = (line.split("\t") for line in lines)
    return tuple(Word(spelling, tuple(several.split("|"))) for spelling, several in pairs)


class Spellings:
    """Words to be pronounced, split so that none is tested whose first four letters were learnt.

    Words with the same first four letters are on one side: who has learnt "pronounce" is not tested
    on "pronounced". (A word of three letters is a family of its own: "eggs" may be tested where
    "egg" was learnt. So may a word that sounds like a training word and is spelt differently.)

    Args:
        test_share: about this share of the words is for testing.
        seed: of the split.

    Raises:
        ValueError: one side would be empty.

    >>> spellings = Spellings()
    >>> len(spellings.train_words), len(spellings.test_words)
    (45003, 5000)
    """

    def __init__(self, *, test_share: float = 0.1, seed: int = 0) -> None:
        words = load()
        families: dict[str, list[Word]] = {}
        for word in words:
            families.setdefault(word.spelling[:4], []).append(word)
        several = list(families.values())
        random.Random(seed).shuffle(several)
        self.train_words: list[Word] = []
        self.test_words: list[Word] = []
        for family in several:
            free = test_share * len(words) - len(self.test_words)
            (self.test_words if len(family) <= free else self.train_words).extend(family)
        if not self.train_words or not self.test_words:
            raise ValueError(f"test_share must leave both sides words, got {test_share}")
        self.source = Vocabulary("abcdefghijklmnopqrstuvwxyz")
        self.target = Vocabulary(PHONEMES, separator=" ")

    def batch(self, words: Sequence[Word], choose: random.Random | None = None) -> Batch:
        """Words as tensors, with the first pronunciation, or with one that `choose` draws.

        Raises:
            ValueError: there are none, or a character is not a letter a to z.
        """
        if not words:
            raise ValueError("words must not be empty")
        said = (w.pronunciations for w in words)
        targets = [choose.choice(several) if choose else several[0] for several in said]
        return symbols.pad(
            [self.source.encode(w.spelling) for w in words],
            [self.target.encode(target) for target in targets],
        )

    def batches(self, size: int, seed: int, pool: int = 20) -> Iterator[Batch]:
        """Training batches without end; a word with several pronunciations draws one each time.

        Raises:
            ValueError: size or pool is below 1.
        """
        choose = random.Random(seed)
        return symbols.batches(
            lambda n, draw: draw.choices(self.train_words, k=n),
            lambda words: self.batch(words, choose),
            lambda word: len(word.spelling),
            size=size,
            seed=seed,
            pool=pool,
        )


def distance(one: Sequence[str], other: Sequence[str]) -> int:
    """The fewest insertions, deletions and substitutions that turn one into the other.

    It is Levenshtein's distance, by dynamic programming: O(len(one) len(other)).

    >>> distance("K AE T".split(), "K AH T S".split())
    2
    """
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, start=1):
        corner, row[0] = row[0], i
        for j, b in enumerate(other, start=1):
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (a != b))
    return row[-1]


def errors(outputs: Sequence[str], words: Sequence[Word]) -> Errors:
    """Phoneme and word error of one output for each word, against its closest pronunciation.

    Of two pronunciations as close, the longer one counts. More than one edit a phoneme is possible.

    Raises:
        ValueError: there are no words, or not as many outputs.

    >>> words = [Word("either", ("IY DH ER", "AY DH ER")), Word("cat", ("K AE T",))]
    >>> errors(["AY DH ER", "K AA T"], words)
    Errors(phoneme=0.16666666666666666, word=0.5)
    """
    if not words or len(outputs) != len(words):
        raise ValueError(
            f"outputs must be one for each of the words, got {len(outputs)} outputs "
            f"for {len(words)} words"
        )
    edits = phonemes = wrong = 0
    for output, word in zip(outputs, words, strict=True):
        least, length = min(
            (distance(output.split(), said.split()), -len(said.split()))
            for said in word.pronunciations
        )
        edits, phonemes, wrong = edits + least, phonemes - length, wrong + (least > 0)
    return Errors(edits / phonemes, wrong / len(words))
