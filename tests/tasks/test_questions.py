import importlib
import random

import pytest

from attnbook.tasks.questions import VOCABULARY, encode
from attnbook.tasks.stories import (
    Story,
    counting,
    draw,
    single_fact,
    three_facts,
    two_facts,
    yes_no,
)
from attnbook.tasks.ways import path_finding

SHORT = Story(("Ada walks into the attic",), "is Ada in the attic", "yes", (0,))


def some(size=30):
    tasks = [single_fact, two_facts, three_facts, yes_no, counting]
    stories = [s for task in tasks for s in draw(task, size, random.Random(0))]
    return stories + draw(path_finding, size, random.Random(0), range(2, 6))


def test_every_word_is_in_the_vocabulary_and_none_is_for_nothing():
    stories = some(120)
    told = {word for s in stories for text in (*s.sentences, s.question) for word in text.split()}
    assert told | {story.answer for story in stories} == set(VOCABULARY.tokens)
    assert (len(VOCABULARY), VOCABULARY.encode("which Ada yes west,west")) == (
        len(VOCABULARY.tokens) + 3,
        [3, *VOCABULARY.encode("Ada yes"), len(VOCABULARY) - 1],
    )


def test_texts_come_back_from_their_symbols():
    stories = some()
    batch = encode(stories, slots=15)
    assert batch.stories.shape[:2] == (len(stories), 15)
    for b, story in enumerate(stories):
        rows = [VOCABULARY.decode(row) for row in batch.stories[b].tolist()]
        told = len(story.sentences)
        assert rows == [*story.sentences, *[""] * (15 - told)]
        assert batch.told[b].tolist() == [True] * told + [False] * (15 - told)
        assert VOCABULARY.decode(batch.questions[b].tolist()) == story.question
        assert VOCABULARY.decode([batch.answers[b].item()]) == story.answer
        facts = batch.facts[b].tolist()
        assert facts == [*story.facts, *[-1] * (3 - len(story.facts))]
        assert batch.supporting[b].nonzero()[:, 0].tolist() == sorted(story.facts)


def test_stories_without_any_fact_are_a_batch_too():
    story = Story(("Ada walks into the attic",), "how many things does Ada have", "none", ())
    batch = encode([story, story])
    assert batch.facts.shape == (2, 0)
    assert not batch.supporting.any()
    assert batch.supporting.shape == (2, 1)


@pytest.mark.parametrize(
    ("stories", "message"),
    [
        ([], "stories must not be empty"),
        ([SHORT._replace(sentences=())], "stories must not be empty, nor any"),
        ([SHORT._replace(facts=(1,))], r"facts must be places of 1 sentences, got \(1,\)"),
        ([SHORT._replace(answer="no way")], "answer must be one word, got 'no way'"),
        ([SHORT._replace(answer="")], "answer must be one word, got ''"),
        ([SHORT._replace(answer=" ")], "answer must be one word, got ' '"),
        ([SHORT._replace(answer="perhaps")], "outside the vocabulary"),
        ([SHORT._replace(sentences=("Eve walks into the attic",))], "outside the vocabulary"),
    ],
)
def test_clear_errors(stories, message):
    with pytest.raises(ValueError, match=message):
        encode(stories)


def test_too_few_slots_are_refused():
    with pytest.raises(ValueError, match="slots must be at least 1, the longest story, got 0"):
        encode([SHORT], slots=0)


def test_one_story_alone_is_refused(installed):
    """It is a tuple itself, so its fields would be taken for stories."""
    modules = [importlib.import_module(f"attnbook.tasks.{m}") for m in ("questions", "stories")]
    with pytest.raises(TypeError, match="stories must be a sequence of stories, got one Story"):
        modules[0].encode(modules[1].Story(*SHORT))
