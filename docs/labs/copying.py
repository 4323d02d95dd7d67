# %% [markdown]
# # Lab: writing it or copying it
#
# A model reads the description of a program and writes a synopsis of a few words. Programs have
# names, and names are in no vocabulary. The pointer-generator of See, Liu and Manning (2017) may
# copy a word from the description; its baseline may not. Both get as many steps on as many pairs.
# How much better are the synopses, and which words does copying bring back? Then the last steps
# are taken once more with coverage. Does it say fewer things twice?
#
# The data are 12,000 packages of GNU Guix 1.5.0, copyright its authors, under the GNU General
# Public License, version 3 or later.

# %%
import random
from collections import Counter
from copy import deepcopy

import torch
from torchmetrics.functional.text import rouge_score

from attnbook import plotting
from attnbook.book.labs import save
from attnbook.pointer_generator import coverage_loss, pointer_generator
from attnbook.tasks.synopses import UNKNOWN, Synopses, tokens
from attnbook.training import train

torch.set_num_threads(1)
SEEDS, STEPS, MORE, LONGEST, MOST = (0, 1, 2), 1100, 100, 40, 14
task = Synopses(words=2000)


def begun(packages):
    """The packages with the first 40 words and marks of each description."""
    return [p._replace(description=" ".join(tokens(p.description)[:LONGEST])) for p in packages]


training, testing = begun(task.train_packages), begun(task.test_packages)
wanted = [tokens(p.synopsis) for p in testing]
said = [tokens(p.description) for p in testing]
print(f"{len(training):,} pairs for training, {len(testing):,} for testing")
print(f"{len(task.vocabulary):,} symbols, of {len(task.counts):,} different words of training")
for p in testing[:2]:
    print(f"\n{p.name}: {p.synopsis}\n  {p.description}")

# %% [markdown]
# Packages of one family (one stem of the name, one description or one synopsis) are all in
# training or all in testing. The words of the test synopses are of four kinds. Only what stands in
# the description can be copied, and nothing but copying can write the last two kinds.

# %%
KINDS = ("frequent", "rare", "outside", "never seen")
vocabulary = set(task.vocabulary.tokens)


def kind(word):
    """Where a word stands in the training pairs and in the vocabulary."""
    if word in vocabulary:
        return "frequent" if task.counts[word] >= 100 else "rare"
    return "outside" if task.counts[word] else "never seen"


def found_of(outputs):
    """Of the words wanted of each kind, the share that an output has."""
    every, found = Counter(), Counter()
    for output, wish in zip(outputs, wanted, strict=True):
        have = Counter(output)
        for word, number in Counter(wish).items():
            every[kind(word)] += number
            found[kind(word)] += min(number, have[word])
    return {name: found[name] / every[name] for name in KINDS}


number = Counter(kind(word) for wish in wanted for word in wish)
ceiling = found_of(said)
for name in KINDS:
    print(f"{name:10} {number[name]:5,} words, {ceiling[name]:.1%} of them in the description")


# %% [markdown]
# ROUGE counts the n-grams (1, 2) or the longest common subsequence (L) that output and wanted
# synopsis share. Its F-score here is that of torchmetrics, on the words as they are, without
# stemming.


# %%
def rouge(outputs, wishes=None):
    """ROUGE-1, ROUGE-2 and ROUGE-L of the outputs, F-scores in per cent."""
    texts = [[" ".join(words) for words in some] for some in (outputs, wishes or wanted)]
    keys = ("rouge1", "rouge2", "rougeL")
    scores = rouge_score(*texts, rouge_keys=keys, tokenizer=str.split, normalizer=str)
    return {key: 100 * scores[f"{key}_fmeasure"].item() for key in keys}


sample = random.Random(0).sample(training, 600)
leads = {
    length: rouge(
        [tokens(p.description)[:length] for p in sample], [tokens(p.synopsis) for p in sample]
    )["rougeL"]
    for length in (4, 6, 8, 10, 12, 16)
}
best = max(leads, key=leads.get)
lead = rouge([words[:best] for words in said])
print("ROUGE-L of the first words, in training:", *(f"{n}: {s:.1f}" for n, s in leads.items()))
print(f"first {best} words, in testing:", *(f"{s:.1f}" for s in lead.values()))


# %%
def batches(size, seed, pool=20):
    """Batches of descriptions of about one length, so that little is spent on padding."""
    draw = random.Random(seed)
    while True:
        some = draw.choices(training, k=size * pool)
        some.sort(key=lambda p: p.description.count(" "))
        for i in draw.sample(range(pool), pool):
            yield task.batch(some[i * size : (i + 1) * size])


def loss_with(coverage):
    """Cross-entropy of the words and the end, and this many times the coverage loss."""

    def loss(model, batch):
        target = batch.target if model.decoder.switch is None else batch.written
        result = model(batch.copied, batch.lengths, target)
        losses = -result.logits.gather(2, target.unsqueeze(-1)).squeeze(-1)
        if coverage:
            losses = losses + coverage * coverage_loss(result.weights)
        return losses[target != 0].mean()

    return loss


@torch.no_grad()
def outspoken(model):
    """The same model, but it never writes the unknown word."""
    model = deepcopy(model)
    model.decoder.output.bias[model.decoder.unknown] = -1e9
    return model


@torch.no_grad()
def write(model, packages):
    """What the model writes, and the same with each unknown word replaced.

    In its place stands the word of the source that had the largest weight.
    """
    outputs, replaced = [], []
    for at in range(0, len(packages), 200):
        batch = task.batch(packages[at : at + 200])
        found = model.greedy(batch.copied, batch.lengths, MOST)
        for i, package in enumerate(packages[at : at + 200]):
            words = task.decode(found.symbols[i].tolist(), batch.unknown[i])
            source, looked = tokens(package.description), found.weights[i].argmax(dim=-1).tolist()
            pairs = zip(words, looked, strict=False)
            outputs.append(words)
            replaced.append([source[j] if word == UNKNOWN else word for word, j in pairs])
    return outputs, replaced


watched = 200


def learn(model, seed, title, steps=STEPS, lr=4e-3, coverage=0.0, every=STEPS // 5):
    return train(
        model,
        loss_with(coverage),
        batches(16, seed),
        steps=steps,
        lr=lr,
        warmup=min(50, steps // 4),
        clip=2.0,
        seed=seed,
        evaluate=lambda m: rouge(write(outspoken(m), testing[:watched])[0], wanted[:watched])[
            "rougeL"
        ],
        every=every,
        title=f"{title}, seed {seed}",
    )


def make(copy, coverage=False):
    size = {"embed_dim": 32, "hidden_dim": 64}
    return pointer_generator(len(task.vocabulary), copy=copy, coverage=coverage, **size)


for copy in (False, True):
    count = sum(p.numel() for p in make(copy).parameters())
    print("copying   " if copy else "no copying", f"{count:,} parameters")

# %% [markdown]
# The paper turns coverage on at the end, for a few more steps. So does this lab: after the main
# training each model goes on for as many steps, and a copy of the copying model does so with
# coverage. Coverage starts with $w_c = 0$, where it changes nothing.

# %%
NAMES = ("no copying", "copying", "coverage")
models, histories = {}, {}
for seed in SEEDS:
    for copy, name in ((False, "no copying"), (True, "copying")):
        torch.manual_seed(seed)
        model = make(copy)
        histories[name, seed] = learn(model, seed, name)
        if copy:
            covering = make(copy, coverage=True)
            covering.load_state_dict(model.state_dict(), strict=False)
            torch.nn.init.zeros_(covering.decoder.attention.coverage.weight)
            further = {"steps": MORE, "lr": 1e-3, "coverage": 1.0, "every": 0}
            learn(covering, seed + 100, "coverage", **further)
            models["coverage", seed] = covering
        learn(model, seed + 100, name, steps=MORE, lr=1e-3, every=0)
        models[name, seed] = model

# %%
figure, ax = plotting.axes(
    alt="ROUGE-L on 200 test pairs against training steps, three seeds each. With copying the "
    "curves lie well above those without.",
)
for colour, name in zip(plotting.COLOURS, ("no copying", "copying"), strict=False):
    for seed in SEEDS:
        steps, scores = zip(*histories[name, seed].evaluations, strict=True)
        ax.plot(steps, scores, color=colour, linestyle="-", label=f"_{seed}" if seed else name)
ax.set(xlabel="training step", ylabel="ROUGE-L", ylim=(0, None))
plotting.end_labels(ax)
figure

# %% [markdown]
# ## All test pairs
#
# A model without copying cannot write a word that its vocabulary lacks. It writes the unknown word
# in its place, which is never right, and there are two remedies. One is to forbid it: the model
# then writes the likeliest of the other words. That is done below for all models. The other is to
# put the source word with the largest weight in its place: "replaced".

# %%
writers = {key: outspoken(model) for key, model in models.items()}
written = {name: [write(writers[name, seed], testing)[0] for seed in SEEDS] for name in NAMES}
written["replaced"] = [write(models["no copying", seed], testing)[1] for seed in SEEDS]
scores = {name: [rouge(outputs) for outputs in several] for name, several in written.items()}
print(f"{'':12} ROUGE-1, ROUGE-2, ROUGE-L, each seed")
for name, several in scores.items():
    print(f"{name:12}", *("  ".join(f"{s:5.1f}" for s in one.values()) + "    " for one in several))

# %% [markdown]
# And by kind of word: of the words wanted, so many were written.

# %%
kinds = {name: [found_of(outputs) for outputs in several] for name, several in written.items()}
print(f"{'':12}", *(f"{name:>22}" for name in KINDS))
for name, several in kinds.items():
    cells = (" ".join(f"{one[k]:6.1%}" for one in several) for k in KINDS)
    print(f"{name:12}", *(f"{cell:>22}" for cell in cells))
print(f"{'can be':12}", *(f"{ceiling[k]:>22.1%}" for k in KINDS))

# %%
figure, ax = plotting.axes(
    alt="Four groups of bars, one for each kind of word, from frequent to never seen. Without "
    "copying the bars fall to nothing where the vocabulary ends; with copying they do not.",
)
shown = ("no copying", "replaced", "copying", "coverage")
for n, (name, colour) in enumerate(zip(shown, plotting.COLOURS, strict=False)):
    means = [sum(one[k] for one in kinds[name]) / len(SEEDS) for k in KINDS]
    places = [i + 0.2 * (n - 1.5) for i in range(len(KINDS))]
    ax.bar(places, means, width=0.18, color=colour, label=name)
ax.set_xticks(range(len(KINDS)), KINDS)
ax.set(ylabel="share written")
ax.legend(ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0), handlelength=1, columnspacing=1.2)
figure


# %% [markdown]
# ## When does it copy?
#
# The switch $p_{gen}$ says how much is written from the vocabulary, on average over all words: in
# training, with the right words before, and in testing, with the model's own.


# %%
@torch.no_grad()
def switch(model, packages, own):
    """The mean of p_gen over the words; the model's own, or those that are wanted."""
    total = count = 0.0
    for at in range(0, len(packages), 200):
        batch = task.batch(packages[at : at + 200])
        symbols = batch.written
        if own:
            symbols = model.greedy(batch.copied, batch.lengths, MOST).symbols
        ended = (symbols == task.vocabulary.END).cumsum(1) - (symbols == task.vocabulary.END).long()
        there = (ended == 0) & (symbols != 0)
        p_gen = model(batch.copied, batch.lengths, symbols).p_gen
        total, count = total + p_gen[there].sum().item(), count + there.sum().item()
    return total / count


gates = {
    "training": [switch(models["copying", seed], sample, own=False) for seed in SEEDS],
    "testing": [switch(writers["copying", seed], testing[:400], own=True) for seed in SEEDS],
}
for name, found in gates.items():
    print(f"p_gen in {name:8}", *(f"{value:.2f}" for value in found))


def wrong_copies(outputs):
    """Of the words written that the vocabulary lacks, the share that nobody wanted."""
    lacking = [
        (word, wish)
        for output, wish in zip(outputs, wanted, strict=True)
        for word in output
        if word not in vocabulary
    ]
    return sum(word not in wish for word, wish in lacking) / len(lacking)


wrong = [wrong_copies(outputs) for outputs in written["coverage"]]
print("copied from outside the vocabulary and not wanted:", *(f"{share:.1%}" for share in wrong))

# %% [markdown]
# ## Saying things twice


# %%
def twice(outputs):
    """The share of outputs in which some word stands twice."""
    return sum(len(words) != len(set(words)) for words in outputs) / len(outputs)


repeats = {name: [twice(outputs) for outputs in several] for name, several in written.items()}
for name, found in repeats.items():
    print(f"{name:12} a word twice in", *(f"{share:.1%}" for share in found))
print(f"wanted: {twice(wanted):.1%}")
lengths = {name: sum(map(len, several[0])) / len(testing) for name, several in written.items()}
print("words on average:", ", ".join(f"{name} {n:.1f}" for name, n in lengths.items()))


# %% [markdown]
# ## Examples
#
# Drawn at random from the test pairs with a description of up to 24 words whose synopsis has a
# word that was never seen in training. For each word that the model with coverage wrote: $p_{gen}$,
# and the share of its probability that came from copying.


# %%
@torch.no_grad()
def explained(package, model, plain):
    """What was written and where each word came from, as plain lists."""
    batch = task.batch([package])
    found = model.greedy(batch.copied, batch.lengths, MOST)
    again = model(batch.copied, batch.lengths, found.symbols)
    words = task.decode(found.symbols[0].tolist(), batch.unknown[0])
    shares, origin = [], torch.zeros(int(batch.lengths))
    for t, symbol in enumerate(found.symbols[0, : len(words)]):
        same = again.weights[0, t] * (batch.copied[0] == symbol)
        chance = again.logits[0, t, symbol].exp()
        share = float((1 - again.p_gen[0, t]) * same.sum() / chance)
        shares.append(round(min(share, 1.0), 3))
        if share > 0:
            origin += shares[-1] * same / same.sum()
    return {
        "name": package.name,
        "description": tokens(package.description),
        "copied_from": [round(min(x, 1.0), 3) for x in origin.tolist()],
        "wanted": tokens(package.synopsis),
        "written": words,
        "p_gen": [round(x, 3) for x in again.p_gen[0, : len(words)].tolist()],
        "copied": shares,
        "without_copying": write(plain, [package])[0][0],
    }


fitting = [
    p
    for p in testing
    if len(tokens(p.description)) <= 24
    and any(kind(word) == "never seen" for word in tokens(p.synopsis))
]
drawn = random.Random(1).sample(fitting, 8)
examples = [explained(p, writers["coverage", 0], writers["no copying", 0]) for p in drawn]
for e in examples:
    print(f"\n{' '.join(e['description'])}")
    print("  wanted         ", " ".join(e["wanted"]))
    print("  without copying", " ".join(e["without_copying"]))
    print("  with           ", " ".join(e["written"]))
    print(
        "  word, p_gen, copied:",
        ", ".join(
            f"{word} {gate:.2f} {share:.2f}"
            for word, gate, share in zip(e["written"], e["p_gen"], e["copied"], strict=True)
        ),
    )

# %%
values = {
    f"{name.replace(' ', '_')}_{key}": [one[key] for one in several]
    for name, several in scores.items()
    for key in ("rouge1", "rouge2", "rougeL")
}
values |= {f"lead_{key}": [score] for key, score in lead.items()}
values |= {f"twice_{name.replace(' ', '_')}": found for name, found in repeats.items()}
values |= {
    f"{name.replace(' ', '_')}_{k.replace(' ', '_')}": [one[k] for one in several]
    for name, several in kinds.items()
    for k in KINDS
}
values |= {f"can_{k.replace(' ', '_')}": [ceiling[k]] for k in KINDS}


def ratio(new, old, key, least=0.0):
    """How many times as much, seed for seed; the old counts as one word at least."""
    return [a[key] / max(b[key], least) for a, b in zip(new, old, strict=True)]


values |= {
    "gain": ratio(scores["copying"], scores["no copying"], "rougeL"),
    "gain_replaced": ratio(scores["copying"], scores["replaced"], "rougeL"),
    "times_never_seen": ratio(
        kinds["copying"], kinds["replaced"], "never seen", 1 / number["never seen"]
    ),
    "times_outside": ratio(kinds["copying"], kinds["replaced"], "outside", 1 / number["outside"]),
    "p_gen_training": gates["training"],
    "p_gen_testing": gates["testing"],
    "wrong_copies": wrong,
    "gain_coverage": ratio(scores["coverage"], scores["copying"], "rougeL"),
    "repeats_left": [a / b for a, b in zip(repeats["coverage"], repeats["copying"], strict=True)],
    "twice_wanted": [twice(wanted)],
}
highest = {"p_gen_training", "p_gen_testing", "wrong_copies", "twice_coverage", "twice_wanted"}
highest.add("repeats_left")
highest |= {name for name in values if name.startswith(("no_copying", "replaced", "lead", "can"))}
worst = {name: max if name in highest else min for name in values}
summary = save(
    "copying",
    seeds=SEEDS,
    steps={"training": STEPS, "more": MORE},
    values=values,
    worst=worst,
    shown={"examples": examples},
)
