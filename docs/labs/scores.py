# %% [markdown]
# # Lab: why divide by $\sqrt{d}$?
#
# A dot product of two random vectors grows with their width $d$. How fast, what does that do to
# the softmax behind it, and does it matter for learning? Three measurements, three seeds each;
# the worst seed is the one that counts.

# %%
import math

import torch
from torch import nn
from torch.nn import functional as F

from attnbook import attend, cosine, dot, gaussian, plotting, scaled_dot, softmax
from attnbook.book.labs import save
from attnbook.scores import Additive, Bilinear, Concat, Location

torch.set_num_threads(1)
SEEDS = (0, 1, 2)
WIDTHS = (16, 64, 256, 1024, 4096)
values, worst = {}, {}

# %% [markdown]
# ## How large is a dot product?
#
# Draw the entries of $q$ and $k$ independently with mean 0 and variance 1. Vaswani et al. (2017,
# footnote 4) note that $q \cdot k$ then has mean 0 and variance $d$. Measured on 100,000 pairs
# for each width:


# %%
def spread(width, seed, pairs=100_000, chunk=2_000):
    """The standard deviation of q.k over independent pairs."""
    draw = torch.Generator().manual_seed(seed)
    parts = []
    for _ in range(pairs // chunk):
        query, key = torch.randn(2, chunk, width, generator=draw)
        parts.append((query * key).sum(-1))
    return torch.cat(parts).std().item()


stds = torch.tensor([[spread(d, seed) for d in WIDTHS] for seed in SEEDS])
root = torch.tensor(WIDTHS).sqrt()
for d, measured in zip(WIDTHS, stds.T, strict=True):
    shown = "  ".join(f"{s:7.3f}" for s in measured)
    print(f"d = {d:5}   sqrt(d) = {math.sqrt(d):6.2f}   measured: {shown}")
values["std_error"] = (stds / root - 1).abs().amax(1).tolist()
worst["std_error"] = max

# %% [markdown]
# ## What does the softmax make of it?
#
# One query, 64 keys. A row of weights is *saturated* when its largest weight exceeds 0.99: almost
# everything goes to one key, though all 64 are alike by construction. The entropy says how many
# keys share the weight (at most $\log 64 = 4.16$ nats). The gradient of a loss on the mixture goes
# through the Jacobian of the weights $\alpha$ by the scores $e$ on its way back, $\partial \alpha /
# \partial e = \mathrm{diag}(\alpha) - \alpha \alpha^\top$; its Frobenius norm tends to 0 as one
# weight tends to 1.


# %%
def rows(score, width, seed, queries=4096, keys=64, chunk=64):
    """Weights `(queries, keys)` with fresh keys for each chunk of queries."""
    draw = torch.Generator().manual_seed(seed)
    parts = []
    for _ in range(queries // chunk):
        query = torch.randn(chunk, width, generator=draw)
        key = torch.randn(keys, width, generator=draw)
        parts.append(softmax(score(query, key)))
    return torch.cat(parts)


def jacobian_norm(w):
    """The Frobenius norm of diag(w) - w w^T, a row at a time."""
    squares = w.square().sum(-1)
    return (squares - 2 * w.pow(3).sum(-1) + squares.square()).clamp_min(0).sqrt()


w = torch.rand(5).softmax(-1)
assert torch.allclose(jacobian_norm(w), (w.diag() - w[:, None] * w).norm())

measures = {
    "saturated rows": lambda w: (w.amax(-1) > 0.99).float().mean().item(),
    "entropy": lambda w: torch.special.entr(w).sum(-1).mean().item(),
    "gradient": lambda w: jacobian_norm(w).mean().item(),
}
kinds = {"dot": dot(), "scaled dot": scaled_dot}


def measured(score, width, seed):
    w = rows(score, width, seed)
    return [measure(w) for measure in measures.values()]


table = {  # measure, seed, width
    name: torch.tensor([[measured(score, d, seed) for d in WIDTHS] for seed in SEEDS]).movedim(2, 0)
    for name, score in kinds.items()
}
for i, measure in enumerate(measures):
    for name in kinds:
        print(f"{measure:15} {name:11}", "".join(f"{x:10.4f}" for x in table[name][i].mean(0)))

# %%
figure, panels = plotting.axes(
    1,
    3,
    titles=["saturated rows", "entropy (nats)", "gradient norm"],
    alt="Three panels against the width on a logarithmic axis. Saturated rows: the dot product "
    "rises from almost none to more than four fifths, the scaled one stays at none. Entropy: the "
    "dot product falls towards zero, the scaled one is flat. Gradient norm: the dot product starts "
    "above the scaled one and falls far below it; the scaled one is flat.",
)
for i, panel in enumerate(panels):
    for name in kinds:
        panel.semilogx(WIDTHS, table[name][i].mean(0), marker="o", label=name)
    panel.set(xlabel="width $d$", ylim=(0, None), xticks=[16, 256, 4096])
    panel.set_xticklabels(["16", "256", "4096"])
    panel.minorticks_off()
panels[1].legend()
figure

# %%
entropy = table["scaled dot"][1]
values["entropy_spread"] = ((entropy.amax(1) - entropy.amin(1)) / entropy.mean(1)).tolist()
values["saturated_dot_4096"] = table["dot"][0][:, -1].tolist()
values["saturated_scaled"] = table["scaled dot"][0].amax(1).tolist()
values["gradient_ratio_4096"] = (table["dot"][2] / table["scaled dot"][2])[:, -1].tolist()
worst |= {"entropy_spread": max, "saturated_dot_4096": min, "saturated_scaled": max}
worst |= {"gradient_ratio_4096": max}

# %% [markdown]
# ## Does it matter for learning?
#
# A look-up. Each example holds 16 pairs (key symbol, value symbol) and one query symbol; the
# answer is the value that stands beside the query's symbol. There are 64 symbols and 8 values.
# Queries and keys have embedding tables of their own, drawn from $N(0, 1)$ (torch's default), so
# that the model must learn which query vector goes with which key vector. Everything but the
# score is the same in all runs: Adam, batches of 64, at most 500 steps. How many steps until 95 %
# of 1,000 unseen examples are right?
#
# Scores differ in the learning rate that suits them. Each score gets four rates at each width,
# and its best one counts.
#
# One row has another start: *dot, small start* is the plain dot product, but the query table is
# divided by $\sqrt{d}$ before the first step. Its scores start as small as those of the scaled dot
# product; from then on nothing is divided.

# %%
SYMBOLS, VALUES, PAIRS, STEPS, EVERY = 64, 8, 16, 500, 10
RATES, LOOKUP_WIDTHS = (0.003, 0.01, 0.03, 0.1), (16, 64, 256)


class LookUp(nn.Module):
    def __init__(self, width, score, start=1.0):
        super().__init__()
        self.query = nn.Embedding(SYMBOLS, width)
        self.key = nn.Embedding(SYMBOLS, width)
        self.value = nn.Embedding(VALUES, 16)
        self.answer = nn.Linear(16, VALUES)
        self.score = score
        with torch.no_grad():
            self.query.weight.mul_(start)

    def forward(self, query, keys, values):
        query = self.query(query).unsqueeze(1)
        return self.answer(
            attend(query, self.key(keys), self.value(values), score=self.score).output.squeeze(1)
        )


def examples(n, draw):
    keys = torch.rand(n, SYMBOLS, generator=draw).argsort(1)[:, :PAIRS]  # no symbol twice
    values = torch.randint(VALUES, (n, PAIRS), generator=draw)
    where = torch.randint(PAIRS, (n, 1), generator=draw)
    return (keys.gather(1, where)[:, 0], keys, values), values.gather(1, where)[:, 0]


def steps_to_95(make_score, width, seed, lr, start=1.0, limit=STEPS):
    """Steps until 95 % are right (infinite if never), and the best accuracy on the way."""
    torch.manual_seed(seed)
    draw = torch.Generator().manual_seed(seed)
    model = LookUp(width, make_score(width), start)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    unseen, answers = examples(1000, torch.Generator().manual_seed(1000 + seed))
    best = 0.0
    for step in range(1, limit + 1):
        inputs, target = examples(64, draw)
        optimizer.zero_grad()
        F.cross_entropy(model(*inputs), target).backward()
        optimizer.step()
        if step % EVERY == 0:
            with torch.no_grad():
                accuracy = (model(*unseen).argmax(-1) == answers).float().mean().item()
            best = max(best, accuracy)
            if best >= 0.95:
                return step, best
    return math.inf, best


class ScaledBilinear(Bilinear):
    """The bilinear score divided by sqrt(d)."""

    def forward(self, query, key):
        return super().forward(query, key) / math.sqrt(query.shape[-1])


SCORES = {
    "dot": lambda d: dot(),
    "dot, small start": lambda d: dot(),
    "scaled dot": lambda d: scaled_dot,
    "additive": lambda d: Additive(d, d, d),
    "concat": lambda d: Concat(d, d, d),
    "bilinear": lambda d: Bilinear(d, d),
    "bilinear, scaled": lambda d: ScaledBilinear(d, d),
    "cosine, scale 10": lambda d: cosine(10.0),
    "Gaussian": lambda d: gaussian(math.sqrt(d)),
    "location": lambda d: Location(d, PAIRS),
}


def run(name, width, lr, limit=STEPS):
    """The runs of one score: steps and accuracy of each seed."""
    start = width**-0.5 if "start" in name else 1.0
    return [steps_to_95(SCORES[name], width, seed, lr, start, limit) for seed in SEEDS]


runs = {name: {d: {lr: run(name, d, lr) for lr in RATES} for d in LOOKUP_WIDTHS} for name in SCORES}


def slowest(results):
    return max(step for step, _ in results)


def best_rate(by_rate):
    """The rate at which the slowest seed is fastest; if none gets there, the most accurate one."""
    return min(by_rate, key=lambda lr: (slowest(by_rate[lr]), -max(a for _, a in by_rate[lr])))


# %% [markdown]
# Each score at its best of the four rates: the steps of the slowest of the three seeds, and the
# rate. "Never" where at no rate all three got there in 500 steps, with the best accuracy of any
# seed at any rate:


# %%
def shown(by_rate):
    lr = best_rate(by_rate)
    steps = slowest(by_rate[lr])
    if math.isfinite(steps):
        return f"{steps:.0f} at {lr}"
    return f"never ({max(a for results in by_rate.values() for _, a in results):.0%})"


print(f"{'steps to 95 %':18}" + "".join(f"{f'd = {d}':>16}" for d in LOOKUP_WIDTHS))
for name, by_width in runs.items():
    print(f"{name:18}" + "".join(f"{shown(by_rate):>16}" for by_rate in by_width.values()))

# %% [markdown]
# The plain dot product learns at $d = 16$, slowly; at 64 and 256 it does not get there at any rate.
# The missing factor as such is not to blame: with a small start the same score learns at every
# width. What hurts is how large the scores are when learning begins. The bilinear score has the
# same trouble, and dividing it by $\sqrt{d}$ cures it. Location never reads the keys, and guesses.
#
# A small start is not all that a scale does. After it nothing divides the scores, so a step moves
# them more the wider the keys are, and the best rate falls with the width. The scaled dot product
# learns at the two largest rates at every width.
#
# Is it the learning rate? The accuracy of the slowest seed at each of the rates (a run ends at
# 95 %):

# %%
figure, panels = plotting.axes(
    1,
    3,
    sharey=True,
    titles=[f"$d = {d}$" for d in LOOKUP_WIDTHS],
    alt="Three panels, one for each width: accuracy against the learning rate. Scaled dot reaches "
    "95 percent at three rates or more at every width. Additive and the dot product with a small "
    "start reach it at the smaller rates, and fall off at the larger ones as the width grows. The "
    "plain dot product reaches it at one rate at width 16; at widths 64 and 256 it stays below.",
)
for panel, d in zip(panels, LOOKUP_WIDTHS, strict=True):
    for name in ("dot", "dot, small start", "scaled dot", "additive"):
        least = [min(a for _, a in runs[name][d][lr]) for lr in RATES]
        panel.semilogx(RATES, least, marker="o", label=name)
    panel.axhline(0.95, color=plotting.MUTED, linestyle="-", linewidth=1)
    panel.set(xlabel="learning rate", ylim=(0, 1.02), xticks=[0.01, 0.1])
    panel.set_xticklabels(["0.01", "0.1"])
    panel.minorticks_off()
panels[0].set_ylabel("best accuracy, worst seed")
panels[0].legend(loc="lower right", fontsize=plotting.SMALL)
figure

# %% [markdown]
# Does it only need more time? The plain dot product at its most accurate rate, with four times the
# steps: the best accuracy of each seed.

# %%
patient = {d: run("dot", d, best_rate(runs["dot"][d]), 4 * STEPS) for d in (64, 256)}
for d, results in patient.items():
    print(f"d = {d:3}, {4 * STEPS} steps:", ", ".join(f"{a:.0%}" for _, a in results))

# %% [markdown]
# ## Is a wider key faster?
#
# At one rate for all widths, the scaled dot product learns faster the wider it is. That is Adam,
# not attention: a step moves every entry by about the rate $\eta$, however small its gradient, and
# so it moves $q \cdot k / \sqrt{d}$ by up to about $\eta \sqrt{d}$. With the rate divided by
# $\sqrt{d / 16}$, a step moves the scores alike at every width, and the difference is gone:

# %%
same = {d: runs["scaled dot"][d][0.01] for d in LOOKUP_WIDTHS}
corrected = {d: run("scaled dot", d, 0.01 * math.sqrt(16 / d)) for d in LOOKUP_WIDTHS}
for title, by_width in (("rate 0.01", same), ("rate 0.01 sqrt(16 / d)", corrected)):
    print(f"{title:24}" + "".join(f"{slowest(results):>10.0f}" for results in by_width.values()))

# %% [markdown]
# What the ledger keeps: the steps of a score at its best rate where all seeds get there; the best
# accuracy of each seed at any rate where they do not.

# %%
for name, by_width in runs.items():
    stem = name.replace(",", "").replace(" ", "_").lower()
    for d, by_rate in by_width.items():
        results = by_rate[best_rate(by_rate)]
        if math.isfinite(slowest(results)):
            values[f"steps_{stem}_{d}"] = [step for step, _ in results]
            worst[f"steps_{stem}_{d}"] = max
        else:
            every = [[a for _, a in results] for results in by_rate.values()]
            values[f"accuracy_{stem}_{d}"] = [max(seed) for seed in zip(*every, strict=True)]
            worst[f"accuracy_{stem}_{d}"] = max
for kind, by_width in (("one_rate", same), ("corrected_rate", corrected)):
    for d, results in by_width.items():
        values[f"steps_{kind}_{d}"] = [step for step, _ in results]
        worst[f"steps_{kind}_{d}"] = max
for d, results in patient.items():
    values[f"accuracy_patient_{d}"] = [accuracy for _, accuracy in results]
    worst[f"accuracy_patient_{d}"] = max
summary = save("scores", seeds=SEEDS, steps=STEPS, values=values, worst=worst)
