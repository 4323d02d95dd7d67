import copy
import math
import re

import pytest
import torch
from building import as_installed
from told import (
    QUESTIONS,
    SLOTS,
    STORIES,
    D,
    V,
    mixture,
    moved,
    plus,
    product,
    sentence_by_hand,
    softmax_by_hand,
    times,
)
from torch.func import functional_call, stack_module_state, vmap

from attnbook import attend, dot, softmax
from attnbook.memory_network import (
    Hop,
    MemoryNetwork,
    adjacent,
    hop,
    layerwise,
    linear,
    untied,
)

TYINGS = {"adjacent": adjacent, "layerwise": layerwise, "untied": untied}
each_tying = pytest.mark.parametrize("tying", TYINGS)
NORMALIZERS = {"softmax": softmax, "linear": linear}


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def small(tying="adjacent", hops=2):
    return moved(MemoryNetwork(V, D, hops, SLOTS, tying=TYINGS[tying]))


# The papers' equations, in loops


def network_by_the_paper(model, story, question, old, normalize="softmax"):
    """One question: the logits, and the weights of each hop."""
    u = sentence_by_hand(question, model.question.word.weight.tolist())
    real = [i for i, sentence in enumerate(story) if any(sentence)]
    read = []
    for A, C in zip(model.inputs, model.outputs, strict=True):
        m, c = (
            [
                plus(
                    sentence_by_hand(story[i], T.word.weight.tolist()),
                    T.age.weight[old[i]].tolist(),
                )
                for i in real
            ]
            for T in (A, C)
        )
        scores = [product(u, m_i) for m_i in m]
        p = softmax_by_hand(scores) if normalize == "softmax" else scores
        kept = times(model.carry.weight.tolist(), u) if hasattr(model.carry, "weight") else u
        u = plus(kept, mixture(p, c))
        weights = dict(zip(real, p, strict=True))
        read.append([weights.get(i, 0.0) for i in range(len(story))])
    return times(model.answer.word.weight.tolist(), u), read


@pytest.mark.parametrize("normalize", NORMALIZERS)
@pytest.mark.parametrize("hops", [1, 3])
@each_tying
def test_the_network_is_that_of_the_paper(tying, hops, normalize):
    model = small(tying, hops)
    old = torch.tensor([[0, 2, 5, 0], [3, 0, 0, 0], [0, 0, 0, 0]])
    for given_ages in (None, old):
        found = model(STORIES, QUESTIONS, ages=given_ages, normalize=NORMALIZERS[normalize])
        for b in range(3):
            aged = [[2, 1, 0, 0], [0] * 4, [0] * 4][b] if given_ages is None else old[b].tolist()
            logits, read = network_by_the_paper(
                model, STORIES[b].tolist(), QUESTIONS[b].tolist(), aged, normalize
            )
            torch.testing.assert_close(found.logits[b], torch.tensor(logits).double())
            torch.testing.assert_close(found.weights[b], torch.tensor(read).double())


# A hop


def test_a_hop_adds_the_output_of_attend_to_its_state():
    u, m, c = torch.randn(4, D), torch.randn(4, 5, D), torch.randn(4, 5, D)
    read = attend(u[:, None], m, c, score=dot())
    found = hop(u, m, c)
    torch.testing.assert_close(found.state, u + read.output[:, 0])
    torch.testing.assert_close(found.weights, read.weights[:, 0])


def keeps_its_question(hop):
    """Where there is nothing to read, a hop leaves the state as it is."""
    u, m = torch.randn(2, D), torch.randn(2, 5, D)
    found = hop(u, m, m, mask=torch.zeros(2, 5, dtype=torch.bool))
    return torch.equal(found.state, u) and not found.weights.any()


def shares_one_look_among_the_memories(hop):
    """The weights of a question sum to one over its memories."""
    found = hop(torch.randn(2, D), torch.randn(2, 5, D), torch.randn(2, 5, D))
    return torch.allclose(found.weights.sum(-1), torch.ones(2))


def without_the_residual(u, m, c, *, mask=None):
    found = hop(u, m, c, mask=mask)
    return Hop(found.state - u, found.weights)


def over_the_queries(u, m, c, *, mask=None):
    """The softmax on the wrong axis."""
    mask = None if mask is None else mask[..., None, :]
    read = attend(
        u[..., None, :], m, c, score=dot(), mask=mask, normalize=lambda s: softmax(s.mT).mT
    )
    return Hop(u + read.output[..., 0, :], read.weights[..., 0, :])


def test_the_contracts_of_a_hop_hold_and_tell_the_wrong_ones():
    assert keeps_its_question(hop)
    assert shares_one_look_among_the_memories(hop)
    assert not keeps_its_question(without_the_residual)
    assert not shares_one_look_among_the_memories(over_the_queries)


# Contracts of the network


@each_tying
def test_what_is_not_there_counts_for_nothing(tying):
    model = small(tying)
    found = model(STORIES, QUESTIONS)
    wider = torch.nn.functional.pad(STORIES, (0, 2, 0, 3))
    again = model(wider, torch.nn.functional.pad(QUESTIONS, (0, 1)))
    torch.testing.assert_close(again.logits, found.logits)
    torch.testing.assert_close(again.weights[..., :4], found.weights)
    assert not again.weights[..., 4:].any()
    real = (STORIES != 0).any(-1)[:, None].expand_as(found.weights)
    assert not found.weights[~real].any()
    torch.testing.assert_close(found.weights[:2].sum(-1), torch.ones(2, 2).double())


@each_tying
def test_without_a_story_the_question_answers_itself(tying):
    model = small(tying)
    found = model(STORIES, QUESTIONS)
    for shape in ((3, 4, 0), (3, 0, 3), (3, 0, 0)):  # no words, no sentences
        empty = model(STORIES.new_zeros(shape), QUESTIONS)
        torch.testing.assert_close(empty.logits[2], found.logits[2])
        assert not empty.weights.any()
    u = model.question(QUESTIONS)
    for _ in model.inputs:
        u = model.carry(u)
    torch.testing.assert_close(found.logits[2], (u @ model.answer.word.weight.T)[2])
    found.logits[2].sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@each_tying
def test_questions_do_not_see_each_other(tying):
    model = small(tying)
    together = model(STORIES, QUESTIONS)
    for b in range(3):
        alone = model(STORIES[b : b + 1], QUESTIONS[b : b + 1])
        torch.testing.assert_close(alone.logits[0], together.logits[b])
        torch.testing.assert_close(alone.weights[0], together.weights[b])


@each_tying
def test_sentences_may_stand_in_any_order_as_long_as_they_keep_their_ages(tying):
    model, order = small(tying), torch.tensor([2, 0, 1])
    story, old = STORIES[:1, :3], torch.tensor([[2, 1, 0]])
    here = model(story, QUESTIONS[:1])
    there = model(story[:, order], QUESTIONS[:1], ages=old[:, order])
    torch.testing.assert_close(there.logits, here.logits)
    torch.testing.assert_close(there.weights, here.weights[..., order])
    untold = model(story[:, order], QUESTIONS[:1])  # the order of telling matters
    assert not torch.allclose(untold.logits, here.logits)


def test_the_order_of_the_words_matters_in_a_story():
    story, question = STORIES[:1], QUESTIONS[:1]
    model = small()
    assert not torch.allclose(model(story.flip(-1), question).logits, model(story, question).logits)


def test_what_is_tied_is_the_same_and_stays_so():
    for name, tables, tied in (("adjacent", 4, True), ("layerwise", 4, True), ("untied", 8, False)):
        model = copy.deepcopy(small(name, hops=3))
        parts = [*model.inputs, *model.outputs, model.question, model.answer]
        assert len(set(parts)) == tables
        assert (model.inputs[1] is model.outputs[0]) == (name == "adjacent")
        assert (model.inputs[1] is model.inputs[0]) == (name == "layerwise")
        words = sum(p.numel() for p in model.parameters() if p.shape == (V, D))
        assert words == tables * V * D
        assert (len(list(model.parameters())) < 2 * len(parts)) == tied
    model = small("adjacent")
    assert model.question is model.inputs[0]
    assert model.answer is model.outputs[-1]


@each_tying
def test_gradients_are_exact_and_reach_every_parameter(tying):
    model = small(tying)
    names, values = zip(*model.named_parameters(), strict=True)

    def logits(*parameters):
        given_all = dict(zip(names, parameters, strict=True))
        return functional_call(model, given_all, (STORIES, QUESTIONS)).logits

    assert torch.autograd.gradcheck(logits, values, fast_mode=True)
    model(STORIES, QUESTIONS).logits.square().sum().backward()
    used = {n: p for n, p in model.named_parameters() if p.numel()}
    assert all(p.grad is not None and p.grad.any() for p in used.values())


@each_tying
def test_parameters_survive_saving(tying):
    model, other = small(tying), small(tying)
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other(STORIES, QUESTIONS), model(STORIES, QUESTIONS))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types_of_numbers(dtype):
    found = small().to(dtype)(STORIES, QUESTIONS)
    assert found.logits.dtype == found.weights.dtype == dtype
    assert found.logits.isfinite().all()
    assert found.weights.isfinite().all()


@each_tying
def test_networks_side_by_side_answer_as_they_do_alone(tying):
    models = [small(tying) for _ in range(3)]
    stacked, _ = stack_module_state(models)
    shape = copy.deepcopy(models[0])  # its tables are left with the stacked parameters
    together = vmap(lambda p: functional_call(shape, p, (STORIES, QUESTIONS)))(stacked)
    for r, model in enumerate(models):
        torch.testing.assert_close(together.logits[r], model(STORIES, QUESTIONS).logits)


@pytest.mark.parametrize("seed", range(3))
@each_tying
def test_one_hop_is_right_on_three_of_four_stories_at_most(tying, seed):
    """Of the proof: times Z the margin is a sum of terms that know one sentence each."""
    torch.manual_seed(seed)
    model = small(tying, hops=1)
    notes = torch.randint(1, V, (2, 2, 3))  # two sentences, each in two versions
    other = torch.randint(1, V, (2, 3))
    four = [torch.stack([notes[0, a], notes[1, b], *other]) for a in range(2) for b in range(2)]
    asked = QUESTIONS[:1].expand(4, -1)
    told = torch.stack(four)
    logits = model(told, asked).logits
    margin = logits[:, 1] - logits[:, 2]
    (A,), u = model.inputs, model.question(asked)
    keys = A(told) + A.age(torch.arange(3, -1, -1))
    N = (margin * (keys @ u[..., None])[..., 0].exp().sum(-1)).view(2, 2)
    torch.testing.assert_close(N[0, 0] + N[1, 1], N[0, 1] + N[1, 0])
    for right in ([1, -1, -1, 1], [-1, 1, 1, -1]):
        assert ((margin * torch.tensor(right)) > 0).sum() <= 3


# Linear start


def test_linear_keeps_the_scores_and_its_gradient_is_finite():
    scores = torch.tensor([[2.0, -3.0, -math.inf], [-math.inf] * 3], requires_grad=True)
    weights = linear(scores)
    assert weights.tolist() == [[2.0, -3.0, 0.0], [0.0, 0.0, 0.0]]
    weights.sum().backward()
    assert scores.grad.tolist() == [[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]


# Mistakes

MISTAKES = {
    "no hops": (lambda m: m.MemoryNetwork(V, D, 0, SLOTS), "hops must be at least 1, got 0"),
    "no slots": (lambda m: m.MemoryNetwork(V, D, 1, 0), "slots must be at least 1, got 0"),
    "a story too long": (
        lambda m: m.MemoryNetwork(V, D, 1, slots=2)(STORIES, QUESTIONS),
        "a sentence has age 2 but slots is 2",
    ),
    "an unknown symbol": (
        lambda m: m.MemoryNetwork(6, D, 1, SLOTS)(STORIES, QUESTIONS),
        "stories must be in 0..5, got 0..6",
    ),
    "one story": (
        lambda m: m.MemoryNetwork(V, D, 1, SLOTS)(STORIES[0], QUESTIONS),
        "stories must have 3 axes, the first of 4, got (4, 3)",
    ),
    "a question for each story": (
        lambda m: m.MemoryNetwork(V, D, 1, SLOTS)(STORIES, QUESTIONS[:2]),
        "questions must have 2 axes, the first of 3, got (2, 2)",
    ),
    "ages of other stories": (
        lambda m: m.MemoryNetwork(V, D, 1, SLOTS)(STORIES, QUESTIONS, ages=QUESTIONS),
        "ages must be (3, 4), got (3, 2)",
    ),
    "a sentence not yet told": (
        lambda m: m.MemoryNetwork(V, D, 1, SLOTS)(STORIES, QUESTIONS, ages=STORIES[..., 0] - 3),
        "ages must not be negative, got -3",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_named(mistake):
    make, message = MISTAKES[mistake]
    with as_installed() as _:
        from attnbook import memory_network

        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            make(memory_network)


def test_what_is_not_of_integers_is_refused():
    with as_installed() as _:
        from attnbook import memory_network

        model = memory_network.MemoryNetwork(V, D, 1, SLOTS)
        with pytest.raises(TypeError, match=r"stories must be of integers, got torch\.float32"):
            model(STORIES.float(), QUESTIONS)
        for wrong, name in ((torch.rand(3, 4), "float32"), (STORIES[..., 0] > 0, "bool")):
            with pytest.raises(TypeError, match=rf"ages must be of integers, got torch\.{name}"):
                model(STORIES, QUESTIONS, ages=wrong)
        with pytest.raises(TypeError, match="hops must be an integer, got float"):
            memory_network.MemoryNetwork(V, D, 2.0, SLOTS)
