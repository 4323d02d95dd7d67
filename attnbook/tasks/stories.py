"""Little stories with a question each, and the sentences that answer it.

    Ada walks into the attic.  Ada takes the rope.  Ada walks into the pantry.
    Which room is the rope in?  pantry

The kinds of question are those of tasks 1, 2, 3, 6 and 7 of bAbI (Weston et al. 2015), and of task
19 in `attnbook.tasks.ways`. The people, the rooms, the sentences and the program are ours, so what
is measured here is not measured on bAbI. What can happen has one wording, an answer is one word.

People walk about, take things and leave them, at random (`attnbook.tasks.worlds`). Every answer
follows from the sentences alone, and `Story.facts` says from which. `attnbook.tasks.questions`
makes tensors of stories.

How often a guess that follows no chain of facts is right, of 6,000 stories of 8 to 12 sentences:
the most frequent answer, the last room named, and logistic regression on how often each word is in
the story and in the question (learnt from 5,000, tested on 1,000).

| task | most frequent | last room | words |
|---|---|---|---|
| `single_fact` | 17 % | 39 % | 34 % |
| `two_facts` | 17 % | 33 % | 38 % |
| `three_facts` | 17 % | 12 % | 44 % |
| `yes_no` | 50 % | never | 50 % |
| `counting` | 25 % | never | 42 % |
"""

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

from attnbook.tasks.worlds import (
    NUMBERS,
    TAKES,
    THINGS,
    WALKS,
    Event,
    Found,
    life,
    number_with,
    room_before,
    room_of,
    room_with,
    visits,
    walks,
)

__all__ = [
    "Story",
    "check",
    "counting",
    "draw",
    "single_fact",
    "tell",
    "three_facts",
    "two_facts",
    "yes_no",
]


class Story(NamedTuple):
    """A story and a question, without full stops and question marks.

    Attributes:
        sentences: as they are told; the newest is the last.
        question: about what is so after the last sentence.
        answer: one word.
        facts: the places in `sentences` of those that give the answer, in the order in which they
            are needed. For "which room is the rope in": who took it, then where they went.
    """

    sentences: tuple[str, ...]
    question: str
    answer: str
    facts: tuple[int, ...]


def draw(
    task: Callable[[random.Random, int], Story],
    size: int,
    generator: random.Random,
    lengths: Sequence[int] = range(8, 13),
) -> list[Story]:
    """Stories of one kind, all different: cut the list in two for training and testing.

    Args:
        task: `single_fact`, `two_facts`, `three_facts`, `yes_no`, `counting`, or `path_finding`,
            which has 2 to 5 sentences.
        size: how many stories.
        generator: of the random numbers.
        lengths: how many sentences a story may have, each as likely.

    Raises:
        TypeError: the generator is not of `random`.
        ValueError: size is below 1, lengths is empty or holds one that the task cannot have, or
            there are not so many different stories. That is taken to be so when 1,000 draws, and 20
            more for each story found, have brought no other: of `n` stories as likely as each other
            the last would be missed once in 5e8 times.

    >>> stories = draw(two_facts, 1000, random.Random(0))
    >>> len(stories), len(set(stories)), stories[0].question, stories[0].answer
    (1000, 1000, 'which room is the rope in', 'workshop')
    """
    if size < 1:
        raise ValueError(f"size must be at least 1, got {size}")
    if not lengths:
        raise ValueError("lengths must not be empty")
    check(generator, max(lengths), least=1)
    found: dict[Story, None] = {}
    known = 0  # how often in a row
    while len(found) < size:
        if (story := task(generator, generator.choice(lengths))) in found:
            known += 1
        else:
            found[story], known = None, 0
        if known == 1000 + 20 * len(found):
            raise ValueError(
                f"size must be at most {len(found)} for these lengths, got {size}: "
                f"{known:,} draws in a row brought no other story"
            )
    return list(found)


def tell(story: Story) -> str:
    """A story to be read: its facts are marked in the order in which they are needed.

    >>> print(tell(Story(("Ada walks into the attic",), "is Ada in the attic", "yes", (0,))))
     (1) Ada walks into the attic.
         Is Ada in the attic? yes
    """
    order = {fact: n for n, fact in enumerate(story.facts, start=1)}
    lines = [
        f"{f'({order[i]})' if i in order else '':>4} {_capital(sentence)}."
        for i, sentence in enumerate(story.sentences)
    ]
    return "\n".join([*lines, f"     {_capital(story.question)}? {story.answer}"])


def single_fact(generator: random.Random, length: int) -> Story:
    """Where somebody is: the last sentence about them.

    Args:
        generator: of the random numbers.
        length: how many sentences, at least 1.

    Raises:
        TypeError: the generator is not of `random`.
        ValueError: length is too small.

    Source:
        After Weston et al. 2015, task 1.

    >>> print(tell(single_fact(random.Random(4), 3)))
         Ben walks into the library.
     (1) Ada walks into the workshop.
         Dev walks into the pantry.
         Which room is Ada in? workshop
    """
    check(generator, length, 1)

    def attempt() -> Story | None:
        events = walks(generator, length)
        who = generator.choice(sorted({event.who for event in events}))
        return _story(events, f"which room is {who} in", room_of(events, who))

    return _until_it_fits(attempt)


def two_facts(generator: random.Random, length: int) -> Story:
    """Where a thing is: who last took or left it, then where they went, or had gone before.

    Either fact is needed: without it, the rest of the story has no answer, or another one.

    Args:
        generator: of the random numbers.
        length: how many sentences, at least 2.

    Raises:
        TypeError: the generator is not of `random`.
        ValueError: length is too small.

    Source:
        After Weston et al. 2015, task 2.

    >>> print(tell(two_facts(random.Random(4), 4)))
     (2) Cleo walks into the attic.
         Ben walks into the stable.
     (1) Cleo takes the lantern.
         Ada walks into the library.
         Which room is the lantern in? attic
    """
    check(generator, length, 2)

    def attempt() -> Story | None:
        events = life(generator, length)
        thing = generator.choice(THINGS)
        found = _all_needed(events, lambda some: room_with(some, thing))
        return _story(events, f"which room is the {thing} in", found)

    return _until_it_fits(attempt)


def three_facts(generator: random.Random, length: int) -> Story:
    """Where a thing was before: who took it, when they came to the room named, and from where.

    The thing has been in the room named once. Each fact is needed, as in `two_facts`.

    Args:
        generator: of the random numbers.
        length: how many sentences, at least 3.

    Raises:
        TypeError: the generator is not of `random`.
        ValueError: length is too small.

    Source:
        After Weston et al. 2015, task 3.

    >>> print(tell(three_facts(random.Random(4), 6)))
     (3) Ben walks into the workshop.
         Cleo walks into the library.
         Dev walks into the pantry.
         Ada walks into the library.
     (1) Ben takes the rope.
     (2) Ben walks into the library.
         Which room was the rope in before the library? workshop
    """
    check(generator, length, 3)

    def attempt() -> Story | None:
        events = life(generator, length)
        thing = generator.choice(THINGS)
        rooms = [visit.answer for visit in visits(events, thing)[1:]]
        if not rooms:
            return None
        room = generator.choice(rooms)
        found = _all_needed(events, lambda some: room_before(some, thing, room))
        return _story(events, f"which room was the {thing} in before the {room}", found)

    return _until_it_fits(attempt)


def yes_no(generator: random.Random, length: int) -> Story:
    """Whether somebody is in a room: their own, or as often one where somebody else is.

    The fact is the last sentence about them. Without it a "yes" is lost; a "no" may still be right.

    Args:
        generator: of the random numbers.
        length: how many sentences, at least 2.

    Raises:
        TypeError: the generator is not of `random`.
        ValueError: length is too small.

    Source:
        After Weston et al. 2015, task 6.

    >>> print(tell(yes_no(random.Random(4), 3)))
     (1) Ada walks into the attic.
         Dev walks into the stable.
         Cleo walks into the attic.
         Is Ada in the stable? no
    """
    check(generator, length, 2)

    def attempt() -> Story | None:
        events = walks(generator, length)
        people = sorted({event.who for event in events})
        who, other = (generator.choice(people) for _ in range(2))
        mine, theirs = room_of(events, who), room_of(events, other)
        if not mine or not theirs or mine.answer == theirs.answer:
            return None
        answer, room = generator.choice([("yes", mine.answer), ("no", theirs.answer)])
        return _story(events, f"is {who} in the {room}", Found(answer, mine.facts))

    return _until_it_fits(attempt)


def counting(generator: random.Random, length: int) -> Story:
    """How many things somebody has: of each, the last sentence about it, if it is about them.

    None, one, two and three are asked for alike. Each fact is needed: without it the count is
    another. Of somebody who has nothing, and left nothing, there is none.

    Args:
        generator: of the random numbers.
        length: how many sentences, at least 4.

    Raises:
        TypeError: the generator is not of `random`.
        ValueError: length is too small.

    Source:
        After Weston et al. 2015, task 7.

    >>> print(tell(counting(random.Random(4), 5)))
         Ada walks into the cellar.
         Cleo walks into the library.
         Ben walks into the attic.
     (1) Cleo takes the lantern.
         Cleo walks into the cellar.
         How many things does Cleo have? one
    """
    check(generator, length, 4)
    wanted = NUMBERS.index(generator.choice(NUMBERS))

    def attempt() -> Story | None:
        events = life(generator, length)
        last = {event.what: event for event in events if event.does != WALKS}
        held = [event.who for event in last.values() if event.does == TAKES]
        people = [who for who in sorted({e.who for e in events}) if held.count(who) == wanted]
        if not people:
            return None
        who = generator.choice(people)
        return _story(events, f"how many things does {who} have", number_with(events, who))

    return _until_it_fits(attempt)


def check(generator: random.Random, length: int, least: int, most: int | None = None) -> None:
    """Refuse what no story can be drawn from.

    Raises:
        TypeError: the generator is not of `random`.
        ValueError: the length is not in its bounds.

    >>> check(random.Random(0), 3, least=2, most=5)
    """
    if not isinstance(generator, random.Random):
        raise TypeError(f"generator must be a random.Random, got {type(generator).__name__}")
    if length < least or (most is not None and length > most):
        bound = f"at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"length must be {bound}, got {length}")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _until_it_fits(attempt: Callable[[], Story | None]) -> Story:
    """The first story that is one of its kind: what happens in it is drawn before the question."""
    while (story := attempt()) is None:
        pass
    return story


def _all_needed(events: list[Event], find: Callable[[list[Event]], Found | None]) -> Found | None:
    """The answer, if there is one, and without any of its facts none, or another."""
    found = find(events)
    if not found:
        return None
    without = (find(events[:i] + events[i + 1 :]) for i in found.facts)
    needed = all(other is None or other.answer != found.answer for other in without)
    return found if needed else None


def _story(events: list[Event], question: str, found: Found | None) -> Story | None:
    """What happened, told; None if the question has no answer."""
    if not found:
        return None
    sentences = tuple(does.format(who, what) for who, does, what in events)
    return Story(sentences, question, *found)
