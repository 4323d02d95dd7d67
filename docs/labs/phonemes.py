# %% [markdown]
# # Lab: spelling to sound
#
# English spelling says how a word sounds, but not letter by letter: "knight" has six letters and
# three sounds. A model reads the letters and writes the phonemes, for 50,003 words of the CMU
# Pronouncing Dictionary. RNNsearch (Bahdanau, Cho, Bengio 2015) and RNNencdec, the same without
# attention, get as many steps and as many parameters. How many phonemes and how many words come
# out wrong? Where does it look? Does a beam help?

# %%
import torch
from torch.nn import functional as F

from attnbook import plotting
from attnbook.bahdanau import rnn_encdec, rnn_search
from attnbook.book.labs import save
from attnbook.tasks.cmudict import Spellings, errors
from attnbook.tasks.symbols import Vocabulary
from attnbook.training import train

torch.set_num_threads(1)
SEEDS, STEPS, LONGEST = (0, 1, 2), 900, 20
spellings = Spellings()
print(
    f"{len(spellings.train_words):,} words for training, {len(spellings.test_words):,} for testing"
)
several = sum(len(word.pronunciations) > 1 for word in spellings.test_words)
print(f"{several} of the test words have more than one pronunciation; the closest counts")
for word in spellings.test_words[:5]:
    print(f"{word.spelling:12} {' or '.join(word.pronunciations)}")

# %% [markdown]
# Words that begin with the same four letters are all in training or all in testing, so that no
# test word of four letters or more is a known one with another ending. (A word of three letters is
# a family of its own: "eggs" is tested where "egg" is known.)

# %%
size = {"source_symbols": len(spellings.source), "target_symbols": len(spellings.target)}
makers = {
    "no attention": lambda: rnn_encdec(**size, embed_dim=48, hidden_dim=114),
    "attention": lambda: rnn_search(**size, embed_dim=48, hidden_dim=96),
}
for name, make in makers.items():
    print(f"{name:14} {sum(p.numel() for p in make().parameters()):,} parameters")


# %%
def loss(model, batch):
    """Cross-entropy of the phonemes and the end symbol; padding does not count."""
    logits = model(*batch).logits
    return F.cross_entropy(logits.mT, batch.target, ignore_index=Vocabulary.PAD)


def pronounce(model, words, width=0, penalty=0.0):
    """What the model says for each word: greedily, or by a beam of this width."""
    outputs = []
    for at in range(0, len(words), 500):
        batch = spellings.batch(words[at : at + 500])
        source = batch.source, batch.lengths, LONGEST
        found = (
            model.beam(*source, width=width, length_penalty=penalty)
            if width
            else model.greedy(*source)
        )
        outputs += [spellings.target.decode(row.tolist()) for row in found.symbols]
    return outputs


def learn(make, seed, title):
    torch.manual_seed(seed)
    model = make()
    history = train(
        model,
        loss,
        spellings.batches(size=64, seed=seed),
        steps=STEPS,
        lr=5e-3,
        warmup=50,
        seed=seed,
        evaluate=lambda model: errors(pronounce(model, watched), watched).phoneme,
        every=STEPS // 9,
        title=title,
    )
    return model, history


watched = spellings.test_words[:500]  # for the curves
unseen = spellings.test_words
runs = {
    name: [learn(make, seed, f"{name}, seed {seed}") for seed in SEEDS]
    for name, make in makers.items()
}

# %%
figure, ax = plotting.axes(
    alt="Phoneme error against training steps, three seeds each. With attention it falls fast and "
    "ends lower; without attention it falls more slowly and ends at about twice as much.",
)
for colour, (name, found) in zip(plotting.COLOURS, runs.items(), strict=False):
    for seed, (_, history) in enumerate(found):
        steps, shares = zip(*history.evaluations, strict=True)
        label = name if seed == 0 else f"_{seed}"
        ax.plot(steps, shares, color=colour, linestyle="-", label=label)
ax.set(xlabel="training step", ylabel="phoneme error", ylim=(0, None))
plotting.end_labels(ax)
figure

# %% [markdown]
# All test words, greedily:

# %%
said = {name: [pronounce(model, unseen) for model, _ in found] for name, found in runs.items()}
greedy = {name: [errors(outputs, unseen) for outputs in all_] for name, all_ in said.items()}
for name, found in greedy.items():
    print(f"{name:14} phonemes wrong", *(f"{100 * e.phoneme:5.1f} %" for e in found), end="   ")
    print("words wrong", *(f"{100 * e.word:5.1f} %" for e in found))

# %% [markdown]
# A beam keeps several beginnings. Three settings, on 1,500 of the test words:

# %%
part = unseen[:1500]
print("words wrong, of", len(part))
beams = {}
for name, found in runs.items():
    row = {"greedy": [errors(outputs[: len(part)], part) for outputs in said[name]]}
    for width, penalty in ((4, 0.0), (4, 1.0)):
        label = f"beam {width}, penalty {penalty:g}"
        row[label] = [errors(pronounce(m, part, width, penalty), part) for m, _ in found]
    beams[name] = row
    for label, several in row.items():
        print(f"{name:14} {label:18}", *(f"{100 * e.word:5.1f} %" for e in several))

# %% [markdown]
# ## Errors against length
#
# The longer the word, the more there is to hold.

# %%
figure, ax = plotting.axes(
    alt="Phoneme error against the number of letters of a word. Without attention it rises with "
    "the length; with attention it stays level or falls.",
)
groups = [(3, 4), (5, 6), (7, 8), (9, 10), (11, 12)]
long_error = {}
for name, all_ in said.items():
    curve = []
    for low, high in groups:
        at = [i for i, word in enumerate(unseen) if low <= len(word.spelling) <= high]
        words = [unseen[i] for i in at]
        curve.append([errors([outputs[i] for i in at], words).phoneme for outputs in all_])
    long_error[name] = curve[-1]
    ax.plot(range(len(groups)), [sum(c) / len(c) for c in curve], marker="o", label=name)
    print(f"{name:14}", *(f"{100 * sum(c) / len(c):5.1f} %" for c in curve))
ax.set(xlabel="letters", ylabel="phoneme error", ylim=(0, None))
ax.set_xticks(range(len(groups)), [f"{low}-{high}" for low, high in groups])
plotting.end_labels(ax)
figure

# %% [markdown]
# ## Where it looks
#
# Rows are phonemes, columns letters. The maps run from the top left to the bottom right, as
# spelling does, and jump over what is silent.

# %%
model = runs["attention"][0][0]
names = ("telephone", "mighty", "schedule", "auction", "pharmacy", "delighted")
by_spelling = {word.spelling: word for word in unseen}
chosen = [by_spelling[name] for name in names]
figure, panels = plotting.axes(
    2,
    3,
    width=7.6,
    height=5.4,
    titles=[word.spelling for word in chosen],
    alt="Six alignment maps of English words and the phonemes that were written for them. The dark "
    "cells run from the top left to the bottom right; groups of letters that make one sound are "
    "passed in one step.",
)
for panel, word in zip(panels.flat, chosen, strict=True):
    batch = spellings.batch([word])
    found = model.greedy(batch.source, batch.lengths, LONGEST)
    phones = spellings.target.decode(found.symbols[0].tolist()).split()
    weights = found.weights[0, : len(phones)]
    plotting.heatmap(panel, weights, rows=phones, columns=list(word.spelling))
figure

# %% [markdown]
# How monotone are they? From each phoneme to the next, the place of the largest weight goes on or
# stays in so many cases:

# %%
monotone = []
for model, _ in runs["attention"]:
    steps = forward = 0
    batch = spellings.batch(part)
    found = model.greedy(batch.source, batch.lengths, LONGEST)
    places = found.weights.argmax(dim=-1)
    for row, symbols in zip(places, found.symbols, strict=True):
        n = int((symbols != Vocabulary.END).sum())
        moves = row[1:n] - row[: n - 1]
        steps, forward = steps + len(moves), forward + int((moves >= 0).sum())
    monotone.append(forward / steps)
print(*(f"{share:.1%}" for share in monotone))

# %% [markdown]
# A few mistakes:

# %%
wrong = [
    (word, output)
    for word, output in zip(unseen, said["attention"][0], strict=True)
    if output not in word.pronunciations
]
for word, output in wrong[:: len(wrong) // 10][:10]:
    print(f"{word.spelling:12} {word.pronunciations[0]:28} said as {output}")

# %%
values = {
    "phoneme_attention": [e.phoneme for e in greedy["attention"]],
    "phoneme_none": [e.phoneme for e in greedy["no attention"]],
    "word_attention": [e.word for e in greedy["attention"]],
    "word_none": [e.word for e in greedy["no attention"]],
    "ratio": [
        a.phoneme / b.phoneme
        for a, b in zip(greedy["attention"], greedy["no attention"], strict=True)
    ],
    "part_greedy": [e.word for e in beams["attention"]["greedy"]],
    "part_beam": [e.word for e in beams["attention"]["beam 4, penalty 0"]],
    "part_beam_penalty": [e.word for e in beams["attention"]["beam 4, penalty 1"]],
    "part_none_greedy": [e.word for e in beams["no attention"]["greedy"]],
    "part_none_beam": [e.word for e in beams["no attention"]["beam 4, penalty 0"]],
    "long_attention": long_error["attention"],
    "long_none": long_error["no attention"],
    "monotone": monotone,
}
lowest = {"phoneme_none", "word_none", "part_none_greedy", "part_none_beam", "long_none"}
lowest.add("monotone")
worst = {name: min if name in lowest else max for name in values}
summary = save("phonemes", seeds=SEEDS, steps=STEPS, values=values, worst=worst)
