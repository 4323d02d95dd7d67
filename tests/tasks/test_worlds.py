"""What follows from events, against a reader of the sentences."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_stories import Reader

from attnbook.tasks.worlds import (
    LEAVES,
    NUMBERS,
    PEOPLE,
    ROOMS,
    TAKES,
    THINGS,
    WALKS,
    Event,
    life,
    number_with,
    room_before,
    room_of,
    room_with,
    visits,
    walks,
)

EVENTS = st.builds(Event, st.sampled_from(PEOPLE), st.just(WALKS), st.sampled_from(ROOMS)) | (
    st.builds(
        Event, st.sampled_from(PEOPLE), st.sampled_from([TAKES, LEAVES]), st.sampled_from(THINGS)
    )
)


def reader(events):
    return Reader([event.does.format(event.who, event.what) for event in events])


@settings(max_examples=50)
@given(st.lists(EVENTS, max_size=20))
def test_answers_are_those_of_a_reader_whatever_happened(events):
    """Also if somebody takes what is not there, as in a story with a sentence missing."""
    known = reader(events)
    for who in PEOPLE:
        found = room_of(events, who)
        assert (found and found.answer) == known.where.get(who)
        held = list(known.holder.values()).count(who)
        assert number_with(events, who).answer == NUMBERS[held]
    for thing in THINGS:
        assert [visit.answer for visit in visits(events, thing)] == known.places.get(thing, [])
        for room in ROOMS:
            found = room_before(events, thing, room)
            question = f"which room was the {thing} in before the {room}"
            assert (found and found.answer) == known.answer(question)


@settings(max_examples=50)
@given(st.integers(0, 10**9), st.integers(0, 20))
def test_a_thing_is_where_it_was_seen_last(seed, length):
    events = life(random.Random(seed), length)
    known = reader(events)
    for thing in THINGS:
        found = room_with(events, thing)
        assert (found and found.answer) == (known.places.get(thing) or [None])[-1]
        if found:
            assert (
                reader([events[i] for i in sorted(found.facts)]).places[thing][-1] == found.answer
            )


def test_where_a_thing_is_needs_both_events():
    assert room_with([Event("Ada", TAKES, "map"), Event("Ben", WALKS, "attic")], "map") is None
    assert room_with([Event("Ada", LEAVES, "map"), Event("Ada", WALKS, "attic")], "map") is None
    assert room_of([Event("Ada", TAKES, "map")], "Ada") is None


@pytest.mark.parametrize("make", [walks, life])
def test_everything_happens_in_the_end(make):
    events = make(random.Random(0), 4000)
    assert len(events) == 4000
    assert {event.who for event in events} == set(PEOPLE)
    assert {event.what for event in events} == {*ROOMS, *(THINGS if make is life else ())}
    assert make(random.Random(0), 4000) == events
    assert not make(random.Random(0), 0)
