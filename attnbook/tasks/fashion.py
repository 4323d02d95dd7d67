"""Small pictures of clothes: a subset of Fashion-MNIST (Xiao, Rasul, Vollgraf 2017), shipped.

Grey pictures of 28 by 28 pixels in ten classes: 350 training and 100 test pictures of each. They
are the first of their class in the original files, in the original order, and the official split is
kept: no test picture is a training picture. `attnbook/tasks/data/make_fashion.py` made the file.

Fashion-MNIST is copyright 2017 Zalando SE, under the MIT licence, which is inside the archive and
beside it.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attnbook.tasks.archive import shipped

__all__ = ["CLASSES", "SHA256", "Fashion", "Images", "draw", "load"]

CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
"""The ten classes, by label."""

SHA256 = "db8cc2afb5195f4330dc05f78b61b5d8b3b96d55fc1afe608bb12c9e6916d0dc"
"""Checksum of the data file."""


class Images(NamedTuple):
    """Pictures and their classes.

    Attributes:
        pixels: 0 is the black background, 1 the brightest.
        labels: 0 to 9, see `CLASSES`.
    """

    pixels: Float[Tensor, "N 28 28"]
    labels: Int[Tensor, " N"]


class Fashion(NamedTuple):
    """The two parts of the official split."""

    train: Images
    test: Images


def load() -> Fashion:
    """Read the 3,500 training and 1,000 test pictures that come with the package.

    Raises:
        FileNotFoundError: the data file is not there.
        ValueError: the data file is not the one that was published; its checksum differs.

    >>> train, test = load()
    >>> train.pixels.shape, test.pixels.shape
    (torch.Size([3500, 28, 28]), torch.Size([1000, 28, 28]))
    >>> CLASSES[train.labels[0]], train.pixels.max().item()
    ('Ankle boot', 1.0)
    """
    files = shipped("fashion.tar.xz", SHA256)
    return Fashion(_images(files, "train"), _images(files, "t10k"))


def draw(images: Images, each: int, seed: int) -> tuple[Images, Images]:
    """Draw `each` pictures of every class at random.

    Args:
        images: to draw from.
        each: how many of every class.
        seed: of the drawing. With the same seed, a smaller drawing is part of a larger one.

    Returns:
        The drawn pictures, class after class in turn, and the others in their old order.

    Raises:
        ValueError: a class has fewer pictures.

    >>> drawn, rest = draw(load().train, each=3, seed=0)
    >>> drawn.labels[:12].tolist(), len(rest.labels)
    ([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1], 3470)
    """
    least = int(images.labels.bincount(minlength=len(CLASSES)).min())
    if not 1 <= each <= least:
        raise ValueError(f"each must be in 1..{least}, the size of the smallest class, got {each}")
    order = torch.randperm(len(images.labels), generator=torch.Generator().manual_seed(seed))
    of_class = [order[images.labels[order] == label][:each] for label in range(len(CLASSES))]
    drawn = torch.stack(of_class, dim=1).flatten()
    rest = torch.ones(len(order), dtype=torch.bool).index_fill(0, drawn, False)
    return _take(images, drawn), _take(images, rest)


def _take(images: Images, which: Tensor) -> Images:
    return Images(images.pixels[which], images.labels[which])


def _images(files: Mapping[str, bytes], split: str) -> Images:
    """One part, from its two IDX files: headers of 16 and 8 bytes, then a byte a number."""
    pixels = bytearray(files[f"{split}-images-idx3-ubyte"][16:])
    labels = bytearray(files[f"{split}-labels-idx1-ubyte"][8:])
    return Images(
        torch.frombuffer(pixels, dtype=torch.uint8).reshape(len(labels), 28, 28) / 255,
        torch.frombuffer(labels, dtype=torch.uint8).long(),
    )
