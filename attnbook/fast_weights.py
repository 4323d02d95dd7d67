"""Fast weights: a recurrent network with a second weight matrix, written anew for each sequence.

The slow weights `W` and `C` are learnt. The fast weights `A` start at zero, fade, and take up the
outer product of each hidden state with itself:

    A(t)       = decay A(t-1) + rate h(t) h(t)^T
    h_0(t+1)   = f(W h(t) + C x(t))
    h_s+1(t+1) = f(LN[W h(t) + C x(t) + A(t) h_s(t+1)])        s = 0, ..., S - 1

The last `h_S` is the next hidden state: `x(t)` is what is read on the way from `h(t)` to `h(t+1)`.
Row `t` of the hidden states that are returned is the one after input `t`. `A h` can be had without
`A`: it is attention over the past hidden states, with the bare products for weights, older ones
fading. `H` hidden units, `T` steps.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attnbook.core import Attended, attend
from attnbook.scores import dot

__all__ = ["FastWeightState", "FastWeightStates", "FastWeights", "PastStates", "recall", "write"]


class FastWeightState(NamedTuple):
    """What the network carries from one step to the next.

    Attributes:
        hidden: `(*b, H)`, `h(t)`.
        fast: `(*b, H, H)`, `A(t)`.
    """

    hidden: Float[Tensor, "*b H"]
    fast: Float[Tensor, "*b H H"]


class FastWeightStates(NamedTuple):
    """A sequence, read with the matrix.

    Attributes:
        hidden: `(*b, T, H)`, the hidden states.
        state: after the last step.
    """

    hidden: Float[Tensor, "*b T H"]
    state: FastWeightState


class PastStates(NamedTuple):
    """A sequence, read with attention over the past hidden states.

    Attributes:
        hidden: `(*b, T, H)`, the hidden states.
        weights: `(*b, T, T)`, in row t what each past state weighs in the last inner step of step
            t; 0 from t on.
    """

    hidden: Float[Tensor, "*b T H"]
    weights: Float[Tensor, "*b T T"]


def write(
    fast: Float[Tensor, "*b H H"],
    hidden: Float[Tensor, "*b H"],
    *,
    decay: float = 0.95,
    rate: float = 0.5,
) -> Float[Tensor, "*b H H"]:
    """The fast weights after one more hidden state: they fade, and its outer product is added.

    Args:
        fast: `(*b, H, H)`, `A(t-1)`.
        hidden: `(*b, H)`, `h(t)`.
        decay: what is left of the old fast weights, between 0 and 1.
        rate: how much of the outer product is added.

    Raises:
        ValueError: shapes do not fit.

    Source:
        Ba et al. 2016, equation 1.

    >>> write(torch.eye(2), torch.tensor([0.0, 2.0]))
    tensor([[0.9500, 0.0000],
            [0.0000, 2.9500]])
    """
    H = hidden.shape[-1]
    if fast.shape[-2:] != (H, H):
        raise ValueError(
            f"fast must have shape (*b, {H}, {H}) for {H} hidden units, got {tuple(fast.shape)}"
        )
    return decay * fast + (rate * hidden).unsqueeze(-1) @ hidden.unsqueeze(-2)


def recall(
    query: Float[Tensor, "*#b L H"],
    past: Float[Tensor, "*#b T H"],
    *,
    decay: float = 0.95,
    rate: float = 0.5,
) -> Attended:
    """What the fast weights make of a vector, from the past hidden states and without the matrix.

    Each past state is weighed by its product with the query, which fades with its age. It is
    `attend` with the past for keys and values and no softmax, so the weights do not sum to 1.

    Args:
        query: `(*b, L, H)`.
        past: `(*b, T, H)`, oldest first. The last one is of age 0.
        decay: what is left of a state after one step, between 0 and 1.
        rate: factor of all weights.

    Returns:
        The output `(*b, L, H)` and the weights `(*b, L, T)`.

    Raises:
        TypeError: an input is not a floating-point tensor.
        ValueError: shapes do not fit.

    Source:
        Ba et al. 2016, equation 4.

    >>> past = torch.eye(2)
    >>> recall(torch.tensor([[2.0, 2.0]]), past, decay=0.5, rate=1.0)
    Attended(output=tensor([[1., 2.]]), weights=tensor([[1., 2.]]))
    """

    def fading(scores: Tensor) -> Tensor:
        age = torch.arange(scores.shape[-1] - 1, -1, -1, dtype=scores.dtype, device=scores.device)
        return scores * decay**age

    return attend(query, past, past, score=dot(rate), normalize=fading)


class FastWeights(nn.Module):
    """A recurrent network with fast weights.

    Args:
        input_dim: width of an input.
        hidden_dim: `H`.
        decay: of the fast weights, between 0 and 1; the paper's lambda.
        rate: of the fast weights, not negative; the paper's eta.
        inner_steps: `S`, how often the fast weights act within one step.
        layer_norm: normalise the sum before the nonlinearity, in the inner steps.
        activation: the nonlinearity `f`.

    Shapes:
        inputs `(*b, T, input_dim)`, hidden states `(*b, T, H)`.

    Raises:
        ValueError: a number is out of range.

    Source:
        Ba et al. 2016, equations 1, 2 and 5. The slow weights start as 0.05 times the identity.

    >>> _ = torch.manual_seed(0)
    >>> network = FastWeights(3, 8)
    >>> inputs = torch.randn(5, 3)
    >>> read = network(inputs)
    >>> read.hidden.shape, read.state.fast.shape
    (torch.Size([5, 8]), torch.Size([8, 8]))
    >>> torch.allclose(read.hidden, network.attending(inputs).hidden, atol=1e-5)
    True
    """

    def __init__(
        self,
        input_dim: int,
        hidden_dim: int,
        *,
        decay: float = 0.95,
        rate: float = 0.5,
        inner_steps: int = 1,
        layer_norm: bool = True,
        activation: Callable[[Tensor], Tensor] = torch.relu,
    ) -> None:
        super().__init__()
        sizes = {"input_dim": input_dim, "hidden_dim": hidden_dim, "inner_steps": inner_steps}
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"{name} must be at least 1, got {size}")
        if not 0.0 <= decay <= 1.0:
            raise ValueError(f"decay must be between 0 and 1, got {decay}")
        if not rate >= 0.0:
            raise ValueError(f"rate must not be negative, got {rate}")
        self.decay, self.rate, self.inner_steps = decay, rate, inner_steps
        self.activation = activation
        self.input = nn.Linear(input_dim, hidden_dim)  # C
        self.slow = nn.Linear(hidden_dim, hidden_dim, bias=False)  # W
        self.norm = nn.LayerNorm(hidden_dim) if layer_norm else nn.Identity()
        with torch.no_grad():
            self.slow.weight.copy_(0.05 * torch.eye(hidden_dim))

    def forward(
        self, inputs: Float[Tensor, "*b T I"], state: FastWeightState | None = None
    ) -> FastWeightStates:
        """Read a sequence with the matrix `A`.

        Args:
            inputs: `(*b, T, input_dim)`.
            state: of what went before; None is nothing.

        Raises:
            ValueError: the inputs or the state do not fit.
        """
        drive = self._drive(inputs)
        nothing = self._nothing(drive)
        state = nothing if state is None else state
        for name, given, wanted in zip(FastWeightState._fields, state, nothing, strict=True):
            if given.shape != wanted.shape:
                raise ValueError(
                    f"state.{name} must have shape {tuple(wanted.shape)}, got {tuple(given.shape)}"
                )
        hidden, fast = state
        rows = []
        for x in drive.unbind(-2):
            before = self.slow(hidden) + x
            hidden = self.activation(before)
            for _ in range(self.inner_steps):
                recalled = (fast @ hidden.unsqueeze(-1)).squeeze(-1)
                hidden = self.activation(self.norm(before + recalled))
            fast = write(fast, hidden, decay=self.decay, rate=self.rate)
            rows.append(hidden)
        return FastWeightStates(torch.stack(rows, dim=-2), FastWeightState(hidden, fast))

    def attending(self, inputs: Float[Tensor, "*b T I"]) -> PastStates:
        """Read a sequence with attention over the past hidden states: the same numbers.

        Args:
            inputs: `(*b, T, input_dim)`.

        Raises:
            ValueError: the inputs do not fit.
        """
        drive = self._drive(inputs)
        hidden = self._nothing(drive).hidden
        past = hidden.unsqueeze(-2)[..., :0, :]
        looks = []
        for x in drive.unbind(-2):
            before = self.slow(hidden) + x
            hidden = self.activation(before)
            for _ in range(self.inner_steps):
                found = recall(hidden.unsqueeze(-2), past, decay=self.decay, rate=self.rate)
                hidden = self.activation(self.norm(before + found.output.squeeze(-2)))
            assert found.weights is not None  # `attend` always returns them
            looks.append(found.weights)
            past = torch.cat([past, hidden.unsqueeze(-2)], dim=-2)
        T = len(looks)
        padded = [nn.functional.pad(look, (0, T - look.shape[-1])) for look in looks]
        return PastStates(past, torch.cat(padded, dim=-2))

    def _drive(self, inputs: Tensor) -> Tensor:
        """`C x` of all steps."""
        width = self.input.in_features
        if inputs.ndim < 2 or inputs.shape[-1] != width or not inputs.shape[-2]:
            raise ValueError(
                f"inputs must have shape (*b, at least 1 step, {width}), got {tuple(inputs.shape)}"
            )
        return self.input(inputs)

    def _nothing(self, drive: Tensor) -> FastWeightState:
        """The state before the first step, all zero."""
        *batch, _, H = drive.shape
        return FastWeightState(drive.new_zeros(*batch, H), drive.new_zeros(*batch, H, H))

    def extra_repr(self) -> str:
        """The numbers that are not learnt."""
        return f"decay={self.decay}, rate={self.rate}, inner_steps={self.inner_steps}"
