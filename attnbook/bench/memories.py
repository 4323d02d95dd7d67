"""Memories: each against what a user would otherwise take for the same work."""

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from attnbook.bench.cases import Case, Run, Way
from attnbook.hopfield import HopfieldNetwork
from attnbook.modern_hopfield import retrieve, retrieve_sdpa

__all__ = ["memories", "recall", "retrieval"]

CARRIERS = ("hflayers", "difflayers")
"""Its own package, which is on no index, and one that is and carries the same file."""


class Stored(NamedTuple):
    """States `(1, L, D)` and patterns `(1, S, D)` of a modern Hopfield network."""

    state: Tensor
    patterns: Tensor
    options: dict[str, Any]


def retrieval(
    patterns: int = 16384,
    *,
    states: int = 512,
    width: int = 64,
    updates: int = 3,
    peer_bar: float | None = 5.0,
) -> Case:
    """Updates of the states of a modern Hopfield network, as many in each way.

    Where the weights of all states fit into a cache, with 1,024 patterns say, the fused path gains
    less: the bar is for many patterns.
    """

    def setup(device: str) -> Stored:
        generator = torch.Generator().manual_seed(0)
        stored = torch.randn(1, patterns, width, generator=generator).to(device)
        state = torch.randn(1, states, width, generator=generator).to(device)
        return Stored(state, stored, {"beta": 0.25, "max_steps": updates, "tolerance": 0.0})

    return Case(
        "hopfield retrieval",
        {"L": states, "S": patterns, "D": width, "updates": updates},
        {
            "retrieve_sdpa": Way(
                _retrieval(retrieve_sdpa),
                ("attnbook.modern_hopfield.retrieve_sdpa",),
                peer_bar=peer_bar,
            ),
            "retrieve": Way(_retrieval(retrieve), ("attnbook.modern_hopfield.retrieve",)),
            "hopfield-layers": Way(_theirs, package="hopfield-layers"),
        },
        "retrieve",
        setup,
        exact=lambda x: (retrieve(x.state.double(), x.patterns.double(), **x.options).state,),
        tolerance=64.0 * updates,
        work={"matmul": 4.0 * updates * states * patterns * width},
    )


def _retrieval(way: Callable[..., Any]) -> Callable[[Stored], Run]:
    return lambda x: torch.no_grad()(lambda: way(x.state, x.patterns, **x.options).state)


def _theirs(x: Stored) -> Run:
    """Their layer as bare retrieval: nothing projected, nothing normalised."""
    parts = ("state_pattern", "stored_pattern", "pattern_projection")
    off = {f"normalize_{part}{affine}": False for part in parts for affine in ("", "_affine")}
    static = {f"{part}_as_static": True for part in parts}
    layer: nn.Module = _carrier().Hopfield(
        scaling=x.options["beta"],
        update_steps_max=x.options["max_steps"] - 1,  # after the first
        update_steps_eps=1e-30,  # they stop where the weights change less; 0 is refused
        disable_out_projection=True,
        **static,
        **off,
    )
    layer = layer.eval().to(x.state.device)
    return torch.no_grad()(lambda: layer((x.patterns, x.state, x.patterns)))


def _carrier() -> Any:
    for name in CARRIERS:
        try:
            return import_module(name)
        except ModuleNotFoundError:
            continue
    raise ModuleNotFoundError("No module named 'hopfield-layers'", name="hopfield-layers")


class Damaged(NamedTuple):
    """A Hopfield network and the states `(B, N)` that it begins with."""

    network: HopfieldNetwork
    states: Tensor


def recall(
    units: int = 4000, *, load: float = 0.1, states: int = 100, bar: float | None = 10.0
) -> Case:
    """Asynchronous recall of damaged patterns: many states by matrix products, or unit by unit.

    Unit by unit is timed for one state, which stands for all.
    """

    def setup(device: str) -> Damaged:
        generator = torch.Generator().manual_seed(0)
        patterns = torch.randint(2, (round(load * units), units), generator=generator) * 2.0 - 1
        flips = torch.rand(states, units, generator=generator) < 0.1
        damaged = torch.where(flips, -patterns[:states], patterns[:states]).to(device)
        return Damaged(HopfieldNetwork(units).to(device).store(patterns.to(device)), damaged)

    return Case(
        "hopfield recall",
        {"B": states, "N": units, "P": round(load * units)},
        {
            "recall": Way(
                lambda x: lambda: x.network.recall(x.states).state,
                ("attnbook.hopfield.HopfieldNetwork",),
                bar=bar,
            ),
            "unit by unit": Way(_by_unit, scale=float(states)),
        },
        "unit by unit",
        setup,
        exact=lambda x: (_by_unit(x)().double(),),
        part=lambda given: (given.reshape(-1, units)[0],),
        tolerance=0.0,
    )


def _by_unit(x: Damaged) -> Run:
    rows, begun = list(x.network.weights), x.states[0]

    def sweep() -> Tensor:
        state, moving = begun.clone(), True
        while moving:
            moving = False
            for i, row in enumerate(rows):
                if row @ state * state[i] < 0:
                    state[i], moving = -state[i], True
        return state

    return torch.no_grad()(sweep)


def memories(device: str) -> Iterator[Case]:
    """All of them, at their sizes."""
    for patterns in (1024, 4096):
        yield retrieval(patterns, peer_bar=None)
    yield retrieval()
    if device == "cpu":
        yield recall()
