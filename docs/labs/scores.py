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
# keys share the weight (at most $\log 64 = 4.16$ nats). The Jacobian $\partial w / \partial s =
# \mathrm{diag}(w) - w w^\top$ is what the gradient of any loss passes through on its way to the
# scores; its Frobenius norm is 0 for a saturated row.


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
table = {
    name: torch.tensor(
        [
            [[measure(rows(score, d, seed)) for d in WIDTHS] for seed in SEEDS]
            for measure in measures.values()
        ]
    )
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
# score is the same in all runs: Adam at 0.01, batches of 64, at most 400 steps. How many steps
# until 95 % of 1,000 unseen examples are right?

# %%
SYMBOLS, VALUES, PAIRS, STEPS, EVERY = 64, 8, 16, 400, 10


class LookUp(nn.Module):
    def __init__(self, width, score):
        super().__init__()
        self.query = nn.Embedding(SYMBOLS, width)
        self.key = nn.Embedding(SYMBOLS, width)
        self.value = nn.Embedding(VALUES, 16)
        self.answer = nn.Linear(16, VALUES)
        self.score = score

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


def steps_to_95(make_score, width, seed, lr=0.01):
    """Steps until 95 % are right (infinite if never), and the best accuracy on the way."""
    torch.manual_seed(seed)
    draw = torch.Generator().manual_seed(seed)
    model = LookUp(width, make_score(width))
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    unseen, answers = examples(1000, torch.Generator().manual_seed(1000 + seed))
    best = 0.0
    for step in range(1, STEPS + 1):
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
    "scaled dot": lambda d: scaled_dot,
    "additive": lambda d: Additive(d, d, d),
    "concat": lambda d: Concat(d, d, d),
    "bilinear": lambda d: Bilinear(d, d),
    "bilinear, scaled": lambda d: ScaledBilinear(d, d),
    "cosine, scale 10": lambda d: cosine(10.0),
    "Gaussian": lambda d: gaussian(math.sqrt(d)),
    "location": lambda d: Location(d, PAIRS),
}
LOOKUP_WIDTHS = (16, 64, 256)
runs = {
    name: [[steps_to_95(make, d, seed) for seed in SEEDS] for d in LOOKUP_WIDTHS]
    for name, make in SCORES.items()
}

# %% [markdown]
# The slowest of the three seeds. "Never" where one of them did not get there in 400 steps, with the
# best accuracy of the best seed:


# %%
def shown(results):
    steps = max(step for step, _ in results)
    return f"{steps:.0f}" if math.isfinite(steps) else f"never ({max(a for _, a in results):.0%})"


print(f"{'steps to 95 %':18}" + "".join(f"{f'd = {d}':>14}" for d in LOOKUP_WIDTHS))
for name, by_width in runs.items():
    print(f"{name:18}" + "".join(f"{shown(results):>14}" for results in by_width))

# %%
figure, ax = plotting.axes(
    height=3.6,
    alt="Steps to 95 percent against the width, for the scores that get there on all three seeds "
    "at every width: scaled dot, additive, concat and Gaussian. Additive and concat need the "
    "fewest at width 16; at width 256 scaled dot, additive and concat are close, "
    "Gaussian is slowest.",
)
solved = {
    name: [max(step for step, _ in results) for results in by_width]
    for name, by_width in runs.items()
    if all(math.isfinite(step) for results in by_width for step, _ in results)
}
for name, steps in solved.items():
    ax.semilogx(LOOKUP_WIDTHS, steps, marker="o", label=name)
ax.set(xlabel="width $d$", ylabel="steps to 95 %, slowest seed", ylim=(0, None))
ax.set_xticks(LOOKUP_WIDTHS, [str(d) for d in LOOKUP_WIDTHS])
ax.minorticks_off()
plotting.end_labels(ax)
figure

# %% [markdown]
# The dot product is not there at any width, and the wider it is, the further off: a row that starts
# out saturated on a wrong key sends back almost no gradient to say which other key was meant. The
# bilinear score has the same trouble. The cosine with scale 10 misses at $d = 16$. Location never
# reads the keys, and guesses.
#
# Is it the learning rate? The unscaled scores at $d = 256$ again, with ten times less and ten
# times more:

# %%
RATES = (0.001, 0.01, 0.1)
rates = {
    name: [
        runs[name][-1]  # at 0.01, from above
        if lr == 0.01
        else [steps_to_95(SCORES[name], 256, seed, lr) for seed in SEEDS]
        for lr in RATES
    ]
    for name in ("dot", "bilinear", "bilinear, scaled")
}
print(f"{'learning rate':18}" + "".join(f"{lr:>14}" for lr in RATES))
for name, by_rate in rates.items():
    print(f"{name:18}" + "".join(f"{shown(results):>14}" for results in by_rate))

# %% [markdown]
# No rate saves the unscaled scores. Dividing the bilinear score by $\sqrt{d}$ does, but its $d^2$
# weights want the smaller rate: a step of 0.01 on each of 65,536 weights is a large step.

# %%
for name, stem in (("scaled dot", "scaled"), ("additive", "additive")):
    for d, results in zip(LOOKUP_WIDTHS, runs[name], strict=True):
        values[f"steps_{stem}_{d}"] = [step for step, _ in results]
        worst[f"steps_{stem}_{d}"] = max
for d, results in zip(LOOKUP_WIDTHS, runs["dot"], strict=True):
    values[f"accuracy_dot_{d}"] = [accuracy for _, accuracy in results]
    worst[f"accuracy_dot_{d}"] = max
# the dot product at the best of the three rates
values["accuracy_dot_256"] = [max(r[seed][1] for r in rates["dot"]) for seed in range(len(SEEDS))]
summary = save("scores", seeds=SEEDS, steps=STEPS, values=values, worst=worst)
