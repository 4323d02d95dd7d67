"""The Neural Turing Machine: a network that reads and writes a memory.

Written from Graves, Wayne, Danihelka 2014 ("the paper" below), whose symbols are used. `N` slots of
width `M` are the memory; `H` heads say where, and a controller of width `C` says what the heads do.

    controller  input, and what was read before             (B, C)        section 3.4
    address     w, from the memory and the weights before   (B, H, N)     equations 5 to 9
    write       M(i) <- M(i) (1 - w(i) e) + w(i) a          (B, N, M)     equations 3, 4
    read        r = sum_i w(i) M(i)                         (B, H, M)     equation 2

Where the heads go is `attnbook.addressing`, what they change `attnbook.writing`, and reading is
`aggregate`. Here are the controllers, and the machine that puts these together.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attnbook.addressing import Head, address
from attnbook.core import aggregate
from attnbook.layers import check_sizes
from attnbook.writing import write

__all__ = [
    "Controller",
    "FeedForwardController",
    "LSTMController",
    "MachineState",
    "Ran",
    "TuringMachine",
]


class Controller(Protocol):
    """What the machine asks of a controller: `FeedForwardController` and `LSTMController` are two.

    It is made as `Controller(input_dim, hidden_dim)`.
    """

    def begin(self, size: int) -> tuple[Tensor, ...]:
        """What it carries before the first step, for `size` inputs; it may be nothing."""

    def __call__(self, x: Tensor, carried: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Read `(B, input_dim)`; give `(B, hidden_dim)`, and what it carries on."""


class FeedForwardController(nn.Module):
    """One layer that carries nothing: all that the machine knows of the past is in the memory.

    Args:
        input_dim: width of what it reads: an input, and what the heads read at the step before.
        hidden_dim: `C`.

    Source:
        Graves, Wayne, Danihelka 2014, section 3.4, which does not name the layer's function.

    >>> FeedForwardController(3, 4)(torch.ones(2, 3), ())[0].shape
    torch.Size([2, 4])
    """

    def __init__(self, input_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.layer = nn.Linear(input_dim, hidden_dim)

    def begin(self, size: int) -> tuple[Tensor, ...]:
        """Nothing."""
        return ()

    def forward(
        self, x: Float[Tensor, "B input_dim"], carried: tuple[Tensor, ...]
    ) -> tuple[Float[Tensor, "B C"], tuple[Tensor, ...]]:
        """One step."""
        return self.layer(x).relu(), ()


class LSTMController(nn.Module):
    """One layer of LSTM units: a memory of its own beside the other.

    Args:
        input_dim: width of what it reads.
        hidden_dim: `C`.

    Source:
        Graves, Wayne, Danihelka 2014, section 3.4. It begins with zeros.

    >>> controller = LSTMController(3, 4)
    >>> hidden, (_, cell) = controller(torch.ones(2, 3), controller.begin(2))
    >>> hidden.shape, cell.shape
    (torch.Size([2, 4]), torch.Size([2, 4]))
    """

    def __init__(self, input_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(input_dim, hidden_dim)

    def begin(self, size: int) -> tuple[Tensor, ...]:
        """A state and a cell of zeros."""
        zeros = self.cell.weight_hh.new_zeros(size, self.cell.hidden_size)
        return zeros, zeros

    def forward(
        self, x: Float[Tensor, "B input_dim"], carried: tuple[Tensor, ...]
    ) -> tuple[Float[Tensor, "B C"], tuple[Tensor, ...]]:
        """One step."""
        hidden, cell = self.cell(x, (carried[0], carried[1]))
        return hidden, (hidden, cell)


class MachineState(NamedTuple):
    """What the machine carries from step to step.

    Attributes:
        memory: `(B, N, M)`.
        weights: `(B, H, N)`, where the heads are: the reading ones first, then the writing ones.
        reads: `(B, R, M)`, what the reading heads read.
        carried: what the controller carries.
    """

    memory: Float[Tensor, "B N M"]
    weights: Float[Tensor, "B H N"]
    reads: Float[Tensor, "B R M"]
    carried: tuple[Tensor, ...]


class Ran(NamedTuple):
    """What the machine returns.

    Attributes:
        output: `(B, T, O)`, not squashed: for bits, logits.
        read_weights: `(B, T, R, N)`.
        write_weights: `(B, T, W, N)`.
        state: after the last step.
    """

    output: Float[Tensor, "B T O"]
    read_weights: Float[Tensor, "B T R N"]
    write_weights: Float[Tensor, "B T W N"]
    state: MachineState


class TuringMachine(nn.Module):
    """A controller that steers `R` reading and `W` writing heads over a memory.

    Args:
        input_dim: width of an input.
        output_dim: `O`, width of an output.
        hidden_dim: `C`, units of the controller.
        controller: makes it, as `controller(width of what it reads, hidden_dim)`.
        slots: `N`; no parameter depends on it, and `begin` can be asked for another number.
        memory_dim: `M`, width of a slot.
        read_heads: `R`.
        write_heads: `W`.
        steps: `K`, odd: how many shifts a head can choose from.

    At every step the controller reads the input and what was read at the step before, the heads
    move, the memory is written, and then read.

    Raises:
        ValueError: a size is below 1, steps is even, or (when called) shapes do not fit.
        TypeError: a size is not an integer.

    Source:
        Graves, Wayne, Danihelka 2014, section 3. There the memory and the reads begin with "bias
        values" (section 4); where the heads begin, and which functions keep their numbers in
        range, is not said. Here the memory begins with a small constant in every slot (Collier,
        Beel 2018), and all heads at slot 0.

    >>> machine = TuringMachine(input_dim=9, output_dim=8, hidden_dim=16)
    >>> ran = machine(torch.zeros(2, 5, 9))
    >>> ran.output.shape, ran.write_weights.shape, ran.state.memory.shape
    (torch.Size([2, 5, 8]), torch.Size([2, 5, 1, 128]), torch.Size([2, 128, 20]))
    >>> machine(torch.zeros(2, 5, 9), machine.begin(2, slots=40)).state.memory.shape
    torch.Size([2, 40, 20])
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        hidden_dim: int,
        *,
        controller: Callable[[int, int], Controller] = FeedForwardController,
        slots: int = 128,
        memory_dim: int = 20,
        read_heads: int = 1,
        write_heads: int = 1,
        steps: int = 3,
    ) -> None:
        super().__init__()
        check_sizes(input_dim=input_dim, output_dim=output_dim, hidden_dim=hidden_dim)
        check_sizes(slots=slots, memory_dim=memory_dim)
        check_sizes(read_heads=read_heads, write_heads=write_heads, steps=steps)
        if steps % 2 == 0:
            raise ValueError(f"steps must be odd, got {steps}")
        self.input_dim, self.slots, self.memory_dim = input_dim, slots, memory_dim
        self.read_heads, self.write_heads, self.steps = read_heads, write_heads, steps
        read = read_heads * memory_dim
        self.controller = controller(input_dim + read, hidden_dim)
        self.where = nn.Linear(hidden_dim, (read_heads + write_heads) * (memory_dim + 3 + steps))
        self.what = nn.Linear(hidden_dim, write_heads * 2 * memory_dim)
        self.output = nn.Linear(hidden_dim + read, output_dim)

    def begin(self, size: int, slots: int | None = None) -> MachineState:
        """The state before the first step: a constant memory, all heads at slot 0.

        Args:
            size: `B`.
            slots: `N`; those of the machine when None.
        """
        slots = self.slots if slots is None else slots
        check_sizes(slots=slots)
        make = self.output.weight.new_full
        memory = make((size, slots, self.memory_dim), 1e-3)
        weights = make((size, self.read_heads + self.write_heads, slots), 0.0)
        weights[..., 0] = 1.0
        reads = make((size, self.read_heads, self.memory_dim), 1e-3)
        return MachineState(memory, weights, reads, self.controller.begin(size))

    def forward(self, inputs: Float[Tensor, "B T I"], state: MachineState | None = None) -> Ran:
        """Read the inputs one after the other.

        Args:
            inputs: `(B, T, input_dim)`.
            state: where to go on from; the beginning when None.
        """
        if inputs.ndim != 3 or inputs.shape[2] != self.input_dim or not inputs.shape[1]:
            raise ValueError(
                f"inputs must have shape (batch, at least 1 step, {self.input_dim}), "
                f"got {tuple(inputs.shape)}"
            )
        state = self.begin(len(inputs)) if state is None else state
        if len(state.memory) != len(inputs):
            raise ValueError(f"state is of {len(state.memory)} inputs but there are {len(inputs)}")
        outputs, weights = [], []
        for x in inputs.unbind(1):
            output, state = self.step(x, state)
            outputs.append(output)
            weights.append(state.weights)
        heads = torch.stack(weights, dim=1)
        reading, writing = heads.split((self.read_heads, self.write_heads), dim=2)
        return Ran(torch.stack(outputs, dim=1), reading, writing, state)

    def step(
        self, x: Float[Tensor, "B I"], state: MachineState
    ) -> tuple[Float[Tensor, "B O"], MachineState]:
        """One step: the output, and the state after it."""
        hidden, carried = self.controller(
            torch.cat([x, state.reads.flatten(1)], dim=1), state.carried
        )
        weights = address(state.memory, state.weights, self.head(hidden))
        reading, writing = weights.split((self.read_heads, self.write_heads), dim=1)
        memory = write(state.memory, writing, *self.vectors(hidden))
        reads = aggregate(reading, memory)
        output = self.output(torch.cat([hidden, reads.flatten(1)], dim=1))
        return output, MachineState(memory, weights, reads, carried)

    def head(self, hidden: Float[Tensor, "B C"]) -> Head:
        """Where the controller sends the heads, each number in its range."""
        numbers = self.where(hidden).unflatten(-1, (self.read_heads + self.write_heads, -1))
        key, strength, gate, sharpness, steps = numbers.split(
            (self.memory_dim, 1, 1, 1, self.steps), dim=-1
        )
        softplus = nn.functional.softplus
        return Head(
            key, softplus(strength), gate.sigmoid(), steps.softmax(-1), 1 + softplus(sharpness)
        )

    def vectors(
        self, hidden: Float[Tensor, "B C"]
    ) -> tuple[Float[Tensor, "B W M"], Float[Tensor, "B W M"]]:
        """What the writing heads erase, each entry in (0, 1), and what they add."""
        erased, added = self.what(hidden).unflatten(-1, (self.write_heads, -1)).chunk(2, dim=-1)
        return erased.sigmoid(), added
