# %% [markdown]
# # Lab: a loss that falls in one step
#
# Pairs of symbols are listed, `k1 v1 k2 v2 ...`, and then some of the keys stand there once more:
# what comes next? The pairs are new in every sequence, so no parameter can hold the answer. It has
# to be looked up in the text before. Three models of attention and nothing else learn this from
# examples: of one layer, of two layers, and of one layer whose keys are mixed with what stands
# before them. How does the loss fall, and what do the heads look at meanwhile?

# %%
from itertools import count

import torch
from torch import nn
from torch.nn import functional as F

from attnbook import causal, plotting
from attnbook.book.labs import save
from attnbook.layers import MultiHeadAttention, attention_maps
from attnbook.positions import sinusoidal
from attnbook.tasks import recall
from attnbook.training import train

torch.set_num_threads(1)
SEEDS, STEPS, LONGER, EVERY = (0, 1, 2), 800, 1200, 20
PAIRS, SYMBOLS, WIDTH = 16, 128, 64
test = recall.draw(100, PAIRS, SYMBOLS, torch.Generator().manual_seed(1000))
print("the list  ", test.symbols[0, : 2 * PAIRS].tolist())
print("questions ", test.symbols[0, 2 * PAIRS :].tolist())

# %% [markdown]
# ## The models
#
# Positions go into the queries and keys, not into the values: what is copied should be the symbol,
# not the place where it stood. No change of the attention is needed for that; its query and key
# are one tensor, its value another. The position vectors start as sines and cosines and are
# learned.


# %%
class Layer(nn.Module):
    """Attention round a residual; with `mixed`, a key holds some of the symbol before it."""

    def __init__(self, mixed=False):
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.attention = MultiHeadAttention(WIDTH, num_heads=1, bias=False)
        self.share = nn.Parameter(torch.zeros(1)) if mixed else None

    def forward(self, x, places):
        x_normed = self.norm(x)
        key = x_normed
        if self.share is not None:
            share = self.share.sigmoid()
            key = share * key + (1 - share) * F.pad(key, (0, 0, 1, 0))[:, :-1]
        mask = causal(x.shape[1], x.shape[1])
        return x + self.attention(x_normed + places, key + places, x_normed, mask=mask).output


class Model(nn.Module):
    """Embeddings, layers of attention, logits; no feed-forward network."""

    def __init__(self, layers, mixed=False):
        super().__init__()
        self.embed = nn.Embedding(SYMBOLS, WIDTH)
        self.places = nn.Parameter(sinusoidal(4 * PAIRS, WIDTH))
        self.layers = nn.ModuleList(Layer(mixed) for _ in range(layers))
        self.norm, self.output = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, SYMBOLS, bias=False)

    def forward(self, symbols):
        x = self.embed(symbols)
        for layer in self.layers:
            x = layer(x, self.places[: symbols.shape[1]])
        return self.output(self.norm(x))


makers = {
    "one layer": lambda: Model(1),
    "two layers": lambda: Model(2),
    "one layer, mixed keys": lambda: Model(1, mixed=True),
}
for name, make in makers.items():
    print(f"{name:22} {sum(p.numel() for p in make().parameters()):,} parameters")


# %% [markdown]
# ## Training
#
# The loss is that of the answers alone; all else is random and cannot be learned. At every 20th
# step we look at the answers to new sequences, and at the weights: how much does a head of the
# last layer put, at a question, on the place of the answer (*prefix matching*)? How much does the
# first layer put, at a value of the list, on the key before it?


# %%
def loss(model, batch):
    """Cross-entropy of the answers."""
    logits = model(batch.symbols[:, :-1])[:, batch.questions]
    return F.cross_entropy(logits.flatten(0, 1), batch.answers.flatten())


def measured(model):
    """Loss and accuracy of the tests; prefix matching in the last layer, the key before."""
    with attention_maps(model) as maps:
        logits = model(test.symbols[:, :-1])[:, test.questions]
    first, last = (maps[f"layers.{n}.attention"][0] for n in (0, len(model.layers) - 1))
    before = first.diagonal(offset=-1, dim1=-2, dim2=-1)[..., : 2 * PAIRS : 2].mean()
    return (
        F.cross_entropy(logits.flatten(0, 1), test.answers.flatten()).item(),
        (logits.argmax(-1) == test.answers).float().mean().item(),
        recall.prefix_matching(last, test).max().item(),
        before.item(),
    )


def learn(name, seed):
    """One model; what was measured, from before the first step on."""
    torch.manual_seed(seed)
    model, generator, curve = makers[name](), torch.Generator().manual_seed(seed), []
    with torch.no_grad():
        curve.append(measured(model))
    steps = LONGER if name == "one layer" else STEPS
    train(
        model,
        loss,
        (recall.draw(64, PAIRS, SYMBOLS, generator) for _ in count()),
        steps=steps,
        lr=2e-3,
        warmup=50,
        seed=seed,
        evaluate=lambda model: curve.append(measured(model)) or curve[-1][0],
        every=EVERY,
        title=f"{name}, seed {seed}",
    )
    return model, torch.tensor(curve)


runs = {name: [learn(name, seed) for seed in SEEDS] for name in makers}
for name, found in runs.items():
    print(f"{name:22} right:", *(f"{curve[-1, 1]:6.1%}" for _, curve in found))

# %% [markdown]
# A model that knows the values of the list, and not which is which, is right once in sixteen times,
# and a little more often since two keys may share a value.

# %%
figure, panels = plotting.axes(
    1,
    3,
    width=7.6,
    height=2.9,
    titles=list(runs),
    sharey=True,
    alt="Test loss against training step, three panels, three seeds each. One layer: the loss "
    "falls slowly from 5 and is still between 3.5 and 4 at the end. Two layers: the same slow fall "
    "for 400 steps, then within about 150 steps nearly to nothing. One layer with mixed keys: the "
    "fall comes at about step 100.",
)
for panel, found in zip(panels, runs.values(), strict=True):
    for seed, (_, curve) in enumerate(found):
        panel.plot(EVERY * torch.arange(len(curve)), curve[:, 0], label=f"seed {seed}")
    panel.set(xlabel="training step")
panels[0].set(ylabel="loss of the answers, nats", ylim=(-0.1, None))
panels[-1].legend(loc="upper right")
figure


# %% [markdown]
# ## What happens at the drop
#
# In a model of two layers, when is half of the answers right, when has prefix matching passed a
# half, and when has the weight on the key before? Each is the first look at which it is so.


# %%
def half(column):
    """The first step of a look at which a share is above a half."""
    return EVERY * int((column > 0.5).nonzero()[0])


drops, rises, befores = (
    [half(curve[:, column]) for _, curve in runs["two layers"]] for column in (1, 2, 3)
)
for seed in SEEDS:
    print(f"seed {seed}: right {drops[seed]}, prefix matching {rises[seed]}, ", end="")
    print(f"key before {befores[seed]}")

# %%
figure, panels = plotting.axes(
    1,
    3,
    width=7.6,
    height=2.9,
    titles=[f"seed {seed}" for seed in SEEDS],
    sharey=True,
    alt="For each of three seeds, against the training step: the share of right answers, prefix "
    "matching in layer 2, and the weight of layer 1 on the key before. All three stay low for "
    "400 steps and rise together within about 150: the first two to nearly 1, the third to 0.7.",
)
for panel, (_, curve) in zip(panels, runs["two layers"], strict=True):
    steps = EVERY * torch.arange(len(curve))
    for column, label in ((1, "right"), (2, "prefix matching"), (3, "key before")):
        panel.plot(steps, curve[:, column], label=label)
    panel.set(xlabel="training step", ylim=(-0.02, 1.05))
panels[0].set(ylabel="share")
panels[0].legend(loc="upper left")
figure

# %% [markdown]
# ## Where they look
#
# The first test sequence through the trained model of two layers. In the first layer each value
# looks at the key before it. In the second a question looks at the value behind its key, wherever
# in the list that stands.

# %%
with attention_maps(runs["two layers"][0][0]) as maps, torch.no_grad():
    runs["two layers"][0][0](test.symbols[:1])
first, second = (maps[f"layers.{n}.attention"][0][0, 0] for n in (0, 1))
first, second = first[:12, :12], second[test.questions[:6], : 2 * PAIRS]
names = [f"{'kv'[n % 2]}{n // 2 + 1}" for n in range(2 * PAIRS)]
asked = [names[place - 1] for place in test.found_at[0, :6].tolist()]
figure, (left, right) = plotting.axes(
    1,
    2,
    width=7.6,
    height=3.4,
    width_ratios=[1, 2],
    titles=["layer 1, the list", "layer 2, six questions"],
    alt="Two maps. In layer 1 the values of the list look at the place before them, the key. In "
    "layer 2 each of six questions puts nearly all its weight on one place of the list, the value "
    "behind the key that is asked.",
)
plotting.heatmap(left, first, rows=names[:12], columns=names[:12])
plotting.heatmap(right, second, rows=asked, columns=[n if n[0] == "v" else "" for n in names])
figure

# %%
values, worst = {}, {}
for name, key in (("one layer", "one"), ("two layers", "two"), ("one layer, mixed keys", "mixed")):
    values[f"{key}_right"] = [curve[-1, 1].item() for _, curve in runs[name]]
    values[f"{key}_loss"] = [curve[-1, 0].item() for _, curve in runs[name]]
    values[f"{key}_prefix"] = [curve[-1, 2].item() for _, curve in runs[name]]
    worst |= {f"{key}_right": min, f"{key}_loss": max, f"{key}_prefix": min}
worst |= {"one_right": max, "one_loss": min, "one_prefix": max}
values["before"] = [curve[-1, 3].item() for _, curve in runs["two layers"]]
values["prefix_start"] = [curve[:10, 2].max().item() for _, curve in runs["two layers"]]
values["apart"] = [abs(drop - rise) for drop, rise in zip(drops, rises, strict=True)]
values["drop"] = drops
worst |= {"before": min, "prefix_start": max, "apart": max, "drop": max}
curves = {
    name: [[[round(x, 4) for x in row] for row in curve.tolist()] for _, curve in found]
    for name, found in runs.items()
}
maps = [[[round(x, 3) for x in row] for row in weights.tolist()] for weights in (first, second)]
summary = save(
    "induction",
    seeds=SEEDS,
    steps={"two layers": STEPS, "one layer": LONGER},
    values=values,
    worst=worst,
    shown={"every": EVERY, "curves": curves, "maps": maps, "names": names, "asked": asked},
)
