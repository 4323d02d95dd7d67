# %% [markdown]
# # Lab: how many looks does an answer need?
#
# People walk through a house, take things and leave them. "Which room is the rope in?" needs two
# sentences: who last took or left it, and where they were. A memory network reads the story in one,
# two or three hops. How often is it wrong? Which sentences does each hop read? And how do other
# kinds of questions fare?
#
# The stories are ours, of the kinds of six bAbI tasks; nothing here is measured on bAbI.

# %%
import random

import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

from attnbook import plotting, softmax
from attnbook.book.labs import save
from attnbook.memory_network import MemoryNetwork, linear
from attnbook.sentences import ages
from attnbook.tasks import questions, stories, ways
from attnbook.training import train

torch.set_num_threads(1)
SETS = (0, 1, 2)  # of networks that differ in their first numbers
TRAINED, TESTED, BATCH, EPOCHS = 1000, 1000, 32, 50
HALVES = slice(TRAINED), slice(TRAINED, None)
STEPS = EPOCHS * (TRAINED // BATCH)
LINEAR = round(0.15 * STEPS)  # steps of the linear start
LENGTHS = range(8, 13)  # sentences of a story; of those about ways 2 to 5


def told(task, size, seed, lengths=LENGTHS):
    """Stories as they are told, and as tensors."""
    drawn = stories.draw(task, size, random.Random(seed), lengths)
    return drawn, questions.encode(drawn)


print(stories.tell(told(stories.two_facts, 1, seed=5)[0][0]))

# %% [markdown]
# ## Networks side by side
#
# A run often gets stuck, so each network is trained from several beginnings, and the run with the
# smallest error on the *training* stories is taken. All beginnings are trained at once: their
# parameters are stacked, and one forward pass serves them all. None sees another.


# %%
class SideBySide(nn.Module):
    """Networks of one shape, each with its own parameters, which answer the same questions."""

    def __init__(self, networks):
        super().__init__()
        stacked, _ = stack_module_state(networks)
        self.names, self.stacked = list(stacked), nn.ParameterList(stacked.values())
        self.shape = [networks[0]]  # in a list: its own parameters are not to be trained

    def forward(self, told, asked, **options):
        def answer(parameters):
            return functional_call(self.shape[0], parameters, (told, asked), options)

        return vmap(answer)(dict(zip(self.names, self.stacked, strict=True)))


def batches(data, seed):
    """Shuffled stories with empty memories strewn in; at first the softmax is left out."""
    draw = torch.Generator().manual_seed(seed)
    for step in range(STEPS):
        place = step % (TRAINED // BATCH) * BATCH
        if place == 0:
            order = torch.randperm(TRAINED, generator=draw)
        chosen = order[place : place + BATCH]
        text = data.stories[chosen]
        old = ages((text != 0).any(-1), empty=0.1, generator=draw)
        options = {"ages": old, "normalize": linear if step < LINEAR else softmax}
        yield text, data.questions[chosen], data.answers[chosen], options


def loss(networks, batch):
    """The cross-entropy of each network, added up: each gets the gradient of its own."""
    text, asked, answers, options = batch
    logits = networks(text, asked, **options).logits
    every = nn.functional.cross_entropy(
        logits.flatten(0, 1), answers.repeat(len(logits)), reduction="sum"
    )
    return every / len(answers)


@torch.no_grad()
def wrong(networks, data):
    """The error of each network."""
    found = networks(data.stories, data.questions).logits.argmax(-1)
    return (found != data.answers).float().mean(-1)


def trained(name, task, hops, count, lengths=LENGTHS, seed=0):
    """`count` networks side by side, with their errors on the training and the test stories."""
    drawn, data = told(task, TRAINED + TESTED, seed, lengths)
    first, second = (data._make(part[cut] for part in data) for cut in HALVES)
    slots = data.stories.shape[1] + 2  # room for the empty memories
    torch.manual_seed(seed)
    networks = SideBySide(
        [MemoryNetwork(len(questions.VOCABULARY), 20, hops, slots) for _ in range(count)]
    )
    history = train(
        networks,
        loss,
        batches(first, seed),
        steps=STEPS,
        lr=1e-2,
        clip=40.0 * count**0.5,
        title=f"{name}, hops: {hops}",
    )
    errors = wrong(networks, first), wrong(networks, second)
    print(f"{name}, hops: {hops}; {history.cpu_seconds / count:.1f} CPU seconds a network")
    for which, error in zip(("training", "test"), errors, strict=True):
        print(f"  {which:8}", *(f"{e:6.1%}" for e in error[errors[0].argsort()]))
    return networks, errors, (drawn[TRAINED:], second)


def chosen(errors):
    """Of each set the network with the smallest training error: its number."""
    sets = errors[0].view(len(SETS), -1)
    return [n * sets.shape[1] + int(row.argmin()) for n, row in enumerate(sets)]


# %% [markdown]
# ## Two facts: one, two and three hops
#
# Twelve networks of each kind, in three sets of four.

# %%
RESTARTS = 4
runs = {
    hops: trained("two facts", stories.two_facts, hops, len(SETS) * RESTARTS) for hops in (1, 2, 3)
}

# %%
FAILED = 0.1  # of the training stories wrong at the end
errors, failed = {}, {}
for hops, (_, (first, second), _) in runs.items():
    errors[hops] = [second[n].item() for n in chosen((first, second))]
    failed[hops] = (first > FAILED).float().mean().item()
    print(f"{hops} hops: wrong", *(f"{e:.1%}" for e in errors[hops]), end="; ")
    print(f"{failed[hops]:.0%} of the networks failed, the worst has {second.max():.1%} wrong")

# %%
figure, ax = plotting.axes(
    height=3.2,
    alt="Test error against the number of hops, one dot for each of twelve networks. With one hop "
    "all stand near two thirds; with two and three hops nearly all stand close to the bottom.",
)
for hops, (_, (first, second), _) in runs.items():
    spread = torch.linspace(-0.15, 0.15, len(second))
    taken = chosen((first, second))
    ax.plot(hops + spread, second, "o", color=plotting.MUTED)
    ax.plot(hops + spread[taken], second[taken], "o", color=plotting.ACCENT)
ax.set(xlabel="hops", ylabel="wrong answers, test", ylim=(-0.02, 1), xticks=[1, 2, 3])
figure

# %% [markdown]
# ## Which facts does each hop read?
#
# The stories say which sentences an answer rests on: first who took or left the thing, then where
# they were. The network was never told. The mean weight on each, over the test stories:


# %%
@torch.no_grad()
def reading(hops):
    """For each set: hop by hop the mean weight on the first fact, the second, and the rest."""
    networks, both, (_, data) = runs[hops]
    weights = networks(data.stories, data.questions).weights[chosen(both)]
    facts = data.facts[:, None].expand(len(weights), -1, hops, -1)
    on = weights.gather(-1, facts).mean(1)
    return torch.cat([on, 1 - on.sum(-1, keepdim=True)], dim=-1)


for hops in (1, 2, 3):
    for n, one in enumerate(reading(hops)):
        print(f"{hops} hops, set {n}:", "; ".join(" ".join(f"{w:.2f}" for w in k) for k in one))


# %% [markdown]
# Some test stories, read by the network of three hops that was taken of the first set.

# %%
networks, both, (drawn, data) = runs[3]
with torch.no_grad():
    answered = networks(data.stories, data.questions)
best = chosen(both)[0]
short = [i for i, story in enumerate(drawn) if len(story.sentences) == 8]
picked = [
    next(i for i in short if word in drawn[i].sentences[drawn[i].facts[0]])
    for word in ("takes", "leaves")
]
examples = []
for i in picked:
    story, answer = drawn[i], int(answered.logits[best, i].argmax())
    read = answered.weights[best, i, :, : len(story.sentences)]
    examples.append(
        {
            "sentences": list(story.sentences),
            "question": story.question,
            "answer": story.answer,
            "given": questions.VOCABULARY.decode([answer]),
            "facts": list(story.facts),
            "weights": [[round(w, 3) for w in row] for row in read.tolist()],
        }
    )
figure, panels = plotting.axes(
    2,
    1,
    height=6.4,
    alt="Two stories of eight sentences with the weights of three hops beside each sentence.",
)
for panel, one in zip(panels, examples, strict=True):
    names = [f"{'→ ' if n in one['facts'] else ''}{s}" for n, s in enumerate(one["sentences"])]
    weights = torch.tensor(one["weights"]).T
    plotting.heatmap(panel, weights, rows=names, columns=["1", "2", "3"], annotate=True)
    panel.set_title(f"{one['question']}? {one['given']}")
figure

# %% [markdown]
# ## Longer stories
#
# Trained on 8 to 12 sentences. With 13 or 14 the oldest has an age that only the empty memories
# have shown.

# %%
_, longer = told(stories.two_facts, 1000, seed=1, lengths=range(13, 15))
beyond = {}
for hops in (2, 3):
    every = wrong(runs[hops][0], longer)
    beyond[hops] = [every[n].item() for n in chosen(runs[hops][1])]
for hops, found in beyond.items():
    print(f"{hops} hops: wrong", *(f"{e:.1%}" for e in found))

# %% [markdown]
# ## Other questions
#
# Three hops, six networks for each kind, in three sets of two.

# %%
kinds = {
    "one": (stories.single_fact, LENGTHS),
    "three": (stories.three_facts, LENGTHS),
    "yes_no": (stories.yes_no, LENGTHS),
    "counting": (stories.counting, LENGTHS),
    "way": (ways.path_finding, range(2, 6)),
}
others = {}
for name, (task, lengths) in kinds.items():
    _, both, _ = trained(name, task, 3, 2 * len(SETS), lengths)
    others[name] = [both[1][n].item() for n in chosen(both)]
for name, found in others.items():
    print(f"{name:10}", *(f"{e:6.1%}" for e in found))

# %%
values = {f"two_facts_{hops}": errors[hops] for hops in (1, 2, 3)}
values |= {f"failed_{hops}": [failed[hops]] for hops in (2, 3)}
values |= {f"unchosen_{hops}": [runs[hops][1][1].max().item()] for hops in (2, 3)}
values |= {f"longer_{hops}": beyond[hops] for hops in (2, 3)}
values |= others
worst = dict.fromkeys(values, max) | {"two_facts_1": min}
summary = save(
    "memory-networks",
    seeds=SETS,
    steps=STEPS,
    values=values,
    worst=worst,
    shown={
        "examples": examples,
        "reading": {hops: reading(hops).mul(1000).round().div(1000).tolist() for hops in runs},
        "every": {hops: both[1].tolist() for hops, (_, both, _) in runs.items()},
        "chosen": {hops: chosen(both) for hops, (_, both, _) in runs.items()},
    },
)
