# %% [markdown]
# # Lab: accuracy against length
#
# A network reads a word of random letters and writes it backwards. Nothing about the task is hard
# but its length: every letter must come through, and the last one read is the first one written.
# Six models do it, with as many parameters (within 5 %) and as many steps: one that must hold the
# word in one vector, Bahdanau's, and Luong's with each of its four scores. They are trained on
# words of 1 to 20 letters, and tested on those and on longer ones. Of two lengths drawn at random
# a training word has the longer, so that long words are not rare.

# %%
import random

import torch
from torch.nn import functional as F

from attnbook import Bilinear, Concat, Location, dot, plotting
from attnbook.bahdanau import rnn_encdec, rnn_search
from attnbook.book.labs import save
from attnbook.luong import luong
from attnbook.tasks import symbols
from attnbook.tasks.symbols import Vocabulary
from attnbook.training import train

torch.set_num_threads(1)
SEEDS, STEPS, LONGEST = (0, 1, 2), 720, 20
LETTERS = "abcdefghijklmnopqrstuvwxyz"
letters = Vocabulary(LETTERS)


def words(n, draw, length=None):
    """Random words, of one length, or each of the longer of two lengths from 1 to 20."""
    drawn = (length or max(draw.randint(1, LONGEST), draw.randint(1, LONGEST)) for _ in range(n))
    return ["".join(draw.choices(LETTERS, k=k)) for k in drawn]


def pairs(sources):
    """Words and their reversals, as a padded batch."""
    encoded = [letters.encode(word) for word in sources]
    return symbols.pad(encoded, [word[::-1] for word in encoded])


print(words(3, random.Random(0)))

# %% [markdown]
# The width of each model is chosen so that all have nearly as many parameters as Bahdanau's with
# 64 units.

# %%
size = {"source_symbols": len(letters), "target_symbols": len(letters), "embed_dim": 32}
makers = {
    "none": lambda: rnn_encdec(**size, hidden_dim=76),
    "Bahdanau": lambda: rnn_search(**size, hidden_dim=64),
    "dot": lambda: luong(**size, hidden_dim=79, score=dot()),
    "general": lambda: luong(**size, hidden_dim=77, score=Bilinear(77, 77)),
    "concat": lambda: luong(**size, hidden_dim=75, score=Concat(75, 75, 75)),
    "location": lambda: luong(**size, hidden_dim=79, score=Location(79, max_keys=30)),
}
parameters = {name: sum(p.numel() for p in make().parameters()) for name, make in makers.items()}
for name, number in parameters.items():
    print(f"{name:9} {number:,} parameters")
spread = max(abs(number / parameters["Bahdanau"] - 1) for number in parameters.values())
print(f"at most {spread:.1%} from Bahdanau's")

# %%
LENGTHS = (2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 25, 30)
tests = {length: words(200, random.Random(length), length) for length in LENGTHS}


def loss(model, batch):
    """Cross-entropy of the letters and the end symbol; padding does not count."""
    logits = model(*batch).logits
    return F.cross_entropy(logits.mT, batch.target, ignore_index=Vocabulary.PAD)


def exact(model, sources):
    """The share of words written backwards without a mistake."""
    batch = pairs(sources)
    written = model.greedy(batch.source, batch.lengths, len(sources[0]) + 2).symbols
    outputs = [letters.decode(row.tolist()) for row in written]
    return sum(got == word[::-1] for got, word in zip(outputs, sources, strict=True)) / len(sources)


def learn(make, seed, title):
    """One model, trained for the common number of steps; the accuracy at each length."""
    torch.manual_seed(seed)
    model = make()
    batches = symbols.batches(words, pairs, len, size=32, seed=seed)
    train(model, loss, batches, steps=STEPS, lr=7e-3, warmup=50, seed=seed, title=title)
    return model, {length: exact(model, sources) for length, sources in tests.items()}


runs = {
    name: [learn(make, seed, f"{name}, seed {seed}") for seed in SEEDS]
    for name, make in makers.items()
}

# %% [markdown]
# Words without a mistake, in per cent, against their length; the worst of three seeds:

# %%
print(f"{'letters':9}", *(f"{length:3}" for length in LENGTHS))
for name, found in runs.items():
    worst = [min(accuracy[length] for _, accuracy in found) for length in LENGTHS]
    print(f"{name:9}", *(f"{100 * share:3.0f}" for share in worst))

# %% [markdown]
# The middle of three seeds, with the span of all three:

# %%
figure, ax = plotting.axes(
    width=6.8,
    height=3.4,
    alt="Share of words written without a mistake against their length, six models. Without "
    "attention the curve falls to nothing within a few letters. All curves with attention stay "
    "high much further; location falls before the others do. Beyond 20 letters, the longest of "
    "the training set, all fall.",
)
for name, found in runs.items():
    several = torch.tensor([[accuracy[length] for length in LENGTHS] for _, accuracy in found])
    (line,) = ax.plot(LENGTHS, several.median(dim=0).values, label=name)
    low, high = several.amin(dim=0), several.amax(dim=0)
    ax.fill_between(LENGTHS, low, high, color=line.get_color(), alpha=0.12, linewidth=0)
ax.axvline(LONGEST, color=plotting.MUTED, linestyle="-", linewidth=1)
ax.set(
    xlabel=f"letters; the longest in training have {LONGEST}",
    ylabel="words without a mistake",
    ylim=(-0.02, 1.02),
)
ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
figure

# %% [markdown]
# ## Where they look
#
# The right map of a reversal runs from the top right to the bottom left.

# %%
shown = "alignment"
figure, panels = plotting.axes(
    1,
    3,
    width=7.6,
    height=3.2,
    titles=["Bahdanau", "dot", "location"],
    alt="Three maps of the word alignment written backwards, for Bahdanau's attention, for dot and "
    "for location. Each runs from the top right to the bottom left, more or less sharply.",
)
for panel, name in zip(panels, ("Bahdanau", "dot", "location"), strict=True):
    batch = pairs([shown])
    weights = runs[name][0][0](*batch).weights[0, : len(shown)]
    plotting.heatmap(panel, weights, rows=list(shown[::-1]), columns=list(shown))
figure

# %% [markdown]
# ## Why location falls behind
#
# A score that compares can look for a letter. Location must name the place by its number, and to
# name it exactly the state must count exactly: its map is spread out, as the figure shows. Nor can
# it name a place that no word of the training set had. How often is the first letter right, which
# is at place `S`, the end? In per cent, the worst of three seeds:


# %%
def first_letter(model, sources):
    """The share of words whose last letter is written first."""
    batch = pairs(sources)
    first = model.greedy(batch.source, batch.lengths, 1).symbols[:, 0]
    return (first == batch.target[:, 0]).float().mean().item()


print(f"{'letters':9}", *(f"{length:3}" for length in LENGTHS))
for name, found in runs.items():
    worst = [min(first_letter(model, tests[length]) for model, _ in found) for length in LENGTHS]
    print(f"{name:9}", *(f"{100 * share:3.0f}" for share in worst))

# %%
values, worst = {"parameters": [spread]}, {"parameters": max}
for name, found in runs.items():
    for length in (6, 10, 20, 25, 30):
        key = f"{name.lower()}_{length}"
        values[key] = [accuracy[length] for _, accuracy in found]
        # Beyond what was trained, as without attention, the claim is that they fail.
        worst[key] = max if name == "none" or length > LONGEST else min
summary = save("seq2seq", seeds=SEEDS, steps=STEPS, values=values, worst=worst)
