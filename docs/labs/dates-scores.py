# %% [markdown]
# # Lab: dates with Luong's scores
#
# The [dates lab](seq2seq-dates.ipynb) reads dates in 29 languages with Bahdanau's attention, and
# without any. Here Luong's decoder does the same, with three scores that compare: dot, general and
# concat. Same data, same split, as many steps of as large a batch, nearly as many parameters.
#
# Two things differ. Luong's encoder reads from left to right only. And the learning rate is
# 1e-2 where that lab has 5e-3: in a trial with one seed the lower rate was too low for dot. A rate
# that helps one model may help another, so the model without attention gets the higher one too.
# The rate was chosen by a look at the test, of one seed of dot; for the others none was chosen, and
# Bahdanau's model was not run at the higher one.

# %%
import torch
from torch.nn import functional as F

from attnbook import Bilinear, Concat, dot, plotting
from attnbook.bahdanau import rnn_encdec, rnn_search
from attnbook.book.labs import save
from attnbook.luong import luong
from attnbook.tasks.dates import Dates
from attnbook.training import train

torch.set_num_threads(1)
SEEDS, STEPS, LENGTH = (0, 1, 2), 375, 11  # ten characters and the end symbol
dates = Dates()
watched = dates.test(500, seed=1)  # for the curves
unseen = dates.test(4000, seed=2)  # for the result

# %%
size = {"source_symbols": len(dates.source), "target_symbols": len(dates.target)}
makers = {
    "no attention": lambda: rnn_encdec(**size, hidden_dim=76),
    "dot": lambda: luong(**size, hidden_dim=80, score=dot()),
    "general": lambda: luong(**size, hidden_dim=77, score=Bilinear(77, 77)),
    "concat": lambda: luong(**size, hidden_dim=75, score=Concat(75, 75, 75)),
}
bahdanau = sum(p.numel() for p in rnn_search(**size, hidden_dim=64).parameters())
parameters = {name: sum(p.numel() for p in make().parameters()) for name, make in makers.items()}
for name, number in {"Bahdanau": bahdanau, **parameters}.items():
    print(f"{name:12} {number:,} parameters")
spread = max(abs(number / bahdanau - 1) for number in parameters.values())
print(f"at most {spread:.1%} from Bahdanau's")


# %%
def exact(model, examples):
    """The share of examples written without a mistake."""
    batch = dates.batch(examples)
    written = model.greedy(batch.source, batch.lengths, LENGTH).symbols
    outputs = [dates.target.decode(row.tolist()) for row in written]
    return sum(got == e.iso for got, e in zip(outputs, examples, strict=True)) / len(examples)


def loss(model, batch):
    logits = model(batch.source, batch.lengths, batch.target).logits
    return F.cross_entropy(logits.mT, batch.target)


def learn(name, seed):
    """One model's curve, and the share of unseen dates that it writes without a mistake."""
    torch.manual_seed(seed)
    model = makers[name]()
    history = train(
        model,
        loss,
        dates.batches(size=128, seed=seed),
        steps=STEPS,
        lr=1e-2,
        warmup=50,
        seed=seed,
        evaluate=lambda model: exact(model, watched),
        every=STEPS // 5,
        title=f"{name}, seed {seed}",
    )
    return history.evaluations, exact(model, unseen)


# %% [markdown]
# Three seeds of each score, one without attention:

# %%
seeds = {name: SEEDS[:1] if name == "no attention" else SEEDS for name in makers}
runs = {name: [learn(name, seed) for seed in seeds[name]] for name in makers}
for name, found in runs.items():
    shares = (f"{share:.2%}" for _, share in found)
    print(f"{name:12} exact on {len(unseen):,} unseen dates:", *shares)

# %%
figure, ax = plotting.axes(
    alt="Share of exact dates against training steps: three seeds each of dot, general and concat, "
    "one of the model without attention. The curves with attention rise steeply and end close to "
    "100 percent; the one without rises later and more slowly.",
)
for colour, (name, found) in zip(plotting.COLOURS, runs.items(), strict=False):
    for seed, (curve, _) in enumerate(found):
        steps, shares = zip(*curve, strict=True)
        label = name if seed == 0 else f"_{seed}"
        ax.plot((0, *steps), (0, *shares), color=colour, linestyle="-", label=label)
ax.set(xlabel="training step", ylabel="exact dates", ylim=(0, 1.02))
ax.legend(loc="lower right")
figure

# %% [markdown]
# In every seed concat writes more than 99.5 % without a mistake. Dot does so in two seeds of three,
# general in none. Without attention most dates are right too, at this rate: it needs fewer steps
# than at the lower one, and it still falls far behind.
#
# The score location is left out. It names a place by its number, whatever stands there; in these
# texts the year, the month and the day stand elsewhere in each language.

# %%
values = {name.split()[0]: [share for _, share in found] for name, found in runs.items()}
values["without"] = values.pop("no")
worst = dict.fromkeys(values, min)
values["parameters"], worst["parameters"] = [spread], max
summary = save("dates-scores", seeds=SEEDS, steps=STEPS, values=values, worst=worst)
