# %% [markdown]
# # Lab: associative retrieval
#
# Four letters with a digit each, two question marks, one of the letters: which digit stood behind
# it? The task is that of the fast weights paper, section 4.1. Four models read it: an LSTM, a
# recurrent network with fast weights, and one layer of attention, linear and softmax. How does
# their error fall, step by step and second by second?

# %%
import torch
from torch import nn
from torch.nn import functional as F

from attnbook import attend, plotting
from attnbook.book.labs import save
from attnbook.fast_weights import FastWeights
from attnbook.linear import chunked
from attnbook.tasks import retrieval
from attnbook.training import train

torch.set_num_threads(1)
SEEDS, PAIRS, WIDTH, EMBED, BATCH, TESTED = (0, 1, 2), 4, 20, 100, 128, 2000
test = retrieval.draw(TESTED, PAIRS, torch.Generator().manual_seed(1000))
print(retrieval.text(test)[0], "->", test.answer[0].item())


class Lstm(nn.Module):
    """The state after the last symbol."""

    def __init__(self):
        super().__init__()
        self.net = nn.LSTM(EMBED, WIDTH, batch_first=True)

    def forward(self, x):
        return self.net(x)[0][:, -1]


class Fast(nn.Module):
    """The same with fast weights: fading .95, rate .5, one inner step, layer norm."""

    def __init__(self):
        super().__init__()
        self.net = FastWeights(EMBED, WIDTH, decay=0.95, rate=0.5, inner_steps=1)

    def forward(self, x):
        return self.net(x).hidden[:, -1]


class Attention(nn.Module):
    """One causal layer. Queries, keys and values are made of a symbol and the one before it.

    Without the one before, a digit could not be found by its letter.
    """

    def __init__(self, linear):
        super().__init__()
        self.linear = linear
        self.make = nn.Linear(2 * EMBED, 3 * WIDTH)

    def forward(self, x):
        before = F.pad(x, (0, 0, 1, 0))[:, :-1]
        query, key, value = self.make(torch.cat([before, x], dim=-1)).chunk(3, dim=-1)
        if self.linear:
            return chunked(query, key, value).output[:, -1]
        return attend(query[:, -1:], key, value).output[:, 0]  # the last may see all


class Reader(nn.Module):
    """Embedding, one of the four, then 100 rectified units and 10 digits."""

    def __init__(self, body):
        super().__init__()
        self.embed, self.body = nn.Embedding(retrieval.MARK + 1, EMBED), body
        self.out = nn.Sequential(nn.Linear(WIDTH, 100), nn.ReLU(), nn.Linear(100, 10))

    def forward(self, symbols):
        return self.out(self.body(self.embed(symbols)))


def loss(model, batch):
    """Cross-entropy of the digit."""
    return F.cross_entropy(model(batch.symbols), batch.answer)


def error(model, batch=test):
    """Share of wrong digits."""
    return (model(batch.symbols).argmax(-1) != batch.answer).float().mean().item()


# %% [markdown]
# ## Training
#
# The same batches for all; Adam, no warm-up, cosine decay over the steps of a run. The LSTM runs a
# second time, with as many steps more as its steps are cheaper than those of the fast weights. The
# attention layers are given fewer steps, since they need fewer.

# %%
STEPS, LONGER, FEWER = 3000, 7500, 400
BODIES = {
    "LSTM": (Lstm, STEPS),
    "LSTM, longer": (Lstm, LONGER),
    "fast weights": (Fast, STEPS),
    "linear attention": (lambda: Attention(linear=True), FEWER),
    "softmax attention": (lambda: Attention(linear=False), FEWER),
}
runs, parameters = {}, {}
for name, (body, steps) in BODIES.items():
    for seed in SEEDS:
        torch.manual_seed(seed)
        model = Reader(body())
        parameters[name] = sum(p.numel() for p in model.parameters())
        history = train(
            model,
            loss,
            retrieval.batches(BATCH, PAIRS, seed),
            steps=steps,
            lr=2e-3,
            clip=5.0,
            seed=seed,
            evaluate=error,
            every=steps // 15 if steps > FEWER else 20,
            title=f"{name}, seed {seed}",
        )
        runs[name, seed] = model, history

print("                     parameters   steps   CPU seconds            error")
for name, (_, steps) in BODIES.items():
    seconds = [runs[name, seed][1].cpu_seconds for seed in SEEDS]
    errors = [runs[name, seed][1].evaluations[-1][1] for seed in SEEDS]
    print(f"{name:20} {parameters[name]:10,} {steps:7,}  ", end=" ")
    print(*(f"{s:5.1f}" for s in seconds), "  ", *(f"{e:6.2%}" for e in errors))

# %% [markdown]
# ## Learning curves
#
# Who remembers the four digits, and not whose they are, can only guess among them.

# %%
listed = test.symbols[:, 1 : 2 * PAIRS : 2]
guess = 1 - (listed == test.answer[:, None]).float().mean().item()
print(f"a guess among the four digits of the list is wrong in {guess:.1%}")
figure, panels = plotting.axes(
    1,
    2,
    width=7.6,
    height=3.4,
    sharey=True,
    alt="Error against training steps, and against CPU seconds, three seeds each. Softmax and "
    "linear attention fall to nearly nothing at once. The LSTM and the fast weights stay where "
    "guessing would be for some hundred steps, then fall slowly.",
)
for name, colour in zip(
    ["LSTM", "fast weights", "linear attention", "softmax attention"],
    plotting.COLOURS,
    strict=False,
):
    longest = "LSTM, longer" if name == "LSTM" else name
    for panel, kind in zip(panels, (name, longest), strict=True):
        for seed in SEEDS:
            history = runs[kind, seed][1]
            steps, errors = zip(*history.evaluations, strict=True)
            second = history.cpu_seconds / steps[-1]
            x = steps if panel is panels[0] else [step * second for step in steps]
            label = name if seed == 0 else "_"
            panel.plot(x, errors, color=colour, label=label)
panels[0].set(xlabel="training step", ylabel="error", ylim=(-0.02, 0.8))
panels[1].set(xlabel="CPU seconds")
figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
figure

# %% [markdown]
# ## What the fast weights look at
#
# The same network, read as attention over its past hidden states: for the first test whose answer
# it knows, what each past state weighs in each step. The first seed.

# %%
model = runs["fast weights", 0][0]
known = model(test.symbols).argmax(-1) == test.answer
place = int(known.nonzero()[0])
symbols = test.symbols[place : place + 1]
with torch.no_grad():
    looks = model.body.net.attending(model.embed(symbols)).weights[0]
line = retrieval.text(test)[place]
figure, ax = plotting.axes(
    height=3.6,
    alt="A triangle of cells, a row for each symbol read and a column for each state before it.",
)
plotting.heatmap(ax, looks / looks.max(), rows=list(line), columns=list(line))
figure

# %%
hits = []
for seed in SEEDS:
    model = runs["fast weights", seed][0]
    with torch.no_grad():
        weights = model.body.net.attending(model.embed(test.symbols)).weights[:, -1]
    most = weights[:, : 2 * PAIRS].argmax(1)
    hits.append(((most == test.found_at) | (most == test.found_at - 1)).float().mean().item())
print("last step: the heaviest of the eight listed symbols is one of the pair that is asked for")
print(*(f"{hit:.1%}" for hit in hits))

# %%
values, worst = {"hit": hits}, {"hit": min}
curves = {}
for name in BODIES:
    stem = name.replace(", ", "_").replace(" ", "_")
    values[stem] = [runs[name, seed][1].evaluations[-1][1] for seed in SEEDS]
    values[f"{stem}_seconds"] = [runs[name, seed][1].cpu_seconds for seed in SEEDS]
    worst |= {stem: max, f"{stem}_seconds": max}
    curves[name] = [
        {
            "steps": [step for step, _ in runs[name, seed][1].evaluations],
            "error": [round(e, 4) for _, e in runs[name, seed][1].evaluations],
            "seconds": round(runs[name, seed][1].cpu_seconds, 2),
        }
        for seed in SEEDS
    ]
    print(f"{name:20}", *(f"{e:7.2%}" for e in values[stem]))
summary = save(
    "fast-weights",
    seeds=SEEDS,
    steps={name: steps for name, (_, steps) in BODIES.items()},
    values=values,
    worst=worst,
    shown={
        "curves": curves,
        "line": line,
        "looks": [[round(w, 3) for w in row] for row in (looks / looks.max()).tolist()],
        "guess": guess,
    },
)
