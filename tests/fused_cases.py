"""The one table of cases for every fast path, and what each path can do.

A new path joins by one line in `PATHS`. Each case then holds it to its reference, in each type that
it takes: its error against float64 is at most twice that of the readable path in the same type, and
three times for gradients.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import extras
import torch
from torch import Tensor, nn

from attnbook import (
    Additive,
    Attended,
    Score,
    attend,
    causal,
    document,
    fused,
    padding,
    scaled_dot,
    window,
)

os.environ.setdefault("TRITON_INTERPRET", "1")  # Triton reads it as it is imported, and not again
Shapes = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
Mask = Callable[[int, int], Tensor]
WIDE = (torch.float64, torch.float32, torch.bfloat16)


@dataclass(frozen=True)
class Path:
    """A fast path, and what it can do.

    Attributes:
        run: called as `run(query, key, value, mask=mask)`, with `score=` too if it has one.
        score: makes its score for keys and queries of a width; None is the scaled dot product.
        only: the part of any mask that the path has of itself, such as a window.
        gradients: whether it has a backward pass.
        dtypes: what it takes.
        keeps_log: whether its backward pass has the logarithm of a row's sum alone, to which the
            largest score is added: it loses as many digits as that score has.
    """

    run: Callable[..., Attended]
    score: Callable[[int], nn.Module] | None = None
    only: Mask | None = None
    gradients: bool = True
    dtypes: tuple[torch.dtype, ...] = WIDE
    keeps_log: bool = False


def _triton(
    query: Tensor, key: Tensor, value: Tensor, *, mask: Tensor | None, score: Additive
) -> Attended:
    """The kernel is a score: `attend` does the rest."""
    kernel = extras.library("attnbook.fused.additive_triton", "triton").TritonAdditive(score)
    return attend(query, key, value, score=kernel, mask=mask)._replace(weights=None)


def _additive(width: int) -> Additive:
    return Additive(width, width, 6)


PATHS: dict[str, Path] = {
    "sdpa": Path(fused.sdpa, keeps_log=True),
    "tiled": Path(fused.tiled),
    "query_tiled": Path(fused.query_tiled),
    "local": Path(partial(fused.local, width=4), only=lambda L, S: window(L, S, 4), keeps_log=True),
    "local, causal": Path(
        partial(fused.local, width=2, causal=True, offset=1),
        only=lambda L, S: window(L, S, 2, offset=1) & causal(L, S, offset=1),
        keeps_log=True,
    ),
    "additive": Path(fused.additive, score=_additive),
    "additive_compiled": Path(fused.additive_compiled, score=_additive),
    "additive in Triton": Path(_triton, score=_additive, dtypes=(torch.float32,)),
    "flex": Path(fused.flex, gradients=False, dtypes=(torch.float32, torch.bfloat16)),
}


@dataclass(frozen=True)
class Case:
    """Inputs of one kind.

    Attributes:
        shapes: of query, key and value.
        mask: made for `L` queries and `S` keys.
        largest: what the largest scaled dot product is brought to.
        strided: whether heads are cut out of one projection, as a layer does.
    """

    shapes: Shapes = ((2, 2, 9, 4), (2, 2, 11, 4), (2, 2, 11, 4))
    mask: Mask | None = None
    largest: float | None = None
    strided: bool = field(default=False)

    def inputs(self, dtype: torch.dtype) -> list[Tensor]:
        """Query, key and value in float64, each number one of `dtype`; with gradients."""
        torch.manual_seed(0)
        made = [torch.randn(shape, dtype=torch.float64) for shape in self.shapes]
        if self.strided:
            made = [x.transpose(-3, -2).contiguous().transpose(-3, -2) for x in made]
        if self.largest is not None:
            made[0] *= self.largest / scaled_dot(made[0], made[1]).abs().max()
        return [x.to(dtype).double().requires_grad_() for x in made]


def _dead(L: int, S: int) -> Tensor:
    return ((torch.arange(L) % 3 != 1)[:, None]) & causal(L, S)


def _each_head(L: int, S: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(2, L, S, generator=generator) < 0.4


CASES: dict[str, Case] = {
    "no mask": Case(),
    "causal": Case(mask=lambda L, S: causal(L, S)),
    "padding": Case(mask=lambda L, S: padding(torch.tensor([[3], [S]]), S)),
    "dead rows": Case(mask=_dead),
    "nothing allowed": Case(mask=lambda L, S: torch.zeros(L, S, dtype=torch.bool)),
    "a mask for each head": Case(mask=_each_head),
    "documents": Case(
        ((2, 9, 4),) * 3, mask=lambda L, S: document(torch.arange(L).expand(2, L) // 4)
    ),
    "few queries": Case(((2, 2, 3, 4), (2, 2, 14, 4), (2, 2, 14, 4)), mask=_dead),
    "few keys": Case(((2, 2, 14, 4), (2, 2, 3, 4), (2, 2, 3, 4))),
    "values of another width": Case(((9, 4), (11, 4), (11, 5))),
    "shared keys": Case(((2, 3, 9, 4), (2, 1, 11, 4), (11, 4))),
    "width 1": Case(((2, 9, 1), (2, 11, 1), (2, 11, 1)), mask=lambda L, S: causal(L, S)),
    "length 1": Case(((2, 1, 4), (2, 1, 4), (2, 1, 4))),
    "strided": Case(mask=lambda L, S: causal(L, S), strided=True),
    "large": Case(largest=1e4),
    "large, where forbidden too": Case(mask=_each_head, largest=1e4),
}


def scores_of(path: Path, case: Case, dtype: torch.dtype) -> tuple[Score, dict[str, Score]]:
    """The score in float64, and what a path is called with in `dtype` to have the same."""
    if path.score is None:
        return scaled_dot, {}
    torch.manual_seed(2)
    narrow = path.score(case.shapes[0][-1]).to(dtype)
    torch.manual_seed(2)
    exact = path.score(case.shapes[0][-1]).double()
    exact.load_state_dict(narrow.state_dict())
    return exact, {"score": narrow}
