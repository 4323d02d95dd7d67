"""Dense associative memory: a Hopfield network whose energy sharpens its overlaps by a power.

Written from Krotov, Hopfield 2016. `P` patterns `x_p` of `N` units, each -1 or +1; `s` is a state.

    energy   E   = -sum_p F(x_p . s)                                (*b)
    change   E_i = E(unit i flipped) - E                            (*b, N)
    update   s_i = -s_i where E_i < 0, one unit after the other     (*b, N)

With `F(z) = z^2` this is the Hopfield network with Hebb's rule: `E` is `2 N` times its energy, less
`N P`. With a higher power the nearest pattern counts for more than all others, and about `N^(n-1)`
patterns can be held. The patterns themselves are the memory: there is no matrix of `N^2` weights.

**All changes by one product.** A flip of unit `i` moves `z_p = x_p . s` by 2, up or down. So

    F(z_p after the flip) = (F(z_p + 2) + F(z_p - 2)) / 2 - x_pi s_i (F(z_p + 2) - F(z_p - 2)) / 2

and the sum over `p`, for every unit, is a product of the patterns with one vector.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attnbook.hopfield import Recalled, settle
from attnbook.hopfield_rules import check_signs

__all__ = [
    "DenseMemory",
    "Function",
    "capacity",
    "changes",
    "energy",
    "error_rate",
    "power",
    "rectified_power",
    "sweep",
]

Function = Callable[[Tensor], Tensor]
"""`F`, of each element: `power(n)`, `rectified_power(n)`, `torch.exp`, or any that grows."""


def power(order: int) -> Function:
    """`F(z) = z^n`. Of an even order a pattern and its negative are the same memory.

    Raises:
        ValueError: order is below 2.

    Source:
        Krotov, Hopfield 2016.

    >>> power(3)(torch.tensor([-2.0, 3.0]))
    tensor([-8., 27.])
    """
    _check_order(order)
    return partial(_raised, order=order)  # no lambda, so that a memory can be pickled


def rectified_power(order: int) -> Function:
    """`F(z) = z^n` for `z > 0`, else 0: what points the other way counts for nothing.

    Raises:
        ValueError: order is below 2.

    Source:
        Krotov, Hopfield 2016, rectified polynomials.

    >>> rectified_power(2)(torch.tensor([-2.0, 3.0]))
    tensor([0., 9.])
    """
    _check_order(order)
    return partial(_rectified, order=order)


def _raised(z: Tensor, order: int) -> Tensor:
    return z**order


def _rectified(z: Tensor, order: int) -> Tensor:
    return z.relu() ** order


def energy(
    states: Float[Tensor, "*b N"], patterns: Float[Tensor, "P N"], function: Function
) -> Float[Tensor, "*b"]:
    """The energy of each state, `-sum_p F(x_p . s)`, computed in float64.

    Source:
        Krotov, Hopfield 2016.

    >>> pattern = torch.tensor([[1.0, 1.0, -1.0]])
    >>> energy(torch.stack([pattern[0], pattern[0].abs()]), pattern, power(2))
    tensor([-9., -1.])
    """
    return -function(states.double() @ patterns.double().mT).sum(-1).to(states.dtype)


def changes(
    states: Float[Tensor, "*b N"], patterns: Float[Tensor, "P N"], function: Function
) -> Float[Tensor, "*b N"]:
    """By how much the energy would rise if a unit flipped, for each unit of each state.

    Computed in float64, which is exact for a power as long as the sum stays below `2^53`. What
    rounding alone could have made counts as 0, so that no unit flips for it.

    Raises:
        ValueError: a change is not a finite number: function is too large for overlaps of `N`
            units, as `torch.exp` is from 708 units on. `exp(z - N)` is the same memory.

    Source:
        Krotov, Hopfield 2016: the sign of this decides the update.

    >>> pattern = torch.tensor([[1.0, 1.0, -1.0]])
    >>> changes(torch.tensor([1.0, 1.0, 1.0]), pattern, power(2))  # the last unit is wrong
    tensor([ 0.,  0., -8.])
    """
    return _changes(states, patterns, function).to(states.dtype)


def _changes(states: Tensor, patterns: Tensor, function: Function) -> Tensor:
    x, s = patterns.double(), states.double()
    z = s @ x.mT
    here, up, down = function(z), function(z + 2), function(z - 2)
    change = (here - (up + down) / 2).sum(-1, keepdim=True) + s * ((up - down) / 2 @ x)
    slack = 8 * torch.finfo(s.dtype).eps * (here.abs() + up.abs() + down.abs()).sum(-1, True)
    if not bool(change.isfinite().all()):
        raise ValueError(
            f"function must be finite up to {s.shape[-1] + 2}, got a change that is not finite; "
            "scale it down: a factor changes no update"
        )
    return torch.where(change.abs() <= slack, 0.0, change)


def sweep(
    states: Float[Tensor, "*b N"], patterns: Float[Tensor, "P N"], function: Function
) -> Float[Tensor, "*b N"]:
    """Every unit once, one after the other: it flips if that lowers the energy.

    The units that stay are passed over at once: each state goes to its next unit that flips.

    Source:
        Krotov, Hopfield 2016, asynchronous.

    >>> pattern = torch.tensor([[1.0, 1.0, -1.0, 1.0]])
    >>> sweep(torch.tensor([1.0, 1.0, 1.0, 1.0]), pattern, power(3))
    tensor([ 1.,  1., -1.,  1.])
    """
    found = states.reshape(-1, states.shape[-1]).clone()
    unit = torch.arange(found.shape[-1], device=found.device)
    rows = torch.arange(len(found), device=found.device)
    passed = torch.full_like(rows, -1)  # the last unit that has had its turn
    while len(rows):
        wants = _changes(found[rows], patterns, function) < 0  # in float64 still
        wants &= unit > passed[:, None]
        moving = wants.any(-1)
        rows, passed = rows[moving], wants[moving].int().argmax(-1)  # the first of them
        found[rows, passed] *= -1
    return found.reshape(states.shape)


class DenseMemory(nn.Module):
    """An associative memory of `N` units: `store` patterns, `recall` them from damaged copies.

    Args:
        units: `N`.
        function: `F`, sharpens an overlap: `power(n)`, `rectified_power(n)`, `torch.exp` (the
            memory of Demircigil, Heusel, Löwe, Upgang, Vermet 2017) or another.

    Attributes:
        patterns: `(P, N)`, a buffer; none before anything is stored.

    Source:
        Krotov, Hopfield 2016.

    >>> patterns = torch.randn(60, 30, generator=torch.Generator().manual_seed(0)).sign()
    >>> damaged = patterns.clone()
    >>> damaged[:, 0] *= -1  # twice as many patterns as units; in each copy a unit is wrong
    >>> for order in (2, 3, 4):
    ...     found = DenseMemory(30, power(order)).store(patterns).recall(damaged)
    ...     print(order, int((found.state == patterns).all(-1).sum()))
    2 0
    3 38
    4 60
    """

    patterns: Tensor

    def __init__(self, units: int, function: Function) -> None:
        super().__init__()
        if units < 1:
            raise ValueError(f"units must be at least 1, got {units}")
        self.units, self.function = units, function
        self.register_buffer("patterns", torch.zeros(0, units))
        self.register_load_state_dict_pre_hook(_make_room)

    def store(self, patterns: Float[Tensor, "P N"]) -> "DenseMemory":
        """Forget what was stored, and store these.

        Raises:
            TypeError: patterns are not floating-point.
            ValueError: patterns are not `(P, units)` of -1 and +1.
        """
        check_signs("patterns", patterns, axes=2, units=self.units)
        self.patterns = patterns.detach().clone().to(self.patterns)
        return self

    def energy(self, states: Float[Tensor, "*b N"]) -> Float[Tensor, "*b"]:
        """The energies, see `energy`."""
        return energy(states, self.patterns, self.function)

    @torch.no_grad()
    def recall(self, states: Float[Tensor, "*b N"], *, max_steps: int = 1000) -> Recalled:
        """Sweep until nothing changes. States that have settled are left alone.

        Args:
            states: `(*b, N)`, of -1 and +1.
            max_steps: how many sweeps at most. The energy falls with every flip, so recall ends.

        Returns:
            State, period (1 at a fixed point, 0 where max_steps came first) and the sweeps that
            changed something.

        Raises:
            TypeError: states are not floating-point.
            ValueError: states are not `(*b, units)` of -1 and +1, or max_steps is below 1.
        """
        check_signs("states", states, units=self.units)
        return settle(lambda s: sweep(s, self.patterns, self.function), states, max_steps)

    def forward(self, states: Float[Tensor, "*b N"]) -> Float[Tensor, "*b N"]:
        """The states that recall ends in."""
        return self.recall(states).state


def _make_room(module: DenseMemory, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Before a state dict is loaded: as many rows as it holds patterns."""
    stored = state.get(f"{prefix}patterns")
    if stored is not None and stored.shape[1:] == module.patterns.shape[1:]:
        module.patterns = module.patterns.new_empty(len(stored), module.patterns.shape[1])


def capacity(units: int, order: int) -> float:
    """How many random patterns `power(order)` holds without errors, for many units.

    With so many, the wrong bits of a pattern are fewer than one: `N^(n-1) / (2 (2n - 3)!! ln N)`.

    Raises:
        ValueError: units or order is below 2.

    Source:
        Krotov, Hopfield 2016, equation 6.

    >>> [round(capacity(100, order)) for order in (2, 3, 4)]
    [11, 362, 7238]
    """
    _check_order(order)
    if units < 2:
        raise ValueError(f"units must be at least 2, got {units}")
    return units ** (order - 1) / (2 * _double_factorial(order) * math.log(units))


def error_rate(patterns: int, units: int, order: int) -> float:
    """The share of a stored pattern's units that want to flip, for many units: Gaussian crosstalk.

    For its own pattern a flip costs `N^n - (N - 2)^n`, about `2 n N^(n-1)`. Each other pattern has
    a chance overlap `z` of variance `N` and adds `2 n z^(n-1)` with a random sign: its variance is
    `4 n^2 (2n - 3)!! N^(n-1)`. The sum over many patterns is taken to be Gaussian.

    Args:
        patterns: how many are stored.
        units: `N`.
        order: `n`, of `power(n)`.

    Returns:
        The probability `erfc(sqrt(N^(n-1) / (2 P (2n - 3)!!))) / 2`.

    Raises:
        ValueError: patterns is below 1, or units or order below 2.

    Source:
        Krotov, Hopfield 2016, the argument before equation 6, as reported.

    >>> print(f"{error_rate(14, 100, 2):.4f} {error_rate(362, 100, 3):.4f}")
    0.0038 0.0012
    """
    _check_order(order)
    if patterns < 1 or units < 2:
        raise ValueError(f"patterns must be at least 1 and units 2, got {patterns} and {units}")
    spread = 2 * patterns * _double_factorial(order)
    return math.erfc(math.sqrt(units ** (order - 1) / spread)) / 2


def _double_factorial(order: int) -> int:
    """`(2n - 3)!!`, the moment of order `2n - 2` of a standard Gaussian."""
    return math.prod(range(2 * order - 3, 0, -2))


def _check_order(order: int) -> None:
    if order < 2:
        raise ValueError(f"order must be at least 2, got {order}")
