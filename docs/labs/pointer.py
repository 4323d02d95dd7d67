# %% [markdown]
# # Lab: the corners of a hull
#
# A pointer network reads points of the unit square and points at the corners of their convex hull,
# from the leftmost counter-clockwise, then at the end. It is trained on 5 to 10 points, and tested
# on those and on more. How often is the polygon exactly right? How much of the true area does it
# have? How often is it no polygon at all?

# %%
import torch

from attnbook import plotting
from attnbook.book.labs import save
from attnbook.point_encoders import AttentionEncoder
from attnbook.pointer import PointerNetwork
from attnbook.tasks import hull, pointing
from attnbook.training import train

torch.set_num_threads(1)
SEEDS, STEPS, TESTED = (0, 1, 2), 1500, 2000
NUMBERS = range(5, 11)  # points of a training input
SIZES = (5, 6, 7, 8, 9, 10, 12, 15, 20, 30, 50)
tests = {n: hull.draw(TESTED, n, torch.Generator().manual_seed(1000 + n)) for n in SIZES}


def loss(model, batch):
    """Minus the logarithm of the probability of the right pointers, of the whole output."""
    return -model(*batch).log_probability.mean()


def judged(model, batch):
    """The outputs; which are right, which are polygons; their share of the true area."""
    found = model.greedy(batch.points, batch.lengths).pointers
    exact, valid = hull.same_polygon(found, batch), hull.simple(batch.points, found)
    share = hull.area(batch.points, found).abs() / hull.area(batch.points, batch.target)
    return found, exact, valid, share


# %% [markdown]
# All inputs of a batch have the same number of points, so that no step is spent on padding.

# %%
runs = []
for seed in SEEDS:
    torch.manual_seed(seed)
    model = PointerNetwork(AttentionEncoder(point_dim=2, state_dim=64, heads=4, blocks=3))
    history = train(
        model,
        loss,
        pointing.batches(hull.draw, NUMBERS, size=256, seed=seed),
        steps=STEPS,
        lr=2e-3,
        warmup=100,
        seed=seed,
        evaluate=lambda model: judged(model, tests[10])[1].float().mean().item(),
        every=STEPS // 6,
        title=f"seed {seed}",
    )
    runs.append((model, history, {n: judged(model, batch) for n, batch in tests.items()}))
print(f"{sum(p.numel() for p in model.parameters()):,} parameters")


# %% [markdown]
# ## Right polygons, area, and outputs that are none
#
# The area is the mean over the outputs that are polygons, whether right or wrong.


# %%
def rows(n):
    """For each seed: the share of right polygons, the mean area, the share of invalid ones."""
    for _, _, results in runs:
        _, exact, valid, share = results[n]
        invalid = 1 - valid.float().mean().item()
        yield exact.float().mean().item(), share[valid].mean().nan_to_num().item(), invalid


print("points   exact                   area                      invalid        (three seeds)")
for n in SIZES:
    exact, area, invalid = zip(*rows(n), strict=True)
    print(f"{n:6}", *(f"{x:7.1%}" for x in exact), *(f"{x:8.2%}" for x in area), end=" ")
    print(*(f"{x:6.2%}" for x in invalid))

# %%
figure, ax = plotting.axes(
    height=3.4,
    alt="Share of inputs against their number of points, three seeds each. The exact polygons stay "
    "above 90 % as far as 10 points, then fall to a few per cent at 50. Invalid outputs are hardly "
    "there up to 15 points; at 50 they are between two and three quarters of the outputs.",
)
for colour, style, column, label in zip(
    plotting.COLOURS, ("-", "--"), (0, 2), ("exact", "invalid"), strict=False
):
    shares = torch.tensor([[row[column] for row in rows(n)] for n in SIZES])
    for seed in range(len(SEEDS)):
        name = label if seed == 0 else "_"
        ax.plot(SIZES, shares[:, seed], color=colour, linestyle=style, label=name)
ax.axvspan(min(NUMBERS), max(NUMBERS), color=plotting.MUTED, alpha=0.15, linewidth=0)
ax.annotate("trained on", (5.1, 0.4), color=plotting.INK)
ax.set(xlabel="points", ylabel="share of the outputs", ylim=(-0.02, 1.02), xscale="log")
ax.set_xticks([5, 10, 20, 50], ["5", "10", "20", "50"])
ax.minorticks_off()
ax.legend(loc="upper right")
figure

# %%
figure, ax = plotting.axes(
    alt="Exact polygons of 10 points against training steps, three seeds. All rise fast to about "
    "three quarters within 250 steps, then slowly to above 90 %."
)
for seed, (_, history, _) in enumerate(runs):
    steps, shares = zip(*history.evaluations, strict=True)
    ax.plot(steps, shares, marker="o", label=f"seed {seed}")
ax.set(xlabel="training step", ylabel="exact, 10 points", ylim=(0.5, 1))
ax.legend(loc="lower right")
figure

# %% [markdown]
# ## What is wrong with the wrong ones?
#
# Of the wrong polygons of 10 points: was a corner left out, or an inner point taken for a corner?

# %%
batch = tests[10]


def members(pointers):
    """Which points are pointed at, `(B, S)`."""
    slots = torch.nn.functional.one_hot(pointers, batch.points.shape[1] + 1).amax(1)
    return slots[:, 1:].bool()


missing, extra = [], []
for _, _, results in runs:
    found, exact, _, _ = results[10]
    true, written = members(batch.target)[~exact], members(found)[~exact]
    missing.append((true & ~written).any(1).float().mean().item())
    extra.append((written & ~true).any(1).float().mean().item())
print("a corner is missing  ", *(f"{share:.0%}" for share in missing))
print("a point too many     ", *(f"{share:.0%}" for share in extra))

# %% [markdown]
# How much does a mistake cost? The area by which a wrong polygon is off:

# %%
_, exact, valid, share = runs[0][2][10]
lost = (1 - share[valid & ~exact]).abs()
print(f"area off, median of the wrong ones: {lost.median():.3%}; the worst: {lost.max():.2%}")

# %% [markdown]
# And what is wrong with outputs that are no polygons? Seen from the middle of the points, a hull
# goes round once. How often do the invalid outputs of 50 points go round again, past their first
# corner?

# %%
twice = []
for _, _, results in runs:
    found, _, valid, _ = results[50]
    points = tests[50].points
    path = pointing.follow(points, found) - points.mean(1, keepdim=True)
    angle = torch.atan2(path[..., 1], path[..., 0]).diff(dim=1)
    turned = torch.remainder(angle + torch.pi, 2 * torch.pi) - torch.pi
    rounds = turned.sum(1) / (2 * torch.pi)
    twice.append((rounds[~valid] > 1.1).float().mean().item())
print("round more than once:", *(f"{share:.0%}" for share in twice))

# %% [markdown]
# ## Points elsewhere
#
# A hull that is moved or shrunk is the same hull. Does the network know? The tests of 10 points
# again, shrunk to a half and moved about inside the square it was trained on, and moved out of it.

# %%
places = {
    "as drawn": batch.points,
    "half as wide, in the middle": batch.points / 2 + 0.25,
    "half as wide, in a corner": batch.points / 2,
    "moved by half a side": batch.points + 0.5,
}
elsewhere = {}
for name, points in places.items():
    moved = batch._replace(points=points)
    elsewhere[name] = [judged(model, moved)[1].float().mean().item() for model, _, _ in runs]
    print(f"{name:28}", *(f"{share:7.1%}" for share in elsewhere[name]))

# %% [markdown]
# ## Some outputs
#
# The first right and the first wrong one of each size, of the first seed; of 50 points the first
# invalid one. A ring is round a corner that was left out, or round a point that is none.

# %%
shown = []
for n, wanted in ((10, "right"), (10, "wrong"), (20, "right"), (20, "wrong"), (50, "wrong")):
    found, exact, valid, _ = runs[0][2][n]
    chosen = exact if wanted == "right" else ~exact & valid
    place = int((chosen if n < 50 else ~valid).nonzero()[0])
    shown.append(
        {
            "n": n,
            "kind": wanted if n < 50 else "invalid",
            "points": [[round(c, 4) for c in p] for p in tests[n].points[place].tolist()],
            "pointers": [j for j in found[place].tolist() if j],
            "target": [j for j in tests[n].target[place].tolist() if j],
        }
    )
figure, panels = plotting.axes(
    2,
    3,
    width=7.6,
    height=5.2,
    alt="Outputs of the network for 10, 20 and 50 points: right polygons, and wrong ones that miss "
    "a corner or take a point beside the edge; the invalid one of 50 points goes round twice.",
)
for panel, case in zip(panels.flat, shown, strict=False):
    points = torch.tensor(case["points"])
    for key, colour, style in (("target", plotting.MUTED, ":"), ("pointers", "", "-")):
        way = points[[j - 1 for j in [*case[key], case[key][0]]]]
        panel.plot(*way.T, color=colour or plotting.COLOURS[0], linestyle=style)
    panel.plot(*points.T, "o", color=plotting.INK, markersize=3)
    wrong = [j - 1 for j in set(case["target"]) ^ set(case["pointers"])]
    panel.plot(*points[wrong].T, "o", color=plotting.COLOURS[1], markersize=9, fillstyle="none")
    panel.set(title=f"{case['n']} points, {case['kind']}", aspect="equal", xticks=[], yticks=[])
    panel.spines[["left", "bottom"]].set_visible(False)
panels.flat[-1].set_axis_off()
figure

# %%
values, worst = {}, {}
for n in (5, 10, 15, 20, 50):
    exact, area, invalid = zip(*rows(n), strict=True)
    values |= {f"exact_{n}": exact, f"area_{n}": area, f"invalid_{n}": invalid}
    worst |= {f"exact_{n}": min, f"area_{n}": min, f"invalid_{n}": max}
values |= {"missing_10": missing, "extra_10": extra}
values |= {"small_10": elsewhere["half as wide, in the middle"]}
values |= {"moved_10": elsewhere["moved by half a side"]}
values |= {"twice_50": twice}
worst |= {"twice_50": min, "missing_10": min, "extra_10": min, "small_10": max, "moved_10": max}
summary = save(
    "pointer", seeds=SEEDS, steps=STEPS, values=values, worst=worst, shown={"hulls": shown}
)
