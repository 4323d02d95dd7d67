import itertools

import pytest
import torch
from building import as_installed
from told import (
    QUESTIONS,
    STORIES,
    D,
    V,
    mixture,
    moved,
    plus,
    product,
    softmax_by_hand,
    times,
)
from torch.func import functional_call

from attnbook.key_value_memory import KeyValueMemoryNetwork, shared_words


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def key_value(hops=2):
    return moved(KeyValueMemoryNetwork(V, D, hops))


def test_the_key_value_network_is_that_of_its_paper():
    model = key_value(hops=2)
    keys, values = STORIES, STORIES[..., :2].flip(1)
    mask = torch.tensor([[True, False, True, False], [True] * 4, [False] * 4])
    found = model(keys, values, QUESTIONS, mask=mask)
    A = model.word.weight.tolist()

    def bag(words):
        return [sum(A[word][k] for word in words if word) for k in range(D)]

    for b in range(3):
        q = bag(QUESTIONS[b].tolist())
        allowed = [i for i in range(4) if mask[b, i]]
        for k, R in enumerate(model.turns):
            p = softmax_by_hand([product(q, bag(keys[b, i].tolist())) for i in allowed])
            o = mixture(p, [bag(values[b, i].tolist()) for i in allowed])
            q = times(R.weight.tolist(), plus(q, o))
            wanted = dict(zip(allowed, p, strict=True))
            row = torch.tensor([wanted.get(i, 0.0) for i in range(4)]).double()
            torch.testing.assert_close(found.weights[b, k], row)
        logits = torch.tensor(times(model.answer.weight.tolist(), q)).double()
        torch.testing.assert_close(found.logits[b], logits)


def test_the_order_of_the_words_of_a_bag_does_not_matter():
    model = key_value()
    one, two = (
        model(keys, STORIES[:1], QUESTIONS[:1]).logits
        for keys in (STORIES[:1], STORIES[:1].flip(-1))
    )
    torch.testing.assert_close(one, two)


def test_memories_that_are_not_there_count_for_nothing():
    model = key_value()
    found = model(STORIES, STORIES, QUESTIONS)
    wider = torch.nn.functional.pad(STORIES, (0, 2, 0, 3))
    torch.testing.assert_close(model(wider, wider, QUESTIONS).logits, found.logits)
    q = model.word(QUESTIONS[2]).sum(0)  # of the empty one: what the matrices make of the question
    for turn in model.turns:
        q = turn(q)
    torch.testing.assert_close(found.logits[2], q @ model.answer.weight.T)
    assert not found.weights[2].any()


def test_gradients_of_the_key_value_network_are_exact():
    model = key_value()
    names, values = zip(*model.named_parameters(), strict=True)

    def logits(*parameters):
        given_all = dict(zip(names, parameters, strict=True))
        return functional_call(model, given_all, (STORIES, STORIES, QUESTIONS)).logits

    assert torch.autograd.gradcheck(logits, values, fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types_of_numbers(dtype):
    found = key_value().to(dtype)(STORIES, STORIES, QUESTIONS)
    assert found.logits.dtype == found.weights.dtype == dtype
    assert found.logits.isfinite().all()


def test_keys_share_a_word_with_the_question():
    keys = torch.randint(0, V, (4, 6, 3))
    questions = torch.randint(0, V, (4, 2))
    for common in ([], [1, 2]):
        found = shared_words(keys, questions, torch.tensor(common, dtype=torch.int64))
        for b, i in itertools.product(range(4), range(6)):
            words = set(keys[b, i].tolist()) & set(questions[b].tolist()) - {0, *common}
            assert found[b, i].item() == bool(words)


def test_mistakes_are_named():
    with as_installed():
        from attnbook import key_value_memory

        model = key_value_memory.KeyValueMemoryNetwork(V, D, 1)
        with pytest.raises(ValueError, match=r"^key has 4 positions but value has 2$"):
            model(STORIES, STORIES[:, :2], QUESTIONS)
        with pytest.raises(TypeError, match=r"values must be of integers, got torch\.float32"):
            model(STORIES, STORIES.float(), QUESTIONS)
        with pytest.raises(ValueError, match=r"^hops must be at least 1, got 0$"):
            key_value_memory.KeyValueMemoryNetwork(V, D, 0)
