"""Messages of programs, English to Chinese, in subwords.

5,554 messages of the interfaces of JupyterLab, Django, Wagtail and Sphinx, from a word to twenty:
"Use Kernel from Other Session" is 使用来自其他会话的内核. What a program fills in is `{0}`, `{1}`.
`attnbook/tasks/data/make_messages.py` made the file out of the packages' own catalogues.

The messages are copyright Project Jupyter Contributors, the Django Software Foundation and
individual contributors, Torchbox Ltd and individual contributors, and the Sphinx team, under BSD
licences of two and three clauses, which are inside the archive and beside it.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import NamedTuple

from attnbook.tasks import symbols
from attnbook.tasks.archive import shipped
from attnbook.tasks.symbols import Batch

try:
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
    from tokenizers.pre_tokenizers import Digits, Metaspace, Punctuation
    from tokenizers.pre_tokenizers import Sequence as InOrder
    from tokenizers.trainers import BpeTrainer
except ImportError as error:  # pragma: no cover - tested in a fresh interpreter
    raise ImportError(
        "attnbook.tasks.messages needs tokenizers; install it with: pip install attnbook[labs]"
    ) from error

__all__ = ["SHA256", "Message", "Messages", "Subwords", "load"]

SHA256 = "5456c37d163f044a73b7ac713e4234e8df551b10878e9427c2ddeddbff312162"
"""Checksum of the data file."""


class Message(NamedTuple):
    """A message and its translation; those of one family say nearly the same."""

    family: int
    package: str
    english: str
    chinese: str


@cache
def load() -> tuple[Message, ...]:
    """Read the messages that come with the package.

    Raises:
        FileNotFoundError: the data file is not there.
        ValueError: the data file is not the one that was published; its checksum differs.

    >>> messages = load()
    >>> len(messages), messages[0]
    (5554, Message(family=0, package='jupyterlab', english='Revert', chinese='撤回'))
    """
    lines = shipped("messages.tar.xz", SHA256)["messages.txt"].decode().splitlines()
    rows = (line.split("\t") for line in lines)
    return tuple(Message(int(family), *rest) for family, *rest in rows)


class Subwords:
    """A vocabulary of pieces of words, learnt by byte-pair encoding from characters up.

    The most frequent pair of neighbours becomes one symbol, again and again, within stretches that
    blanks, digits and punctuation part; `▁` in a piece is the blank before it. 0 pads, 1 starts, 2
    ends, 3 is a character that the texts lacked; `{0}` to `{3}` are one symbol each.

    Args:
        texts: to learn from.
        size: symbols, with the eight above. There are fewer if no pair is left that occurs twice.
        lower: whether texts are read in small letters.

    Raises:
        ValueError: there are no texts, or they have more characters than size allows for;
            (from `encode`) the text is empty.

    Source:
        Sennrich, Haddow, Birch 2016, section 3.2; the library is `tokenizers`.

    >>> subwords = Subwords(["open file", "open folder", "Save the file {0}"], 40, lower=True)
    >>> subwords.pieces(subwords.encode("Save folder {0}"))
    ['▁', 'sav', 'e', '▁f', 'olde', 'r', '▁', '{0}']
    >>> subwords.decode(subwords.encode("Save folder {0}"))
    'save folder {0}'
    """

    PAD, START, END, UNKNOWN = 0, 1, 2, 3
    FIELDS = ("{0}", "{1}", "{2}", "{3}")

    def __init__(self, texts: Iterable[str], size: int, *, lower: bool = False) -> None:
        texts = list(texts)
        if not any(texts):
            raise ValueError("texts must not be empty")
        if size < 9:
            raise ValueError(
                f"size must be at least 9, with eight symbols always there, got {size}"
            )
        scheme = "first" if lower else "never"  # a blank before the first English word as well
        self._tokenizer = Tokenizer(models.BPE(unk_token="<unknown>"))
        if lower:
            self._tokenizer.normalizer = normalizers.Lowercase()
        self._tokenizer.pre_tokenizer = InOrder(
            [Metaspace(prepend_scheme=scheme), Punctuation(), Digits(individual_digits=True)]
        )
        self._tokenizer.decoder = decoders.Metaspace(prepend_scheme=scheme)
        first = ["<pad>", "<start>", "<end>", "<unknown>"]
        self._tokenizer.train_from_iterator(
            texts,
            BpeTrainer(
                vocab_size=size - len(self.FIELDS), special_tokens=first, show_progress=False
            ),
        )
        self._tokenizer.add_tokens([AddedToken(f, normalized=False) for f in self.FIELDS])
        self._tokenizer.encode_special_tokens = True  # a text that says "<end>" does not end
        if len(self) > size:
            raise ValueError(f"size must be at least {len(self)} for these texts, got {size}")

    def __len__(self) -> int:
        return self._tokenizer.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        """The symbols of a text."""
        if not text.strip():
            raise ValueError("text must not be empty")
        return self._tokenizer.encode(text).ids

    def pieces(self, symbols: Iterable[int]) -> list[str]:
        """Each symbol as it is written, up to the first end symbol, without padding and start.

        Raises:
            ValueError: a symbol is negative or beyond the vocabulary.
        """
        found = []
        for symbol in symbols:
            piece = self._tokenizer.id_to_token(symbol) if symbol >= 0 else None
            if piece is None:
                raise ValueError(f"symbols must be in 0..{len(self) - 1}, got {symbol}")
            if symbol == self.END:
                break
            if symbol > self.END:
                found.append(piece)
        return found

    def decode(self, symbols: Iterable[int]) -> str:
        """The text up to the first end symbol; errors as in `pieces`."""
        return self._tokenizer.decoder.decode(self.pieces(symbols))


class Messages:
    """English to Chinese, split so that no family of messages is on two sides.

    The English side is read in small letters; the Chinese side is kept as it is. Both vocabularies
    are learnt from the training messages alone.

    Args:
        source_size: English subwords.
        target_size: Chinese subwords; there are about 1,100 different characters.
        dev_share: about this share of the messages is for choosing between settings.
        test_share: about this share is for testing.
        seed: of the split.

    Raises:
        ValueError: one side would be empty, or a size is too small.

    >>> task = Messages()
    >>> len(task.train_messages), len(task.dev_messages), len(task.test_messages)
    (4451, 576, 527)
    >>> batch = task.batch([message for message in load() if message.english == "File Browser"])
    >>> task.source.pieces(batch.source[0].tolist()), task.target.pieces(batch.target[0].tolist())
    (['▁file', '▁browser'], ['文件浏览器'])
    """

    def __init__(
        self,
        *,
        source_size: int = 1000,
        target_size: int = 2000,
        dev_share: float = 0.1,
        test_share: float = 0.1,
        seed: int = 0,
    ) -> None:
        everything = load()
        numbers = list(dict.fromkeys(message.family for message in everything))
        random.Random(seed).shuffle(numbers)
        place = {number: n / len(numbers) for n, number in enumerate(numbers)}
        sides: tuple[list[Message], ...] = ([], [], [])
        for message in everything:
            at = place[message.family]
            sides[0 if at < test_share else 1 if at < test_share + dev_share else 2].append(message)
        self.test_messages, self.dev_messages, self.train_messages = sides
        if not all(sides):
            raise ValueError(
                "dev_share and test_share must leave every side messages, "
                f"got {dev_share} and {test_share}"
            )
        self.source = Subwords((m.english for m in self.train_messages), source_size, lower=True)
        self.target = Subwords((m.chinese for m in self.train_messages), target_size)

    def batch(self, messages: Sequence[Message]) -> Batch:
        """Messages as tensors.

        Raises:
            ValueError: there are none.
        """
        if not messages:
            raise ValueError("messages must not be empty")
        return symbols.pad(
            [self.source.encode(message.english) for message in messages],
            [self.target.encode(message.chinese) for message in messages],
        )

    def batches(self, size: int, seed: int, pool: int = 20) -> Iterator[Batch]:
        """Training batches without end.

        Raises:
            ValueError: size or pool is below 1.
        """
        return symbols.batches(
            lambda n, draw: draw.choices(self.train_messages, k=n),
            self.batch,
            lambda message: len(message.english),
            size=size,
            seed=seed,
            pool=pool,
        )
