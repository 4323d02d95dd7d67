"""The bidirectional associative memory: pairs of patterns, each of which recalls the other.

Written from Kosko 1988. `P` pairs of a pattern of `N` units and one of `M` units, all -1 or +1, and
weights `(N, M)` between the two layers; none inside a layer.

    there   b_j = sign(sum_i a_i w_ij), and b_j stays where the sum is 0        (*b, M)
    back    a_i = sign(sum_j w_ij b_j), and a_i stays where the sum is 0        (*b, N)
    energy  E   = -sum_ij a_i w_ij b_j                                          (*b)

The two layers together are one Hopfield network whose weights are 0 inside each layer. Units of one
layer do not see each other, so to change a whole layer at once is to change its units one by one:
the energy never rises, whatever the weights are.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from attnbook.hopfield_rules import check_signs

__all__ = ["Association", "BidirectionalMemory"]


class Association(NamedTuple):
    """What recall returns.

    Attributes:
        first: the layer of `N` units where it ended.
        second: the layer of `M` units.
        converged: True where neither layer would change any more.
        steps: passes there and back that changed something.
    """

    first: Float[Tensor, "*b N"]
    second: Float[Tensor, "*b M"]
    converged: Bool[Tensor, "*b"]
    steps: Int[Tensor, "*b"]


class BidirectionalMemory(nn.Module):
    """A memory of pairs: `store` them, `recall` a whole pair from a damaged half.

    Args:
        first_units: `N`.
        second_units: `M`.

    Attributes:
        weights: `(N, M)`, a buffer; 0 before anything is stored. May be set by hand, to anything.

    Raises:
        ValueError: a layer has less than 1 unit.

    Source:
        Kosko 1988, with bipolar units and thresholds of 0.

    >>> names = torch.tensor([[1.0, 1.0, 1.0, -1.0], [1.0, -1.0, -1.0, -1.0]])
    >>> faces = torch.tensor([[1.0, -1.0, 1.0], [-1.0, -1.0, 1.0]])
    >>> memory = BidirectionalMemory(4, 3).store(names, faces)
    >>> memory.recall(first=names).second.equal(faces)
    True
    >>> memory.recall(second=faces[0]).first
    tensor([ 1.,  1.,  1., -1.])
    """

    weights: Tensor

    def __init__(self, first_units: int, second_units: int) -> None:
        super().__init__()
        for name, units in [("first_units", first_units), ("second_units", second_units)]:
            if units < 1:
                raise ValueError(f"{name} must be at least 1, got {units}")
        self.register_buffer("weights", torch.zeros(first_units, second_units))

    def store(
        self, first: Float[Tensor, "P N"], second: Float[Tensor, "P M"]
    ) -> "BidirectionalMemory":
        """Forget what was stored, and store these pairs: `w_ij = sum_p a_pi b_pj`.

        Raises:
            TypeError: first or second are not floating-point.
            ValueError: they are not `(P, N)` and `(P, M)` of -1 and +1.
        """
        check_signs("first", first, axes=2, units=self.weights.shape[0])
        check_signs("second", second, axes=2, units=self.weights.shape[1])
        if len(first) != len(second):
            raise ValueError(f"first has {len(first)} patterns but second has {len(second)}")
        self.weights = (first.detach().mT @ second.detach()).to(self.weights)
        return self

    def energy(
        self, first: Float[Tensor, "*b N"], second: Float[Tensor, "*b M"]
    ) -> Float[Tensor, "*b"]:
        """The energy of each pair of states, `-sum_ij a_i w_ij b_j`."""
        return -(first @ self.weights * second).sum(-1)

    @torch.no_grad()
    def recall(
        self,
        first: Float[Tensor, "*b N"] | None = None,
        second: Float[Tensor, "*b M"] | None = None,
        *,
        max_steps: int = 1000,
    ) -> Association:
        """Go there and back until nothing changes.

        Args:
            first: `(*b, N)`, or None: then the second layer speaks first.
            second: `(*b, M)`, or None. A layer that is not given begins with +1; what it holds
                matters only where the other layer says nothing. At least one is given. If both
                are, the first speaks first.
            max_steps: how many passes there and back at most.

        Returns:
            Both layers, whether they came to rest, and the passes that changed something.

        Raises:
            TypeError: a layer is not floating-point, or not of the dtype of the weights.
            ValueError: no layer is given, one is not of -1 and +1 in its number of units, their
                leading axes differ, or max_steps is below 1.
        """
        given = {"first": first, "second": second}
        for axis, (name, x) in enumerate(given.items()):
            if x is not None:
                check_signs(name, x, units=self.weights.shape[axis])
                if x.dtype != self.weights.dtype:
                    raise TypeError(f"weights are {self.weights.dtype} but {name} is {x.dtype}")
        if first is not None and second is not None and first.shape[:-1] != second.shape[:-1]:
            raise ValueError(
                "first and second must have the same leading axes, "
                f"got {tuple(first.shape)} and {tuple(second.shape)}"
            )
        if max_steps < 1:
            raise ValueError(f"max_steps must be at least 1, got {max_steps}")
        if first is not None:
            a = first
            b = a.new_ones(*a.shape[:-1], self.weights.shape[1]) if second is None else second
        elif second is not None:
            b = second
            a = _speak(self.weights, b, b.new_ones(*b.shape[:-1], self.weights.shape[0]))
        else:
            raise ValueError("first or second must be given, got neither")
        steps = torch.zeros(a.shape[:-1], dtype=torch.long, device=a.device)
        for t in range(max_steps + 1):
            b_after = _speak(self.weights.mT, a, b)
            a_after = _speak(self.weights, b_after, a)
            moving = (b_after != b).any(-1) | (a_after != a).any(-1)
            if t == max_steps or not bool(moving.any()):
                break
            a, b = a_after, b_after
            steps += moving
        return Association(a, b, ~moving, steps)

    def forward(self, first: Float[Tensor, "*b N"]) -> Float[Tensor, "*b M"]:
        """What the first layer recalls in the second."""
        return self.recall(first).second


def _speak(weights: Tensor, there: Tensor, before: Tensor) -> Tensor:
    """One layer from the other, `weights` as `(hearing, speaking)`; it stays where nothing is said.

    A sum within its rounding error of 0 counts as 0.
    """
    heard = there @ weights.mT
    slack = 8 * torch.finfo(weights.dtype).eps * torch.linalg.vector_norm(weights, ord=1, dim=-1)
    return torch.where(heard.abs() <= slack, before, heard.sign())
