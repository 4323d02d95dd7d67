"""Attention in time linear in the length, against softmax attention by PyTorch's kernel.

What these compute is not softmax attention; each is checked against its own definition.
"""

import copy
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbook.bench.cases import Case, Mixes, Way, attention, exact, forward, part
from attnbook.bench.dot_product import flops, traffic
from attnbook.linear import chunked, parallel, recurrent
from attnbook.low_rank import Linformer
from attnbook.random_features import FAVOR, RandomFeatures

__all__ = ["linear", "low_rank", "random_features"]

SOFTMAX = "PyTorch SDPA, softmax"


def linear(
    lengths: Iterable[int], *, heads: int = 8, width: int = 64, readable: int = 2048
) -> Iterator[Case]:
    """Causal linear attention; its two readable forms up to a length."""
    for length in lengths:
        shape = {"B": 1, "H": heads, "L": length, "D": width}
        bar = 3.5 if length >= 4096 else None
        forms: dict[str, Callable[..., Any]] = {"chunked": chunked}
        if length <= readable:
            forms |= {"recurrent": recurrent, "parallel": parallel}
        ways = {
            name: Way(
                forward(_form(form)),
                (f"attnbook.linear.{name}",),
                bar=bar if name == "chunked" else None,
            )
            for name, form in forms.items()
        }
        least = 4.0 * heads * length * width**2  # write and read the memory
        yield _case("linear", shape, ways, _form(parallel), True, {"matmul": least})


def low_rank(
    lengths: Iterable[int], *, heads: int = 8, width: int = 64, rank: int = 128
) -> Iterator[Case]:
    """Linformer's attention to `rank` mixtures of the keys."""
    for length in lengths:
        shape = {"B": 1, "H": heads, "L": length, "D": width, "k": rank}
        mixes = _module(Linformer(length, rank))
        ways = {"Linformer": Way(forward(mixes), ("attnbook.low_rank.Linformer",))}
        least = 8.0 * heads * length * width * rank  # two mixtures, then attention to them
        yield _case("low rank", shape, ways, mixes, False, {"matmul": least})


def random_features(
    lengths: Iterable[int], *, heads: int = 8, width: int = 64, features: int = 128
) -> Iterator[Case]:
    """The Performer's estimate of softmax attention: of all keys, and of those before."""
    drawn = RandomFeatures(width, features, generator=torch.Generator().manual_seed(0))
    for length in lengths:
        shape = {"B": 1, "H": heads, "L": length, "D": width, "m": features}
        least = {
            "matmul": 8.0 * heads * length * width * features,
            "exp": 2.0 * heads * length * features,
        }
        for causal in (False, True):
            mixes = _module(FAVOR(drawn, causal=causal))
            ways = {"FAVOR": Way(forward(mixes), ("attnbook.random_features.FAVOR",))}
            yield _case("random features", shape, ways, mixes, causal, least)


def _case(
    mechanism: str,
    shape: dict[str, int],
    ways: dict[str, Way],
    specification: Mixes,
    causal: bool,
    work: dict[str, float],
) -> Case:
    """Forward in float32, with softmax attention beside it as the reference."""

    def softmax(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal)

    beside = {"matmul": flops(shape, causal, "forward")}
    return Case(
        mechanism,
        shape,
        {**ways, SOFTMAX: Way(forward(softmax), package="torch", equal=False, work=beside)},
        SOFTMAX,
        attention(shape, "float32"),
        mask="causal" if causal else "none",
        exact=exact(specification, "forward"),
        part=part,
        tolerance=64.0,
        work={**work, "copy": traffic(shape, "float32", "forward")},
    )


def _form(form: Callable[..., Any]) -> Mixes:
    return lambda q, k, v, mask: form(q, k, v).output


def _module(module: nn.Module) -> Mixes:
    """A module's call, by copies of it in the type and on the device of what is given."""

    @functools.cache
    def like(dtype: torch.dtype, device: torch.device) -> nn.Module:
        return copy.deepcopy(module).to(device, dtype)

    return lambda q, k, v, mask: like(q.dtype, q.device)(q, k, v).output
