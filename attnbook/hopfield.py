"""The Hopfield network: patterns are valleys of an energy, and recall goes downhill.

Written from Hopfield 1982. `P` patterns of `N` units; a unit is -1 or +1. Hopfield has 0 and 1: the
two differ by factors of 2 and a shift of the thresholds.

    field    h_i = sum_j w_ij s_j - t_i                             (*b, N)
    update   s_i = sign(h_i), and s_i stays where h_i = 0           (*b, N)
    energy   E   = -1/2 sum_ij w_ij s_i s_j + sum_i t_i s_i         (*b)

There is no softmax: each unit decides alone, by a sign. With weights that are symmetric and without
self-connections no asynchronous update raises the energy, so recall ends at a fixed point. All
units at once end at a fixed point or in a cycle of two states. `hopfield_rules` makes the weights.

**Why two, where a field is 0 too.** Let `s_t` be the states, all units at once, with symmetric
weights. From one step to the next `-s_t W s_(t-1) + t (s_t + s_(t-1))` changes by the sum over the
units of `-h_i (s_i after - s_i before)`, with the field `h_i` at `s_t`, `after` at step `t + 1` and
`before` at step `t - 1`. A unit with a field goes with it, so no term is positive, and in a cycle
all are 0: each unit has either `h_i = 0`, and stays as it is, or is what it was two steps before.
So a unit that is twice the same stays so, and any other goes back and forth: two states.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from attnbook.hopfield_rules import Rule, check_signs, hebb

__all__ = [
    "HopfieldNetwork",
    "Recalled",
    "Update",
    "asynchronous",
    "energy",
    "field",
    "in_order",
    "overlap",
    "synchronous",
]

Update = Callable[[Tensor, Tensor, Tensor], Tensor]
"""States `(*b, N)`, weights `(N, N)` and thresholds `(N,)` to the next states."""

BLOCK = 64  # units whose fields are found together; they still change one by one


class Recalled(NamedTuple):
    """What recall returns.

    Attributes:
        state: where it ended.
        period: 1 at a fixed point, 2 in a cycle of two states, 0 where `max_steps` came first.
        steps: updates that changed something; for a cycle, those before it was entered.
    """

    state: Float[Tensor, "*b N"]
    period: Int[Tensor, "*b"]
    steps: Int[Tensor, "*b"]

    @property
    def converged(self) -> Bool[Tensor, "*b"]:
        """True where a fixed point was reached."""
        return self.period == 1


def field(
    states: Float[Tensor, "*b N"], weights: Float[Tensor, "N N"], thresholds: Float[Tensor, " N"]
) -> Float[Tensor, "*b N"]:
    """The local field of every unit, `h_i = sum_j w_ij s_j - t_i`; exactly 0 within rounding.

    A sum that should be 0 seldom is in floating point, and its sign would be a matter of chance. So
    `|h_i| <= 8 eps (sum_j |w_ij| + |t_i|)` counts as 0.

    Source:
        Hopfield 1982.

    >>> field(torch.ones(2, 3), torch.eye(3), torch.tensor([0.0, 1.0, 2.0]))
    tensor([[ 1.,  0., -1.],
            [ 1.,  0., -1.]])
    """
    h = states @ weights.mT - thresholds
    return torch.where(h.abs() <= _rounding(weights, thresholds), 0.0, h)


def energy(
    states: Float[Tensor, "*b N"], weights: Float[Tensor, "N N"], thresholds: Float[Tensor, " N"]
) -> Float[Tensor, "*b"]:
    """The energy of each state, `-1/2 sum_ij w_ij s_i s_j + sum_i t_i s_i`.

    Source:
        Hopfield 1982, with thresholds.

    >>> from attnbook.hopfield_rules import hebb
    >>> pattern = torch.tensor([1.0, 1.0, -1.0])
    >>> energy(torch.stack([pattern, -pattern, pattern.abs()]), hebb(pattern[None]), torch.zeros(3))
    tensor([-1.0000, -1.0000,  0.3333])
    """
    return -0.5 * (states @ weights * states).sum(-1) + states @ thresholds


def overlap(states: Float[Tensor, "*b N"], patterns: Float[Tensor, "P N"]) -> Float[Tensor, "*b P"]:
    """How much of each pattern is in a state, `m_p = (1/N) sum_i x_pi s_i`, from -1 to 1.

    >>> overlap(torch.tensor([1.0, 1.0, -1.0, 1.0]), torch.ones(1, 4))
    tensor([0.5000])
    """
    return states @ patterns.mT / patterns.shape[-1]


def synchronous(
    states: Float[Tensor, "*b N"], weights: Float[Tensor, "N N"], thresholds: Float[Tensor, " N"]
) -> Float[Tensor, "*b N"]:
    """All units at once, each from the same old state. An `Update`.

    >>> pair = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    >>> synchronous(torch.tensor([1.0, -1.0]), pair, torch.zeros(2))  # and back again next time
    tensor([-1.,  1.])
    """
    h = field(states, weights, thresholds)
    return torch.where(h == 0, states, h.sign())


def asynchronous(
    states: Float[Tensor, "*b N"], weights: Float[Tensor, "N N"], thresholds: Float[Tensor, " N"]
) -> Float[Tensor, "*b N"]:
    """One sweep: every unit once, one after the other, each seeing the changes before it.

    An `Update`. Fields are found for a block of units by one matrix product, and corrected for each
    change inside the block: the same sums as one by one, at nearly the speed of all at once.

    >>> pair = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    >>> asynchronous(torch.tensor([1.0, -1.0]), pair, torch.zeros(2))
    tensor([-1., -1.])
    """
    blocks = [slice(i, i + BLOCK) for i in range(0, len(weights), BLOCK)]
    return _sweep(states, weights, thresholds, blocks)


def in_order(order: Int[Tensor, " N"]) -> Update:
    """A sweep in another order: the same for every state and every sweep.

    Hopfield's units wake at random times. `in_order(torch.randperm(N))` is a random order that is
    drawn once, so that a sweep that changes nothing still proves a fixed point.

    Args:
        order: each of `0 .. N-1` once.

    Returns:
        An `Update`.

    Raises:
        ValueError: order is not a permutation.

    >>> pair = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    >>> in_order(torch.tensor([1, 0]))(torch.tensor([1.0, -1.0]), pair, torch.zeros(2))
    tensor([1., 1.])
    """
    if order.ndim != 1 or not torch.equal(order.sort().values, torch.arange(len(order)).to(order)):
        raise ValueError(f"order must hold each of 0..{order.numel() - 1} once, got {order}")

    def sweep(states: Tensor, weights: Tensor, thresholds: Tensor) -> Tensor:
        if len(order) != len(weights):
            raise ValueError(f"order has {len(order)} units but weights have {len(weights)}")
        return _sweep(states, weights, thresholds, order.split(BLOCK))

    return sweep


def _sweep(
    states: Tensor, weights: Tensor, thresholds: Tensor, blocks: Sequence[slice | Tensor]
) -> Tensor:
    s = states.reshape(-1, states.shape[-1]).mT.clone()  # (N, B)
    slack = _rounding(weights, thresholds)[:, None]
    for units in blocks:
        rows, near = weights[units], slack[units]  # (k, N)
        inside, now = rows[:, units], s[units]
        h = rows @ s - thresholds[units, None]  # (k, B)
        turn = torch.arange(len(now), device=s.device)[:, None]
        wrong = h * now < -near
        while len(state := wrong.any(0).nonzero()[:, 0]):  # each goes to its next unit that flips
            unit = wrong[:, state].int().argmax(0)
            change = -2 * now[unit, state]
            now[unit, state] += change
            h[:, state] += inside[:, unit] * change
            wrong[:, state] = (h[:, state] * now[:, state] < -near) & (turn > unit)
        s[units] = now
    return s.mT.reshape(states.shape)


def _rounding(weights: Tensor, thresholds: Tensor) -> Tensor:
    """How far from 0 a field may be by rounding alone, `(N,)`."""
    size = torch.linalg.vector_norm(weights, ord=1, dim=-1) + thresholds.abs()
    return 8 * torch.finfo(weights.dtype).eps * size


class HopfieldNetwork(nn.Module):
    """An associative memory of `N` units: `store` patterns, `recall` them from damaged copies.

    Args:
        units: `N`.
        rule: makes weights of patterns: `hebb`, `storkey`, `pseudo_inverse` or another `Rule`.

    Attributes:
        weights: `(N, N)`, a buffer; 0 before anything is stored. May be set by hand.
        thresholds: `(N,)`, a buffer; 0.

    Source:
        Hopfield 1982.

    >>> pattern = torch.tensor([1.0, 1.0, 1.0, -1.0, -1.0, -1.0])
    >>> other = torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0, -1.0])
    >>> network = HopfieldNetwork(6).store(torch.stack([pattern, other]))
    >>> damaged = torch.tensor([-1.0, 1.0, 1.0, -1.0, -1.0, -1.0])  # the first unit is wrong
    >>> found = network.recall(damaged)
    >>> found.state, bool(found.converged)
    (tensor([ 1.,  1.,  1., -1., -1., -1.]), True)
    """

    weights: Tensor
    thresholds: Tensor

    def __init__(self, units: int, rule: Rule = hebb) -> None:
        super().__init__()
        if units < 1:
            raise ValueError(f"units must be at least 1, got {units}")
        self.rule = rule
        self.register_buffer("weights", torch.zeros(units, units))
        self.register_buffer("thresholds", torch.zeros(units))

    def store(self, patterns: Float[Tensor, "P N"]) -> "HopfieldNetwork":
        """Forget what was stored, and store these.

        Raises:
            TypeError: patterns are not floating-point.
            ValueError: patterns are not `(P, units)` of -1 and +1.
        """
        check_signs("patterns", patterns, axes=2, units=len(self.weights))
        self.weights = self.rule(patterns.detach()).to(self.weights)
        return self

    def field(self, states: Float[Tensor, "*b N"]) -> Float[Tensor, "*b N"]:
        """The local fields, see `field`."""
        return field(states, self.weights, self.thresholds)

    def energy(self, states: Float[Tensor, "*b N"]) -> Float[Tensor, "*b"]:
        """The energies, see `energy`."""
        return energy(states, self.weights, self.thresholds)

    @torch.no_grad()
    def recall(
        self,
        states: Float[Tensor, "*b N"],
        *,
        update: Update = asynchronous,
        max_steps: int = 1000,
    ) -> Recalled:
        """Update until nothing changes. States that have settled are left alone.

        Args:
            states: `(*b, N)`, of -1 and +1.
            update: `asynchronous` (a step is a sweep), `synchronous`, or another `Update` that
                depends on nothing but the state.
            max_steps: how many updates at most. Within its guarantees recall ends by itself, but
                above capacity it may take hundreds.

        Returns:
            State, period and steps of each; `converged` is True at a fixed point.

        Raises:
            TypeError: states are not floating-point, or not of the dtype of the weights.
            ValueError: states are not `(*b, units)` of -1 and +1, or max_steps is below 1.
        """
        check_signs("states", states, units=len(self.weights))
        if states.dtype != self.weights.dtype:
            raise TypeError(f"weights are {self.weights.dtype} but states are {states.dtype}")
        return settle(lambda s: update(s, self.weights, self.thresholds), states, max_steps)

    def forward(self, states: Float[Tensor, "*b N"]) -> Float[Tensor, "*b N"]:
        """The states that asynchronous recall ends in."""
        return self.recall(states).state


def settle(step: Callable[[Tensor], Tensor], states: Tensor, max_steps: int) -> Recalled:
    """Go on from each state until it stays, or comes back after two steps."""
    if max_steps < 1:
        raise ValueError(f"max_steps must be at least 1, got {max_steps}")
    state = states.reshape(-1, states.shape[-1]).clone()
    period = torch.zeros(len(state), dtype=torch.long, device=state.device)
    steps = torch.full_like(period, max_steps)
    moving, before = torch.arange(len(state), device=state.device), None
    now = state.clone()
    for t in range(max_steps):
        after = step(now)
        still = (after == now).all(-1)
        back = still.new_zeros(len(still)) if before is None else (after == before).all(-1)
        back &= ~still
        state[moving] = after
        period[moving[still]], steps[moving[still]] = 1, t
        period[moving[back]], steps[moving[back]] = 2, t - 1
        on = ~(still | back)
        moving, before, now = moving[on], now[on], after[on]
        if not len(moving):
            break
    leading = states.shape[:-1]
    return Recalled(state.reshape(states.shape), period.reshape(leading), steps.reshape(leading))
