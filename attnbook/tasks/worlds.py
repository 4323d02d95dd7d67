"""People in a house: what happens to them at random, and what follows from it.

They walk from room to room, take things and leave them. A list of what happened is all there is to
know: `room_of`, `room_with`, `room_before` and `number_with` answer from it, and say by which of
its events. `attnbook.tasks.stories` makes sentences and questions of it.
"""

import random
from typing import NamedTuple

__all__ = [
    "LEAVES",
    "NUMBERS",
    "PEOPLE",
    "ROOMS",
    "TAKES",
    "THINGS",
    "WALKS",
    "Event",
    "Found",
    "life",
    "number_with",
    "room_before",
    "room_of",
    "room_with",
    "visits",
    "walks",
]

PEOPLE = ("Ada", "Ben", "Cleo", "Dev")
"""Who can do something."""
ROOMS = ("attic", "cellar", "library", "pantry", "stable", "workshop")
"""Where they can be."""
THINGS = ("lantern", "map", "rope")
"""What they can take."""
NUMBERS = ("none", "one", "two", "three")
"""How many things somebody can have."""

WALKS = "{} walks into the {}"
"""Somebody and a room."""
TAKES = "{} takes the {}"
"""Somebody and a thing."""
LEAVES = "{} leaves the {} behind"
"""Somebody and a thing."""


class Event(NamedTuple):
    """Somebody walks into a room, or takes or leaves a thing.

    Attributes:
        who: one of `PEOPLE`.
        does: `WALKS`, `TAKES` or `LEAVES`.
        what: one of `ROOMS` or of `THINGS`.
    """

    who: str
    does: str
    what: str


class Found(NamedTuple):
    """An answer, and the places of the events that give it, in the order they are needed in."""

    answer: str
    facts: tuple[int, ...]


def walks(generator: random.Random, length: int) -> list[Event]:
    """People going from room to room, anybody at any time.

    >>> [event.does.format(event.who, event.what) for event in walks(random.Random(4), 2)]
    ['Ben walks into the library', 'Ada walks into the workshop']
    """
    room: dict[str, str] = {}
    events = []
    for _ in range(length):
        who = generator.choice(PEOPLE)
        room[who] = generator.choice([r for r in ROOMS if r != room.get(who)])
        events.append(Event(who, WALKS, room[who]))
    return events


def life(generator: random.Random, length: int) -> list[Event]:
    """People who walk, and take and leave things as soon as it is known where they are.

    A thing lies where it was left. Before it was taken for the first time it may be anywhere.

    >>> [event.does.format(event.who, event.what) for event in life(random.Random(1), 3)]
    ['Ben walks into the stable', 'Ada walks into the library', 'Ada takes the map']
    """
    room: dict[str, str] = {}
    lies: dict[str, str] = {}
    holds: dict[str, str] = {}  # who has the thing
    events = []
    for _ in range(length):
        who = generator.choice(PEOPLE)
        here = room.get(who)
        near = [t for t in THINGS if (holds[t] == who if t in holds else lies.get(t, here) == here)]
        if here and near and generator.random() < 0.5:
            what = generator.choice(near)
            if what in holds:
                does, lies[what] = LEAVES, here
                del holds[what]
            else:
                does, holds[what] = TAKES, who
        else:
            what = generator.choice([r for r in ROOMS if r != here])
            does, room[who] = WALKS, what
        events.append(Event(who, does, what))
    return events


def room_of(events: list[Event], who: str) -> Found | None:
    """Where somebody went last.

    Returns:
        The room, and that one event; None if they never walked.

    >>> room_of([Event("Ada", WALKS, "attic"), Event("Ada", WALKS, "stable")], "Ada")
    Found(answer='stable', facts=(1,))
    """
    for i in reversed(range(len(events))):
        if events[i].who == who and events[i].does == WALKS:
            return Found(events[i].what, (i,))
    return None


def room_with(events: list[Event], thing: str) -> Found | None:
    """Where a thing is: with who took it last, or where it was left last.

    Returns:
        The room, then the event of taking or leaving and that of walking there; None if either is
        missing.

    >>> story = [Event("Ada", WALKS, "attic"), Event("Ada", TAKES, "map")]
    >>> room_with([*story, Event("Ada", WALKS, "stable")], "map")
    Found(answer='stable', facts=(1, 2))
    """
    for i in reversed(range(len(events))):
        who, does, what = events[i]
        if what == thing:
            found = room_of(events if does == TAKES else events[:i], who)
            return found and Found(found.answer, (i, *found.facts))
    return None


def visits(events: list[Event], thing: str) -> list[Found]:
    """The rooms that a thing has been in, in order.

    Returns:
        Rooms, each with up to three events (the taking, the walk there, the walk before that).

    >>> story = [Event("Ada", WALKS, "attic"), Event("Ada", TAKES, "map")]
    >>> [found.answer for found in visits([*story, Event("Ada", WALKS, "stable")], "map")]
    ['attic', 'stable']
    """
    found: list[Found] = []
    walked: dict[str, tuple[int, ...]] = {}  # the last two walks of each, the later one first
    taken: tuple[int, ...] = ()
    for i, (who, does, what) in enumerate(events):
        if does == WALKS:
            walked[who] = (i, *walked.get(who, ())[:1])
        elif what == thing:
            taken = (i,) if does == TAKES else ()
        has = what == thing or (taken and events[taken[0]].who == who)
        if has and who in walked:
            room = events[walked[who][0]].what
            if not found or found[-1].answer != room:
                found.append(Found(room, (taken or (i,)) + walked[who]))
    return found


def room_before(events: list[Event], thing: str, room: str) -> Found | None:
    """Where a thing was before it came to a room.

    Returns:
        The room before, then the taking, the walk to the room named, and the walk before that;
        None if the thing was never there, there first, or there more than once.

    >>> story = [Event("Ada", WALKS, "attic"), Event("Ada", TAKES, "map")]
    >>> room_before([*story, Event("Ada", WALKS, "stable")], "map", "stable")
    Found(answer='attic', facts=(1, 2, 0))
    """
    found = visits(events, thing)
    places = [i for i, visit in enumerate(found) if visit.answer == room]
    if len(places) != 1 or places[0] == 0:
        return None
    return Found(found[places[0] - 1].answer, found[places[0]].facts)


def number_with(events: list[Event], who: str) -> Found:
    """How many things somebody has.

    Returns:
        The number in words, and of each thing the last event, if it is theirs.

    >>> number_with([Event("Ada", TAKES, "map"), Event("Ben", TAKES, "rope")], "Ben")
    Found(answer='one', facts=(1,))
    """
    last = {event.what: i for i, event in enumerate(events) if event.does != WALKS}
    theirs = sorted(i for i in last.values() if events[i].who == who)
    return Found(NUMBERS[sum(events[i].does == TAKES for i in theirs)], tuple(theirs))
