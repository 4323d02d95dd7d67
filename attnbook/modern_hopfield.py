"""Modern Hopfield networks: a memory of real-valued patterns whose update is attention.

    scores  = beta xi . x_j                   (*b, L, S)
    weights = softmax(scores)                 (*b, L, S)
    new xi  = weights @ X                     (*b, L, D)

`L` states `xi` and `S` stored patterns `x_j` of width `D`. The paper has `N` patterns of width `d`,
as columns; here they are rows, as keys are. What is proved of it is in `hopfield_bounds`.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from attnbook.core import Attended, apply_mask, attend, check_pair
from attnbook.fused import sdpa
from attnbook.scores import dot

__all__ = [
    "Retrieval",
    "energy",
    "retrieve",
    "retrieve_sdpa",
    "update",
]


class Retrieval(NamedTuple):
    """Where an iteration of updates came to rest.

    Attributes:
        state: `(*b, L, D)` after the last update.
        weights: `(*b, L, S)` of the last update, so that `state` is `weights @ patterns`; `None`
            from the fast path.
        steps: `(*b, L)`, the updates that moved the state by more than the tolerance.
        converged: `(*b, L)`, whether the last update moved it by no more than that.
    """

    state: Float[Tensor, "*b L D"]
    weights: Float[Tensor, "*b L S"] | None
    steps: Int[Tensor, "*b L"]
    converged: Bool[Tensor, "*b L"]


def energy(
    state: Float[Tensor, "*#b L D"],
    patterns: Float[Tensor, "*#b S D"],
    *,
    beta: float = 1.0,
    mask: Bool[Tensor, "..."] | None = None,
) -> Float[Tensor, "*b L"]:
    """The energy of a state, `-lse(beta, X xi) + |xi|^2 / 2 + log(S) / beta + M^2 / 2`.

    Here `M` is the length of the longest pattern, and `lse(beta, z)` is `log(sum of exp(beta z)) /
    beta`. No update raises the energy, and it is never negative.

    Args:
        state: `(*b, L, D)`.
        patterns: `(*b, S, D)`, at least one.
        beta: inverse temperature, above 0.
        mask: boolean, True = the pattern is stored for this state, broadcast to `(*b, L, S)`.

    Returns:
        `(*b, L)`. A state for which nothing is stored has `|xi|^2 / 2`.

    Raises:
        TypeError: an input is not a floating-point tensor, or the mask is not boolean.
        ValueError: shapes or devices do not fit, there are no patterns, or beta is not positive.

    Source:
        Ramsauer et al. 2021, section 2, the new energy.

    >>> patterns = torch.eye(2)
    >>> energy(patterns, patterns, beta=8.0)
    tensor([0.0866, 0.0866])
    >>> energy(torch.full((1, 2), 0.5), patterns, beta=8.0)  # halfway: a hill
    tensor([0.2500])
    """
    check_beta(beta)
    check_pair(state, patterns)
    check_patterns(patterns)
    scores = apply_mask(dot(beta)(state, patterns), mask)
    stored = scores > float("-inf")
    count = stored.sum(dim=-1)
    longest = patterns.square().sum(dim=-1).unsqueeze(-2).where(stored, 0.0).amax(dim=-1)
    nothing = count == 0
    lse = scores.masked_fill(nothing.unsqueeze(-1), 0.0).logsumexp(dim=-1)
    memory = longest / 2 - (lse - count.clamp_min(1).to(lse.dtype).log()) / beta
    return state.square().sum(dim=-1) / 2 + memory.masked_fill(nothing, 0.0)


def update(
    state: Float[Tensor, "*#b L D"],
    patterns: Float[Tensor, "*#b S D"],
    *,
    beta: float = 1.0,
    mask: Bool[Tensor, "..."] | None = None,
) -> Attended:
    """One update of every state: attention with the patterns as keys and as values.

    Args:
        state: `(*b, L, D)`.
        patterns: `(*b, S, D)`.
        beta: inverse temperature, above 0. A larger one goes for the nearest pattern, a smaller
            one for an average.
        mask: boolean, True = the pattern is stored for this state, broadcast to `(*b, L, S)`.

    Returns:
        The new states `(*b, L, D)`, zero where nothing is stored, and the weights `(*b, L, S)`.

    Raises:
        TypeError: an input is not a floating-point tensor, or the mask is not boolean.
        ValueError: shapes or devices do not fit, or beta is not positive.

    Source:
        Ramsauer et al. 2021, section 2, the new update rule.

    >>> update(torch.tensor([[0.9, 0.0]]), torch.eye(2), beta=4.0).output
    tensor([[0.9734, 0.0266]])
    """
    check_beta(beta)
    return attend(state, patterns, patterns, score=dot(beta), mask=mask)


def retrieve(
    state: Float[Tensor, "*#b L D"],
    patterns: Float[Tensor, "*#b S D"],
    *,
    beta: float = 1.0,
    mask: Bool[Tensor, "..."] | None = None,
    max_steps: int = 100,
    tolerance: float = 1e-5,
) -> Retrieval:
    """Update every state until it comes to rest.

    Args:
        state: `(*b, L, D)`, where to start.
        patterns: `(*b, S, D)`.
        beta: inverse temperature, above 0.
        mask: boolean, True = the pattern is stored for this state, broadcast to `(*b, L, S)`.
        max_steps: the most updates.
        tolerance: a state has come to rest when an update moves it by no more than this, in the
            units of the patterns. Each state rests by itself, whatever the others do.

    Returns:
        States, weights, steps, and which states have converged. A query that is retrieved by one
        update has one step.

    Raises:
        TypeError: an input is not a floating-point tensor, the mask is not boolean, or max_steps
            is not an integer.
        ValueError: shapes or devices do not fit, beta is not positive, max_steps is below 1, or
            tolerance is negative.

    Source:
        Ramsauer et al. 2021, section 2, and theorem 2: the energy converges.

    >>> found = retrieve(torch.tensor([[0.9, 0.0], [0.5, 0.5]]), torch.eye(2), beta=8.0)
    >>> found.state
    tensor([[0.9997, 0.0003],
            [0.5000, 0.5000]])
    >>> found.steps, found.converged
    (tensor([2, 0]), tensor([True, True]))
    """
    check_beta(beta)

    def step(x: Tensor) -> Attended:
        return attend(x, patterns, patterns, score=dot(beta), mask=mask)

    return _iterate(step, state, patterns, max_steps, tolerance)


def retrieve_sdpa(
    state: Float[Tensor, "*#b L D"],
    patterns: Float[Tensor, "*#b S D"],
    *,
    beta: float = 1.0,
    mask: Bool[Tensor, "..."] | None = None,
    max_steps: int = 100,
    tolerance: float = 1e-5,
) -> Retrieval:
    """What `retrieve` does, with each update by PyTorch's fused attention: no weights are kept.

    Args:
        state: `(*b, L, D)`, where to start.
        patterns: `(*b, S, D)`.
        beta: inverse temperature, above 0.
        mask: boolean, True = the pattern is stored for this state, broadcast to `(*b, L, S)`.
        max_steps: the most updates.
        tolerance: a state has come to rest when an update moves it by no more than this.

    Returns:
        As `retrieve`, with None for the weights.

    Raises:
        TypeError: an input is not a floating-point tensor, the mask is not boolean, or max_steps
            is not an integer.
        ValueError: shapes or devices do not fit, beta is not positive, max_steps is below 1, or
            tolerance is negative.

    Source:
        Ramsauer et al. 2021, section 2; `retrieve` is its specification.

    >>> retrieve_sdpa(torch.tensor([[0.9, 0.0]]), torch.eye(2), beta=8.0).state
    tensor([[0.9997, 0.0003]])
    """
    check_beta(beta)

    def step(x: Tensor) -> Attended:
        query = x * (beta * math.sqrt(x.shape[-1]))  # sdpa divides by the root of the width
        found = sdpa(query, patterns, patterns, mask=mask)
        lost = ~query.isfinite().all(dim=-1, keepdim=True)  # its kernels may hide what is no number
        return Attended(found.output.masked_fill(lost, math.nan), None)

    return _iterate(step, state, patterns, max_steps, tolerance)


def _iterate(
    step: Callable[[Tensor], Attended],
    state: Tensor,
    patterns: Tensor,
    max_steps: int,
    tolerance: float,
) -> Retrieval:
    if not isinstance(max_steps, int):
        raise TypeError(f"max_steps must be an integer, got {type(max_steps).__name__}")
    if max_steps < 1:
        raise ValueError(f"max_steps must be at least 1, got {max_steps}")
    if not tolerance >= 0:
        raise ValueError(f"tolerance must not be negative, got {tolerance}")
    check_pair(state, patterns)
    batch = torch.broadcast_shapes(state.shape[:-2], patterns.shape[:-2])
    state = state.expand(*batch, *state.shape[-2:])
    moving = torch.ones(state.shape[:-1], dtype=torch.bool, device=state.device)
    steps = torch.zeros(state.shape[:-1], dtype=torch.int64, device=state.device)
    weights: Tensor | None = None
    for _ in range(max_steps):
        new, looked = step(state)
        near = (new - state).detach().norm(dim=-1) <= tolerance  # NaN never comes to rest
        resting = ~moving.unsqueeze(-1)
        if looked is not None:
            weights = looked if weights is None else torch.where(resting, weights, looked)
        state = torch.where(resting, state, new)
        moving = moving & ~near
        steps = steps + moving
        if not bool(moving.any()):
            break
    return Retrieval(state, weights, steps, ~moving)


def check_beta(beta: float) -> None:
    """Raise a clear error unless this is an inverse temperature."""
    if not 0 < beta < math.inf:
        raise ValueError(f"beta must be positive and finite, got {beta}")


def check_patterns(patterns: Tensor) -> None:
    """Raise a clear error unless something is stored."""
    if not patterns.shape[-2]:
        raise ValueError("patterns must hold at least 1 pattern, got 0")
