"""Additive attention, Bahdanau's: the textbook form, and the forms without its large tensor."""

import copy
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from attnbook.bench.cases import Case, Run, Way
from attnbook.core import attend
from attnbook.fused import Separable, additive, additive_compiled
from attnbook.point_encoders import RecurrentEncoder
from attnbook.pointer import PointerNetwork
from attnbook.scores import Additive

__all__ = ["additive_attention", "pointing"]

SOME = 64
"""Queries that are checked where only the output is, and checked at a time where all are."""


class Asked(NamedTuple):
    """A score, queries `(B, L, D)`, keys and values `(B, S, D)`, the gradient of the output."""

    score: Additive
    query: Tensor
    key: Tensor
    value: Tensor
    upstream: Tensor


Mixes = Callable[[Asked], Tensor]


def additive_attention(
    lengths: Iterable[int], *, width: int = 128, backward: int = 1024, triton: bool = False
) -> Iterator[Case]:
    """Each length forward, and up to a length with backward.

    Args:
        lengths: of queries and keys.
        width: of queries, keys, values and the hidden layer.
        backward: the longest with backward: there the check in float64 takes long.
        triton: whether the Triton kernel takes part.
    """
    for length in lengths:
        for passes in ("forward", "forward + backward"):
            if passes != "forward" and length > backward:
                continue
            bars = BARS[passes] if length == 1024 else (None, None)
            divisions = {"reciprocal": 1.0 * length**2 * width}
            ways = {
                name: Way(_way(mixes, passes), (f"attnbook.fused.{name}",), bar=bar, work=divisions)
                for (name, mixes), bar in zip(FORMS.items(), bars, strict=True)
            }
            if triton:
                ways["TritonAdditive"] = Way(
                    _triton(passes), ("attnbook.fused.additive_triton.TritonAdditive",)
                )
            ways["textbook"] = Way(_way(_textbook, passes), ("attnbook.scores.Additive",))
            yield Case(
                "additive",
                {"B": 1, "L": length, "D": width},
                ways,
                "textbook",
                functools.partial(_asked, length, width),
                passes,
                exact=_exact(length, passes),
                part=_part,
                tolerance=64.0 if passes == "forward" else 512.0,  # v's gradient: L S terms cancel
                work={"tanh": 1.0 * length**2 * width},
            )


def _asked(length: int, width: int, device: str) -> Asked:
    torch.manual_seed(0)
    score = Additive(width, width, width)
    four = torch.randn(4, 1, length, width).to(device)
    return Asked(score.to(device), *four)


def _additive(x: Asked) -> Tensor:
    return additive(x.query, x.key, x.value, score=x.score).output


def _compiled(x: Asked) -> Tensor:
    return additive_compiled(x.query, x.key, x.value, score=x.score).output


FORMS: dict[str, Mixes] = {"additive": _additive, "additive_compiled": _compiled}
BARS = {"forward": (20.0, 60.0), "forward + backward": (9.0, 25.0)}
"""Of either form, to the textbook's at 1,024 queries and keys."""


def _textbook(x: Asked) -> Tensor:
    return attend(x.query, x.key, x.value, score=x.score).output


def _way(mixes: Mixes, passes: str) -> Callable[[Asked], Run]:
    return lambda x: lambda: _both(mixes, x, passes)


def _triton(passes: str) -> Callable[[Asked], Run]:
    def make(x: Asked) -> Run:
        from attnbook.fused.additive_triton import TritonAdditive

        score = TritonAdditive(x.score)
        return _way(lambda y: attend(y.query, y.key, y.value, score=score).output, passes)(x)

    return make


def _both(mixes: Mixes, x: Asked, passes: str) -> tuple[Tensor, ...]:
    """The output, and with backward the gradients of the inputs and the parameters."""
    if passes == "forward":
        with torch.no_grad():
            return (mixes(x),)
    leaves = [t.detach().requires_grad_() for t in x[1:4]]
    output = mixes(Asked(x.score, leaves[0], leaves[1], leaves[2], x.upstream))
    every = [*leaves, *x.score.parameters()]
    return output.detach(), *torch.autograd.grad(output, every, x.upstream)


def _exact(length: int, passes: str) -> Callable[[Asked], tuple[Tensor, ...]]:
    """The textbook form in float64: of the last queries, or some at a time with all gradients."""

    def compute(x: Asked) -> tuple[Tensor, ...]:
        width = x.query.shape[-1]
        score = Additive(width, width, width).to(x.query.device).double()
        score.load_state_dict(x.score.state_dict())
        wide = Asked(score, *(t.double() for t in x[1:]))
        if passes == "forward":
            return _both(_textbook, wide._replace(query=wide.query[:, -SOME:]), passes)
        pieces = []
        for i in range(0, length, SOME):
            here = slice(i, i + SOME)
            some = wide._replace(query=wide.query[:, here], upstream=wide.upstream[:, here])
            pieces.append(_both(_textbook, some, passes))
        output, of_query = (torch.cat([piece[i] for piece in pieces], dim=-2) for i in (0, 1))
        rest = zip(*(piece[2:] for piece in pieces), strict=True)
        return output, of_query, *(torch.stack(same).sum(0) for same in rest)

    return compute


def _part(given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (given[0][:, -SOME:],) if len(given) == 1 else given


class Asking(NamedTuple):
    """A pointer network, and points `(B, S, 2)` with their numbers `(B,)`."""

    model: PointerNetwork
    points: Tensor
    lengths: Tensor


def pointing(points: int = 100, *, batch: int = 32, width: int = 256) -> Case:
    """Greedy decoding of a pointer network that puts all points in an order."""

    def setup(device: str) -> Asking:
        torch.manual_seed(0)
        model = PointerNetwork(RecurrentEncoder(2, width), stop=False).eval()
        return Asking(
            model.to(device),
            torch.rand(batch, points, 2).to(device),
            torch.full((batch,), points, device=device),
        )

    pointer = "attnbook.pointer.PointerNetwork"
    return Case(
        "pointer decoding",
        {"B": batch, "S": points, "D": width},
        {
            "Separable, keys cached": Way(
                _greedy(Separable), (pointer, "attnbook.fused.Separable"), bar=4.0
            ),
            "tanh, keys cached": Way(_greedy(lambda score: score), (pointer,)),
            "tanh, keys anew": Way(_greedy(_Anew), (pointer,)),
        },
        "tanh, keys anew",
        setup,
        "decode",
        peak=False,
    )


def _greedy(scored: Callable[[Additive], Any]) -> Callable[[Asking], Run]:
    """Raises ArithmeticError where the score gives other distributions along a given order.

    The orders that are written may differ, where two points are as likely but for rounding.
    """

    def make(x: Asking) -> Run:
        model = copy.deepcopy(x.model)
        model.score = scored(model.score)
        order = torch.arange(1, x.points.shape[1] + 1, device=x.points.device)
        target = order.expand(len(x.points), -1)
        with torch.no_grad():
            wanted = copy.deepcopy(x.model).double()(x.points.double(), x.lengths, target)
            error = float((model(x.points, x.lengths, target).weights - wanted.weights).abs().max())
        if not error <= 1e-5:
            raise ArithmeticError(f"a probability is off by {error:.1e}")
        return lambda: model.greedy(x.points, x.lengths).pointers

    return make


class _Anew(nn.Module):
    """The additive score as the equation has it: each step projects every key."""

    def __init__(self, score: Additive) -> None:
        super().__init__()
        self.score, self.query, self.key = score, score.query, nn.Identity()

    def compare(self, query: Tensor, key: Tensor) -> Tensor:
        return self.score.compare(query, self.score.key(key))
