"""Contests of the memories: each against what a user would otherwise take for the same work."""

from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from attnbook.bench.contests import OURS, Contest
from attnbook.hopfield import HopfieldNetwork
from attnbook.linear import chunked, parallel
from attnbook.modern_hopfield import retrieve, retrieve_sdpa

__all__ = ["linear", "memories", "recall", "retrieval"]

HOPFIELD_LAYERS = "hopfield-layers"
CARRIERS = ("hflayers", "difflayers")
"""Its own package, which is on no index, and one that is and carries the same file."""


@torch.no_grad()
def linear(length: int = 4096, *, heads: int = 8, width: int = 64) -> Contest:
    """Causal attention of one sequence: linear, chunk by chunk, against softmax.

    They are not the same function: linear attention takes another kernel for the exponential. What
    is checked is that the chunks give what the matrix of all weights gives in float64.

    Raises:
        ArithmeticError: the chunks give something else.
    """
    generator = torch.Generator().manual_seed(0)
    query, key, value = torch.randn(3, 1, heads, length, width, generator=generator)
    got = chunked(query, key, value).output
    for head in range(heads):  # one at a time: the matrix is large
        exact = parallel(*(x[:, head].double() for x in (query, key, value))).output
        budget = 8 * torch.finfo(got.dtype).eps * float(exact.abs().max())
        error = float((got[:, head] - exact).abs().max())
        if not error <= budget:
            raise ArithmeticError(f"chunks are off by {error:.1e}, more than {budget:.1e}")
    return Contest(
        f"causal linear attention, L = {length}, forward",
        {
            OURS: lambda: chunked(query, key, value),
            "raw SDPA, softmax": lambda: F.scaled_dot_product_attention(
                query, key, value, is_causal=True
            ),
        },
        {"raw SDPA, softmax": 3.5},
        rounds=9,
    )


@torch.no_grad()
def retrieval(
    patterns: int = 16384, *, states: int = 512, width: int = 64, updates: int = 3
) -> Contest:
    """Updates of the states of a modern Hopfield network, as many in each way.

    The patterns are many: the weights of all states, 32 MB, do not fit into a cache. Where they do,
    with 1,024 patterns say, the fused path gains less.

    Raises:
        ArithmeticError: a way gives something else.
    """
    generator = torch.Generator().manual_seed(0)
    stored = torch.randn(1, patterns, width, generator=generator)
    state = torch.randn(1, states, width, generator=generator)
    options: dict[str, Any] = {"beta": 0.25, "max_steps": updates, "tolerance": 0.0}
    ways: dict[str, Callable[[], Tensor]] = {
        OURS: lambda: retrieve_sdpa(state, stored, **options).state,
        "retrieve, readable": lambda: retrieve(state, stored, **options).state,
    }
    carrier = next((name for name in CARRIERS if find_spec(name)), None)
    if carrier:
        layer = _hopfield_layer(carrier, 0.25, updates)
        ways[HOPFIELD_LAYERS] = lambda: layer((stored, state, stored))
    exact = retrieve(state.double(), stored.double(), **options).state
    budget = 64 * updates * torch.finfo(state.dtype).eps * float(exact.abs().max())
    for name, way in ways.items():
        error = float((way() - exact).abs().max())
        if not error <= budget:
            raise ArithmeticError(f"{name} is off by {error:.1e}, more than {budget:.1e}")
    return Contest(
        f"modern Hopfield, {updates} updates of {states} states among {patterns} patterns",
        {name: torch.no_grad()(way) for name, way in ways.items()},
        {HOPFIELD_LAYERS: 5.0} if carrier else {},
        rounds=9,
        missing=() if carrier else (HOPFIELD_LAYERS,),
    )


@torch.no_grad()
def recall(units: int = 4000, *, load: float = 0.1, states: int = 100) -> Contest:
    """Asynchronous recall of damaged patterns: many states by matrix products, or unit by unit.

    Unit by unit is timed for one state, which stands for all.

    Raises:
        ArithmeticError: unit by unit ends in another state.
    """
    generator = torch.Generator().manual_seed(0)
    patterns = torch.randint(2, (round(load * units), units), generator=generator) * 2.0 - 1
    flips = torch.rand(states, units, generator=generator) < 0.1
    damaged = torch.where(flips, -patterns[:states], patterns[:states])
    network = HopfieldNetwork(units).store(patterns)
    rows = list(network.weights)

    def by_unit() -> Tensor:
        state, moving = damaged[0].clone(), True
        while moving:
            moving = False
            for i, row in enumerate(rows):
                if row @ state * state[i] < 0:
                    state[i], moving = -state[i], True
        return state

    if not torch.equal(by_unit(), network.recall(damaged).state[0]):
        raise ArithmeticError("unit by unit ends in another state")
    return Contest(
        f"Hopfield recall, {units} units, {len(patterns)} patterns, {states} states",
        {OURS: lambda: network.recall(damaged), "unit by unit": torch.no_grad()(by_unit)},
        {"unit by unit": 10.0},
        scale={"unit by unit": float(states)},
        rounds=3,
    )


def memories() -> Iterator[Contest]:
    """All of them, at their sizes."""
    yield retrieval()
    yield recall()
    yield linear()


def _hopfield_layer(carrier: str, beta: float, updates: int) -> torch.nn.Module:
    """Their layer as bare retrieval: nothing projected, nothing normalised."""
    parts = ("state_pattern", "stored_pattern", "pattern_projection")
    off = {f"normalize_{part}{affine}": False for part in parts for affine in ("", "_affine")}
    static = {f"{part}_as_static": True for part in parts}
    layer = import_module(carrier).Hopfield(
        scaling=beta,
        update_steps_max=updates - 1,  # after the first
        update_steps_eps=1e-30,  # they stop where the weights change less; 0 is refused
        disable_out_projection=True,
        **static,
        **off,
    )
    return layer.eval()
