# %% [markdown]
# # Lab: three rules for one network
#
# The same network of 250 units learns the same random patterns by three rules: Hebb's, Storkey's
# and the pseudo-inverse. How many of the patterns does it recall: begun at the pattern itself, and
# begun with a tenth of its units flipped?

# %%
import torch

from attnbook import plotting
from attnbook.book.labs import save
from attnbook.hopfield import HopfieldNetwork
from attnbook.hopfield_rules import hebb, pseudo_inverse, storkey

torch.set_num_threads(1)
SEEDS, UNITS, NETWORKS, TESTED = (0, 1, 2), 250, 2, 50
RULES = {"Hebb": hebb, "Storkey": storkey, "pseudo-inverse": pseudo_inverse}
LOADS = (0.06, 0.1, 0.14, 0.18, 0.22, 0.26, 0.3, 0.34, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7, 0.8, 0.9)
FLIPS = (0.0, 0.1)


def damaged(patterns, share, generator):
    """Copies in each of which this share of the units, drawn at random, is flipped."""
    wrong = torch.rand(patterns.shape, generator=generator).argsort(1) < round(share * UNITS)
    return torch.where(wrong, -patterns, patterns)


# %% [markdown]
# A pattern counts as recalled if the state that recall ends in has an overlap of at least 0.95 with
# it: at most 6 of the 250 units are wrong. The share that is recalled without any error is kept
# too. Of each rule, both kinds of start and every load, two networks a seed and 50 patterns of each
# are tried (fewer where fewer are stored).

# %%
shape = (len(RULES), len(FLIPS), len(LOADS), len(SEEDS))
near, exact, settled = torch.zeros(shape), torch.zeros(shape), True
for i, load in enumerate(LOADS):
    for j, seed in enumerate(SEEDS):
        for k in range(NETWORKS):
            generator = torch.Generator().manual_seed(1000 * seed + 10 * i + k)
            stored = round(load * UNITS)
            patterns = torch.randint(0, 2, (stored, UNITS), generator=generator).float() * 2 - 1
            begun = [damaged(patterns[:TESTED], flips, generator) for flips in FLIPS]
            for r, rule in enumerate(RULES.values()):
                net = HopfieldNetwork(UNITS, rule).store(patterns)
                for f, states in enumerate(begun):
                    found = net.recall(states)
                    settled &= bool(found.converged.all())
                    overlap = (found.state * patterns[:TESTED]).mean(1)
                    near[r, f, i, j] += (overlap >= 0.95).float().mean() / NETWORKS
                    exact[r, f, i, j] += (overlap == 1).float().mean() / NETWORKS
print("every recall ended at a fixed point:", settled)
for f, flips in enumerate(FLIPS):
    print(f"\nflipped: {flips:.0%}. Recalled (without any error), mean of the seeds")
    print("load  ", *(f"{name:>18}" for name in RULES))
    for i, load in enumerate(LOADS):
        cells = (f"{near[r, f, i].mean():9.0%} ({exact[r, f, i].mean():4.0%})" for r in range(3))
        print(f"{load:.2f}  ", *(f"{cell:>18}" for cell in cells))

# %%
figure, panels = plotting.axes(
    1,
    2,
    width=7.6,
    height=3.2,
    sharey=True,
    alt="Share of patterns recalled against load, for three rules, in two panels. Begun at the "
    "pattern itself, Hebb's rule falls between 0.1 and 0.2, Storkey's between 0.3 and 0.5, and the "
    "pseudo-inverse stays at 100 % throughout. With a tenth of the units flipped the order is the "
    "same, but the pseudo-inverse falls too, between 0.4 and 0.6.",
)
for f, (panel, flips) in enumerate(zip(panels, FLIPS, strict=True)):
    for r, (name, style) in enumerate(zip(RULES, ("-", "--", "-."), strict=True)):
        for j in range(len(SEEDS)):
            panel.plot(
                LOADS,
                near[r, f, :, j],
                color=plotting.COLOURS[r],
                linestyle=style,
                label=name if j == 0 else "_",
            )
    panel.set(xlabel="load (patterns a unit)", title=f"{flips:.0%} of the units flipped")
panels[0].set(ylabel="share recalled", ylim=(-0.03, 1.03))
figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
figure

# %% [markdown]
# ## How much does each rule bear?
#
# The highest load up to which at least 90 % of the patterns are recalled at every load, by straight
# lines between the loads.


# %%
def bears(shares):
    """Where the shares at the loads first cross 90 %; the last load if they never do."""
    below = [i for i, share in enumerate(shares.tolist()) if share < 0.9]
    if not below:
        return LOADS[-1]
    i = below[0]
    if i == 0:
        return LOADS[0]
    here, there = shares[i - 1].item(), shares[i].item()
    return LOADS[i - 1] + (LOADS[i] - LOADS[i - 1]) * (here - 0.9) / (here - there)


borne = torch.tensor(
    [[[bears(near[r, f, :, j]) for j in range(len(SEEDS))] for f in range(2)] for r in range(3)]
)
for r, name in enumerate(RULES):
    for f, flips in enumerate(FLIPS):
        print(f"{name:15} {flips:4.0%} flipped:", *(f"{x:.3f}" for x in borne[r, f]))

# %% [markdown]
# ## Is the order the same everywhere?
#
# By how much does a rule ever recall less than the one before it, at any load, with either start?

# %%
behind = (near[:-1] - near[1:]).clamp_min(0).amax((1, 2))
for name, row in zip(("Storkey behind Hebb", "pseudo-inverse behind Storkey"), behind, strict=True):
    print(f"{name:30}", *(f"{x:.1%}" for x in row))

# %%
short = {"hebb": 0, "storkey": 1, "pseudo": 2}
values, worst = {}, {}
for name, r in short.items():
    for f, start in enumerate(("clean", "flipped")):
        values[f"{name}_bears_{start}"] = borne[r, f].tolist()
        worst[f"{name}_bears_{start}"] = min
values["hebb_flipped_10"] = near[0, 1, LOADS.index(0.1)].tolist()
values["hebb_flipped_30"] = near[0, 1, LOADS.index(0.3)].tolist()
values["storkey_flipped_30"] = near[1, 1, LOADS.index(0.3)].tolist()
values["storkey_flipped_40"] = near[1, 1, LOADS.index(0.4)].tolist()
values["pseudo_flipped_40"] = near[2, 1, LOADS.index(0.4)].tolist()
values["pseudo_flipped_50"] = near[2, 1, LOADS.index(0.5)].tolist()
values["pseudo_flipped_60"] = near[2, 1, LOADS.index(0.6)].tolist()
values["pseudo_clean_90"] = near[2, 0, LOADS.index(0.9)].tolist()
for f, start in enumerate(("clean", "flipped")):
    for name, r in (("storkey", 1), ("pseudo", 2)):
        values[f"{name}_gain_{start}"] = (borne[r, f] - borne[r - 1, f]).tolist()
values["behind"] = behind.amax(0).tolist()
high = ("hebb_flipped_30", "storkey_flipped_40", "pseudo_flipped_60", "behind")
worst = dict.fromkeys(values, min) | dict.fromkeys(high, max)
shown = {
    "loads": LOADS,
    "rules": list(RULES),
    "flips": FLIPS,
    "recalled": [[[[round(y, 3) for y in c] for c in b] for b in a] for a in near.tolist()],
}
summary = save("hopfield-rules", seeds=SEEDS, values=values, worst=worst, shown=shown)
