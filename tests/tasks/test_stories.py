"""Stories against a reader that knows their words and nothing of how they were made."""

import importlib
import random
import re
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attnbook.tasks.questions import VOCABULARY, encode
from attnbook.tasks.stories import (
    Story,
    counting,
    draw,
    single_fact,
    tell,
    three_facts,
    two_facts,
    yes_no,
)
from attnbook.tasks.ways import path_finding

PEOPLE = [single_fact, two_facts, three_facts, yes_no, counting]
LEAST = {single_fact: 1, two_facts: 2, three_facts: 3, yes_no: 2, counting: 4}
NUMBERS = ["none", "one", "two", "three"]
ROOM = "attic|cellar|library|pantry|stable|workshop"


class Reader:
    """Follows a story sentence by sentence; what is not told is not known."""

    def __init__(self, sentences):
        self.where = {}  # of a person
        self.holder = {}  # of a thing
        self.places = {}  # of a thing: the rooms it is known to have been in, one after the other
        for sentence in sentences:
            if walk := re.fullmatch(r"(\w+) walks into the (\w+)", sentence):
                who, self.where[walk[1]] = walk[1], walk[2]
                seen = [thing for thing, holder in self.holder.items() if holder == who]
            elif take := re.fullmatch(r"(\w+) takes the (\w+)", sentence):
                who, thing = take.groups()
                self.holder[thing], seen = who, [thing]
            elif leave := re.fullmatch(r"(\w+) leaves the (\w+) behind", sentence):
                who, thing = leave.groups()
                self.holder[thing], seen = None, [thing]
            else:
                raise AssertionError(f"cannot read {sentence!r}")
            for thing in seen:
                rooms = self.places.setdefault(thing, [])
                if self.where.get(who, rooms[-1] if rooms else None) != (rooms or [None])[-1]:
                    rooms.append(self.where[who])

    def answer(self, question):
        if asked := re.fullmatch(r"which room is ([A-Z]\w+) in", question):
            return self.where.get(asked[1])
        if asked := re.fullmatch(r"which room is the (\w+) in", question):
            return (self.places.get(asked[1]) or [None])[-1]
        if asked := re.fullmatch(r"which room was the (\w+) in before the (\w+)", question):
            rooms = self.places.get(asked[1], [])
            if rooms.count(asked[2]) != 1 or rooms[0] == asked[2]:
                return None
            return rooms[rooms.index(asked[2]) - 1]
        if asked := re.fullmatch(r"is (\w+) in the (\w+)", question):
            known = self.where.get(asked[1])
            return known and ("yes" if known == asked[2] else "no")
        if asked := re.fullmatch(r"how many things does (\w+) have", question):
            return NUMBERS[list(self.holder.values()).count(asked[1])]
        raise AssertionError(f"cannot read {question!r}")


def read(sentences, question):
    return Reader(sentences).answer(question)


@pytest.mark.parametrize("task", PEOPLE)
@settings(max_examples=40)
@given(seed=st.integers(0, 10**9), extra=st.integers(0, 14))
def test_the_answer_follows_and_its_facts_are_enough_and_needed(task, seed, extra):
    story = task(random.Random(seed), LEAST[task] + extra)
    assert len(story.sentences) == LEAST[task] + extra
    assert read(story.sentences, story.question) == story.answer
    facts = sorted(story.facts)
    assert len(set(facts)) == len(facts)
    assert read([story.sentences[fact] for fact in facts], story.question) == story.answer
    for fact in facts:
        if story.answer != "no":  # who is elsewhere now may have been elsewhere before
            rest = story.sentences[:fact] + story.sentences[fact + 1 :]
            assert read(rest, story.question) != story.answer
        if task is not counting:  # where to have left a thing and not to have had it are alike
            rest = [story.sentences[other] for other in facts if other != fact]
            assert read(rest, story.question) is None or task is three_facts
            assert read(rest, story.question) != story.answer


@pytest.mark.parametrize(("task", "number"), [(single_fact, 1), (two_facts, 2), (three_facts, 3)])
def test_the_tasks_have_as_many_facts_as_their_names_say(task, number):
    assert {len(story.facts) for story in draw(task, 200, random.Random(0))} == {number}


def test_facts_come_in_the_order_in_which_they_are_needed():
    """The question names a thing, its sentence names who, and theirs the room."""
    for story in draw(two_facts, 200, random.Random(1)):
        thing = story.question.split()[4]
        first, second = (story.sentences[fact].split() for fact in story.facts)
        assert thing in first
        assert second == [first[0], "walks", "into", "the", story.answer]
    for story in draw(three_facts, 200, random.Random(1)):
        thing, room = story.question.split()[4], story.question.split()[-1]
        first, second, third = (story.sentences[fact].split() for fact in story.facts)
        assert first[1:] == ["takes", "the", thing]
        assert second == [first[0], "walks", "into", "the", room]
        assert third == [first[0], "walks", "into", "the", story.answer]


def test_the_facts_of_a_count_are_all_the_sentences_without_which_it_is_another():
    for told, question, answer, facts in draw(counting, 100, random.Random(2)):
        rests = [told[:i] + told[i + 1 :] for i in range(len(told))]
        assert {i for i, rest in enumerate(rests) if read(rest, question) != answer} == set(facts)


def shortcuts(task):
    """The shares of right answers of three guesses that follow no chain of facts."""
    stories = draw(task, 2400, random.Random(2))
    answers = [story.answer for story in stories]
    frequent = max(Counter(answers).values()) / 2400
    rooms = [re.findall(ROOM, " ".join(story.sentences)) for story in stories]
    last = sum(named[-1] == a for named, a in zip(rooms, answers, strict=True)) / 2400

    batch = encode(stories)
    texts = torch.zeros(2, len(stories), len(VOCABULARY))
    for i, words in enumerate((batch.stories.flatten(1), batch.questions)):
        texts[i].scatter_add_(1, words, (words > 0).float())
    texts = torch.cat([*texts], dim=1)
    texts = texts[:, texts.std(0) > 0]
    texts = (texts - texts.mean(0)) / texts.std(0)
    known, right = torch.unique(batch.answers, return_inverse=True)
    weight = torch.zeros(texts.shape[1], len(known))
    for _ in range(200):  # logistic regression by gradient descent
        error = (texts[:1600] @ weight).softmax(1) - torch.eye(len(known))[right[:1600]]
        weight -= 0.2 * texts[:1600].T @ error / 1600
    guesses = (texts[1600:] @ weight).argmax(1)
    return frequent, last, (guesses == right[1600:]).float().mean().item()


@pytest.mark.parametrize(
    ("task", "most_frequent", "last_room", "words"),
    [
        (single_fact, 0.17, 0.39, 0.34),
        (two_facts, 0.17, 0.33, 0.38),
        (three_facts, 0.17, 0.12, 0.44),
        (yes_no, 0.50, 0.0, 0.50),
        (counting, 0.25, 0.0, 0.42),
    ],
)
def test_shortcuts_are_right_as_often_as_is_said(task, most_frequent, last_room, words):
    """The shares are those of the table in the module's description."""
    found = shortcuts(task)
    assert found == pytest.approx((most_frequent, last_room, words), abs=0.045)
    line = next(line for line in _table() if line[0] == task.__name__)
    said = [float(cell.rstrip(" %")) / 100 for cell in line[1:] if cell != "never"]
    assert said == pytest.approx([x for x in (most_frequent, last_room, words) if x], abs=0.005)


def _table():
    import attnbook.tasks.stories

    lines = (attnbook.tasks.stories.__doc__ or "").splitlines()
    return [[cell.strip(" `") for cell in line.strip("| ").split("|")] for line in lines]


def test_yes_and_no_do_not_show_in_the_room_that_is_asked_for():
    """Both are rooms where somebody is: how long ago it was named says nothing."""
    ages = {"yes": [], "no": []}
    for story in draw(yes_no, 3000, random.Random(3)):
        named = [sentence.split()[-1] == story.question.split()[-1] for sentence in story.sentences]
        ages[story.answer].append(named[::-1].index(True))
    means = {answer: sum(many) / len(many) for answer, many in ages.items()}
    assert means["yes"] == pytest.approx(means["no"], abs=0.2)


def test_nobody_does_what_cannot_be_done():
    for story in draw(two_facts, 300, random.Random(4), range(15, 20)):
        for i, sentence in enumerate(story.sentences):
            before = Reader(story.sentences[:i])
            who, verb, thing = sentence.split()[0], sentence.split()[1], sentence.split()[3]
            if verb == "walks":
                assert before.where.get(who) != sentence.split()[-1]
            elif verb == "takes":
                assert before.holder.get(thing) is None
                assert before.where[who] == (before.places.get(thing) or [before.where[who]])[-1]
            else:
                assert before.holder[thing] == who


def test_a_seed_gives_the_same_stories_and_all_are_different():
    for task in PEOPLE:
        first, again, other = (draw(task, 50, random.Random(seed)) for seed in (5, 5, 6))
        assert first == again != other
        assert len(set(first)) == 50
    lengths = {len(s.sentences) for s in draw(single_fact, 50, random.Random(0), [3, 5])}
    assert lengths == {3, 5}


def test_all_stories_there_are_can_be_drawn():
    """The last of 2,000 that are as likely as each other would not come in 1,000 draws."""

    def one_of_many(generator, length):
        return Story((str(generator.randrange(2000)),), "which", "that", ())

    assert len(draw(one_of_many, 2000, random.Random(0), [1])) == 2000
    with pytest.raises(ValueError, match="at most 2000 for these lengths, got 2001: 41,000 draws"):
        draw(one_of_many, 2001, random.Random(0), [1])


def test_tell_marks_the_facts():
    story = two_facts(random.Random(7), 9)
    *lines, asked = tell(story).splitlines()
    marks = {int(line[2]): i for i, line in enumerate(lines) if line[1] == "("}
    assert [marks[n] for n in sorted(marks)] == list(story.facts)
    assert [line[5:-1] for line in lines] == list(story.sentences)
    assert asked.endswith(f"? {story.answer}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((single_fact, 0, random.Random(0)), "size must be at least 1, got 0"),
        ((single_fact, 1, random.Random(0), []), "lengths must not be empty"),
        ((single_fact, 1, random.Random(0), [0]), "length must be at least 1, got 0"),
        ((two_facts, 1, random.Random(0), [1]), "length must be at least 2, got 1"),
        ((three_facts, 1, random.Random(0), [2]), "length must be at least 3, got 2"),
        ((yes_no, 1, random.Random(0), [1]), "length must be at least 2, got 1"),
        ((counting, 1, random.Random(0), [3]), "length must be at least 4, got 3"),
        ((path_finding, 1, random.Random(0)), "length must be from 2 to 5, got "),
        ((single_fact, 25, random.Random(0), [1]), "at most 24 for these lengths, got 25: 1,480 "),
    ],
)
def test_clear_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        draw(*arguments)


def test_torch_s_generator_is_refused(installed):
    """The other tasks take it, so it comes in by habit."""
    stories, ways = (importlib.import_module(f"attnbook.tasks.{m}") for m in ("stories", "ways"))
    for call in (lambda g: stories.draw(two_facts, 1, g), lambda g: ways.path_finding(g, 3)):
        with pytest.raises(TypeError, match=r"generator must be a random\.Random, got Generator"):
            call(torch.Generator())
