"""Ways against a reader who tries every one."""

import random
import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnbook.tasks.stories import draw
from attnbook.tasks.ways import STEPS, WAYS, path_finding

OPPOSITE = {"north": "south", "south": "north", "east": "west", "west": "east"}


def ways(sentences, question):
    """Every way that the sentences allow, without a room twice."""
    doors = []
    for sentence in sentences:
        a, way, b = re.fullmatch(r"the (\w+) is (\w+) of the (\w+)", sentence).groups()
        doors += [(b, way, a), (a, OPPOSITE[way], b)]
    start, end = re.fullmatch(r"which way is it from the (\w+) to the (\w+)", question).groups()
    found, open_ = [], [(start, [], {start})]
    while open_:
        room, steps, seen = open_.pop()
        if room == end:
            found.append(",".join(steps))
        open_ += [(b, [*steps, w], seen | {b}) for a, w, b in doors if a == room and b not in seen]
    return found


@settings(max_examples=40)
@given(st.integers(0, 10**9), st.integers(2, 5))
def test_there_is_one_way_and_both_facts_are_needed_for_it(seed, length):
    story = path_finding(random.Random(seed), length)
    assert len(story.sentences) == length
    assert ways(story.sentences, story.question) == [story.answer]
    first, second = (story.sentences[fact] for fact in story.facts)
    assert ways([first, second], story.question) == [story.answer]
    assert not ways([s for s in story.sentences if s != first], story.question)
    assert not ways([s for s in story.sentences if s != second], story.question)
    start = story.question.split()[6]
    assert start in first.split()
    assert start not in second.split()


@settings(max_examples=30)
@given(st.integers(0, 10**9))
def test_the_house_can_be_drawn(seed):
    """Every room has one place on the grid, and no two have the same."""
    story = path_finding(random.Random(seed), 5)
    places, waiting = {}, [re.findall(r"the (\w+) is (\w+) of the (\w+)", s)[0] for s in story[0]]
    places[waiting[0][2]] = (0, 0)
    while waiting:
        a, way, b = waiting.pop(0)
        x, y = STEPS[way]
        if b in places:
            places[a] = (places[b][0] + x, places[b][1] + y)
        elif a in places:
            places[b] = (places[a][0] - x, places[a][1] - y)
        else:
            waiting.append((a, way, b))
    assert len(set(places.values())) == len(places) == 6


def test_each_way_is_asked_for_alike():
    stories = draw(path_finding, 6000, random.Random(0), range(3, 6))
    counts = Counter(story.answer for story in stories)
    assert set(counts) == set(WAYS)
    assert len(WAYS) == 12
    assert max(counts.values()) / 6000 < 1 / 12 + 0.012
    named_first = sum(s.sentences[s.facts[0]].split()[1] == s.question.split()[6] for s in stories)
    assert named_first / 6000 == pytest.approx(0.5, abs=0.03)
    assert len(set(draw(path_finding, 50, random.Random(1), [2]))) == 50


@pytest.mark.parametrize("length", [1, 6])
def test_clear_errors(length):
    with pytest.raises(ValueError, match=f"length must be from 2 to 5, got {length}"):
        path_finding(random.Random(0), length)
