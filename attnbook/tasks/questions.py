"""Stories and their questions as tensors: each sentence a row of symbols, in the order as told.

The oldest sentence is in slot 0, the newest in the last slot that is not padding: how long ago a
sentence was told is how many are told after it, and not its slot.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from attnbook.tasks.stories import Story
from attnbook.tasks.symbols import Vocabulary
from attnbook.tasks.ways import STEPS, WAYS
from attnbook.tasks.worlds import NUMBERS, PEOPLE, ROOMS, THINGS

__all__ = ["VOCABULARY", "Batch", "encode"]

_GRAMMAR = (
    "which room is in was before the how many things does have way it from to of "
    "walks into takes leaves behind"
)

VOCABULARY = Vocabulary(
    [*_GRAMMAR.split(), *PEOPLE, *ROOMS, *THINGS, *STEPS, "yes", "no", *NUMBERS, *WAYS],
    separator=" ",
)
"""Every word of every story, question and answer: the same symbols for all tasks; 0 pads."""


class Batch(NamedTuple):
    """Stories as symbols, padded with 0.

    Attributes:
        stories: `(B, S, W)`, the **oldest** sentence in slot 0, padding behind the newest;
            `W` words.
        questions: `(B, Q)`, `Q` words.
        answers: `(B,)`, a symbol each.
        facts: `(B, F)`, the slots of the supporting facts in the order in which they are needed,
            then -1.
    """

    stories: Int[Tensor, "B S W"]
    questions: Int[Tensor, "B Q"]
    answers: Int[Tensor, " B"]
    facts: Int[Tensor, "B F"]

    @property
    def told(self) -> Bool[Tensor, "B S"]:
        """Which slots hold a sentence: the mask of the memory."""
        return (self.stories > 0).any(-1)

    @property
    def supporting(self) -> Bool[Tensor, "B S"]:
        """Which slots hold a supporting fact."""
        slots = torch.arange(self.stories.shape[1])
        return (self.facts[..., None] == slots).any(1)


def encode(stories: Sequence[Story], slots: int | None = None) -> Batch:
    """Stories as one batch, padded to the longest story, sentence and question.

    Args:
        stories: of one task or of several.
        slots: `S`, if it is to be more than the longest story has sentences.

    Raises:
        TypeError: one story came without a list around it.
        ValueError: there are no stories, one has more sentences than slots or none, a fact is not
            the place of a sentence, an answer is not one word, or a word is not in the vocabulary.

    >>> story = Story(("Ada walks into the attic", "Ben takes the map"), "which room is Ada in",
    ...     "attic", (0,))
    >>> batch = encode([story], slots=3)
    >>> [VOCABULARY.decode(row) for row in batch.stories[0].tolist()]
    ['Ada walks into the attic', 'Ben takes the map', '']
    >>> batch.facts, batch.supporting, batch.told
    (tensor([[0]]), tensor([[ True, False, False]]), tensor([[ True,  True, False]]))
    """
    if isinstance(stories, Story):
        raise TypeError("stories must be a sequence of stories, got one Story")
    longest = max((len(story.sentences) for story in stories), default=0)
    if not longest or not all(story.sentences for story in stories):
        raise ValueError("stories must not be empty, nor any of them")
    for story in stories:
        if not all(0 <= fact < len(story.sentences) for fact in story.facts):
            raise ValueError(
                f"facts must be places of {len(story.sentences)} sentences, got {story.facts}"
            )
        if len(story.answer.split()) != 1:
            raise ValueError(f"answer must be one word, got {story.answer!r}")
    slots = longest if slots is None else slots
    if slots < longest:
        raise ValueError(f"slots must be at least {longest}, the longest story, got {slots}")
    symbols = {s: VOCABULARY.encode(s) for story in stories for s in story.sentences}
    words = max(len(row) for row in symbols.values())
    empty = [0] * words
    rows = {sentence: row + empty[len(row) :] for sentence, row in symbols.items()}
    told = [[rows[s] for s in story.sentences] for story in stories]
    return Batch(
        torch.tensor([story + [empty] * (slots - len(story)) for story in told]),
        _padded([VOCABULARY.encode(story.question) for story in stories], 0),
        torch.tensor([VOCABULARY.encode(story.answer)[0] for story in stories]),
        _padded([list(story.facts) for story in stories], -1),
    )


def _padded(rows: list[list[int]], fill: int) -> Tensor:
    longest = max(map(len, rows))
    return torch.tensor([row + [fill] * (longest - len(row)) for row in rows], dtype=torch.int64)
