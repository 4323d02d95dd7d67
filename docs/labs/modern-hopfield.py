# %% [markdown]
# # Lab: how much a modern Hopfield network holds
#
# Four questions. Does an update ever land farther from a pattern than the theorem allows? How does
# the number of patterns that one update can tell apart grow with their width? Can real pictures be
# completed from their upper halves? And what does a learnt query do for a set of pictures that a
# mean does not?

# %%
import math

import torch
from torch import nn
from torch.nn import functional as F

from attnbook import plotting
from attnbook.book.labs import save
from attnbook.hopfield_bounds import error_bound, separation, well_separated
from attnbook.hopfield_layers import HopfieldPooling
from attnbook.modern_hopfield import retrieve, update
from attnbook.tasks import fashion
from attnbook.training import train

torch.set_num_threads(1)
SEEDS, STEPS = (0, 1, 2), 300
values, worst, shown = {}, {}, {}


def keep(name, numbers, least):
    """Note one number of each seed, and which of them is the worst."""
    values[name], worst[name] = [float(n) for n in numbers], min if least else max


# %% [markdown]
# ## The bound
#
# Random sets of patterns, of 2 to 100 in widths of 2 to 32, at inverse temperatures from 0.1 to 10.
# From each pattern we go a random way off, update once in float64, and ask how far from the pattern
# we are. The distance is summed as `p_j (x_j - x_i)`, in which nothing cancels: distances of 1e-40
# keep their digits.


# %%
def try_bound(seed):
    """How many updates, how many beyond the bound, and what share of the bound was used at most."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    tried, beyond, telling, used, sure, lost = 0, 0, 0, 0.0, 0, 0
    for S in (2, 5, 20, 100):
        for D in (2, 8, 32):
            for beta in (0.1, 1.0, 10.0):
                patterns = normal(20, S, D)
                away = normal(20, S, D)
                share = torch.rand(20, S, 1, generator=generator, dtype=torch.float64) ** 2
                away = share * away / away.norm(dim=-1, keepdim=True)
                weights = update(patterns + away, patterns, beta=beta).weights
                apart = patterns.unsqueeze(1) - patterns.unsqueeze(2)
                error = torch.einsum("bij,bijd->bid", weights, apart).norm(dim=-1)
                bound = error_bound(patterns, away.norm(dim=-1), beta=beta)
                longest = patterns.norm(dim=-1).amax(dim=-1, keepdim=True)
                tried += error.numel()
                beyond += int((error > bound).sum())
                telling += int((bound < 2 * longest).sum())  # nothing lands farther than 2 M
                used = max(used, float((error / bound)[bound > 0].max()))
                # Well separated patterns: from the rim of the ball back into it.
                safe = well_separated(patterns, beta=beta)
                radius = (1 / (beta * S * longest)).unsqueeze(-1)
                rim = patterns + radius * away / away.norm(dim=-1, keepdim=True)
                found = retrieve(rim, patterns, beta=beta, max_steps=20).state
                outside = (found - patterns).norm(dim=-1) > radius.squeeze(-1) * (1 + 1e-9)
                sure += int(safe.sum())
                lost += int((outside & safe).sum())
    return tried, beyond, telling / tried, used, sure, lost


bounds = [try_bound(seed) for seed in SEEDS]
for tried, beyond, telling, used, sure, lost in bounds:
    print(
        f"{tried:,} updates, {beyond} beyond the bound; it says something for {telling:.0%}, "
        f"and at most {used:.2f} of it is used; {sure:,} well separated, {lost} not held"
    )
keep("bound_tried", [row[0] for row in bounds], least=True)
keep("bound_violations", [row[1] for row in bounds], least=False)
keep("bound_telling", [row[2] for row in bounds], least=True)
keep("bound_used", [row[3] for row in bounds], least=False)
keep("stored_sure", [row[4] for row in bounds], least=True)
keep("stored_lost", [row[5] for row in bounds], least=False)

# %% [markdown]
# ## Capacity against width
#
# Patterns on the sphere of radius `M = sqrt(d - 1)`, at `beta = 1`. A state is *whole*, a pattern
# itself, or *damaged*: half of its squared length is noise at a right angle to the pattern. It is
# retrieved if one update brings it to within `M / 10` of the pattern. The capacity is the number of
# stored patterns up to which half of the 128 states are retrieved.
#
# An update is a sum over the patterns, so one pass over a stream of them gives the error for every
# number on the way.

# %%
STATES, CLOSE = 128, 0.1
DAMAGED = {d: 2 ** min(21, max(8, round(0.47 * d - 0.5))) for d in range(16, 49, 4)}
WHOLE = {d: 2 ** max(8, round(0.9 * d + 1)) for d in range(8, 21, 2)}
MANY = 300_000


def sphere(count, d, generator):
    x = torch.randn(count, d, generator=generator)
    return math.sqrt(d - 1) * x / x.norm(dim=-1, keepdim=True)


def retrieved(d, most, damaged, seed):
    """Numbers of stored patterns, and the share of the states that is retrieved among so many."""
    generator = torch.Generator().manual_seed(seed)
    own, noise = sphere(STATES, d, generator), torch.randn(STATES, d, generator=generator)
    noise -= (noise * own).sum(-1, keepdim=True) / (d - 1) * own
    noise *= math.sqrt(d - 1) / noise.norm(dim=-1, keepdim=True)
    state = (own + noise) / math.sqrt(2) if damaged else own
    top = (own * state).sum(-1, keepdim=True)
    total, mixture = torch.zeros(STATES, 1).double(), torch.zeros(STATES, d).double()
    sizes = sorted({round(2 ** (k / 4)) for k in range(4 * round(math.log2(most)) + 1)} | {MANY})
    stored, counts, shares = 1, [], []  # its own pattern is stored already
    for size in (n for n in sizes if 1 < n <= most):
        while stored < size:
            others = sphere(min(size - stored, 8192), d, generator)
            strength = (state @ others.T - top).exp()
            total += strength.sum(-1, keepdim=True)
            mixture += strength @ others
            stored += len(others)
        error = (mixture - total * own).norm(dim=-1) / (1 + total.squeeze(-1))
        counts.append(size)
        shares.append((error < CLOSE * math.sqrt(d - 1)).float().mean().item())
    return counts, shares


def up_to(counts, shares, level):
    """The number up to which at least this share is retrieved, between two counts by its log."""
    for i, share in enumerate(shares):
        if share < level:
            if i == 0:
                return float(counts[0])
            part = (shares[i - 1] - level) / (shares[i - 1] - share)
            return counts[i - 1] * (counts[i] / counts[i - 1]) ** part
    return float("inf")


def fit(capacities):
    """The rate `g` of `capacity = A exp(g d)`, `A`, and the largest factor between fit and fact."""
    d = torch.tensor(list(capacities), dtype=torch.float64)
    logs = torch.tensor(list(capacities.values())).double().log()
    rate = ((d - d.mean()) * (logs - logs.mean())).sum() / (d - d.mean()).square().sum()
    start = logs.mean() - rate * d.mean()
    return rate.item(), start.exp().item(), (logs - start - rate * d).abs().max().exp().item()


kinds = {"damaged": (DAMAGED, True), "whole": (WHOLE, False)}
curves = {
    name: [{d: retrieved(d, most, damaged, seed) for d, most in widths.items()} for seed in SEEDS]
    for name, (widths, damaged) in kinds.items()
}
halves = {
    name: [{d: up_to(*curve, 0.5) for d, curve in of_seed.items()} for of_seed in rows]
    for name, rows in curves.items()
}

# %% [markdown]
# How fast should it grow? The own pattern's exponent is `d cos(angle)`. Of others at overlap `t`
# there is a share of about `(1 - t^2)^(d / 2)`, each with exponent `d t`: what most of their sum
# comes from is where `t + log(1 - t^2) / 2` is largest. The sum reaches the own pattern when the
# number of patterns has grown by `exp(d)` to the difference.

# %%
t = torch.linspace(0, 0.999, 100_000, dtype=torch.float64)
others = (t + (1 - t**2).log() / 2).max().item()
expected = {"damaged": math.sqrt(0.5) - others, "whole": 1 - others}
for name, rows in halves.items():
    print(f"{name}: a rate of {expected[name]:.3f} expected")
    for seed, capacities in zip(SEEDS, rows, strict=True):
        rate, start, factor = fit(capacities)
        print(f"  seed {seed}: {start:.2f} exp({rate:.3f} d), off by a factor {factor:.2f} at most")
        print("   ", *(f"{d}: {c:,.0f}" for d, c in capacities.items()))
    keep(f"rate_{name}", [fit(c)[0] for c in rows], least=True)
    keep(f"rate_{name}_error", [abs(fit(c)[0] / expected[name] - 1) for c in rows], least=False)
    keep(f"fit_{name}", [fit(c)[2] for c in rows], least=False)
    keep(f"expected_{name}", [expected[name]], least=True)

# %%
figure, ax = plotting.axes(
    width=6.4,
    height=3.8,
    alt="Capacity against width, with a logarithmic scale of capacity. Two rows of dots, each on a "
    "straight line: whole states rise from 20 to 55 thousand between widths 8 and 20, "
    "damaged ones from 40 to more than a million between 16 and 48. A line near the bottom, 0.138 "
    "of the width, stays below 7.",
)
for colour, (name, rows) in zip(plotting.COLOURS, halves.items(), strict=False):
    widths = list(rows[0])
    for i, capacities in enumerate(rows):
        label = f"{name} states" if not i else None
        ax.semilogy(widths, list(capacities.values()), "o", color=colour, label=label)
    rate, start, _ = fit({d: sorted(c[d] for c in rows)[1] for d in widths})
    line = [start * math.exp(rate * d) for d in widths]
    ax.semilogy(widths, line, "-", color=colour, label=f"{start:.2g} exp({rate:.3f} d)")
wide = list(range(8, 49))
ax.semilogy(wide, [0.138 * d for d in wide], color=plotting.MUTED, label="classical, 0.138 d")
ax.set(xlabel="width d", ylabel="patterns, half of the states retrieved")
ax.legend()
figure

# %% [markdown]
# At a width of 48, with 300,000 patterns stored:

# %%
among = {}
for name, damaged in (("damaged", True), ("whole", False)):
    among[name] = []
    for seed in SEEDS:
        if damaged:
            counts, shares = curves["damaged"][seed][48]
        else:
            counts, shares = retrieved(48, MANY, False, seed)
        among[name].append(shares[counts.index(MANY)])
    print(f"{name}: {', '.join(f'{share:.1%}' for share in among[name])} retrieved in one update")
most = [up_to(*of_seed[48], 0.95) for of_seed in curves["damaged"]]
print("95 % of the damaged states up to", *(f"{n:,.0f}" for n in most), "patterns")
keep("whole_of_300000", among["whole"], least=True)
keep("damaged_of_300000", among["damaged"], least=True)
keep("damaged_95", most, least=True)

# %% [markdown]
# ## Pictures from their upper halves
#
# The 3,500 training pictures of clothes are stored, and 1,000 of them are asked for by their upper
# 14 rows; the lower ones are 0. Three ways to prepare the pictures: as they are; with the mean
# picture taken off; and each picture brought to mean 0 and one common length, as a layer norm does.
# In the last two 0 stands for the mean. A picture counts as found if one update, at a high inverse
# temperature, lands within a tenth of its length.

# %%
pixels = fashion.load().train.pixels.flatten(1)
whitened = pixels - pixels.mean(dim=1, keepdim=True)
prepared = {
    "as they are": pixels,
    "mean picture off": pixels - pixels.mean(dim=0),
    "one length": 28 * whitened / whitened.norm(dim=1, keepdim=True),
}
pictures = {}
for name, stored in prepared.items():
    gaps = separation(stored)
    rows = []
    for seed in SEEDS:
        asked = torch.randperm(3500, generator=torch.Generator().manual_seed(seed))[:1000]
        halved = stored[asked].clone()
        halved[:, 14 * 28 :] = 0
        beta = 1000 / stored.square().sum(-1).mean().item()
        found = update(halved, stored, beta=beta).output
        error = (found - stored[asked]).norm(dim=-1) / stored[asked].norm(dim=-1)
        rows.append((error < 0.1).float().mean().item())
    pictures[name] = rows
    print(f"{name:17} found {min(rows):.1%} to {max(rows):.1%}; separation above 0 for", end=" ")
    print(f"{(gaps > 0).float().mean().item():.1%}")
    key = {"as they are": "raw", "mean picture off": "centred", "one length": "normed"}[name]
    keep(f"pictures_{key}", rows, least=key == "normed")
    keep(f"separated_{key}", [(gaps > 0).float().mean().item()], least=key == "normed")

# %% [markdown]
# ## A bag among clothes
#
# A set of 20 pictures; is there a bag among them? If so it is one, and the other 19 are of the nine
# other classes. Each picture is embedded by the same small network, the set is pooled into one
# vector, and a line decides. The pools are the mean, the maximum, and `HopfieldPooling` with one
# learnt state. Training sees sets of 20; the test asks about 20 and about 100, with other pictures.

# %%
BAG, SIZE, LARGE, WIDTH = 8, 20, 100, 32


class SetClassifier(nn.Module):
    """Sets of pictures `(B, S, 784)` to one logit each, `(B,)`."""

    def __init__(self, pool):
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, WIDTH))
        self.pool, self.decide = pool, nn.Linear(WIDTH, 1)

    def forward(self, pictures):
        return self.decide(self.pool(self.embed(pictures))).squeeze(-1)


class Learnt(nn.Module):
    """One vector for a set, by one learnt state."""

    def __init__(self):
        super().__init__()
        self.memory = HopfieldPooling(WIDTH, beta=1.0)

    def forward(self, members):
        return self.memory(members).output.squeeze(-2)


class Mean(nn.Module):
    """The mean of the members."""

    def forward(self, members):
        return members.relu().mean(dim=-2)


class Maximum(nn.Module):
    """The largest of each number."""

    def forward(self, members):
        return members.amax(dim=-2)


def draw(images, size, count, generator):
    """Sets, half of them with one bag in the first place, and whether there is one."""
    bags, rest = ((images.labels == BAG) == yes for yes in (True, False))
    bags, rest = bags.nonzero().squeeze(-1), rest.nonzero().squeeze(-1)
    which = rest[torch.randint(len(rest), (count, size), generator=generator)]
    there = torch.arange(count) % 2 == 0
    put = bags[torch.randint(len(bags), (count,), generator=generator)]
    which[:, 0] = torch.where(there, put, which[:, 0])
    return images.pixels[which].flatten(2), there.float()


def batches(seed):
    generator = torch.Generator().manual_seed(seed + 100)
    while True:
        yield draw(data.train, SIZE, 32, generator)


def loss(model, batch):
    return F.binary_cross_entropy_with_logits(model(batch[0]), batch[1])


data = fashion.load()
pools = {"mean": Mean, "maximum": Maximum, "learnt": Learnt}
tests = {size: draw(data.test, size, 500, torch.Generator().manual_seed(9)) for size in (20, 100)}
right = {name: {SIZE: [], LARGE: []} for name in pools}
for name, pool in pools.items():
    for seed in SEEDS:
        torch.manual_seed(seed)
        model = SetClassifier(pool())
        title = f"{name}, seed {seed}"
        train(model, loss, batches(seed), steps=STEPS, lr=2e-3, seed=seed, title=title)
        with torch.no_grad():
            for size, (sets, there) in tests.items():
                said = model(sets) > 0
                right[name][size].append((said == there.bool()).float().mean().item())
        if name == "learnt":
            with torch.no_grad():
                sets, there = tests[LARGE]
                weights = model.pool.memory(model.embed(sets[there.bool()])).weights
                looks = weights[:, 0, 0].argmax(-1) == 0
                right.setdefault("looks", []).append(looks.float().mean().item())

# %%
for name in pools:
    for size, rows in right[name].items():
        print(f"{name:8} sets of {size:3}: {', '.join(f'{share:.1%}' for share in rows)} right")
        keep(f"pool_{name}_{size}", rows, least=name != "mean")
print("in sets of 100 the bag has the largest weight in", *(f"{x:.1%}" for x in right["looks"]))
keep("pool_looks", right["looks"], least=True)

# %%
shown["halves"] = {
    name: [{str(d): round(c, 1) for d, c in row.items()} for row in rows]
    for name, rows in halves.items()
}
shown["fits"] = {
    name: [[round(x, 4) for x in fit(row)] for row in rows] for name, rows in halves.items()
}
shown["pictures"] = {name: [round(x, 4) for x in rows] for name, rows in pictures.items()}
shown["pool"] = {
    name: {str(size): [round(x, 4) for x in rows] for size, rows in right[name].items()}
    for name in pools
}
summary = save("modern-hopfield", seeds=SEEDS, steps=STEPS, values=values, worst=worst, shown=shown)
