# %% [markdown]
# # Lab: reading dates in 29 languages
#
# People write the same day as "Wednesday, March 5, 2025", "Mittwoch, 5. März 2025" or
# "2025年3月5日水曜日". A model reads such a text letter by letter and writes the ISO date
# `2025-03-05`. Two models of Bahdanau, Cho, Bengio (2015) do it here: RNNencdec, which hands its
# decoder one fixed vector, and RNNsearch, which lets the decoder look back at each step.
# Same data, same number of steps, nearly the same number of parameters. What does looking back
# buy, and where does the model look?

# %%
import datetime
from collections import Counter

import torch
from torch import nn
from torch.nn import functional as F

from attnbook import Attended, plotting
from attnbook.bahdanau import BahdanauDecoder, rnn_encdec, rnn_search
from attnbook.book.labs import save
from attnbook.recurrent import Encoder
from attnbook.seq2seq import Seq2Seq
from attnbook.tasks.dates import Dates, Example, cldr_version, patterns, render
from attnbook.training import train

torch.set_num_threads(1)
SEEDS, STEPS, LENGTH = (0, 1, 2), 375, 11  # ten characters and the end symbol
dates = Dates()
print(f"CLDR {cldr_version()}: {len(dates.locales)} locales, {len(dates.source)} source symbols")
print(f"{len(dates.train_dates):,} dates for training, {len(dates.test_dates):,} for testing")
for example in dates.train(6, seed=1):
    print(f"{example.iso}  {example.text}")

# %% [markdown]
# The dates of the years 1900 to 2099 are split at random: one in ten is for testing and is never
# seen in training, in any language. Norwegian is not trained on at all. A test counts an output
# as right only if all ten characters are.


# %%
def decode(model, examples):
    """The model's own outputs, with the source and the weights of each."""
    batch = dates.batch(examples)
    decoded = model.greedy(batch.source, batch.lengths, LENGTH)
    return [dates.target.decode(row.tolist()) for row in decoded.symbols], decoded.weights


def exact(model, examples):
    """The share of examples written without a mistake."""
    outputs, _ = decode(model, examples)
    return sum(got == e.iso for got, e in zip(outputs, examples, strict=True)) / len(examples)


def loss(model, batch):
    logits = model(batch.source, batch.lengths, batch.target).logits
    return F.cross_entropy(logits.mT, batch.target)


def learn(make, seed, name, steps=STEPS):
    torch.manual_seed(seed)
    model = make()
    history = train(
        model,
        loss,
        dates.batches(size=128, seed=seed),
        steps=steps,
        lr=5e-3,
        warmup=50,
        seed=seed,
        evaluate=lambda model: exact(model, watched),
        every=steps // 15,
        title=f"{name}, seed {seed}",
    )
    return model, history


watched = dates.test(500, seed=1)  # for the curves
unseen = dates.test(4000, seed=2)  # for the result
symbols = {"source_symbols": len(dates.source), "target_symbols": len(dates.target)}
makers = {
    "no attention": lambda: rnn_encdec(**symbols, hidden_dim=76),
    "attention": lambda: rnn_search(**symbols, hidden_dim=64),
}
for name, make in makers.items():
    print(f"{name:14} {sum(p.numel() for p in make().parameters()):,} parameters")

# %% [markdown]
# The model without attention gets wider layers, so that it has no fewer parameters. Three seeds
# each:

# %%
runs = {name: [learn(make, seed, name) for seed in SEEDS] for name, make in makers.items()}

# %%
accuracy = {name: [exact(model, unseen) for model, _ in found] for name, found in runs.items()}
for name, shares in accuracy.items():
    print(
        f"{name:14} exact on {len(unseen):,} unseen dates:", *(f"{share:.2%}" for share in shares)
    )

# %%
figure, ax = plotting.axes(
    alt="Share of exact dates against training steps, three seeds each. With attention the curves "
    "rise steeply after 50 steps, pass 90 percent before step 200 and end close to 100 percent. "
    "Without attention they rise slowly and end near a third.",
)
for colour, (name, found) in zip(plotting.COLOURS, runs.items(), strict=False):
    for seed, (_, history) in enumerate(found):
        steps, shares = zip(*history.evaluations, strict=True)
        label = name if seed == 0 else f"_{seed}"
        ax.plot((0, *steps), (0, *shares), color=colour, linestyle="-", label=label)
ax.set(xlabel="training step", ylabel="exact dates", ylim=(0, 1.02))
plotting.end_labels(ax)
figure

# %% [markdown]
# ## Was the comparison fair?
#
# Two doubts. The fixed vector of RNNencdec is the encoder's forward state after the last letter,
# as in the paper; the backward state at the first letter only starts the decoder. Give the
# decoder **both** at every step. And give the model without attention **four times** the steps.


# %%
class BothEnds(nn.Module):
    """A fixed context: the last forward and the first backward state."""

    def project(self, annotations):
        return annotations

    def forward(self, state, keys, annotations, mask):
        n = state.shape[-1]
        return Attended(torch.cat([annotations[:, -1:, :n], annotations[:, :1, n:]], -1), None)


def both_ends(n=67, m=32):
    decoder = BahdanauDecoder(len(dates.target), m, n, n // 2, BothEnds())
    return Seq2Seq(Encoder(len(dates.source), m, n), decoder)


accuracy["both ends"] = [exact(learn(both_ends, seed, "both ends")[0], unseen) for seed in SEEDS]
patient, _ = learn(makers["no attention"], 0, "no attention, 4 x steps", 4 * STEPS)
accuracy["no attention, 4 x steps"] = [exact(patient, unseen)]
for name, shares in accuracy.items():
    print(f"{name:24}", *(f"{share:.2%}" for share in shares))

# %% [markdown]
# Both help. A date is little to remember, so a fixed vector gets there in time: what attention buys
# here is learning in a fraction of the steps. On sentences the paper found more than that (figure
# 2): without attention, the longer the sentence, the worse the translation.
#
# ## Where does it look?
#
# Each row is an output character, each column a letter of the source; the stronger the colour,
# the more weight. The year is copied digit by digit from wherever the language puts it. (Its first
# digit is often read off its neighbour: an annotation sums up what stands around its letter.) The
# month's two digits come from the letters of its name, the day's from the day.

# %%
model = runs["attention"][0][0]
day = next(d for d in dates.test_dates if d.month == 9 and d.day > 9)
shown = {
    "English": "en",
    "French": "fr",
    "Greek": "el",
    "Russian": "ru",
    "Hungarian": "hu",
    "Turkish": "tr",
}
chosen = [
    Example(render(day, code, patterns(code)[1]), day.isoformat(), code) for code in shown.values()
]
outputs, weights = decode(model, chosen)
figure, panels = plotting.axes(
    3,
    2,
    width=7.6,
    height=7.0,
    titles=list(shown),
    alt="Six alignment maps of the same date in English, French, Greek, Russian, Hungarian and "
    "Turkish. The year's digits follow a diagonal at the place where the language writes the year; "
    "the month's digits look at the month's name, the day's at the day.",
)
for panel, example, output, weight in zip(panels.flat, chosen, outputs, weights, strict=True):
    text = example.text.replace("\u202f", " ")
    plotting.heatmap(panel, weight[:10, : len(text)], rows=list(output), columns=list(text))
figure

# %% [markdown]
# How much of the weight lies where it should? For the digits of the year the answer is known:
# the same digit in the source. Over unseen dates in all languages:

# %%
sample = unseen[:1000]
outputs, weights = decode(model, sample)
on_year = []
for example, weight in zip(sample, weights, strict=True):
    start = example.text.index(example.iso[:4])
    on_year.append(
        torch.stack([weight[i, start : start + 4].sum() for i in range(4)]).mean().item()
    )
print(f"weight of the four year steps on the year's four digits: {sum(on_year) / len(on_year):.1%}")

# %% [markdown]
# Four more maps are kept for the chapter: one day in March, whose year and day have no digit twice,
# in three languages, and once with its weekday.

# %%
march = next(d for d in dates.test_dates if d.month == 3 and len(set(f"{d:%Y%d}")) == 6)
forms = {"en": "MMMM d, y", "fr": "d MMMM y", "hu": "y. MMMM d.", "fr, spoken": "EEEE d MMMM y"}
kept = [
    Example(render(march, code[:2], form), march.isoformat(), code[:2])
    for code, form in forms.items()
]
outputs, weights = decode(model, kept)
maps = {
    code: {
        "text": example.text,
        "written": output,
        "weights": [
            [round(x, 3) for x in row[: len(example.text)]] for row in weight[:10].tolist()
        ],
    }
    for code, example, output, weight in zip(forms, kept, outputs, weights, strict=True)
}
for found in maps.values():
    print(f"{found['text']:22} {found['written']}")

# %% [markdown]
# ## A language it never saw
#
# Norwegian is close to Danish and Swedish, which were in training. Two further languages that were
# not: Afrikaans, close to Dutch, and Slovenian, whose months are close to those of many. Every
# letter of the three is known to the model.

# %%
held_out = {"Norwegian": dates.held_out(2000, seed=3)}
held_out["Afrikaans"] = dates.test(2000, seed=3, locales=["af"])
held_out["Slovenian"] = dates.test(2000, seed=3, locales=["sl"])
for language, examples in held_out.items():
    accuracy[language] = [exact(model, examples) for model, _ in runs["attention"]]
    print(f"{language:10}", *(f"{share:.1%}" for share in accuracy[language]))

# %% [markdown]
# Which months go wrong, summed over the three seeds, and a few mistakes:

# %%
for language, examples in held_out.items():
    wrong = Counter()
    mistakes = []
    for model, _ in runs["attention"]:
        outputs, _ = decode(model, examples)
        pairs = [(e, got) for e, got in zip(examples, outputs, strict=True) if got != e.iso]
        wrong.update(int(e.iso[5:7]) for e, _ in pairs)
        mistakes += pairs[:2]
    names = {m: render(datetime.date(2025, m, 1), examples[0].locale, "MMMM") for m in wrong}
    print(f"{language}:", ", ".join(f"{names[m]} {n}" for m, n in wrong.most_common(4)))
    for example, got in mistakes:
        print(f"    {example.text:34} {example.iso}  read as {got}")

# %%
print("mistakes in the languages of the training set:")
for seed, (model, _) in enumerate(runs["attention"]):
    outputs, _ = decode(model, unseen)
    pairs = [(e, got) for e, got in zip(unseen, outputs, strict=True) if got != e.iso]
    print(f"seed {seed}: {len(pairs)} of {len(unseen):,}")
    for example, got in pairs[:3]:
        print(f"    {example.text.replace(chr(0x202F), ' '):34} {example.iso}  read as {got}")

# %%
values = {
    "attention": accuracy["attention"],
    "none": accuracy["no attention"],
    "both_ends": accuracy["both ends"],
    "none_4x": accuracy["no attention, 4 x steps"],
    "norwegian": accuracy["Norwegian"],
    "afrikaans": accuracy["Afrikaans"],
    "slovenian": accuracy["Slovenian"],
}
lowest = dict.fromkeys(values, min)
highest = {"none": max, "both_ends": max}  # what must stay low
worst = lowest | highest
summary = save(
    "seq2seq-dates", seeds=SEEDS, steps=STEPS, values=values, worst=worst, shown={"maps": maps}
)
