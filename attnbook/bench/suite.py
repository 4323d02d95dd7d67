"""All cases of a device, at the sizes of the benchmark page."""

from collections.abc import Iterator

from attnbook.bench.additive import additive_attention, pointing
from attnbook.bench.cases import Case
from attnbook.bench.decoding import writing
from attnbook.bench.dot_product import dot_product
from attnbook.bench.efficient import linear, low_rank, random_features
from attnbook.bench.memories import memories
from attnbook.bench.models import models
from attnbook.bench.windows import windows

__all__ = ["suite"]

LENGTHS = (256, 512, 1024, 2048, 4096)


def suite(device: str) -> Iterator[Case]:
    """The cases that `make bench` runs on a device, "cpu" or "cuda"."""
    yield from _gpu() if device == "cuda" else _cpu()
    lengths = LENGTHS if device == "cpu" else (1024, 4096, 16384)
    yield from windows(lengths[1:])
    yield from linear(lengths)
    yield from low_rank(lengths)
    yield from random_features(lengths)
    yield from memories(device)
    yield from models(device)
    yield from writing()


def _cpu() -> Iterator[Case]:
    yield from dot_product(LENGTHS, heads=4, flex=(1024, 4096))
    yield from dot_product(
        (1024, 4096), "bfloat16", heads=4, readable=1024, masks=["none"], halves=True
    )
    yield from additive_attention(LENGTHS)
    yield pointing()


def _gpu() -> Iterator[Case]:
    """Sizes of the FlashAttention papers: 16,384 positions in all, 2,048 numbers each."""
    for width in (64, 128):
        yield from dot_product(
            (512, 1024, 2048, 4096, 8192, 16384),
            "bfloat16",
            heads=2048 // width,
            width=width,
            flex=(1024, 4096, 16384) if width == 128 else (),
            batch=lambda length: 16384 // length,
        )
    yield from additive_attention((1024, 4096, 16384), triton=True)
