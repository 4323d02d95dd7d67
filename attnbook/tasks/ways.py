"""The way from one room to another, from sentences that say which lies beside which.

    The attic is east of the pantry.  The cellar is north of the attic.
    Which way is it from the pantry to the cellar?  east,north

After task 19 of bAbI (Weston et al. 2015), with stories of our own as in `attnbook.tasks.stories`.
A house is laid out on a grid, and one can go between two rooms only where a sentence says so. No
room can be reached by two ways, so the answer is the only one.
"""

import random

from attnbook.tasks.stories import Story, check
from attnbook.tasks.worlds import ROOMS

__all__ = ["STEPS", "WAYS", "path_finding"]

STEPS = {"north": (0, 1), "east": (1, 0), "south": (0, -1), "west": (-1, 0)}
"""On the grid: to the right, and upwards."""

_BACK = {"north": "south", "east": "west", "south": "north", "west": "east"}

WAYS = tuple(f"{a},{b}" for a in STEPS for b in STEPS if b != _BACK[a])
"""The answers: two steps that do not undo each other."""


def path_finding(generator: random.Random, length: int) -> Story:
    """Two steps from room to room: the sentence of the first step, then that of the second.

    Each of the twelve ways is asked for alike. A sentence may name its two rooms in either order,
    so a step north may have to be read from "the attic is south of the pantry". Without either
    fact there is no way at all.

    Args:
        generator: of the random numbers.
        length: how many sentences, 2 to 5: one fewer than there are rooms.

    Raises:
        TypeError: the generator is not of `random`.
        ValueError: length is outside that.

    Source:
        After Weston et al. 2015, task 19.

    >>> from attnbook.tasks.stories import tell
    >>> print(tell(path_finding(random.Random(4), 3)))
     (1) The library is west of the attic.
         The cellar is north of the library.
     (2) The attic is south of the pantry.
         Which way is it from the library to the pantry? east,north
    """
    check(generator, length, 2, len(ROOMS) - 1)
    way = generator.choice(WAYS)
    names = generator.sample(ROOMS, length + 1)
    house = [(0, 0)]
    beside: list[tuple[int, str]] = []  # of each later room: which room, and which way from there
    for step in way.split(","):
        beside.append((len(house) - 1, step))
        house.append(_go(house[-1], step))
    while len(house) < len(names):
        room, step = generator.randrange(len(house)), generator.choice(list(STEPS))
        if (new := _go(house[room], step)) not in house:
            house.append(new)
            beside.append((room, step))
    sentences = []
    for later, (near, step) in enumerate(beside, start=1):
        a, is_there, b = names[later], step, names[near]
        if generator.random() < 0.5:
            a, is_there, b = b, _BACK[step], a
        sentences.append(f"the {a} is {is_there} of the {b}")
    order = generator.sample(range(length), length)
    return Story(
        tuple(sentences[i] for i in order),
        f"which way is it from the {names[0]} to the {names[2]}",
        way,
        (order.index(0), order.index(1)),
    )


def _go(place: tuple[int, int], step: str) -> tuple[int, int]:
    return place[0] + STEPS[step][0], place[1] + STEPS[step][1]
