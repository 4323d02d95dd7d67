"""The Hopfield network with a graded response: units between -1 and +1, in continuous time.

Written from Hopfield 1984, whose neurons are amplifiers. `u` is the potential of a unit, `V` its
output, `gain` how steep the response is. Time is counted in units of a neuron's own time constant.

    du_i/dt = -u_i + sum_j w_ij V_j - t_i          V_i = tanh(gain u_i)
    E = -1/2 sum_ij w_ij V_i V_j + sum_i t_i V_i + (1/gain) sum_i G(V_i)

`G(V) = V artanh V + 1/2 log(1 - V^2)` is the integral of the inverse response from 0 to `V`. It
holds the units away from -1 and +1. As the gain grows its share goes to 0, and what is left is the
energy of the network of signs.

**Why E falls, with finite steps too.** The slope of `E` with respect to `V_i` is `u_i - h_i`, where
`h_i = sum_j w_ij V_j - t_i` is the field. So `u = (1 - a) u + a h`, a step towards the field, goes
down the slope in `u`: it is mirror descent. As `G'' >= 1`, the energy is smooth relative to
`G / gain` with the constant `1 + gain * max(0, -lowest eigenvalue of the weights)`, and no step `a`
up to its reciprocal raises `E`. The weights must be symmetric for all this.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from attnbook.hopfield_rules import Rule, check_signs, hebb

__all__ = ["GradedNetwork", "Settled"]


class Settled(NamedTuple):
    """What recall returns.

    Attributes:
        state: the outputs `V` where it ended, between -1 and 1.
        converged: True where no potential was more than the tolerance away from its field.
        steps: how many were made.
    """

    state: Float[Tensor, "*b N"]
    converged: Bool[Tensor, "*b"]
    steps: Int[Tensor, "*b"]


class GradedNetwork(nn.Module):
    """An associative memory of `N` units with a graded response.

    Args:
        units: `N`.
        gain: of the response, above 0 and finite. Nothing can be recalled, as only 0 is stable,
            while the gain times the largest eigenvalue of the weights is below 1.
        rule: makes weights of patterns, see `attnbook.hopfield_rules`.

    Attributes:
        weights: `(N, N)`, a buffer; 0 before anything is stored. May be set by hand, symmetric.
        thresholds: `(N,)`, a buffer; 0. Hopfield has inputs of the other sign.

    Raises:
        ValueError: units are below 1, or gain is not positive and finite.

    Source:
        Hopfield 1984, where any rising response will do, and each neuron has a capacity and a
        resistance of its own; here both are 1.

    >>> pattern = torch.tensor([1.0, 1.0, 1.0, -1.0, -1.0, -1.0])
    >>> network = GradedNetwork(6, gain=3.0).store(pattern[None])
    >>> found = network.recall(torch.tensor([-1.0, 1.0, 1.0, -1.0, -1.0, -1.0]))
    >>> found.state, bool(found.converged)
    (tensor([ 0.9856,  0.9856,  0.9856, -0.9856, -0.9856, -0.9856]), True)
    """

    weights: Tensor
    thresholds: Tensor

    def __init__(self, units: int, gain: float, rule: Rule = hebb) -> None:
        super().__init__()
        if units < 1:
            raise ValueError(f"units must be at least 1, got {units}")
        if not 0 < gain < math.inf:
            raise ValueError(f"gain must be positive and finite, got {gain}")
        self.gain, self.rule = gain, rule
        self.register_buffer("weights", torch.zeros(units, units))
        self.register_buffer("thresholds", torch.zeros(units))
        self._lowest: tuple[Tensor, float] | None = None  # weights, and their lowest eigenvalue

    def store(self, patterns: Float[Tensor, "P N"]) -> "GradedNetwork":
        """Forget what was stored, and store these.

        Raises:
            TypeError: patterns are not floating-point.
            ValueError: patterns are not `(P, units)` of -1 and +1.
        """
        check_signs("patterns", patterns, axes=2, units=len(self.weights))
        self.weights = self.rule(patterns.detach()).to(self.weights)
        return self

    def output(self, potential: Float[Tensor, "*b N"]) -> Float[Tensor, "*b N"]:
        """The response, `V = tanh(gain u)`."""
        return torch.tanh(self.gain * potential)

    def energy(self, state: Float[Tensor, "*b N"]) -> Float[Tensor, "*b"]:
        """The energy of outputs `V`, each between -1 and 1. At the ends `G` is log 2."""
        up, down = (1 + state) / 2, (1 - state) / 2
        inverse = torch.xlogy(up, up) + torch.xlogy(down, down) + math.log(2)
        pairs = -0.5 * (state @ self.weights * state).sum(-1)
        return pairs + state @ self.thresholds + inverse.sum(-1) / self.gain

    def step(self, potential: Float[Tensor, "*b N"], size: float) -> Float[Tensor, "*b N"]:
        """Move each potential the share `size` of the way to its field.

        With `size = 1 - exp(-dt)` this is exact for a field that holds still for the time `dt`.
        """
        h = self.output(potential) @ self.weights.mT - self.thresholds
        return torch.lerp(potential, h, size)

    def largest_step(self) -> float:
        """The largest `size` for which the energy is sure not to rise, between 0 and 1.

        The lowest eigenvalue of the weights is found once and kept until they change.

        Raises:
            ValueError: the weights are not symmetric. Then no size is sure.
        """
        w = self.weights.detach()
        if self._lowest is None or not torch.equal(self._lowest[0], w):
            slack = torch.finfo(w.dtype).eps ** 0.5 * float(w.abs().amax())
            if not bool(((w - w.mT).abs() <= slack).all()):
                raise ValueError("weights must be symmetric for a step that is sure; give a size")
            wide = w.to(torch.promote_types(w.dtype, torch.float32))  # halves have no eigenvalues
            lowest = float(torch.linalg.eigvalsh((wide + wide.mT) / 2)[0])
            self._lowest = w.clone(), lowest
        return 1 / (1 + self.gain * max(0.0, -self._lowest[1]))

    @torch.no_grad()
    def recall(
        self,
        potential: Float[Tensor, "*b N"],
        *,
        size: float | None = None,
        tolerance: float = 1e-4,
        max_steps: int = 1000,
    ) -> Settled:
        """Let the network run until every potential is what its field says.

        Args:
            potential: `(*b, N)`, `u` at the start; a damaged pattern of -1 and +1 will do.
            size: of a step, above 0 and up to 1; `largest_step()` when None.
            tolerance: how far potential and field may differ at the end.
            max_steps: how many steps at most.

        Returns:
            Outputs, whether they came to rest, and the steps that were made.

        Raises:
            TypeError: potential is not floating-point, or not of the dtype of the weights.
            ValueError: potential has not `units` units, size is not above 0 and up to 1, tolerance
                is not above 0, max_steps is below 1, or no size is given and the weights are not
                symmetric.
        """
        if not isinstance(potential, Tensor) or potential.dtype != self.weights.dtype:
            got = potential.dtype if isinstance(potential, Tensor) else type(potential).__name__
            raise TypeError(f"potential must be a tensor of {self.weights.dtype}, got {got}")
        if potential.ndim == 0 or potential.shape[-1] != len(self.weights):
            raise ValueError(
                f"potential must have {len(self.weights)} units, got shape {tuple(potential.shape)}"
            )
        size = self.largest_step() if size is None else size
        if not 0 < size <= 1:
            raise ValueError(f"size must be above 0 and at most 1, got {size}")
        if not tolerance > 0:
            raise ValueError(f"tolerance must be above 0, got {tolerance}")
        if max_steps < 1:
            raise ValueError(f"max_steps must be at least 1, got {max_steps}")
        steps = torch.zeros(potential.shape[:-1], dtype=torch.long, device=potential.device)
        for t in range(max_steps + 1):
            after = self.step(potential, size)
            moving = ~((after - potential).abs() <= tolerance * size).all(-1)  # NaN never rests
            if t == max_steps or not bool(moving.any()):
                break
            potential = torch.where(moving[..., None], after, potential)
            steps += moving
        return Settled(self.output(potential), ~moving, steps)

    def forward(self, potential: Float[Tensor, "*b N"]) -> Float[Tensor, "*b N"]:
        """The outputs that recall ends in."""
        return self.recall(potential).state
