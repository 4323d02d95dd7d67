"""All cases of a device, at the sizes of the benchmark page."""

from collections.abc import Iterator

from attnbook.bench.cases import Case
from attnbook.bench.dot_product import dot_product

__all__ = ["suite"]


def suite(device: str) -> Iterator[Case]:
    """The cases that `make bench` runs on a device, "cpu" or "cuda"."""
    yield from _gpu() if device == "cuda" else _cpu()


def _cpu() -> Iterator[Case]:
    yield from dot_product((256, 512, 1024, 2048, 4096), heads=4)


def _gpu() -> Iterator[Case]:
    """Sizes of the FlashAttention papers: 16,384 positions in all, 2,048 numbers each."""
    for width in (64, 128):
        yield from dot_product(
            (512, 1024, 2048, 4096, 8192, 16384),
            "bfloat16",
            heads=2048 // width,
            width=width,
            batch=lambda length: 16384 // length,
        )
