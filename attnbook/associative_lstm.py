"""The associative LSTM: a cell of complex numbers that holds several items at a time.

An item is bound to its key by the product, entry by entry, of two complex vectors, and the bound
items are added up. Who multiplies the sum by the opposite phases of a key gets the item back, and
the others as noise. Copies of the memory, each with the keys in another order, have noise of their
own, so that their mean is cleaner.

`N` is the width of the hidden state, real parts first, then imaginary parts; `n = N / 2` the
complex entries; `K` the copies.
"""

from typing import NamedTuple

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn

__all__ = ["AssociativeLSTM", "AssociativeState", "AssociativeStates", "bound"]


class AssociativeState(NamedTuple):
    """What the network carries from one step to the next.

    Attributes:
        hidden: `(*b, N)`.
        cells: `(*b, K, n)`, complex: the copies of the memory.
    """

    hidden: Float[Tensor, "*b N"]
    cells: Complex[Tensor, "*b K n"]


class AssociativeStates(NamedTuple):
    """A sequence, read.

    Attributes:
        hidden: `(*b, T, N)`, the hidden states.
        state: after the last step.
    """

    hidden: Float[Tensor, "*b T N"]
    state: AssociativeState


def bound(z: Complex[Tensor, "*b n"]) -> Complex[Tensor, "*b n"]:
    """`z` with every modulus above 1 cut down to 1; the phases stay.

    Args:
        z: `(*b, n)`, complex.

    Source:
        Danihelka et al. 2016, the section on the associative LSTM.

    >>> bound(torch.tensor([3 + 4j, 0.3 + 0.4j]))
    tensor([0.6000+0.8000j, 0.3000+0.4000j])
    """
    return z / z.abs().clamp_min(1.0)


class AssociativeLSTM(nn.Module):
    """An LSTM whose cell is an associative memory with redundant copies.

    Each step makes three gates, a key to write with, a key to read with, and a content `u`:

        c_s = g_f c_s + (P_s r_i) (g_i u)             for each copy s
        h   = g_o bound(mean over s of (P_s r_o) c_s)

    Products are entry by entry, of complex numbers; `P_s` is a permutation, drawn once. The keys
    `r_i`, `r_o` and the content `u` go through `bound` as well, before they are used: a key is of
    modulus 1 at most, not of modulus 1.

    Args:
        input_dim: width of an input.
        hidden_dim: `N`, even.
        copies: `K`.

    Shapes:
        inputs `(*b, T, input_dim)`, float32 or float64; hidden states `(*b, T, N)`.

    Raises:
        ValueError: a number is below 1, or hidden_dim is odd.

    Source:
        Danihelka et al. 2016, the section on the associative LSTM.

    >>> network = AssociativeLSTM(3, 8, copies=4)
    >>> read = network(torch.randn(5, 3))
    >>> read.hidden.shape, read.state.cells.shape
    (torch.Size([5, 8]), torch.Size([4, 4]))
    """

    permutations: Tensor

    def __init__(self, input_dim: int, hidden_dim: int, *, copies: int = 4) -> None:
        super().__init__()
        for name, size in (
            ("input_dim", input_dim),
            ("hidden_dim", hidden_dim),
            ("copies", copies),
        ):
            if size < 1:
                raise ValueError(f"{name} must be at least 1, got {size}")
        if hidden_dim % 2:
            raise ValueError(f"hidden_dim must be even, real and imaginary parts, got {hidden_dim}")
        n = hidden_dim // 2
        self.sizes = [n, n, n, hidden_dim, hidden_dim, hidden_dim]  # three gates; r_i, r_o, u
        self.input = nn.Linear(input_dim, sum(self.sizes))
        self.recurrent = nn.Linear(hidden_dim, sum(self.sizes), bias=False)
        orders = torch.stack([torch.randperm(n) for _ in range(copies)])
        self.register_buffer("permutations", orders)  # (K, n)

    def forward(
        self, inputs: Float[Tensor, "*b T I"], state: AssociativeState | None = None
    ) -> AssociativeStates:
        """Read a sequence.

        Args:
            inputs: `(*b, T, input_dim)`.
            state: of what went before; None is nothing.

        Raises:
            TypeError: the inputs are in half precision, which has no complex numbers here.
            ValueError: the inputs or the state do not fit.
        """
        width = self.input.in_features
        if inputs.ndim < 2 or inputs.shape[-1] != width or not inputs.shape[-2]:
            raise ValueError(
                f"inputs must have shape (*b, at least 1 step, {width}), got {tuple(inputs.shape)}"
            )
        if inputs.dtype not in (torch.float32, torch.float64):
            raise TypeError(f"inputs must be float32 or float64, got {inputs.dtype}")
        drive = self.input(inputs)
        nothing = self._nothing(drive)
        state = nothing if state is None else state
        for name, x, wanted in zip(AssociativeState._fields, state, nothing, strict=True):
            if x.shape != wanted.shape:
                raise ValueError(
                    f"state.{name} must have shape {tuple(wanted.shape)}, got {tuple(x.shape)}"
                )
        hidden, cells = state
        rows = []
        for x in drive.unbind(-2):
            hidden, cells = self._step(x + self.recurrent(hidden), cells)
            rows.append(hidden)
        return AssociativeStates(torch.stack(rows, dim=-2), AssociativeState(hidden, cells))

    def _step(self, made: Tensor, cells: Tensor) -> AssociativeState:
        *gates, write_key, read_key, content = made.split(self.sizes, dim=-1)
        keep, take, give = (torch.sigmoid(gate) for gate in gates)
        r_i, r_o, u = (bound(_complex(part)) for part in (write_key, read_key, content))
        bound_item = r_i[..., self.permutations] * (take * u).unsqueeze(-2)  # (*b, K, n)
        cells = keep.unsqueeze(-2) * cells + bound_item
        read = bound((r_o[..., self.permutations] * cells).mean(dim=-2))
        hidden = torch.cat([give * read.real, give * read.imag], dim=-1)
        return AssociativeState(hidden, cells)

    def _nothing(self, drive: Tensor) -> AssociativeState:
        """The state before the first step, all zero."""
        batch, n = drive.shape[:-2], self.sizes[0]
        cells = drive.new_zeros(*batch, len(self.permutations), n)
        return AssociativeState(drive.new_zeros(*batch, 2 * n), torch.complex(cells, cells))


def _complex(x: Tensor) -> Tensor:
    """Real parts first, then imaginary parts, to complex numbers."""
    return torch.complex(*x.chunk(2, dim=-1))
