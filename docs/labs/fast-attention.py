# %% [markdown]
# # Lab: time and memory against length
#
# The same attention by several paths, on one core of a processor, in single precision. How do
# their time and their memory grow with the length? How far are they from the answer in double
# precision? And what are the two roofs of this core, for arithmetic and for memory?

# %%
import math
import os
import statistics
import time

import torch

from attnbook import attend, fused, plotting
from attnbook.book.labs import save
from attnbook.linear import chunked
from attnbook.masks import window
from attnbook.scores import Additive

torch.set_num_threads(1)
SEEDS, ROUNDS = (0, 1, 2), 3
HEADS, WIDTH, REACH, HIDDEN = 4, 64, 128, 64
LENGTHS = (256, 512, 1024, 2048, 4096)
SHORT = LENGTHS[:3]  # as far as the additive score as it is written will go

# %% [markdown]
# ## How time is taken
#
# Processor time, not that of the clock. The paths take turns, a few short runs of each, so that a
# slow spell of the machine falls on all of them; a ratio is taken within a round, and the median
# over three rounds counts. Each seed has inputs of its own. A first run, which does not count,
# says how many make about a fiftieth of a second.


# %%
def seconds(run, number):
    """Processor time of one run, mean of `number`."""
    start = time.process_time()
    for _ in range(number):
        run()
    return (time.process_time() - start) / number


def in_turn(runs, rounds=ROUNDS):
    """For each name its processor times, one a round."""
    number = {
        name: max(1, math.ceil(0.02 / max(seconds(run, 1), 1e-5))) for name, run in runs.items()
    }
    times = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            times[name].append(seconds(run, number[name]))
    return times


def ratio(times, slow, fast):
    """How many times as long, median of the rounds."""
    return statistics.median(a / b for a, b in zip(times[slow], times[fast], strict=True))


def slope(lengths, numbers):
    """The power of the length, by least squares between logarithms."""
    x, y = (torch.tensor(n, dtype=torch.float64).log() for n in (lengths, numbers))
    return float(((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum())


def peak(run):
    """The most memory that PyTorch held at a time, above what was held before, in bytes."""
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)  # the profiler's library writes there when it starts
    try:
        cpu = [torch.profiler.ProfilerActivity.CPU]
        with torch.profiler.profile(activities=cpu, profile_memory=True) as profile:
            run()
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)
    held = most = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most


def forward(path, *inputs):
    """A run of the forward pass."""

    def run():
        with torch.no_grad():
            return path(*inputs).output

    return run


def both(path, *inputs):
    """A run of the forward and the backward pass."""
    leaves = [x.detach().requires_grad_() for x in inputs]

    def run():
        output = path(*leaves).output
        torch.autograd.grad(output, leaves, torch.ones_like(output))

    return run


def inputs(length, seed, heads=HEADS):
    """Queries, keys and values, (1, H, L, D) each."""
    torch.manual_seed(seed)
    return torch.randn(3, 1, heads, length, WIDTH).unbind()


# %% [markdown]
# ## Two roofs
#
# A large product of matrices, and a copy of 256 MB, counted as one reading and one writing. Then
# the steps of attention to 4,096 positions by one head, each with the operations and the bytes
# that the formula gives it.


# %%
def measured_roof():
    """Billions of operations and of bytes a second, and what pieces of work reach."""
    N, D, S = 4096, WIDTH, 8192
    a, large = torch.randn(1024, 1024), torch.randn(2**26)
    target, product = torch.empty_like(large), torch.empty_like(a)
    q, k, v = torch.randn(3, N, D).unbind()
    scores, weights, mixed = torch.empty(N, N), torch.empty(N, N), torch.empty(N, D)
    one, keys, values = torch.randn(1, 32, 1, D), *torch.randn(2, 1, 32, S, D).unbind()
    hidden = torch.randn(512, 1, HIDDEN), torch.randn(1, 512, HIDDEN), torch.randn(HIDDEN)
    torch.softmax(scores.normal_(), dim=-1, out=weights)
    work = {  # name: what runs, operations, bytes
        "peak": (lambda: torch.matmul(a, a, out=product), 2 * 1024**3, 0),
        "bandwidth": (lambda: target.copy_(large), 0, 8 * 2**26),
        "scores": (
            lambda: torch.matmul(q, k.T, out=scores),
            2 * N * N * D,
            4 * (N * N + 2 * N * D),
        ),
        "softmax": (lambda: torch.softmax(scores, dim=-1, out=weights), 5 * N * N, 8 * N * N),
        "mixture": (
            lambda: torch.matmul(weights, v, out=mixed),
            2 * N * N * D,
            4 * (N * N + 2 * N * D),
        ),
        "all in one": (lambda: fused.sdpa(q, k, v), 4 * N * N * D + 5 * N * N, 16 * N * D),
        "one query": (
            lambda: fused.sdpa(one, keys, values),
            32 * (4 * S * D + 5 * S),
            8 * 32 * S * D,
        ),
        "additive": (
            lambda: torch.tanh(hidden[0] + hidden[1]) @ hidden[2],
            4 * 512 * 512 * HIDDEN,
            4 * 4 * 512 * 512 * HIDDEN,
        ),
    }
    with torch.no_grad():
        times = in_turn({name: run for name, (run, _, _) in work.items()})
    middle = {name: statistics.median(own) for name, own in times.items()}
    points = {
        name: (operations / size, operations / middle[name] / 1e9)
        for name, (_, operations, size) in work.items()
        if operations and size
    }
    peak_rate = work["peak"][1] / middle["peak"] / 1e9
    bandwidth = work["bandwidth"][2] / middle["bandwidth"] / 1e9
    return peak_rate, bandwidth, points


roofs = []
for seed in SEEDS:
    torch.manual_seed(seed)
    roofs.append(measured_roof())
    rate, bandwidth, points = roofs[-1]
    print(f"{rate:6.1f} GFLOP/s  {bandwidth:5.1f} GB/s  roofs meet at {rate / bandwidth:.1f}")
roof = {
    "peak": statistics.median(r[0] for r in roofs),
    "bandwidth": statistics.median(r[1] for r in roofs),
    "points": {
        name: [points[name][0], statistics.median(r[2][name][1] for r in roofs)] for name in points
    },
}
for name, (intensity, rate) in roof["points"].items():
    print(f"{name:12} {intensity:8.2f} operations a byte, {rate:7.2f} GFLOP/s")

# %% [markdown]
# ## Dot products
#
# `attend` writes scores and weights down. `sdpa` is PyTorch's fused kernel, `tiled` this
# package's tiles. A window lets each query see 128 keys to either side: by a mask that `sdpa` is
# given, and by `local`, which never computes what the mask forbids. Linear attention, in chunks of
# 64, computes another kernel, and is causal.


# %%
def paths(length):
    """Every path of this part, by name."""
    near = window(length, length, REACH)
    return {
        "attend": attend,
        "sdpa": fused.sdpa,
        "tiled": fused.tiled,
        "window as a mask": lambda q, k, v: fused.sdpa(q, k, v, mask=near),
        "local": lambda q, k, v: fused.local(q, k, v, width=REACH),
        "linear": chunked,
    }


WHOLE = ("attend", "sdpa", "tiled")
times, times_both, memory, memory_both = {}, {}, {}, {}
for length in LENGTHS:
    for seed in SEEDS:
        given = inputs(length, seed)
        runs = {name: forward(path, *given) for name, path in paths(length).items()}
        times[length, seed] = in_turn(runs)
        if seed == SEEDS[0]:
            memory[length] = {name: peak(run) for name, run in runs.items()}
        if length <= 2048:
            runs = {name: both(paths(length)[name], *given) for name in (*WHOLE, "local", "linear")}
            times_both[length, seed] = in_turn(runs)
    given = inputs(length, SEEDS[0])
    memory_both[length] = {
        name: peak(both(paths(length)[name], *given)) for name in (*WHOLE, "local", "linear")
    }
    line = "  ".join(
        f"{name} {1e3 * statistics.median(times[length, 0][name]):.1f}" for name in paths(length)
    )
    print(f"{length:5}: ms {line}")

# %%
for name in paths(256):
    print(
        f"{name:18} peak, MB, forward {[round(memory[n][name] / 1e6, 1) for n in LENGTHS]}"
        + (
            f"; forward and back {[round(memory_both[n][name] / 1e6, 1) for n in LENGTHS]}"
            if name in memory_both[256]
            else ""
        )
    )

# %% [markdown]
# ## Additive scores
#
# As the formula stands, with an array of queries by keys by hidden units; and taken apart into
# exponentials, in tiles. One head, 64 hidden units.

# %%
torch.manual_seed(0)
score = Additive(WIDTH, WIDTH, HIDDEN)
additive = {
    "additive, as written": lambda q, k, v: attend(q, k, v, score=score),
    "additive, separable": lambda q, k, v: fused.additive(q, k, v, score=score),
}
for length in LENGTHS:
    chosen = additive if length in SHORT else {n: additive[n] for n in list(additive)[1:]}
    for seed in SEEDS:
        given = inputs(length, seed, heads=1)
        runs = {name: forward(path, *given) for name, path in chosen.items()}
        times[length, seed] |= in_turn(runs)
        if seed == SEEDS[0]:
            memory[length] |= {name: peak(run) for name, run in runs.items()}
        if length in SHORT:
            runs = {name: both(path, *given) for name, path in chosen.items()}
            times_both[length, seed] |= in_turn(runs)
            if seed == SEEDS[0]:
                memory_both[length] |= {name: peak(run) for name, run in runs.items()}
    print(length, {n: f"{1e3 * statistics.median(times[length, 0][n]):.1f} ms" for n in chosen})

# %% [markdown]
# ## Sixteen bits
#
# Whole rows of scores for a tile of queries, in products of bfloat16, beside PyTorch's kernel,
# which computes in single precision inside.

# %%
halves = {}
for seed in SEEDS:
    given = [x.bfloat16() for x in inputs(2048, seed)]
    pair = {"sdpa": forward(fused.sdpa, *given), "rows": forward(fused.query_tiled, *given)}
    halves[seed] = in_turn(pair)
    print(*(f"{name} {1e3 * statistics.median(own):.1f} ms" for name, own in halves[seed].items()))

# %% [markdown]
# ## Errors
#
# Against `attend` in double precision, 1,024 positions: the largest error of an entry of the
# output, divided by that of `attend` in single precision.

# %%
errors = {name: [] for name in ("sdpa", "tiled", "local", "additive")}
for seed in SEEDS:
    q, k, v = inputs(1024, seed)
    near = window(1024, 1024, REACH)
    with torch.no_grad():
        for name, mask in (("sdpa", None), ("tiled", None), ("local", near)):
            exact = attend(q.double(), k.double(), v.double(), mask=mask).output
            readable = (attend(q, k, v, mask=mask).output - exact).abs().max()
            error = (paths(1024)[name](q, k, v).output - exact).abs().max()
            errors[name].append(float(error / readable))
        q, k, v = (x[:, :1, :512] for x in (q, k, v))
        exact = attend(q.double(), k.double(), v.double(), score=score.double()).output
        score.float()
        readable = (attend(q, k, v, score=score).output - exact).abs().max()
        error = (fused.additive(q, k, v, score=score).output - exact).abs().max()
        errors["additive"].append(float(error / readable))
for name, own in errors.items():
    print(f"{name:10}", *(f"{e:.2f}" for e in own))

# %% [markdown]
# ## Against length

# %%
NAMES = [*paths(256), *additive]
shown = {
    "lengths": LENGTHS,
    "roof": roof,
    "seconds": {
        name: [
            [statistics.median(times[n, seed][name]) for seed in SEEDS]
            for n in LENGTHS
            if name in times[n, 0]
        ]
        for name in NAMES
    },
    "peak": {name: [memory[n][name] for n in LENGTHS if name in memory[n]] for name in NAMES},
}
figure, panels = plotting.axes(
    1,
    2,
    width=7.6,
    height=3.6,
    alt="Time and peak memory against length, both axes logarithmic, a line for each path.",
)
for name, colour in zip(NAMES[:6], plotting.COLOURS, strict=True):
    panels[0].plot(
        LENGTHS, [1e3 * statistics.median(s) for s in shown["seconds"][name]], color=colour
    )
    panels[1].plot(LENGTHS, [b / 1e6 for b in shown["peak"][name]], color=colour, label=name)
panels[0].set(xscale="log", yscale="log", xlabel="length", ylabel="ms")
panels[1].set(xscale="log", yscale="log", xlabel="length", ylabel="MB")
for panel in panels:
    panel.set_xticks(LENGTHS, [f"{n:,}" for n in LENGTHS])
    panel.set_xticks([], minor=True)
figure.legend(loc="outside upper center", ncols=3)
figure


# %%
def of_time(name, lengths=(1024, 2048, 4096)):
    """The power of the length that the time grows by, one number a seed."""
    return [
        slope(lengths, [statistics.median(times[n, seed][name]) for n in lengths]) for seed in SEEDS
    ]


def of_memory(name, lengths=(1024, 2048, 4096)):
    return [slope(lengths, [memory[n][name] for n in lengths])]


def times_as_long(table, length, slow, fast):
    return [ratio(table[length, seed], slow, fast) for seed in SEEDS]


AS_WRITTEN, APART = additive
values = {
    "peak": [r[0] for r in roofs],
    "bandwidth": [r[1] for r in roofs],
    "one_query": [r[2]["one query"][1] / r[0] for r in roofs],
    "sdpa": times_as_long(times, 4096, "attend", "sdpa"),
    "tiled": times_as_long(times, 4096, "attend", "tiled"),
    "sdpa_both": times_as_long(times_both, 2048, "attend", "sdpa"),
    "tiled_both": times_as_long(times_both, 2048, "attend", "tiled"),
    "memory": [memory[4096]["attend"] / memory[4096]["tiled"]],
    "memory_both": [memory_both[4096]["attend"] / memory_both[4096]["tiled"]],
    "local": times_as_long(times, 4096, "window as a mask", "local"),
    "mask_over": times_as_long(times, 4096, "window as a mask", "sdpa"),
    "bf16": [ratio(halves[seed], "sdpa", "rows") for seed in SEEDS],
    "linear": times_as_long(times, 4096, "sdpa", "linear"),
    "linear_short": times_as_long(times, 256, "sdpa", "linear"),
    "additive": times_as_long(times, 1024, AS_WRITTEN, APART),
    "additive_both": times_as_long(times_both, 1024, AS_WRITTEN, APART),
    "additive_memory": [memory[1024][APART] / memory[1024][AS_WRITTEN]],
    "additive_memory_both": [memory_both[1024][APART] / memory_both[1024][AS_WRITTEN]],
    "slope_attend": of_time("attend"),
    "slope_sdpa": of_time("sdpa"),
    "slope_tiled": of_time("tiled"),
    "slope_local": of_time("local"),
    "slope_linear": of_time("linear"),
    "slope_separable": of_time(APART),
    "slope_memory_attend": of_memory("attend"),
    "slope_memory_tiled": of_memory("tiled"),
    "slope_memory_local": of_memory("local"),
    "slope_memory_linear": of_memory("linear"),
    **{f"error_{name}": own for name, own in errors.items()},
}
LOW_IS_GOOD = ("slope", "error", "additive_memory", "one_query", "linear_short")
worst = {name: max if name.startswith(LOW_IS_GOOD) else min for name in values}
summary = save("fast-attention", seeds=SEEDS, values=values, worst=worst, shown=shown)
