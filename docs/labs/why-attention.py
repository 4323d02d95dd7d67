# %% [markdown]
# # Lab: what does structure buy?
#
# A dense network may connect any pixel with any other; a convolutional one may not: it looks at
# small neighbourhoods, with the same weights everywhere. On real pictures of clothes, with the
# same number of parameters, the same number of steps and the same search for a learning rate: how
# many pictures does each of them need? And is it the structure that counts? If so, the
# advantage must grow where the data have that structure and go where it is destroyed.

# %%
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnbook import plotting
from attnbook.book.labs import save
from attnbook.tasks import fashion
from attnbook.training import train

torch.set_num_threads(1)
SEEDS, STEPS, SIZE, CANVAS = (0, 1, 2), 300, 32, 36
SIZES = (100, 300, 1000, 3000)
RATES = (0.001, 0.003, 0.01, 0.03, 0.1)
PERMUTATION = torch.randperm(CANVAS**2, generator=torch.Generator().manual_seed(0))

training, testing = fashion.load()
validation, pool = fashion.draw(training, each=50, seed=0)
print(f"{len(pool.labels)} pictures to train on, {len(validation.labels)} to choose the rate on,")
print(f"{len(testing.labels)} to test on")

# %% [markdown]
# ## Three worlds
#
# Each picture of 28 by 28 pixels is laid on a black canvas of 36 by 36.
#
# - **Centred**: in the middle, as the data set has it.
# - **Anywhere**: at a random place. Neighbours stay neighbours; what a thing is does not depend on
#   where it is.
# - **Scrambled**: like anywhere, and then all pixels change places by one permutation, the same for
#   every picture. No information is lost, but no pixel has its neighbours beside it.
#
# The 1,000 test pictures are from the official test split; 500 of the training split are kept for
# choosing the learning rate, and never trained on.


# %%
def lay(images: fashion.Images, world: str, seed: int) -> tuple[Tensor, Tensor]:
    """The pictures on their canvas, as rows of 36 x 36 pixels, and their classes."""
    room = CANVAS - images.pixels.shape[-1] + 1
    draw = torch.Generator().manual_seed(seed)
    corners = torch.randint(room, (len(images.labels), 2), generator=draw)
    if world == "centred":
        corners = torch.full_like(corners, room // 2)
    canvas = torch.zeros(len(images.labels), CANVAS, CANVAS)
    for picture, pixels, (y, x) in zip(canvas, images.pixels, corners.tolist(), strict=True):
        picture[y : y + 28, x : x + 28] = pixels
    flat = canvas.flatten(1)
    return flat[:, PERMUTATION] if world == "scrambled" else flat, images.labels


WORLDS = ("centred", "anywhere", "scrambled")
examples, _ = fashion.draw(training, each=1, seed=3)
figure, panels = plotting.axes(
    3,
    6,
    width=5.8,
    height=3.4,
    alt="Three rows of six pictures. First row, clothes in the middle of their canvas. Second row, "
    "the same clothes at various places. Third row, the same pixels in disorder: grey noise.",
)
for row, world in zip(panels, WORLDS, strict=True):
    for panel, picture in zip(row, lay(examples, world, seed=1)[0], strict=False):
        plotting.picture(panel, picture.reshape(CANVAS, CANVAS))
    row[0].set_ylabel(world)
figure

# %% [markdown]
# ## Two networks, and a third
#
# The convolutional network: 16 filters of 5 by 5, maximum over blocks of 3 by 3, 32 filters of 5
# by 5, maximum over 3 by 3, one linear layer. The dense network has one hidden layer, as wide as
# the same number of parameters allows. Fourteen units are few, so a third network has 256: eighteen
# times the parameters.


# %%
def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, CANVAS, CANVAS)),
        nn.Conv2d(1, 16, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3),
        nn.Conv2d(16, 32, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3),
        nn.Flatten(),
        nn.Linear(32 * 16, 10),
    )


def dense(hidden: int = 14) -> nn.Module:
    return nn.Sequential(nn.Linear(CANVAS**2, hidden), nn.ReLU(), nn.Linear(hidden, 10))


def wide() -> nn.Module:
    return dense(256)


NETWORKS = {"convolutional": convolutional, "dense": dense, "dense, wide": wide}
parameters = {name: sum(p.numel() for p in make().parameters()) for name, make in NETWORKS.items()}
for name, count in parameters.items():
    print(f"{name:14} {count:8,} parameters")
assert abs(parameters["dense"] / parameters["convolutional"] - 1) < 0.05

# %% [markdown]
# ## The same budget for all
#
# Each run: 300 steps of Adam on batches of 32, a short warm-up, cosine decay to zero; the network
# after the last step counts. Neither picks its best step, neither is regularised. The learning
# rate is the one thing that is chosen: for each network, world and number of pictures, the best of
# five on the 500 validation pictures, from one run with a seed that is used for nothing else.


# %%
def batches(pixels, labels, seed):
    """Batches without end; every picture once before any comes again."""
    draw = torch.Generator().manual_seed(seed)
    waiting = torch.tensor([], dtype=torch.long)
    while True:
        while len(waiting) < SIZE:
            waiting = torch.cat([waiting, torch.randperm(len(labels), generator=draw)])
        now, waiting = waiting[:SIZE], waiting[SIZE:]
        yield pixels[now], labels[now]


def loss(network, batch):
    pixels, labels = batch
    return F.cross_entropy(network(pixels), labels)


@torch.no_grad()
def accuracy(network, pixels, labels):
    return (network(pixels).argmax(-1) == labels).float().mean().item()


def learn(name, world, count, rate, seed):
    """Train a network on `count` pictures of a world."""
    torch.manual_seed(seed)
    network = NETWORKS[name]()
    drawn, _ = fashion.draw(pool, each=count // 10, seed=seed)
    source = batches(*lay(drawn, world, seed), seed)
    train(network, loss, source, steps=STEPS, lr=rate, warmup=20, seed=seed, progress=False)
    return network


held = {world: lay(validation, world, seed=100) for world in WORLDS}
unseen = {world: lay(testing, world, seed=200) for world in WORLDS}
chosen, reached = {}, {}
for name in NETWORKS:
    for world in WORLDS:
        for count in SIZES:
            tried = {
                rate: accuracy(learn(name, world, count, rate, seed=99), *held[world])
                for rate in RATES
            }
            rate = chosen[name, world, count] = max(tried, key=tried.get)
            reached[name, world, count] = [
                accuracy(learn(name, world, count, rate, seed), *unseen[world]) for seed in SEEDS
            ]

# %%
print("mean accuracy of three seeds on the 1,000 test pictures, and the rate that was chosen")
for world in WORLDS:
    print(f"\n{world:14}" + "".join(f"{count:>16,}" for count in SIZES))
    for name in NETWORKS:
        cells = [
            f"{sum(reached[name, world, n]) / len(SEEDS):.1%} ({chosen[name, world, n]:g})"
            for n in SIZES
        ]
        print(f"{name:14}" + "".join(f"{cell:>16}" for cell in cells))

# %%
figure, panels = plotting.axes(
    1,
    3,
    height=3.3,
    sharey=True,
    titles=list(WORLDS),
    alt="Accuracy against the number of training pictures, three panels. Centred: all networks lie "
    "close together, the convolutional one a little higher. Anywhere: the convolutional network "
    "lies far above both dense ones at every size. Scrambled: the three lie close together again, "
    "and at 3,000 pictures the wide dense network is the highest.",
)
for panel, world in zip(panels, WORLDS, strict=True):
    for name in NETWORKS:
        runs = torch.tensor([reached[name, world, count] for count in SIZES])
        (line,) = panel.semilogx(SIZES, runs.mean(1), marker="o", label=name)
        panel.fill_between(SIZES, runs.amin(1), runs.amax(1), color=line.get_color(), alpha=0.2)
    panel.set(xlabel="training pictures", ylim=(0.35, 0.95))
    panel.set_xticks(SIZES, ["100", "300", "1k", "3k"])
    panel.minorticks_off()
panels[0].set_ylabel("accuracy")
panels[2].legend(loc="upper left")
figure

# %% [markdown]
# The bands go from the lowest to the highest of the three seeds.
#
# **Centred**, the lead is small. The data set has put every thing in the same place already, so the
# knowledge that the place does not matter is worth little.
#
# **Anywhere**, it is worth a factor of ten in pictures: with 300 the convolutional network is
# better than the dense one of its size with 3,000. Eighteen times the parameters do not close the
# gap at equal numbers of pictures.
#
# **Scrambled**, the pictures hold the same information, and the lead goes. With 100 pictures some
# of it is left, so weights that are shared and pooled help a little even among strangers; with more
# pictures they are in the way, and at 3,000 the dense networks are ahead on average. A dense
# network starts with independent weights of one distribution and does not know which pixel is
# which: for it this world is the same as the one before, up to chance.

# %%
values, worst = {}, {}
short = {"convolutional": "conv", "dense": "dense", "dense, wide": "wide"}
for (name, world, count), numbers in reached.items():
    values[f"{short[name]}_{world}_{count}"] = numbers
    worst[f"{short[name]}_{world}_{count}"] = min if name == "convolutional" else max


def lead(other, world, count, other_count=None):
    """By how many percentage points the convolutional network is better, for each seed."""
    theirs = reached[other, world, other_count or count]
    return [
        100 * (a - b) for a, b in zip(reached["convolutional", world, count], theirs, strict=True)
    ]


for world in WORLDS:
    for count in SIZES:
        values[f"lead_{world}_{count}"] = lead("dense", world, count)
        worst[f"lead_{world}_{count}"] = max if world == "scrambled" else min
for world, name, choose in (
    ("anywhere", "anywhere_least", min),
    ("centred", "centred_least", min),
    ("centred", "centred_most", max),
):
    leads = zip(*(lead("dense", world, count) for count in SIZES), strict=True)
    values[name], worst[name] = [choose(of_seed) for of_seed in leads], choose
values["tenfold"] = lead("dense", "anywhere", 300, 3000)
values["scrambled_wide"] = lead("dense, wide", "scrambled", 3000)
moved = [
    torch.tensor(reached["dense", "anywhere", n]) - torch.tensor(reached["dense", "scrambled", n])
    for n in SIZES
]
values["dense_does_not_mind"] = (100 * torch.stack(moved).mean(0).abs()).tolist()
worst |= {"tenfold": min, "scrambled_wide": max, "dense_does_not_mind": max}
summary = save("why-attention", seeds=SEEDS, steps=STEPS, values=values, worst=worst)
