# %% [markdown]
# # Lab: what does a hard choice cost?
#
# Soft attention mixes all values, and its gradient is exact. Hard attention draws one. The
# gradient of its expected reward must then be estimated, and there are two ways to go wrong: an
# estimator may be off on average (bias), or right on average and far off each time (variance).
# Here the true gradient is known, by listing every choice. Then: what do bias and variance do to
# learning? Three seeds; the worst is the one that counts.

# %%
import torch
from torch import nn
from torch.nn import functional as F

from attnbook import (
    aggregate,
    entmax,
    gumbel,
    hardmax,
    plotting,
    sample,
    scaled_dot,
    softmax,
    sparsemax,
)
from attnbook.book.labs import save
from attnbook.normalizers import log_probability

torch.set_num_threads(1)
SEEDS = (0, 1, 2)
values, worst = {}, {}


def keep(name, numbers, which):
    """Write a quantity down for the ledger: a number for each seed, and whether min is worst."""
    values[name], worst[name] = list(numbers), which


# %% [markdown]
# ## A problem small enough to list
#
# Eight keys with scores $e$, each with a value of four numbers. A small network reads a value and
# predicts one of five classes; the reward is the log-probability of the right class. The expected
# reward of a hard choice is $\sum_j \alpha_j r_j$ with $\alpha = \operatorname{softmax}(e)$, a
# sum of eight terms, and autograd gives its gradient by $e$. Each seed is another problem: other
# scores, values and network. All of it is in double precision.

# %%
KEYS = 8


def problem(seed):
    """Scores, and the reward of any weights, one-hot or not."""
    draw = torch.Generator().manual_seed(seed)
    scores, content, network = (
        torch.randn(size, generator=draw, dtype=torch.float64)
        for size in ((KEYS,), (KEYS, 4), (4, 5))
    )

    def reward(weights):
        return torch.log_softmax(weights @ content @ (2 * network), dim=-1)[..., 0]

    return scores, reward


def gradient(output, by):
    return torch.autograd.grad(output.sum(), by)[0]


def listed(scores, reward):
    """The gradient of the expected reward of a hard choice, by listing all choices."""
    leaf = scores.clone().requires_grad_()
    rewards = reward(torch.eye(KEYS, dtype=torch.float64))
    return gradient(softmax(leaf) * rewards, leaf)


# %% [markdown]
# ## Score function and straight-through, exactly
#
# Both estimators draw one key. So their mean and variance are sums over eight choices too, and
# nothing here is sampled. An estimate is a vector; its variance is summed over the entries, and
# is given as a share of the squared length of the true gradient. So 1 means: noise as large as
# the signal.
#
# - *score function* (REINFORCE): $(r - b)\,\nabla \log \alpha_j$, with no baseline ($b = 0$), the
#   expected reward, and the baseline that makes the variance smallest;
# - *straight-through*: the gradient of the reward by the weights, taken at the one-hot weights,
#   sent back through the softmax's Jacobian as if the weights had been soft.


# %%
def moments(estimates, probability, true):
    """Relative bias and variance of an estimator that is one row with each probability."""
    mean = probability @ estimates
    spread = probability @ (estimates - mean).square().sum(-1)
    return ((mean - true).norm() / true.norm()).item(), (spread / true.square().sum()).item()


exact = {}
for seed in SEEDS:
    scores, reward = problem(seed)
    p, true, one_hot = softmax(scores), listed(scores, reward), torch.eye(KEYS).double()
    r, eligibility = reward(one_hot), one_hot - p  # its rows: gradients of log-probabilities
    size = p * eligibility.square().sum(-1)
    baselines = {"none": 0.0, "expected reward": p @ r, "best": (size * r).sum() / size.sum()}
    for name, b in baselines.items():
        found = moments((r - b)[:, None] * eligibility, p, true)
        exact.setdefault(f"score function, {name}", []).append(found)
    leaf = one_hot.clone().requires_grad_()
    through = gradient(reward(leaf), leaf) @ (p.diag() - torch.outer(p, p))
    exact.setdefault("straight-through, drawn", []).append(moments(through, p, true))
    largest = p.argmax()
    exact.setdefault("straight-through, largest", []).append(
        moments(through[largest : largest + 1], torch.ones(1).double(), true)
    )
    leaf = scores.clone().requires_grad_()
    soft = gradient(reward(softmax(leaf)), leaf)[None]
    exact.setdefault("soft attention", []).append(moments(soft, torch.ones(1).double(), true))

print(f"{'':30}{'relative bias':>25}{'relative variance':>25}")
for name, found in exact.items():
    bias = " ".join(f"{b:7.0e}" if b < 1e-9 else f"{b:7.2f}" for b, _ in found)
    print(f"{name:30}{bias:>25}{' '.join(f'{v:6.2f}' for _, v in found):>25}")

# %% [markdown]
# The score function has no bias: what is left is rounding. A baseline changes nothing but the
# variance, and the expected reward is nearly as good a baseline as the best there is.
# Straight-through has a bias that no number of draws removes. The last row is the gradient of
# *another* objective, the reward of the mixed value, set beside the gradient of the expected
# reward: the two kinds of attention do not climb the same hill.

# %%
for key, name in (
    ("none", "score function, none"),
    ("mean", "score function, expected reward"),
    ("best", "score function, best"),
):
    keep(f"variance_{key}", [v for _, v in exact[name]], max)
ratio = [
    [
        mean / none
        for mean, none in zip(values[f"variance_{key}"], values["variance_none"], strict=True)
    ]
    for key in ("mean", "best")
]
keep("variance_ratio", ratio[0], max)
keep("variance_ratio_best", ratio[1], max)
keep(
    "bias_reinforce",
    [
        max(found[n][0] for name, found in exact.items() if name.startswith("score"))
        for n in range(len(SEEDS))
    ],
    max,
)
keep("bias_through", [b for b, _ in exact["straight-through, drawn"]], min)
keep("bias_soft", [b for b, _ in exact["soft attention"]], min)

# %% [markdown]
# ## The package's own draw
#
# The same through the code that a model would use: `sample` draws, `log_probability` is
# differentiated. The mean of 400,000 estimates must lie near the listed gradient: within about
# one standard error, which is the root of variance over number of draws.

# %%
DRAWS = 400_000
off = []
for seed in SEEDS:
    scores, reward = problem(seed)
    leaf = scores.expand(DRAWS, KEYS).clone().requires_grad_()
    choice = sample(torch.Generator().manual_seed(seed))(leaf)
    r = reward(choice)
    estimates = gradient((r - r.mean()) * log_probability(leaf, choice), leaf)
    error = (estimates.mean(0) - listed(scores, reward)).norm()
    off.append((error / (estimates.var(0).sum() / DRAWS).sqrt()).item())
print("standard errors:", " ".join(f"{x:.2f}" for x in off))
keep("sampled_error", off, max)

# %% [markdown]
# ## Gumbel-softmax: temperature trades bias for variance
#
# A relaxed draw is a smooth function of the scores, so its reward can be differentiated. It is
# the gradient of the reward of *relaxed* weights, which are one-hot only as the temperature goes
# to 0. The hard form uses one-hot weights in the forward pass, and the relaxed ones in the
# backward pass. There is no sum to list here: noise is continuous. 400,000 draws for each
# temperature; the standard error of a measured bias is about a hundredth at most.

# %%
TEMPERATURES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


def relaxed(seed, temperature, hard):
    scores, reward = problem(seed)
    true = listed(scores, reward)
    leaf = scores.expand(DRAWS, KEYS).clone().requires_grad_()
    draw = gumbel(temperature, hard=hard, generator=torch.Generator().manual_seed(100 + seed))
    estimates = gradient(reward(draw(leaf)), leaf)
    return moments(estimates, torch.full((DRAWS,), 1 / DRAWS, dtype=torch.float64), true)


kinds = {"Gumbel-softmax": False, "its hard form": True}
measured = {
    name: torch.tensor([[relaxed(seed, T, hard) for T in TEMPERATURES] for seed in SEEDS])
    for name, hard in kinds.items()
}
for name, found in measured.items():
    print(f"\n{name:20}" + "".join(f"{f'T = {T:g}':>10}" for T in TEMPERATURES))
    for n, what in enumerate(("bias", "variance")):
        print(f"{what:20}" + "".join(f"{x:10.2f}" for x in found[..., n].mean(0)))

# %%
figure, panels = plotting.axes(
    1,
    2,
    height=3.6,
    titles=["relative bias", "relative variance"],
    alt="Two panels against the temperature on a logarithmic axis. Bias: Gumbel-softmax rises "
    "from almost 0 at temperature 0.1 to 0.8 at 5; its hard form starts higher; the score "
    "function is flat at 0 and straight-through flat between. Variance, on a logarithmic axis: "
    "both Gumbel curves fall steeply with the temperature and cross the line of the score "
    "function with a baseline at a third and at a half.",
)
levels = {
    "score function, no baseline": exact["score function, none"],
    "score function, baseline": exact["score function, expected reward"],
    "straight-through, drawn": exact["straight-through, drawn"],
}
for n, panel in enumerate(panels):
    for name, found in measured.items():
        panel.semilogx(TEMPERATURES, found[..., n].mean(0), marker="o", label=name)
    for name, found in levels.items():
        level = sum(pair[n] for pair in found) / len(found)
        panel.semilogx([0.1, 5.0], [level, level], label=name)
    panel.set(xlabel="temperature $T$", xticks=TEMPERATURES)
    panel.set_xticklabels([f"{T:g}" for T in TEMPERATURES])
    panel.minorticks_off()
panels[1].set_yscale("log")
figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
figure

# %% [markdown]
# Means over the three problems. Towards temperature 0 the bias of Gumbel-softmax goes to 0, and
# its variance grows without bound. At temperature 1 its noise is smaller than that of the score
# function with a baseline, and its gradient points elsewhere. The hard form keeps a bias at every
# temperature. Which of them learns?

# %%
for T in (0.1, 1.0):
    n = TEMPERATURES.index(T)
    keep(f"bias_gumbel_{T:g}", measured["Gumbel-softmax"][:, n, 0].tolist(), max if T < 1 else min)
    keep(f"variance_gumbel_{T:g}", measured["Gumbel-softmax"][:, n, 1].tolist(), max)
    keep(f"bias_gumbel_hard_{T:g}", measured["its hard form"][:, n, 0].tolist(), min)

# %% [markdown]
# ## A look-up, learned by a hard choice
#
# The task of the lab on scores: 16 pairs of a key symbol and a value symbol, one query symbol;
# the answer is the value beside it. 64 symbols, 8 values, width 64, scaled dot product, Adam,
# batches of 64, 1,000 steps. The networks differ in the normaliser alone (and one row in its
# start). Those that choose one key in training are tested with the largest score. Reward: the
# log-probability of the right answer. The rest of the network learns by ordinary gradients from
# the value that was drawn. Every network is trained at four learning rates, and has the best of
# them.
#
# - *listed*: the expected reward itself, all 16 choices; what the estimators estimate;
# - *score function*: one draw, without a baseline; with the moving average of past rewards, 0.9
#   of the old and 0.1 of the new (at the first step, the mean of the batch); with the reward of a
#   second, independent draw;
# - *straight-through*: with a draw; *Gumbel*: temperature 1, relaxed, or in its hard form;
# - *soft*: softmax, entmax 1.5 and sparsemax, tested as they are trained; and sparsemax with the
#   query table divided by 16 once, before the first step.

# %%
SYMBOLS, VALUES, PAIRS, STEPS, EVERY = 64, 8, 16, 1000, 25
RATES = (0.003, 0.01, 0.03, 0.1)


class LookUp(nn.Module):
    def __init__(self, width=64):
        super().__init__()
        self.query = nn.Embedding(SYMBOLS, width)
        self.key = nn.Embedding(SYMBOLS, width)
        self.value = nn.Embedding(VALUES, 16)
        self.answer = nn.Linear(16, VALUES)

    def scores(self, query, keys):
        return scaled_dot(self.query(query).unsqueeze(1), self.key(keys))

    def read(self, weights, content):
        return self.answer(aggregate(weights, self.value(content)).squeeze(1))


def examples(n, draw):
    keys = torch.rand(n, SYMBOLS, generator=draw).argsort(1)[:, :PAIRS]  # no symbol twice
    content = torch.randint(VALUES, (n, PAIRS), generator=draw)
    where = torch.randint(PAIRS, (n, 1), generator=draw)
    return keys.gather(1, where)[:, 0], keys, content, where[:, 0]


def log_likelihood(model, weights, content, answer):
    return -F.cross_entropy(model.read(weights, content), answer, reduction="none")


class ScoreFunction:
    """REINFORCE; `baseline` is none, average or second."""

    def __init__(self, baseline):
        self.baseline, self.average = baseline, None

    def __call__(self, model, scores, content, answer):
        choice = sample()(scores)
        log_right = log_likelihood(model, choice, content, answer)
        reward, b = log_right.detach(), 0.0
        if self.baseline == "average":
            b = reward.mean() if self.average is None else self.average
            self.average = 0.9 * b + 0.1 * reward.mean()
        elif self.baseline == "second":
            b = log_likelihood(model, sample()(scores), content, answer).detach()
        chosen = log_probability(scores, choice).squeeze(1)
        return -(log_right + (reward - b) * chosen).mean()


def enumerated(model, scores, content, answer):
    one_hot = torch.eye(PAIRS).expand(len(answer), PAIRS, PAIRS)
    guesses = torch.log_softmax(model.answer(aggregate(one_hot, model.value(content))), dim=-1)
    reward = guesses.gather(-1, answer[:, None, None].expand(-1, PAIRS, 1)).squeeze(-1)
    return -(softmax(scores).squeeze(1) * reward).sum(-1).mean()


def by_gradient(normalize):
    def objective(model, scores, content, answer):
        return -log_likelihood(model, normalize(scores), content, answer).mean()

    return objective


def drawn_straight_through(scores):
    soft = softmax(scores)
    return sample()(scores) + soft - soft.detach()


HARD = {
    "listed": lambda: enumerated,
    "straight-through, drawn": lambda: by_gradient(drawn_straight_through),
    "Gumbel-softmax": lambda: by_gradient(gumbel(1.0)),
    "Gumbel, hard form": lambda: by_gradient(gumbel(1.0, hard=True)),
    "score function, second draw": lambda: ScoreFunction("second"),
    "score function, average": lambda: ScoreFunction("average"),
    "score function, no baseline": lambda: ScoreFunction("none"),
}
SOFT = {
    "softmax": softmax,
    "entmax 1.5": entmax(1.5),
    "sparsemax": sparsemax,
    "sparsemax, small start": sparsemax,
}


@torch.no_grad()
def unseen_examples(model, normalize, seed):
    """Accuracy on 1,000 unseen examples, and the share of them whose right key has weight 0."""
    query, keys, content, where = examples(1000, torch.Generator().manual_seed(1000 + seed))
    weights = normalize(model.scores(query, keys))
    right = model.read(weights, content).argmax(-1) == content.gather(1, where[:, None])[:, 0]
    blind = weights[:, 0].gather(1, where[:, None])[:, 0] == 0
    return right.float().mean().item(), blind.float().mean().item()


def learn(name, seed, rate):
    torch.manual_seed(seed)
    draw, model = torch.Generator().manual_seed(seed), LookUp()
    if "small start" in name:
        with torch.no_grad():
            model.query.weight /= 16
    objective = HARD[name]() if name in HARD else by_gradient(SOFT[name])
    normalize = SOFT.get(name, hardmax)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    curve = [unseen_examples(model, normalize, seed)]
    for step in range(1, STEPS + 1):
        query, keys, content, where = examples(64, draw)
        answer = content.gather(1, where[:, None])[:, 0]
        optimizer.zero_grad()
        objective(model, model.scores(query, keys), content, answer).backward()
        optimizer.step()
        if step % EVERY == 0:
            curve.append(unseen_examples(model, normalize, seed))
    return curve


runs = {
    name: torch.tensor([[learn(name, seed, rate) for seed in SEEDS] for rate in RATES])
    for name in [*SOFT, *HARD]
}  # (rates, seeds, times, 2)

# %% [markdown]
# The mean accuracy of the three seeds after 200 and after 1,000 steps, at each rate:

# %%
at = {step: step // EVERY for step in (200, 1000)}
columns = "".join(f"{rate:>6g}" for rate in RATES)
print(f"{'':28}{'after 200 steps':>24}  {'after 1,000 steps':>24}")
print(f"{'learning rate':28}{columns}  {columns}")
for name, run in runs.items():
    cells = ["".join(f"{x:6.0%}" for x in run[:, :, n, 0].mean(1)) for n in at.values()]
    print(f"{name:28}{cells[0]}  {cells[1]}")


def best(name, step=None):
    """The runs at the best rate, on average over the seeds: at a step, or over all steps."""
    run = runs[name]
    score = run[..., 0].mean(-1) if step is None else run[:, :, at[step], 0]
    return run[score.mean(1).argmax()]


def steps_to_90(name):
    """Steps until 90 % are right, for each seed, at the rate that is fastest on average."""
    there = runs[name][..., 0] >= 0.9
    first = torch.where(there.any(-1), EVERY * there.float().argmax(-1), torch.inf)
    return first[first.mean(1).argmin()].tolist()


print(f"\n{'steps to 90 %':28}{'each seed':>24}")
for name in runs:
    print(f"{name:28}" + "".join(f"{step:8.0f}" for step in steps_to_90(name)))

# %%
figure, panels = plotting.axes(
    1,
    2,
    height=5.2,
    sharey=True,
    titles=["hard choices", "soft weights"],
    alt="Accuracy against the step, two panels. Hard choices: listed, straight-through and the "
    "hard form of Gumbel reach 100 percent in well under 200 steps; the score function with a "
    "baseline is near nine tenths at 200 and creeps on; without a baseline it needs some 500 steps "
    "to nine tenths. Soft weights: softmax is at 100 percent first, sparsemax with a small start "
    "close behind; entmax climbs to four fifths at once and to the top slowly; sparsemax stays "
    "below.",
)
panels[0].set(ylabel="accuracy, mean of three seeds", ylim=(0, 1.02))
left_out = ("Gumbel-softmax",)  # it lies on its neighbours
shown = [[name for name in HARD if name not in left_out], list(SOFT)]
steps = range(0, STEPS + 1, EVERY)
for panel, names in zip(panels, shown, strict=True):
    for name in names:
        panel.plot(steps, best(name)[..., 0].mean(0), label=name)
    panel.set(xlabel="step")
    panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2))
figure

# %% [markdown]
# Each curve is at its best rate, by the mean over all steps. Three things are worth seeing.
#
# **The price of variance.** The score function with a baseline has no bias and needs one draw. It
# is several times slower than the listed gradient, and without a baseline two to three times
# slower again. Here every reward is negative (it is a log-probability), so without a baseline each
# draw is discouraged, the right ones only a little less than the wrong ones.
#
# **Bias need not hurt.** Straight-through, which was far off in the small problems above, learns
# this task about as fast as the listed gradient. That is a fact about this task: the direction was
# good enough.
#
# **Exact zeros can hold learning up.** Sparsemax and entmax fall behind softmax early. A key with
# weight 0 gets no gradient from its row. At the start most rows of sparsemax give the right key the
# weight 0, and nothing tells them; only what other rows do to the same symbols can free them. A
# larger rate frees more. With a small start most right keys have weight at the start, and all of
# them at the end.

# %%
print(f"{'right key has weight 0':32}{'at the start':>14}{'at the end':>14}")
for name in SOFT:
    blind = best(name)[..., 1].mean(0)
    print(f"{name:32}{blind[0]:14.1%}{blind[-1]:14.1%}")

# %%
short = {
    "softmax": ("softmax", min),
    "entmax 1.5": ("entmax", max),
    "sparsemax": ("sparsemax", max),
    "sparsemax, small start": ("small_start", min),
    "listed": ("listed", min),
    "straight-through, drawn": ("through", min),
    "Gumbel-softmax": ("gumbel", min),
    "Gumbel, hard form": ("gumbel_hard", min),
    "score function, second draw": ("second", min),
    "score function, average": ("average", min),
    "score function, no baseline": ("no_baseline", max),
}
for name, (key, which) in short.items():
    for step, n in at.items():
        bound = min if name == "entmax 1.5" and step == 1000 else which  # it gets there
        keep(f"{key}_{step}", best(name, step)[:, n, 0].tolist(), bound)
    if name != "sparsemax":  # which not every seed brings so far
        keep(f"{key}_steps", steps_to_90(name), max)
keep("sparsemax_blind_start", runs["sparsemax"][0, :, 0, 1].tolist(), min)
summary = save("normalizers", seeds=SEEDS, steps=STEPS, values=values, worst=worst)
