# %% [markdown]
# # Lab: what attention costs, and what its weights say
#
# Four layers of one width read longer and longer texts: how do time and memory grow, and from
# which length on is attention the slowest? Then what the cost buys: weights that follow the
# question. And last, how far these weights explain an answer: four small models, each asked in
# several ways which words it needed.

# %%
import math
import os
import statistics
import time

import torch
from torch import nn
from torch.nn import functional as F

from attnbook import Additive, attend, plotting
from attnbook.book.labs import save
from attnbook.training import train

torch.set_num_threads(1)
SEEDS = (0, 1, 2)
WIDTH, HEADS, KERNEL, TEXTS = 64, 4, 5, 8
LENGTHS = (8, 16, 32, 64, 128, 256, 512, 1024)
ROUNDS = 4


# %% [markdown]
# ## Layers of one width
#
# Attention with its four projections, once with `attend`, which keeps the weights, and once with
# PyTorch's fused kernel, which does not; a GRU; a convolution over five words; and a linear layer
# that mixes nothing, for comparison.


# %%
class Attention(nn.Module):
    """Self-attention with four heads, by `attend` or by the fused kernel."""

    def __init__(self, fused):
        super().__init__()
        self.fused = fused
        self.make, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        parts = self.make(x).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        fused = F.scaled_dot_product_attention
        mixed = fused(*parts) if self.fused else attend(*parts).output
        return self.out(mixed.transpose(1, 2).flatten(2))


class Convolution(nn.Module):
    """A kernel of five."""

    def __init__(self):
        super().__init__()
        self.net = nn.Conv1d(WIDTH, WIDTH, KERNEL, padding=KERNEL // 2)

    def forward(self, x):
        return self.net(x.mT).mT


class Gru(nn.Module):
    """Word by word."""

    def __init__(self):
        super().__init__()
        self.net = nn.GRU(WIDTH, WIDTH, batch_first=True)

    def forward(self, x):
        return self.net(x)[0]


LAYERS = {
    "attention, weights kept": lambda: Attention(fused=False),
    "attention, fused": lambda: Attention(fused=True),
    "GRU": Gru,
    "convolution": Convolution,
    "linear": lambda: nn.Linear(WIDTH, WIDTH),
}
PRODUCTS = {  # multiply-adds of a text of n words, as chapter 07 counts them
    "attention, weights kept": lambda n: 4 * n * WIDTH**2 + 2 * n**2 * WIDTH,
    "attention, fused": lambda n: 4 * n * WIDTH**2 + 2 * n**2 * WIDTH,
    "GRU": lambda n: 6 * n * WIDTH**2,
    "convolution": lambda n: KERNEL * n * WIDTH**2,
    "linear": lambda n: n * WIDTH**2,
}


def work(layer, texts, length):
    """Forward and backward, once."""
    x = torch.randn(texts, length, WIDTH, requires_grad=True)

    def run():
        layer.zero_grad()
        x.grad = None
        layer(x).sum().backward()

    return run


def seconds(run, repeats):
    """Processor time of a run."""
    start = time.process_time()
    for _ in range(repeats):
        run()
    return (time.process_time() - start) / repeats


def timed(seed):
    """Medians over rounds, in each of which all layers take their turn: {(layer, texts, n): s}."""
    torch.manual_seed(seed)
    layers = {name: make() for name, make in LAYERS.items()}
    median = {}
    for texts, length in [(1, 8)] + [(TEXTS, n) for n in LENGTHS]:
        runs = {name: work(layer, texts, length) for name, layer in layers.items()}
        repeats = max(1, 256 // length)
        turns = [{name: seconds(run, repeats) for name, run in runs.items()} for _ in range(ROUNDS)]
        for name in layers:
            median[name, texts, length] = statistics.median(turn[name] for turn in turns[1:])
    return median


def slope(values, lengths):
    """Least squares on logarithmic axes: the power of the length with which values grow."""
    x = torch.tensor(lengths, dtype=torch.double).log()
    y = torch.tensor(values, dtype=torch.double).log()
    x = x - x.mean()
    return ((x * y).sum() / x.square().sum()).item()


def crossing(one, other):
    """The first length at which `one` takes as long as `other`, on logarithmic axes.

    The shortest length if it always takes longer, the longest if it never does.
    """
    ratios = [math.log(a / b) for a, b in zip(one, other, strict=True)]
    if ratios[0] >= 0:
        return LENGTHS[0]
    for k in range(len(ratios) - 1):
        if ratios[k] < 0 <= ratios[k + 1]:
            part = ratios[k] / (ratios[k] - ratios[k + 1])
            return LENGTHS[k] * (LENGTHS[k + 1] / LENGTHS[k]) ** part
    return LENGTHS[-1]


# %%
times = [timed(seed) for seed in SEEDS]
lines = {
    name: [[t[name, TEXTS, n] for n in LENGTHS] for t in times] for name in LAYERS
}  # name -> run -> length
print("milliseconds, forward and backward, 8 texts; the run in the middle")
print("words                  ", *(f"{n:7}" for n in LENGTHS))
middle = {}
for name, runs in lines.items():
    middle[name] = [statistics.median(column) for column in zip(*runs, strict=True)]
    print(f"{name:24}", *(f"{1e3 * t:7.2f}" for t in middle[name]))

# %% [markdown]
# With which power of the length do they grow, from 256 words on? And from which length on is
# attention slower than another layer? By the count of multiply-adds it should be 64 words for the
# GRU, 32 for the convolution.

# %%
values, worst = {}, {}


def keep(name, numbers, chosen):
    values[name], worst[name] = list(numbers), chosen
    print(f"{name:32}", *(f"{x:9.3f}" for x in values[name]))


LAST = LENGTHS[-3:]
SHORT = {
    "attention, weights kept": "kept",
    "attention, fused": "fused",
    "GRU": "gru",
    "convolution": "conv",
    "linear": "linear",
}
for name, stem in SHORT.items():
    chosen = min if stem in ("kept", "fused") else max
    keep(f"slope_{stem}", (slope(run[-3:], LAST) for run in lines[name]), chosen)
for stem in ("kept", "fused"):
    attention = next(name for name, short in SHORT.items() if short == stem)
    for other in ("GRU", "convolution"):
        pairs = zip(lines[attention], lines[other], strict=True)
        keep(f"cross_{stem}_{SHORT[other]}", (crossing(a, b) for a, b in pairs), min)
    longest = [a[-1] / b[-1] for a, b in zip(lines[attention], lines["GRU"], strict=True)]
    keep(f"longest_{stem}", longest, min)

# %% [markdown]
# ## Short inputs
#
# One text of eight words. How fast is the arithmetic there, as part of the best rate that the
# same layer reaches anywhere above? And how many times as long as a linear layer does attention
# take, where by its products it should be 4.25 times?

# %%
for name, stem in SHORT.items():
    shares = []
    for t in times:
        best = max(TEXTS * PRODUCTS[name](n) / t[name, TEXTS, n] for n in LENGTHS)
        shares.append(PRODUCTS[name](8) / t[name, 1, 8] / best)
    keep(f"short_rate_{stem}", shares, max)
for stem in ("kept", "fused"):
    name = next(n for n, short in SHORT.items() if short == stem)
    keep(f"short_times_{stem}", (t[name, 1, 8] / t["linear", 1, 8] for t in times), max)


# %% [markdown]
# ## Memory
#
# The most that PyTorch's allocator held at a time during forward and backward. It does not depend
# on the machine or on the numbers.


# %%
def peak(run):
    """Bytes held at the worst moment, above what was held before."""
    activity = [torch.profiler.ProfilerActivity.CPU]
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)  # the profiler's library talks when it starts and stops
    with torch.profiler.profile(activities=activity, profile_memory=True) as profile:
        run()
    os.dup2(saved, 2)
    os.close(saved)
    os.close(nowhere)
    held = most = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most


bytes_held = {}
for name, make in LAYERS.items():
    bytes_held[name] = [peak(work(make(), TEXTS, n)) for n in LENGTHS]
    print(f"{name:24}", *(f"{b / 2**20:8.2f}" for b in bytes_held[name]), " MiB")
for name, stem in SHORT.items():
    keep(f"memory_slope_{stem}", [slope(bytes_held[name][-3:], LAST)], max)
keep(
    "memory_longest_kept", [bytes_held["attention, weights kept"][-1] / bytes_held["GRU"][-1]], min
)
keep("memory_longest_fused", [bytes_held["attention, fused"][-1] / bytes_held["GRU"][-1]], max)

# %%
figure, panels = plotting.axes(
    1,
    2,
    width=7.6,
    height=3.4,
    alt="Time and memory against length, both logarithmic. Attention with its weights kept is the "
    "steepest in both; the fused kernel is as steep in time at the end, and in memory level with "
    "the others.",
)
for name in LAYERS:
    panels[0].loglog(LENGTHS, [1e3 * t for t in middle[name]], label=name)
    panels[1].loglog(LENGTHS, [b / 2**20 for b in bytes_held[name]])
panels[0].set(xlabel="words", ylabel="milliseconds")
panels[1].set(xlabel="words", ylabel="MiB")
figure.legend(loc="outside upper center", ncols=3)
figure


# %% [markdown]
# ## Weights that follow the question
#
# Sixteen things lie on a table, each with a name, one of four colours, and a number. A question
# asks for the number of one of them, for the mean of a colour, or for the mean of all. One
# attention answers: keys are made of name and colour, the query of the question, the values are
# the numbers. Over how many things does it spread, as the exponential of the entropy of its
# weights? Beside it a layer whose weights are always even.


# %%
def table(size, generator):
    """Colours, names, numbers, kind of question, question, which things it is about, answer."""
    shuffle = [torch.rand(size, 16, generator=generator).argsort(1) for _ in range(2)]
    colour, name = shuffle[0] % 4, shuffle[1]
    number = torch.randn(size, 16, generator=generator)
    kind = torch.randint(3, (size,), generator=generator)
    row, pick = torch.arange(size), torch.randint(16, (size,), generator=generator)
    one, some = name[row, pick], colour[row, pick]
    about = torch.stack([name == one[:, None], colour == some[:, None], name >= 0], 1)[row, kind]
    question = torch.stack([one, 16 + some, torch.full_like(one, 20)], 1)[row, kind]
    return colour, name, number, kind, question, about, (number * about).sum(1) / about.sum(1)


class Teller(nn.Module):
    """One attention; `even` takes the question away from it."""

    def __init__(self, even=False):
        super().__init__()
        self.colour, self.name = nn.Embedding(4, 32), nn.Embedding(16, 32)
        self.question, self.key, self.even = nn.Embedding(21, 32), nn.Linear(32, 32), even

    def look(self, batch):
        colour, name, number, _, question, *_ = batch
        query = self.question(question)[:, None] * (0 if self.even else 1)
        return attend(query, self.key(self.colour(colour) + self.name(name)), number[..., None])

    def forward(self, batch):
        return self.look(batch).output[:, 0, 0]


def misses(model, batch):
    """Squared errors, each divided by the variance of the answer."""
    return (model(batch) - batch[-1]).square() * torch.tensor([1.0, 4.0, 16.0])[batch[3]]


def spread(weights):
    """The number of things, if all had the same weight."""
    return (-(weights * weights.clamp_min(1e-30).log()).sum(-1)).exp()


TABLE_STEPS = 500
tables = table(3000, torch.Generator().manual_seed(999))
tellers, found = {}, {}
for even in (False, True):
    for seed in SEEDS:
        torch.manual_seed(seed)
        model, draw = Teller(even), torch.Generator().manual_seed(seed)
        train(
            model,
            lambda model, batch: misses(model, batch).mean(),
            (table(128, draw) for _ in range(TABLE_STEPS)),
            steps=TABLE_STEPS,
            lr=0.02,
            warmup=20,
            seed=seed,
            title=f"{'even' if even else 'attention'}, seed {seed}",
        )
        tellers[even, seed] = model
        with torch.no_grad():
            error, weights = misses(model, tables), model.look(tables).weights[:, 0]
        for kind in range(3):
            there = tables[3] == kind
            score = error[there].mean().item(), spread(weights[there]).median().item()
            found.setdefault((even, kind), []).append(score)

# %%
for (even, kind), scores in found.items():
    stem = f"{'even' if even else 'follow'}_{('one', 'colour', 'all')[kind]}"
    errors, spreads = zip(*scores, strict=True)
    keep(f"{stem}_error", errors, min if even else max)
    if not even:
        keep(f"{stem}_spread", spreads, min if kind == 2 else max)

one_table = [part[:1].expand(3, *part.shape[1:]).clone() for part in tables[:6]]
colours, names = one_table[0][0], one_table[1][0]
one_table[3] = torch.arange(3)
one_table[4] = torch.stack([names[0], 16 + colours[0], torch.tensor(20)])
with torch.no_grad():
    looks = tellers[False, 0].look(one_table).weights[:, 0]

# %% [markdown]
# ## Which words mattered?
#
# Short reviews of twenty words, made up: most say nothing, some praise or blame. In the first
# task three words judge, and the majority decides. In the second, four subjects (food, service,
# room, price) have a judgement each behind them, and one of the four is asked for. So it is known
# which words the right answer rests on: three in the first task, two in the second.

# %%
TEXT = """
    we went there on a day in may with the old red bus and sat by one of many tables near some big
    window while people walked past after work then left again for home through this long street
    where two small shops sell bread paper or shoes to anyone who asks about them until ten
"""
GOOD_WORDS = "great lovely superb fine warm kind perfect fresh charming friendly tasty clean"
BAD_WORDS = "awful poor rude stale dirty cold dull bitter shabby noisy slow broken"
SUBJECTS = ["food", "service", "room", "price"]
PLAIN, GOOD, BAD = TEXT.split(), GOOD_WORDS.split(), BAD_WORDS.split()
WORDS = [*PLAIN, *GOOD, *BAD, *SUBJECTS]
N, FIRST_GOOD, FIRST_BAD = 20, len(PLAIN), len(PLAIN) + len(GOOD)
assert len(set(WORDS)) == len(WORDS)


def judgements(size, count, generator):
    """Whether each praises, and the words."""
    praise = torch.rand(size, count, generator=generator) < 0.5
    which = torch.randint(12, (size, count), generator=generator)
    return praise, which + torch.where(praise, FIRST_GOOD, FIRST_BAD)


def reviews(task, size, generator):
    """Words, what is asked (0 in the first task), the answer, and which words it rests on."""
    words = torch.randint(len(PLAIN), (size, N), generator=generator)
    rests, row = torch.zeros(size, N, dtype=torch.bool), torch.arange(size)
    if task == "majority":
        places = torch.rand(size, N, generator=generator).argsort(1)[:, :3]
        praise, said = judgements(size, 3, generator)
        asked, answer = torch.zeros(size, dtype=torch.long), praise.sum(1) >= 2
        return words.scatter(1, places, said), asked, answer.float(), rests.scatter(1, places, True)
    places = torch.rand(size, N // 2, generator=generator).argsort(1)[:, :4] * 2
    subject = torch.rand(size, 4, generator=generator).argsort(1)
    praise, said = judgements(size, 4, generator)
    words = words.scatter(1, places, len(WORDS) - 4 + subject).scatter(1, places + 1, said)
    asked = torch.randint(4, (size,), generator=generator)
    right = (subject == asked[:, None]).int().argmax(1)
    rests[row, places[row, right]] = rests[row, places[row, right] + 1] = True
    return words, asked, praise[row, right].float(), rests


for task in ("majority", "asked"):
    words, asked, answer, rests = reviews(task, 1, torch.Generator().manual_seed(3))
    print(f"{task}, about {SUBJECTS[int(asked)]}:" if task == "asked" else f"{task}:", end=" ")
    print(
        *(WORDS[w].upper() if r else WORDS[w] for w, r in zip(words[0], rests[0], strict=True)),
        "->",
        "good" if answer else "bad",
    )


# %% [markdown]
# Three models read words into states, attend to them with an additive score and one query, and
# read the answer off the mixture by a linear layer. In the first, a state is made of its word
# alone; in the others, a GRU in both directions makes it, so that each state knows of the whole
# review. `even` has equal weights in training and test.


# %%
class Reviewer(nn.Module):
    """States, one attention over them, and a linear reading."""

    def __init__(self, recurrent, even=False, width=32):
        super().__init__()
        self.embed, self.query = nn.Embedding(len(WORDS), width), nn.Embedding(4, width)
        self.net = nn.GRU(width, width // 2, batch_first=True, bidirectional=True)
        self.plain, self.recurrent, self.even = nn.Linear(width, width), recurrent, even
        self.score, self.out = Additive(width, width, width), nn.Linear(width, 1)

    def states(self, embedded):
        return self.net(embedded)[0] if self.recurrent else torch.tanh(self.plain(embedded))

    def weights(self, states, asked):
        if self.even:
            return torch.full(states.shape[:2], 1 / states.shape[1])
        return attend(self.query(asked)[:, None], states, states, score=self.score).weights[:, 0]

    def read(self, states, weights):
        return self.out((weights[..., None] * states).sum(-2))[..., 0]

    def forward(self, words, asked):
        states = self.states(self.embed(words))
        return self.read(states, self.weights(states, asked))


def learn(model, task, steps, seed, title, lr=3e-3):
    """The same reviews for all models of a seed."""
    draw = torch.Generator().manual_seed(seed)
    train(
        model,
        lambda model, batch: F.binary_cross_entropy_with_logits(model(*batch[:2]), batch[2]),
        (reviews(task, 64, draw) for _ in range(steps)),
        steps=steps,
        lr=lr,
        warmup=30,
        clip=1.0,
        seed=seed,
        title=f"{title}, seed {seed}",
    )
    return model


def right(model, batch):
    """The share of right answers."""
    with torch.no_grad():
        return ((model(*batch[:2]) > 0) == (batch[2] > 0.5)).float().mean().item()


MODELS = {  # name -> task, recurrent, steps
    "words": ("majority", False, 300),
    "states": ("majority", True, 300),
    "asked": ("asked", True, 500),
}
held = {
    task: reviews(task, 1000, torch.Generator().manual_seed(999)) for task in ("majority", "asked")
}
trained, accuracy = {}, {}
for name, (task, recurrent, steps) in MODELS.items():
    for even in (False, True):
        for seed in SEEDS:
            torch.manual_seed(seed)
            model = Reviewer(recurrent, even)
            title = f"{name}{', even' * even}"
            trained[name, even, seed] = learn(model, task, steps, seed, title)
            score = right(model, held[task])
            accuracy.setdefault(f"right_{name}{'_even' * even}", []).append(score)
for name, shares in accuracy.items():
    keep(name, shares, max if name == "right_asked_even" else min)


# %% [markdown]
# ## Weights beside what else says "this mattered"
#
# Three measures for each word of a review: its weight; how much the answer moves when the word is
# left out; and input times gradient, with the weights held fixed, as Jain and Wallace take it.
# How do they rank the twenty words (Kendall's tau, -1 to 1)? Do the largest lie on the words that
# the answer rests on? Then the weights are tampered with: shuffled (the median change of the
# probability over 50 shufflings), and replaced by the most different ones that give exactly the
# same answer. Since the answer is read off linearly, two words are enough for those.


# %%
def tau(a, b):
    """Kendall's rank correlation, the mean over reviews."""
    i, j = torch.triu_indices(a.shape[1], a.shape[1], 1)
    return ((a[:, i] - a[:, j]).sign() * (b[:, i] - b[:, j]).sign()).mean().item()


def hits(scores, rests):
    """Of the largest, as many as the answer rests on: the share that it does rest on."""
    largest = scores.topk(int(rests[0].sum()), dim=1).indices
    return rests.gather(1, largest).float().mean().item()


def others(weights, told):
    """The weights on two words, furthest from the learned, that read as the same number.

    `told` is what each word alone would read as; the answer is its mean by the weights.
    """
    row, target = torch.arange(len(told)), (weights * told).sum(1)[:, None, None]
    above, below = told[:, :, None], told[:, None, :]
    possible = (above >= target) & (below < target)
    share = ((target - below) / (above - below)).where(possible, 0.5)
    kept = torch.minimum(weights[:, :, None], share) + torch.minimum(weights[:, None], 1 - share)
    far = (1 - kept).where(possible, -1.0).flatten(1)  # total variation: the part that moved
    distance, place = far.max(1)
    i, j = place // N, place % N
    share = share[row, i, j]
    new = torch.zeros_like(weights)
    new[row, i], new[row, j] = share, 1 - share
    return new, distance


def removed(order, weights, told):
    """The part of the words, in this order, whose loss first turns the decision; 1 if none does."""
    rank, left = order.argsort(1, descending=True), torch.ones_like(weights)
    before, turned = (weights * told).sum(1) > 0, torch.full((len(told),), float(N))
    for k in range(N - 1):
        left.scatter_(1, rank[:, k : k + 1], 0.0)
        now = (weights * left * told).sum(1) > 0
        turned[(now != before) & (turned == N)] = k + 1
    return (turned / N).mean().item()


def asked_about(model, batch):
    """All measures of one model, and one review with its weights."""
    words, asked, _, rests = (part[:300] for part in batch)
    size, generator = len(words), torch.Generator().manual_seed(5)
    embedded = model.embed(words).detach().requires_grad_()
    states = model.states(embedded)
    weights = model.weights(states, asked).detach()
    chance = torch.sigmoid(model.read(states, weights))
    (gradient,) = torch.autograd.grad(chance.sum(), embedded)
    saliency = (gradient * embedded).sum(-1).abs().detach()
    with torch.no_grad():
        all_but = torch.stack(
            [torch.cat([torch.arange(t), torch.arange(t + 1, N)]) for t in range(N)]
        )
        without = model(words[:, all_but].flatten(0, 1), asked.repeat_interleave(N)).view(size, N)
        left_out = (torch.sigmoid(without) - chance[:, None]).abs()
        shuffles = [torch.rand(size, N, generator=generator).argsort(1) for _ in range(50)]
        moved = [
            (torch.sigmoid(model.read(states, weights.gather(1, order))) - chance).abs()
            for order in shuffles
        ]
        told = model.out(states)[..., 0]
        new, distance = others(weights, told)
        off = (torch.sigmoid(model.read(states, new)) - chance).abs().max().item()
        toward = told * torch.sign((weights * told).sum(1, keepdim=True))
    measures = {
        "tau_gradient": tau(weights, saliency),
        "tau_left_out": tau(weights, left_out),
        "tau_each_other": tau(saliency, left_out),
        "hits_weights": hits(weights, rests),
        "hits_gradient": hits(saliency, rests),
        "hits_left_out": hits(left_out, rests),
        "shuffled": torch.stack(moved).median(0).values.mean().item(),
        "others_distance": distance.mean().item(),
        "others_off": off,
        "removed_weights": removed(weights, weights, told),
        "removed_product": removed(weights * toward, weights, told),
        "removed_random": removed(torch.rand(size, N, generator=generator), weights, told),
    }
    example = {
        "words": [WORDS[w] for w in words[0]],
        "rests": rests[0].tolist(),
        "asked": SUBJECTS[int(asked[0])],
        "chance": round(chance[0].item(), 4),
        "other chance": round(torch.sigmoid((new * told).sum(1))[0].item(), 4),
        "rows": [
            [round(v, 4) for v in row.tolist()]
            for row in (weights[0], new[0], left_out[0], saliency[0])
        ],
    }
    return measures, example


CHOSEN = {  # which seed speaks most against what is said of it
    "words": {"tau_gradient": min, "tau_left_out": min, "tau_each_other": min},
    "states": {"tau_gradient": max, "tau_left_out": max, "tau_each_other": max, "shuffled": max},
    "asked": {"tau_gradient": max, "tau_left_out": min, "tau_each_other": min},
}
measured, examples = {}, {}
for name, (task, *_) in MODELS.items():
    for seed in SEEDS:
        measures, example = asked_about(trained[name, False, seed], held[task])
        examples.setdefault(name, example)
        for key, value in measures.items():
            measured.setdefault((name, key), []).append(value)
for (name, key), numbers in measured.items():
    chosen = CHOSEN[name].get(key)
    if chosen is None:
        chosen = max if key in ("others_off", "removed_weights", "removed_product") else min
    keep(f"{name}_{key}", numbers, chosen)

# %% [markdown]
# ## Are the weights good for somebody else?
#
# The test of Wiegreffe and Pinter: a model that reads each word alone is given the weights of the
# trained recurrent model, frozen, and learns the rest. Beside it one with even weights, and one
# with those furthest ones that give the recurrent model the same answer.


# %%
class Guided(nn.Module):
    """Words alone, mixed by weights from elsewhere."""

    def __init__(self, width=32):
        super().__init__()
        self.embed, self.plain = nn.Embedding(len(WORDS), width), nn.Linear(width, width)
        self.out = nn.Linear(width, 1)

    def forward(self, words, weights):
        states = torch.tanh(self.plain(self.embed(words)))
        return self.out((weights[..., None] * states).sum(-2))[..., 0]


def lent(model, kind, batch):
    """Words, weights, answer."""
    words, asked, answer, _ = batch
    with torch.no_grad():
        states = model.states(model.embed(words))
        weights = model.weights(states, asked)
        if kind == "even":
            weights = torch.full_like(weights, 1 / N)
        if kind == "others":
            weights = others(weights, model.out(states)[..., 0])[0]
    return words, weights, answer


for kind in ("learned", "even", "others"):
    shares = []
    for seed in SEEDS:
        torch.manual_seed(seed)
        guided, source = Guided(), trained["states", False, seed]
        draw = torch.Generator().manual_seed(50 + seed)
        train(
            guided,
            lambda model, batch: F.binary_cross_entropy_with_logits(model(*batch[:2]), batch[2]),
            (lent(source, kind, reviews("majority", 64, draw)) for _ in range(300)),
            steps=300,
            lr=3e-3,
            warmup=30,
            seed=seed,
            title=f"guided by {kind} weights, seed {seed}",
        )
        shares.append(right(guided, lent(source, kind, held["majority"])))
    keep(f"guided_{kind}", shares, max if kind == "even" else min)


# %% [markdown]
# ## Three layers
#
# A small Transformer encoder, three layers of two heads, reads the answer to the first task off
# an added place in front. Its last weights lie on states, not on words. Rollout (Abnar and
# Zuidema) multiplies the weights of all layers, each averaged over heads and mixed half and half
# with the residual. Which of the two agrees better with blanking out a word?


# %%
class Deep(nn.Module):
    """Pre-norm layers; keeps the weights of its last run."""

    def __init__(self, layers=3, width=32, heads=2):
        super().__init__()
        self.embed, self.heads, self.maps = nn.Embedding(len(WORDS), width), heads, []
        self.place = nn.Parameter(0.1 * torch.randn(N + 1, width))
        self.layers = nn.ModuleList(
            nn.ModuleDict(
                {
                    "make": nn.Linear(width, 3 * width),
                    "join": nn.Linear(width, width),
                    "norm": nn.LayerNorm(width),
                    "norm2": nn.LayerNorm(width),
                    "up": nn.Linear(width, 2 * width),
                    "down": nn.Linear(2 * width, width),
                }
            )
            for _ in range(layers)
        )
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, 1)

    def forward(self, words, asked, embedded=None):
        embedded = self.embed(words) if embedded is None else embedded
        x, self.maps = F.pad(embedded, (0, 0, 1, 0)) + self.place, []
        for layer in self.layers:
            parts = layer["make"](layer["norm"](x)).unflatten(-1, (3, self.heads, -1))
            mixed = attend(*parts.permute(2, 0, 3, 1, 4))
            self.maps.append(mixed.weights.mean(1).detach())
            x = x + layer["join"](mixed.output.transpose(1, 2).flatten(2))
            x = x + layer["down"](F.relu(layer["up"](layer["norm2"](x))))
        return self.out(self.norm(x[:, 0]))[:, 0]


deep = {}
for seed in SEEDS:
    torch.manual_seed(seed)
    model = learn(Deep(), "majority", 400, seed, "three layers", lr=2e-3)
    words, asked, _, rests = (part[:300] for part in held["majority"])
    deep.setdefault("right", []).append(right(model, held["majority"]))
    embedded = model.embed(words).detach().requires_grad_()
    chance = torch.sigmoid(model(words, asked, embedded))
    (gradient,) = torch.autograd.grad(chance.sum(), embedded)
    saliency, rolled = (gradient * embedded).sum(-1).abs().detach(), torch.eye(N + 1)
    last = model.maps[-1][:, 0, 1:]
    for step in model.maps:
        rolled = (step + torch.eye(N + 1)) / 2 @ rolled
    rolled = rolled[:, 0, 1:]
    with torch.no_grad():
        blanked = embedded[:, None] * (1 - torch.eye(N))[..., None]
        without = model(words, asked, blanked.flatten(0, 1)).view(len(words), N)
        left_out = (torch.sigmoid(without) - chance[:, None]).abs()
    for key, scores in (("last", last), ("rollout", rolled), ("gradient", saliency)):
        deep.setdefault(f"tau_{key}", []).append(tau(scores, left_out))
        deep.setdefault(f"hits_{key}", []).append(hits(scores, rests))
    deep.setdefault("hits_blanked", []).append(hits(left_out, rests))
deep["lead"] = [a - b for a, b in zip(deep["tau_rollout"], deep["tau_last"], strict=True)]
for key, numbers in deep.items():
    keep(f"deep_{key}", numbers, max if key.endswith(("last", "gradient")) else min)

# %%
summary = save(
    "costs",
    seeds=SEEDS,
    steps={"table": TABLE_STEPS, "words": 300, "states": 300, "asked": 500, "deep": 400},
    values=values,
    worst=worst,
    shown={
        "lengths": LENGTHS,
        "seconds": {
            name: [[float(f"{t:.4g}") for t in run] for run in runs] for name, runs in lines.items()
        },
        "bytes": bytes_held,
        "looks": [[round(w, 4) for w in row] for row in looks.tolist()],
        "colours": colours.tolist(),
        "names": names.tolist(),
        "examples": examples,
        "tau": {
            name: {
                key: measured[name, f"tau_{key}"] for key in ("gradient", "left_out", "each_other")
            }
            for name in MODELS
        },
    },
)
