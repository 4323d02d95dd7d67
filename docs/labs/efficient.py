# %% [markdown]
# # Lab: what a small memory loses
#
# Pairs of symbols are listed, `k1 v1 k2 v2 ...`, and then keys are asked for, in any order: which
# value stood behind each? The pairs are new in every sequence, so a model has to hold them. Full
# attention holds all that it has read. Each family of efficient attention holds a number of numbers
# that does not grow: here about 256 in each layer. How much does each get right, as the list
# grows, and what does it cost?
#
# The task is that of Arora et al. 2024, with all questions at the end and no answers among them, so
# that attention which is not causal can be asked as well. The numbers of this lab: for each family
# the share of right answers at 2, 4, 8, 16 and 32 pairs.

# %%
import torch
from torch import nn
from torch.nn import functional as F

from attnbook import attend, causal, plotting, window
from attnbook.book.labs import save
from attnbook.core import Attended
from attnbook.delta import delta_chunked
from attnbook.linear import chunked
from attnbook.low_rank import Linformer
from attnbook.patterns import layers_to_reach
from attnbook.random_features import FAVOR, RandomFeatures
from attnbook.segments import SegmentLayer, TransformerXL, as_mask
from attnbook.tasks import recall
from attnbook.training import train
from attnbook.transformer import EncoderLayer

torch.set_num_threads(1)
SEEDS, STEPS, BATCH, TESTED = (0, 1, 2), 800, 32, 200
PAIRS, SYMBOLS, WIDTH, HEAD, LAYERS = (2, 4, 8, 16, 32), 64, 32, 16, 2
LONGEST, KEPT = 3 * max(PAIRS), 8


def draw(pairs, generator, size=BATCH):
    """The list, then as many keys as it has pairs; the values that stood behind them."""
    batch = recall.draw(size, pairs, SYMBOLS, generator)
    asked = batch.symbols[:, batch.questions]
    return torch.cat([batch.symbols[:, : 2 * pairs], asked], dim=1), batch.answers - SYMBOLS // 2


def batches(seed):
    """Lists of every length in turn, drawn anew."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        which = int(torch.randint(len(PAIRS), (1,), generator=generator))
        yield draw(PAIRS[which], generator)


tests = {pairs: draw(pairs, torch.Generator().manual_seed(pairs), TESTED) for pairs in PAIRS}
example, answers = tests[4]
print("listed", example[0, :8].tolist(), "asked", example[0, 8:].tolist())
print("right:", answers[0].tolist())

# %% [markdown]
# ## The families
#
# Each is a path for the same layer: one head, with queries, keys and values of width 16 in a model
# of width 32. The recurrence has layers of its own, with two such heads, and weights for its
# distances. What a layer holds:
#
# | family | what it holds | numbers |
# |---|---|---|
# | softmax | key and value of every position | 32 for each |
# | window | the last 8 keys and values | 256 |
# | recurrence | 8 states of the piece before | 256 |
# | linear, elu + 1 | one matrix 16 x 16, and sums | 272 |
# | random features | one matrix 16 x 16, and sums | 272 |
# | delta rule | one matrix 16 x 16 | 256 |
# | low rank | 8 mixtures of the keys, 8 of the values | 256 |
# | linear, wide | one matrix 32 x 16, and sums | 544 |
#
# Low rank sees the whole text at once: it could not write one. The last has keys twice as wide, to
# see whether it is the memory that is missing.


# %%
class Masked(nn.Module):
    """Softmax under a mask that is made for each length."""

    def __init__(self, pattern):
        super().__init__()
        self.pattern = pattern

    def forward(self, query, key, value, *, mask=None, dropout=0.0):
        return attend(query, key, value, mask=self.pattern(query.shape[-2]))


class Linear(nn.Module):
    """Causal linear attention."""

    def forward(self, query, key, value, *, mask=None, dropout=0.0):
        return Attended(chunked(query, key, value, chunk=48).output, None)


class Delta(nn.Module):
    """The delta rule, keys of length 1; a key says how much it writes."""

    def __init__(self):
        super().__init__()
        self.rate = nn.Linear(HEAD, 1)

    def forward(self, query, key, value, *, mask=None, dropout=0.0):
        rate = self.rate(key)[..., 0].sigmoid()
        query, key = F.normalize(query, dim=-1), F.normalize(key, dim=-1)
        return Attended(delta_chunked(query, key, value, rate, chunk=48).output, None)


def near(n):
    """Itself and the 7 before."""
    return causal(n, n) & window(n, n, KEPT - 1)


def layer(path, keys=HEAD):
    """One layer of the model, with a path of attention."""
    return EncoderLayer(
        WIDTH, 1, 2 * WIDTH, norm_first=True, attend=path, head_dim=keys, value_head_dim=HEAD
    )


FAMILIES = {
    "softmax": lambda: layer(Masked(lambda n: causal(n, n))),
    "window": lambda: layer(Masked(near)),
    "recurrence": lambda: SegmentLayer(WIDTH, WIDTH // HEAD, 2 * WIDTH, norm_first=True),
    "linear": lambda: layer(Linear()),
    "random features": lambda: layer(FAVOR(RandomFeatures(HEAD, HEAD), causal=True)),
    "low rank": lambda: layer(Linformer(LONGEST, KEPT)),
    "delta rule": lambda: layer(Delta()),
    "linear, wide": lambda: layer(Linear(), keys=2 * HEAD),
}


class Model(nn.Module):
    """Embeddings, each mixed with the one before it; two layers; logits of the 32 values.

    The mixing puts a key beside its value: what is left to attention is to remember and to find.
    """

    def __init__(self, family):
        super().__init__()
        self.embed, self.mix = nn.Embedding(SYMBOLS, WIDTH), nn.Linear(2 * WIDTH, WIDTH)
        self.pieces = family == "recurrence"
        layers = [FAMILIES[family]() for _ in range(LAYERS)]
        self.stack = TransformerXL(layers, KEPT) if self.pieces else nn.ModuleList(layers)
        self.norm, self.output = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, SYMBOLS // 2)

    def forward(self, symbols):
        x = self.embed(symbols)
        x = self.mix(torch.cat([F.pad(x, (0, 0, 1, 0))[:, :-1], x], dim=-1))
        if self.pieces:
            outputs, memories = [], None
            for piece in x.split(KEPT, dim=1):
                output, memories = self.stack(piece, memories)
                outputs.append(output)
            x = torch.cat(outputs, dim=1)
        else:
            for each in self.stack:
                x = each(x)
        return self.output(self.norm(x))


def loss(model, batch):
    """Cross-entropy of the values asked for."""
    symbols, answers = batch
    logits = model(symbols)[:, -answers.shape[1] :]
    return F.cross_entropy(logits.flatten(0, 1), answers.flatten())


@torch.no_grad()
def right(model, pairs):
    """Share of right answers."""
    symbols, answers = tests[pairs]
    return (model(symbols)[:, -pairs:].argmax(-1) == answers).float().mean().item()


# %% [markdown]
# ## Training
#
# The same batches for all, lists of every length among them; Adam, a cosine to zero. The random
# features are those of one draw.

# %%
runs, parameters, seconds = {}, {}, {}
for family in FAMILIES:
    for seed in SEEDS:
        torch.manual_seed(seed)
        model = Model(family)
        parameters[family] = sum(p.numel() for p in model.parameters())
        history = train(
            model,
            loss,
            batches(seed),
            steps=STEPS,
            lr=6e-3,
            warmup=50,
            seed=seed,
            title=f"{family}, seed {seed}",
        )
        runs[family, seed] = [right(model, pairs) for pairs in PAIRS]
        seconds[family] = seconds.get(family, 0.0) + history.cpu_seconds

worst, best = (
    {
        family: [pick(runs[family, seed][i] for seed in SEEDS) for i in range(len(PAIRS))]
        for family in FAMILIES
    }
    for pick in (min, max)
)
print("worst and best of three seeds, pairs" + "".join(f"{pairs:15}" for pairs in PAIRS))
for family in FAMILIES:
    pairs_of = zip(worst[family], best[family], strict=True)
    shares = "".join(f"{low:8.1%} {high:6.1%}" for low, high in pairs_of)
    print(f"{family:18} {parameters[family]:7,} weights  {shares}")

# %% [markdown]
# ## Recall against the number of pairs
#
# A model that knows which values are in the list, and not whose they are, could guess among them.

# %%
guess = [
    (values.unsqueeze(-1) == values.unsqueeze(-2)).float().mean().item()
    for values in (tests[pairs][0][:, 1 : 2 * pairs : 2] for pairs in PAIRS)
]
figure, ax = plotting.axes(
    height=3.8,
    alt="Share of right answers against the number of pairs, from 2 to 32. Softmax stays at the "
    "top. Linear attention, the delta rule and random features fall slowly, linear attention with "
    "wide keys the slowest. Low rank falls faster. The recurrence and the window fall to a guess "
    "as soon as the list is longer than what they see.",
)
colours = [*plotting.COLOURS, plotting.INK, plotting.COLOURS[3]]
for (family, shares), colour in zip(worst.items(), colours, strict=True):
    wide = family.endswith("wide")
    ax.plot(PAIRS, shares, color=colour, linestyle="--" if wide else "-", label=family)
ax.plot(PAIRS, guess, color=plotting.MUTED, linestyle=":", label="a guess among the list")
ax.set(xlabel="pairs in the list", ylabel="right, worst seed", xscale="log", ylim=(-0.02, 1.04))
ax.set_xticks(PAIRS, [str(pairs) for pairs in PAIRS])
ax.minorticks_off()
figure.legend(loc="outside upper center", ncols=3)
figure

# %% [markdown]
# ## How far they see
#
# Two layers of the window or of the recurrence do not reach from the end of the longest list to its
# beginning. More layers would. That alone would not help: what is handed on goes through states of
# 32 numbers, written before the question is known.

# %%
reached = {
    "window": layers_to_reach([near(LONGEST)], is_causal=True),
    "recurrence": layers_to_reach([as_mask(LONGEST, KEPT, KEPT)], is_causal=True),
}
print("layers until all of", LONGEST, "positions are within reach:", reached)

# %% [markdown]
# ## What they cost
#
# Multiply-adds of attention alone, for each position of a text of `n`, without the projections that
# all share. Forbidden pairs are not counted, as on a path that skips them: the masks of this lab
# do not. A pair costs the width of a head once for its score and once for its value; in the
# recurrence, which has two heads, once more for its distance, and what it remembers is projected to
# keys and values again.


# %%
def arithmetic(n):
    """Multiply-adds for each position, by family."""
    pair, matrix = 2 * HEAD, HEAD * HEAD
    seen = {
        "softmax": causal(n, n).sum(),
        "window": near(n).sum(),
        "recurrence": as_mask(n, KEPT, KEPT).sum(),
    }
    pairs = {name: mask.item() / n for name, mask in seen.items()}
    return {
        "softmax": pair * pairs["softmax"],
        "window": pair * pairs["window"],
        "recurrence": 3 * WIDTH * pairs["recurrence"] + 2 * WIDTH * WIDTH,
        "linear": 2 * matrix + HEAD,  # write, read, divide
        "random features": 2 * matrix + 2 * matrix + HEAD,  # the features of query and key too
        "low rank": 2 * pair * KEPT,  # mix keys and values; score and mix the mixtures
        "delta rule": 3 * matrix + HEAD,  # ask, write, read; the rate
        "linear, wide": 4 * matrix + 2 * HEAD,
    }


def held(n):
    """Numbers in the memory of a layer after n positions, by family."""
    matrix = HEAD * HEAD
    return {
        "softmax": 2 * HEAD * n,
        "window": 2 * HEAD * KEPT,
        "recurrence": WIDTH * KEPT,
        "linear": matrix + HEAD,
        "random features": matrix + HEAD,
        "low rank": 2 * HEAD * KEPT,
        "delta rule": matrix,
        "linear, wide": 2 * (matrix + HEAD),
    }


LENGTHS = (LONGEST, 1024, 4096)
made = {n: arithmetic(n) for n in LENGTHS}
print("                       multiply-adds a position at n =          numbers held at n =")
print(" " * 22, *(f"{n:9,}" for n in LENGTHS), "  ", *(f"{n:9,}" for n in LENGTHS))
for family in FAMILIES:
    row = [f"{made[n][family]:9,.0f}" for n in LENGTHS]
    print(f"{family:22}", *row, "  ", *(f"{held(n)[family]:9,}" for n in LENGTHS))
print("CPU seconds of training, all seeds:")
print(*(f"{family} {s:.0f}" for family, s in seconds.items()), sep=", ")

# %%
values, which = {}, {}
for family in FAMILIES:
    stem = family.replace(", ", "_").replace(" ", "_")
    for i, pairs in enumerate(PAIRS):
        values[f"{stem}_{pairs}"] = [runs[family, seed][i] for seed in SEEDS]
        which[f"{stem}_{pairs}"] = min
summary = save(
    "efficient",
    seeds=SEEDS,
    steps=STEPS,
    values=values,
    worst=which,
    shown={
        "pairs": PAIRS,
        "right": {
            family: [[round(share, 4) for share in runs[family, seed]] for seed in SEEDS]
            for family in FAMILIES
        },
        "guess": [round(share, 4) for share in guess],
        "parameters": parameters,
        "reached": reached,
        "lengths": LENGTHS,
        "arithmetic": {family: [made[n][family] for n in LENGTHS] for family in FAMILIES},
        "held": {family: [held(n)[family] for n in LENGTHS] for family in FAMILIES},
    },
)
