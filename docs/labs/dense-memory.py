# %% [markdown]
# # Lab: more patterns than units
#
# A dense associative memory of order n sharpens the overlap of a state with each pattern by the
# power n. Krotov and Hopfield say how many random patterns N units hold without errors: about
# $N^{n-1} / (2 (2n-3)!! \ln N)$. At that many, and at two, three and four times as many, how many
# of a pattern's units want to flip? Is it as many as Gaussian crosstalk makes?

# %%
import torch

from attnbook import plotting
from attnbook.book.labs import save
from attnbook.dense_memory import DenseMemory, capacity, changes, error_rate, power

torch.set_num_threads(1)
SEEDS, TIMES = (0, 1, 2), (1, 2, 3, 4)
UNITS = {2: 256, 3: 100, 4: 40}


def random_patterns(count, units, generator):
    """Patterns `(count, units)` of -1 and +1."""
    return torch.randint(0, 2, (count, units), generator=generator).double() * 2 - 1


# %% [markdown]
# ## Errors per bit
#
# For each unit of a stored pattern: would the energy fall if this unit alone flipped? Up to 1,000
# patterns of each network are asked, and networks are drawn until 1.5 million units have been asked
# for each order, number of patterns and seed.

# %%
ASKED = 1_500_000


def errors(count, units, order, generator, asked=ASKED):
    """The share of units that want to flip, at the patterns of as many networks as needed."""
    wrong = tried = 0
    while tried < asked:
        patterns = random_patterns(count, units, generator)
        some = patterns[:1000]
        wrong += int((changes(some, patterns, power(order)) < 0).sum())
        tried += some.numel()
    return wrong / tried


measured, expected, held = {}, {}, {}
print("order units patterns (K_max x)  theory    measured (three seeds)        mean / theory")
for order, units in UNITS.items():
    for times in TIMES:
        count = round(times * capacity(units, order))
        shares = []
        for seed in SEEDS:
            generator = torch.Generator().manual_seed(100 * seed + 10 * order + times)
            shares.append(errors(count, units, order, generator))
        theory = error_rate(count, units, order)
        measured[order, times], expected[order, times] = shares, theory
        held[order, times] = count
        print(f"{order:5} {units:5} {count:8} ({times})       {theory:.2e} ", end=" ")
        print(*(f"{share:.2e}" for share in shares), f"{sum(shares) / 3 / theory:8.2f}")

# %%
figure, ax = plotting.axes(
    height=3.4,
    alt="Errors per bit against patterns, in multiples of K_max, on a logarithmic scale, for "
    "orders 2, 3 and 4. Dots of three seeds lie on the lines of the theory, which rise from 0.0004 "
    "to 0.05 for order 2 and from 0.003 to 0.09 for order 4; at K_max itself the dots of order 2 "
    "are a little below their line and those of orders 3 and 4 a little above.",
)
for colour, style, (order, units) in zip(
    plotting.COLOURS, ("-", "--", "-."), UNITS.items(), strict=False
):
    most = capacity(units, order)
    counts = range(round(0.9 * most), round(4.2 * most), max(1, round(most / 20)))
    curve = [error_rate(count, units, order) for count in counts]
    label = f"order {order}, {units} units"
    ax.plot([c / most for c in counts], curve, color=colour, linestyle=style, label=label)
    for times in TIMES:
        ax.plot([times] * len(SEEDS), measured[order, times], "o", color=colour, markersize=4)
ax.set(xlabel="patterns, in multiples of $K_{max}$", ylabel="errors per bit", yscale="log")
ax.set_xticks(TIMES)
ax.legend(loc="lower right")
figure

# %% [markdown]
# From twice $K_{max}$ on, how far from the theory is the worst?


# %%
def off(order, times):
    """The distance from the theory as a share of it, for each seed."""
    return [abs(share / expected[order, times] - 1) for share in measured[order, times]]


for order in UNITS:
    print(f"order {order}, from twice K_max on:", end=" ")
    print(*(f"{max(x):.1%}" for x in zip(*(off(order, t) for t in TIMES[1:]), strict=True)), end="")
    print(";  at K_max:", *(f"{x:.1%}" for x in off(order, 1)))

# %% [markdown]
# At $K_{max}$ the errors are rare, and rare events are where a sum of few or of very uneven terms
# is least like a Gaussian. Does the difference go away with more units?

# %%
LARGER = {2: (64, 256, 1024), 3: (30, 100, 200), 4: (20, 40, 64)}
ratios = {}
for order, sizes in LARGER.items():
    for units in sizes:
        generator = torch.Generator().manual_seed(order)
        count = round(capacity(units, order))
        share = errors(count, units, order, generator, 3_000_000)
        ratios[order, units] = share / error_rate(count, units, order)
        line = f"order {order}, {units:4} units, {count:5} patterns: {share:.2e}, "
        print(line + f"{ratios[order, units]:.2f} of the theory")

# %% [markdown]
# Of order 2 the errors are fewer than the theory says, and the reason is plain: it counts the
# pattern itself among those that disturb it, and the unit among those that it hears. With one of
# each less the formula is the central limit theorem for a sum of signs.

# %%
for units in LARGER[2]:
    count = round(capacity(units, 2))
    share = ratios[2, units] * error_rate(count, units, 2)
    better = error_rate(count - 1, units - 1, 2)
    print(f"{units:4} units, {count} patterns: {share:.2e} measured, {better:.2e} with one less")

# %% [markdown]
# Of orders 3 and 4 they are more. A pattern disturbs by the square or the cube of a chance overlap,
# and such a power has heavier tails than a Gaussian.

# %% [markdown]
# ## Recall from damaged copies
#
# 64 units, a tenth of them flipped (6 of 64), recall to the end. How many patterns come back
# without an error?

# %%
SIZE, FLIPPED, TESTED = 64, 6, 100
COUNTS = {
    2: (2, 4, 6, 8, 11, 16, 24, 32),
    3: (16, 32, 64, 96, 128, 192, 256, 384),
    4: (128, 256, 512, 1024, 1536, 2048, 3072, 4096),
}
recalled = {}
for order, counts in COUNTS.items():
    for count in counts:
        shares = []
        for seed in SEEDS:
            generator = torch.Generator().manual_seed(1000 * seed + count)
            right = tried = 0
            while tried < TESTED:
                patterns = random_patterns(count, SIZE, generator)
                some = patterns[:TESTED]
                wrong = torch.rand(some.shape, generator=generator).argsort(1) < FLIPPED
                memory = DenseMemory(SIZE, power(order)).double().store(patterns)
                found = memory.recall(torch.where(wrong, -some, some))
                right += int((found.state == some).all(1).sum())
                tried += len(some)
            shares.append(right / tried)
        recalled[order, count] = shares
    print(f"order {order}:", *(f"{c}: {sum(recalled[order, c]) / 3:.0%} " for c in counts))

# %%
figure, ax = plotting.axes(
    height=3.2,
    alt="Share of patterns recalled without error against the number stored, on a logarithmic "
    "scale, 64 units with 6 of them flipped. Each order stays at 100 % and then falls: order 2 "
    "below a half at about 12 patterns, order 3 at about 230, order 4 at about 2,300. A vertical "
    "line marks 64 patterns, as many as "
    "units.",
)
for colour, style, (order, counts) in zip(
    plotting.COLOURS, ("-", "--", "-."), COUNTS.items(), strict=False
):
    for j in range(len(SEEDS)):
        shares = [recalled[order, count][j] for count in counts]
        name = f"order {order}" if j == 0 else "_"
        ax.plot(counts, shares, color=colour, linestyle=style, marker=".", label=name)
ax.axvline(SIZE, color=plotting.MUTED, linestyle=":")
ax.annotate("as many\nas units", (SIZE * 1.06, 0.3), color=plotting.INK)
ax.set(xlabel="patterns stored", ylabel="share recalled", xscale="log", ylim=(-0.03, 1.03))
ax.legend(loc="lower left")
figure


# %%
def held_well(order, j):
    """The largest number of patterns, of those tried, of which at least 90 % are recalled."""
    good = [count for count in COUNTS[order] if recalled[order, count][j] >= 0.9]
    return max(good, default=0)


values, worst = {}, {}
for order in UNITS:
    far = [max(x) for x in zip(*(off(order, t) for t in TIMES[1:]), strict=True)]
    values |= {f"off_{order}": far, f"at_{order}": measured[order, 1]}
    values |= {f"wrong_{order}": [share * UNITS[order] for share in measured[order, 1]]}
    values |= {f"theory_{order}": [expected[order, 1]], f"patterns_{order}": [held[order, 1]]}
    values |= {f"most_{order}": [held_well(order, j) for j in range(len(SEEDS))]}
    worst |= {f"off_{order}": max, f"at_{order}": max, f"theory_{order}": max}
    worst |= {f"wrong_{order}": max}
    worst |= {f"patterns_{order}": max, f"most_{order}": min}
shown = {
    "times": TIMES,
    "orders": list(UNITS),
    "units": list(UNITS.values()),
    "errors": [[[float(f"{x:.4g}") for x in measured[o, t]] for t in TIMES] for o in UNITS],
    "theory": [[float(f"{expected[o, t]:.4g}") for t in TIMES] for o in UNITS],
    "patterns": [[held[o, t] for t in TIMES] for o in UNITS],
    "counts": [COUNTS[o] for o in UNITS],
    "recalled": [[[round(x, 3) for x in recalled[o, c]] for c in COUNTS[o]] for o in UNITS],
}
summary = save("dense-memory", seeds=SEEDS, values=values, worst=worst, shown=shown)
