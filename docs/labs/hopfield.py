# %% [markdown]
# # Lab: the load that a memory bears
#
# A Hopfield network of N units holds random patterns by Hebb's rule. Begin at one of them and
# update unit by unit until nothing changes. How near the pattern does the state stay, as patterns
# are added? And at which load, patterns a unit, does recall break off?
#
# The theory of Amit, Gutfreund and Sompolinsky answers both for endlessly many units. Here are
# networks of 500 to 8,000.

# %%
import torch

from attnbook import plotting
from attnbook.book.labs import save
from attnbook.hopfield import HopfieldNetwork, synchronous
from attnbook.hopfield_theory import critical, first_error, overlap, solve

torch.set_num_threads(1)
SEEDS = (0, 1, 2)


def network(units, load, seed):
    """A network that holds random patterns, and these patterns."""
    generator = torch.Generator().manual_seed(seed)
    count = round(load * units)
    patterns = torch.randint(0, 2, (count, units), generator=generator).float() * 2 - 1
    return HopfieldNetwork(units).store(patterns), patterns


# %% [markdown]
# ## Overlap against load
#
# 4,000 units, a network for each load and seed. The mean overlap of recalled states with the
# patterns at which they began: all patterns of the network, or 12 beyond a load of 0.13, where
# recall is slow. A network loses a pattern now and then below the critical load already, and loses
# fewer the larger it is. To tell this from a distance to the theory, the network at a load of 0.12
# has 8,000 units.

# %%
LOADS = (0.02, 0.04, 0.06, 0.08, 0.1, 0.11, 0.12, 0.13, 0.14, 0.15, 0.17, 0.2)
UNITS = dict.fromkeys(LOADS, 4000) | {0.12: 8000}
settled = {}  # units: the overlaps of all states at a load of 0.12
overlaps, first = torch.zeros(len(LOADS), len(SEEDS)), torch.zeros(len(LOADS), len(SEEDS))
for i, load in enumerate(LOADS):
    for j, seed in enumerate(SEEDS):
        net, patterns = network(UNITS[load], load, 100 * seed + i)
        begun = patterns if load <= 0.13 else patterns[:12]
        found = net.recall(begun)
        assert found.converged.all()
        reached = (found.state * begun).mean(1)
        overlaps[i, j] = reached.mean()
        if load == 0.12:
            settled.setdefault(UNITS[load], []).append(reached)
        once = synchronous(begun, net.weights, net.thresholds)
        first[i, j] = (once != begun).float().mean()

theory = overlap(torch.tensor(LOADS))
print("load    theory   measured (three seeds)")
for load, m, row in zip(LOADS, theory, overlaps, strict=True):
    print(f"{load:.3f}   {m:.4f}  ", *(f"{x:.4f}" for x in row))

# %%
figure, ax = plotting.axes(
    height=3.4,
    alt="Overlap after recall against load. Dots of three networks at each load lie on the "
    "theory's curve, which stays near 1 and breaks off at a load of 0.138. Beyond it the dots fall "
    "steeply but not at once, and end near 0.27.",
)
top, last = critical()
curve = torch.linspace(0.001, top, 300, dtype=torch.float64)
ax.plot(curve, overlap(curve), color=plotting.COLOURS[0], label="theory")
ax.plot([top, top], [0, last], color=plotting.COLOURS[0], linestyle=":")
for j in range(len(SEEDS)):
    label = "networks" if j == 0 else "_"
    ax.plot(LOADS, overlaps[:, j], "o", color=plotting.COLOURS[1], markersize=4, label=label)
ax.set(xlabel="load (patterns a unit)", ylabel="overlap with the pattern", ylim=(0, 1.03))
ax.annotate(f"{top:.3f}", (top + 0.002, 0.05), color=plotting.INK)
figure.legend(loc="outside upper center", ncols=2)
figure

# %% [markdown]
# Up to a load of 0.12, how far from the theory is the worst of the loads?

# %%
low = torch.tensor(LOADS) <= 0.12
gaps = (overlaps - theory[:, None]).abs()[low].amax(0)
print("largest distance from the theory:", *(f"{gap:.4f}" for gap in gaps))

# %% [markdown]
# The theory is of endlessly many units. In fewer, a pattern is lost now and then below the critical
# load already: its state ends far away and pulls the mean down. At a load of 0.12, of all patterns
# of three networks:

# %%
lost = {}
for units in (500, 1000, 2000, 4000):
    settled[units] = []
    for seed in SEEDS:
        net, patterns = network(units, 0.12, 100 * seed + LOADS.index(0.12))
        settled[units].append((net.recall(patterns).state * patterns).mean(1))
for units in sorted(settled):
    every = torch.cat(settled[units])
    kept = every[every > 0.9]
    lost[units] = 1 - len(kept) / len(every)
    share = f"{len(every) - len(kept):2} of {len(every):4} lost"
    print(f"{units:4} units: {share}, overlap {every.mean():.4f}; of the others {kept.mean():.4f}")

# %% [markdown]
# ## Errors make errors
#
# One update of all units already puts some wrong: as many as Gaussian noise of chance alone would.
# They are part of the field that the others see next. The theory says how many there are when this
# comes to rest.

# %%
print("load    wrong after one update     wrong at the end")
print("        theory     measured        theory     measured")
for i, load in enumerate(LOADS):
    if 0.08 <= load <= 0.13:
        once, end = first_error(torch.tensor(load)), (1 - theory[i]) / 2
        pair = f"{once:.3%}     {first[i].mean():.3%}"
        print(f"{load:.3f}   {pair}          {end:.3%}     {(1 - overlaps[i].mean()) / 2:.3%}")
for load in (0.1, 0.13, top, 0.14):
    noise = solve(torch.tensor(load, dtype=torch.float64)).noise.sqrt()
    print(f"load {load:.4f}: the noise is {noise:.2f} times that of chance")

# %% [markdown]
# ## Where does recall break off?
#
# In a network of finite size it does not break off: fewer and fewer patterns are recalled, with an
# overlap above 0.9. The overlaps of all recalled states, of 2,000 units near the edge, fall into
# two groups, so it matters little where the line is drawn.

# %%
GRID = {  # load, by units; the number of networks for each load and seed; the states of each
    500: ((0.15, 0.165, 0.18, 0.195), 8, 32),
    1000: ((0.145, 0.155, 0.165, 0.175), 4, 32),
    2000: ((0.1425, 0.15, 0.1575, 0.165), 2, 40),
    4000: ((0.14, 0.1475, 0.155, 0.1625), 1, 40),
}
shares, kept = {}, []  # units: the share that each network recalls, (loads, seeds, networks)
for units, (loads, networks, tested) in GRID.items():
    shares[units] = torch.zeros(len(loads), len(SEEDS), networks, dtype=torch.float64)
    for i, load in enumerate(loads):
        for j, seed in enumerate(SEEDS):
            for k in range(networks):
                net, patterns = network(units, load, 10_000 + 1000 * seed + 100 * i + k)
                begun = patterns[:tested]
                found = (net.recall(begun).state * begun).mean(1)
                shares[units][i, j, k] = (found > 0.9).double().mean()
                if (units, load) == (2000, 0.1575):
                    kept.append(found)
    means = shares[units].mean((1, 2))
    recalled = (f"{x:.0%} at {load} " for load, x in zip(loads, means, strict=True))
    print(f"{units:5} units:", *recalled)
kept = torch.cat(kept)
between = ((kept > 0.8) & (kept < 0.93)).float().mean()
print(f"between 0.8 and 0.93, at 2,000 units and a load of 0.1575: {between:.1%}")

# %%
figure, ax = plotting.axes(
    height=2.6,
    alt="Histogram of overlaps after recall, 2,000 units at a load of 0.1575: one narrow peak "
    "above 0.9, one broad hill from 0.15 to 0.5, and hardly a state between them.",
)
ax.hist(kept, bins=50, range=(0, 1), color=plotting.COLOURS[0])
ax.set(xlabel="overlap with the pattern", ylabel="states", xlim=(0, 1))
figure


# %% [markdown]
# The load at which half of the patterns are recalled is read off a logistic curve that is fitted to
# the shares of each size. The line through these loads, drawn against $N^{-1/2}$, is followed to
# endlessly many units. Networks drawn again at random, with replacement, say how far chance alone
# moves its end.


# %%
def half(load, share):
    """Where a logistic curve through the shares `(..., R)` at the loads `(R,)` passes one half."""
    x = (load - load.mean()) / load.std()
    design = torch.stack([torch.ones_like(x), x], dim=-1)
    weight = share.new_zeros(*share.shape[:-1], 2)
    for _ in range(15):  # Newton's steps to the highest likelihood
        p = (weight @ design.mT).sigmoid()
        slope = (share - p) @ design
        curve = torch.einsum("...r,ri,rj->...ij", p * (1 - p), design, design)
        weight = weight + torch.linalg.solve(curve, slope).clamp(-1, 1)
    return load.mean() - weight[..., 0] / weight[..., 1] * load.std()


def halves(pick):
    """For each size, the load of half recall; `pick` gives shares `(..., loads, networks)`."""
    found = []
    for units, (loads, _, _) in GRID.items():
        share = pick(shares[units])
        load = torch.tensor([round(x * units) / units for x in loads], dtype=torch.float64)
        load = load[:, None].expand(share.shape[-2:]).flatten()
        found.append(half(load, share.flatten(-2)))
    return torch.stack(found, dim=-1)


SIZES = torch.tensor(list(GRID), dtype=torch.float64)


def endless(found, exponent=0.5):
    """The line through the loads `(..., sizes)` against `N^-exponent`: where it ends, its slope."""
    x = SIZES**-exponent
    slope = ((x - x.mean()) * found).sum(-1) / ((x - x.mean()) ** 2).sum()
    return found.mean(-1) - slope * x.mean(), slope


def resampled(share, times=1000):
    """Networks drawn again from those of the same load, with replacement."""
    flat = share.flatten(1)
    drawn = torch.randint(flat.shape[1], (times, *flat.shape), generator=resampling)
    return flat.expand(times, *flat.shape).gather(-1, drawn)


by_seed = halves(lambda share: share.movedim(1, 0))
pooled = halves(lambda share: share.flatten(1))
capacity, (whole, slope) = endless(by_seed)[0], endless(pooled)
resampling = torch.Generator().manual_seed(0)
again = halves(resampled)
interval = endless(again)[0].quantile(torch.tensor([0.025, 0.975], dtype=torch.float64))
print("units      half recall: all networks, 95 %, each seed")
for i, units in enumerate(GRID):
    edges = again[:, i].quantile(torch.tensor([0.025, 0.975], dtype=torch.float64))
    print(f"{units:5}      {pooled[i]:.4f}  [{edges[0]:.4f}, {edges[1]:.4f}] ", end=" ")
    print(*(f"{x:.4f}" for x in by_seed[:, i]))
print(f"endless    {whole:.4f}  [{interval[0]:.4f}, {interval[1]:.4f}] ", end=" ")
print(*(f"{x:.4f}" for x in capacity))
print(f"theory     {top:.4f}")

# %%
figure, ax = plotting.axes(
    alt="Load of half recall against one over the root of the units. The four sizes lie near a "
    "straight line that falls from 0.175 at 500 units to about 0.153 at 4,000 and ends, for "
    "endlessly many, close to the theory's 0.138, which is a dashed line.",
)
x = SIZES**-0.5
for j in range(len(SEEDS)):
    label = "each seed" if j == 0 else "_"
    ax.plot(x, by_seed[j], "o", color=plotting.COLOURS[1], markersize=4, label=label)
ends = torch.tensor([0.0, 0.047])
ax.plot(ends, whole + slope * ends, color=plotting.COLOURS[0], label="line through all")
ax.errorbar(
    [0], [whole], [[whole - interval[0]], [interval[1] - whole]],
    color=plotting.COLOURS[0], capsize=3, fmt="o", markersize=4,
)  # fmt: skip
ax.axhline(top, color=plotting.MUTED, linestyle="--", label="theory")
ax.set_xticks([0, *x], ["∞", *(f"{n:,}" for n in GRID)])
ax.set(xlabel="units (spaced as one over the root)", ylabel="load of half recall")
figure.legend(loc="outside upper center", ncols=3)
figure

# %% [markdown]
# The interval does not know that the root is an assumption. What would other powers of the size
# have given? The second number says how far the four sizes are from the line, as a standard
# deviation.

# %%
for exponent in (1 / 3, 1 / 2, 2 / 3, 1):
    end, slope_there = endless(pooled, exponent)
    off = (pooled - end - slope_there * SIZES**-exponent).square().mean().sqrt()
    print(f"N^-{exponent:.2f}: {end:.4f}, off by {off:.4f}")


# %%
def rounded(x):
    """Nested lists of numbers with few digits."""
    return [rounded(y) for y in x] if isinstance(x, list) else round(x, 5)


values = {
    "gap": gaps.tolist(),
    "overlap_012": overlaps[LOADS.index(0.12)].tolist(),
    "overlap_010": overlaps[LOADS.index(0.1)].tolist(),
    "capacity_low": capacity.tolist(),
    "capacity_high": capacity.tolist(),
    "capacity": [whole],
    "interval_low": [interval[0]],
    "interval_high": [interval[1]],
    "between": [between],
    "first_error": first[LOADS.index(0.12)].tolist(),
}
worst = dict.fromkeys(values, max) | dict.fromkeys(("capacity_low", "interval_low"), min)
worst |= dict.fromkeys(("overlap_012", "overlap_010"), min)
for units, share in lost.items():
    values[f"lost_{units}"], worst[f"lost_{units}"] = [share], max
for i, units in enumerate(GRID):
    values[f"half_{units}"], worst[f"half_{units}"] = [pooled[i]], max
shown = {
    "loads": LOADS,
    "overlaps": rounded(overlaps.tolist()),
    "sizes": list(GRID),
    "half": rounded(by_seed.tolist()),
    "line": rounded([whole.item(), slope.item()]),
    "interval": rounded(interval.tolist()),
}
summary = save("hopfield", seeds=SEEDS, values=values, worst=worst, shown=shown)
