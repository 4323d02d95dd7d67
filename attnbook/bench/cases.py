"""What is timed: a case is one piece of work, a way is one implementation that does it.

Both are data. A way is made when its turn comes, so that one that is not installed, or that the
device has no memory for, is a row of the results and stops nothing.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = ["Case", "Inputs", "Run", "Way", "attention", "backward", "forward", "part", "tensors"]

Run = Callable[[], Any]
Work = Mapping[str, float]


@dataclass(frozen=True)
class Way:
    """One implementation.

    Attributes:
        make: takes what the case's `setup` gave, and gives what is timed. Where it raises
            ModuleNotFoundError, the way is missing.
        sources: the public names of this package that it runs; a change of their code makes its
            row stale.
        package: on the index, for one that comes from another package: a peer.
        bar: how many times faster than the case's reference it must be.
        peer_bar: how many times faster than the fastest peer.
        scale: it does one part in so many of the work.
        work: where it is not the case's.
        equal: it computes what `exact` of the case does, to rounding.
    """

    make: Callable[[Any], Run]
    sources: tuple[str, ...] = ()
    package: str | None = None
    bar: float | None = None
    peer_bar: float | None = None
    scale: float = 1.0
    work: Work | None = None
    equal: bool = True

    def version(self) -> str | None:
        """Of the package it comes from; None for ours."""
        carried = {"hopfield-layers": "difflayers"}  # which is on no index itself
        for name in (self.package, carried.get(self.package or "")):
            try:
                return version(name) if name else None
            except PackageNotFoundError:
                continue
        return None


@dataclass(frozen=True)
class Case:
    """One piece of work, done in several ways that are timed in turn.

    Attributes:
        mechanism: the group that it belongs to.
        shape: sizes by name.
        ways: by name.
        reference: the way that the others' ratios are to.
        setup: takes the device, "cpu" or "cuda", and gives what the ways are made from.
        passes: "forward", "forward + backward", "decode" or "step".
        mask: in words.
        dtype: of the inputs.
        exact: takes what `setup` gave and gives what the run of a way must give, in float64, or
            a part of it; None where the ways are checked as they are made.
        part: takes what a run gives, and gives the part that `exact` gives.
        tolerance: the largest error, in roundings of the largest exact number.
        work: what must be done at least: operations of "matmul", "exp", "tanh", "reciprocal" and
            bytes of "copy". The first is what the speed is given in.
        peak: whether memory is measured.
    """

    mechanism: str
    shape: dict[str, int]
    ways: dict[str, Way]
    reference: str
    setup: Callable[[str], Any]
    passes: str = "forward"
    mask: str = "none"
    dtype: str = "float32"
    exact: Callable[[Any], tuple[Tensor, ...]] | None = None
    part: Callable[[Any], tuple[Tensor, ...]] = lambda given: tensors(given)
    tolerance: float = 16.0
    work: Work = field(default_factory=dict)
    peak: bool = True

    @property
    def name(self) -> str:
        """As `--case` takes it."""
        sizes = " ".join(f"{name}{size}" for name, size in self.shape.items())
        mask = "" if self.mask == "none" else f", {self.mask}"
        return f"{self.mechanism}, {self.passes}, {self.dtype}{mask}, {sizes}"


def tensors(given: Any) -> tuple[Tensor, ...]:
    """All tensors in what a run gave."""
    if isinstance(given, Tensor):
        return (given,)
    return tuple(x for x in given if isinstance(x, Tensor)) if isinstance(given, tuple) else ()


# Attention on random numbers, which most cases are


class Inputs(NamedTuple):
    """Query, key and value `(B, H, L, D)`, the gradient of the output, and the mask."""

    query: Tensor
    key: Tensor
    value: Tensor
    upstream: Tensor
    mask: Tensor | None


Mixes = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
"""Query, key, value and mask to the output."""


def attention(
    shape: dict[str, int], dtype: str, mask: Callable[[int, str], Tensor] | None = None
) -> Callable[[str], Inputs]:
    """Make the `setup` of attention on the same random numbers each time.

    Args:
        shape: `B`, `H`, `L` and `D`.
        dtype: of all but the mask.
        mask: takes the length and the device.
    """

    def setup(device: str) -> Inputs:
        generator = torch.Generator(device).manual_seed(0)
        sizes = [shape[name] for name in "BHLD"]
        four = [
            torch.randn(sizes, generator=generator, device=device).to(getattr(torch, dtype))
            for _ in range(4)
        ]
        return Inputs(*four, mask=mask(shape["L"], device) if mask else None)

    return setup


def forward(mixes: Mixes) -> Callable[[Inputs], Run]:
    """Make the way that gives the output, without gradients."""
    return lambda x: torch.no_grad()(lambda: mixes(x.query, x.key, x.value, x.mask))


def backward(mixes: Mixes) -> Callable[[Inputs], Run]:
    """Make the way that gives the output and the three gradients."""
    return lambda x: lambda: _both(mixes, x)


def part(given: Any) -> tuple[Tensor, ...]:
    """The last head of the last sequence: the heads do not know of each other."""
    return tuple(x[-1:, -1:] for x in tensors(given))


def exact(mixes: Mixes, passes: str) -> Callable[[Inputs], tuple[Tensor, ...]]:
    """Make a case's `exact` from a readable implementation: the last head, in float64."""

    def compute(x: Inputs) -> tuple[Tensor, ...]:
        query, key, value, upstream = (t[-1:, -1:].double() for t in x[:4])
        if passes == "forward":
            return (mixes(query, key, value, x.mask).detach(),)
        return _both(mixes, Inputs(query, key, value, upstream, x.mask))

    return compute


def _both(mixes: Mixes, x: Inputs) -> tuple[Tensor, ...]:
    leaves = query, key, value = tuple(t.detach().requires_grad_() for t in x[:3])
    output = mixes(query, key, value, x.mask)
    output.backward(x.upstream)
    return output.detach(), *(t.grad for t in leaves if t.grad is not None)


def lengths(*sizes: int) -> Iterator[tuple[int, str]]:
    """Each length, forward and then with backward."""
    for size in sizes:
        yield size, "forward"
        yield size, "forward + backward"
