"""The Neural Turing Machine: a network that reads and writes a memory.

Written from Graves, Wayne, Danihelka 2014 ("the paper" below), whose symbols are used. `N` slots of
width `M` are the memory; `H` heads say where, and a controller of width `C` says what the heads do.

    content     w_c = softmax(beta K[k, M])                 (*b, H, N)    equations 5, 6
    gate        w_g = g w_c + (1 - g) w_before              (*b, H, N)    equation 7
    shift       w~(i) = sum_j w_g(j) s(i - j)               (*b, H, N)    equation 8
    sharpen     w = w~^gamma / sum w~^gamma                 (*b, H, N)    equation 9
    write       M(i) <- M(i) (1 - w(i) e) + w(i) a          (*b, N, M)    equations 3, 4
    read        r = sum_i w(i) M(i)                         (*b, H, M)    equation 2

Content is attention over the slots and reading is `aggregate`. The three steps between them, and
writing, are the machine's own.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attnbook.core import aggregate, attention_weights
from attnbook.scores import cosine

__all__ = [
    "Controller",
    "FeedForwardController",
    "Head",
    "LSTMController",
    "MachineState",
    "Ran",
    "TuringMachine",
    "add",
    "address",
    "content_weights",
    "erase",
    "interpolate",
    "sharpen",
    "shift",
    "write",
]


class Head(NamedTuple):
    """What the controller tells `H` heads: where to go.

    Attributes:
        key: `(*b, H, M)`, `k`, what to look for.
        strength: `(*b, H, 1)`, `beta`, above 0: how sharply.
        gate: `(*b, H, 1)`, `g` in (0, 1): 1 goes where the key is found, 0 stays where it was.
        shift: `(*b, H, K)`, `s`, a distribution over `K` steps, from `-(K // 2)` to `K // 2`.
        sharpness: `(*b, H, 1)`, `gamma`, at least 1.
    """

    key: Float[Tensor, "*b H M"]
    strength: Float[Tensor, "*b H 1"]
    gate: Float[Tensor, "*b H 1"]
    shift: Float[Tensor, "*b H K"]
    sharpness: Float[Tensor, "*b H 1"]


def content_weights(
    key: Float[Tensor, "*b H M"], memory: Float[Tensor, "*b N M"], strength: Float[Tensor, "*b H 1"]
) -> Float[Tensor, "*b H N"]:
    """Where the memory holds something like the key: attention with the cosine score.

    Args:
        key: `(*b, H, M)`, one for each head.
        memory: `(*b, N, M)`.
        strength: `(*b, H, 1)`, multiplies the cosine.

    Returns:
        Weights `(*b, H, N)`. A slot or a key of zeros has the cosine 0.

    Raises:
        TypeError: an input is not a floating-point tensor.
        ValueError: widths or leading axes do not fit.

    Source:
        Graves, Wayne, Danihelka 2014, equations 5 and 6.

    >>> memory = torch.tensor([[2.0, 0.0], [0.0, 3.0], [0.0, 0.0]])
    >>> content_weights(torch.tensor([[0.5, 0.0]]), memory, strength=torch.tensor([[4.0]]))
    tensor([[0.9647, 0.0177, 0.0177]])
    """

    def score(query: Tensor, slots: Tensor) -> Tensor:
        return strength * cosine()(query, slots)

    return attention_weights(key, memory, score=score)


def interpolate(
    content: Float[Tensor, "*b H N"],
    before: Float[Tensor, "*b H N"],
    gate: Float[Tensor, "*b H 1"],
) -> Float[Tensor, "*b H N"]:
    """Between where the key is found and where the head was: `g w_c + (1 - g) w_before`.

    Args:
        content: `(*b, H, N)`, the weights by content.
        before: `(*b, H, N)`, the head's weights of the step before.
        gate: `(*b, H, 1)`, in [0, 1]; at 0 the content is ignored.

    Raises:
        ValueError: the number of slots differs.

    Source:
        Graves, Wayne, Danihelka 2014, equation 7.

    >>> found, before = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[0.0, 0.0, 1.0]])
    >>> interpolate(found, before, gate=torch.tensor([[0.25]]))
    tensor([[0.2500, 0.0000, 0.7500]])
    """
    if content.shape[-1] != before.shape[-1]:
        raise ValueError(f"content has {content.shape[-1]} slots but before has {before.shape[-1]}")
    return torch.lerp(before, content, gate)


def shift(
    weights: Float[Tensor, "*b H N"], steps: Float[Tensor, "*b H K"]
) -> Float[Tensor, "*b H N"]:
    """Move the weights along the memory, whose last slot is followed by its first.

    Args:
        weights: `(*b, H, N)`.
        steps: `(*b, H, K)`, a distribution over the steps `-(K // 2)` to `K // 2`; `K` is odd. With
            `K = 3` these are a step back, none, and a step forward, to the next higher slot.

    Returns:
        The circular convolution `(*b, H, N)`.

    Raises:
        ValueError: `K` is even.

    Source:
        Graves, Wayne, Danihelka 2014, equation 8.

    >>> shift(torch.tensor([[0.0, 0.0, 0.9, 0.1]]), steps=torch.tensor([[0.0, 0.0, 1.0]]))
    tensor([[0.1000, 0.0000, 0.0000, 0.9000]])
    """
    K = steps.shape[-1]
    if K % 2 == 0:
        raise ValueError(f"steps must hold an odd number of steps, got {K}")
    moved = [weights.roll(k - K // 2, dims=-1) for k in range(K)]
    return torch.stack([s * w for s, w in zip(steps.split(1, -1), moved, strict=True)]).sum(0)


def sharpen(
    weights: Float[Tensor, "*b H N"], sharpness: Float[Tensor, "*b H 1"]
) -> Float[Tensor, "*b H N"]:
    """Undo the blur that shifting leaves: each weight to a power, then the sum to one again.

    Args:
        weights: `(*b, H, N)`, not negative.
        sharpness: `(*b, H, 1)`, at least 1; 1 changes nothing of weights that sum to one.

    Returns:
        Weights `(*b, H, N)`; a row of zeros stays one. The largest weight is divided out first,
        which changes nothing of the result and keeps high powers above 0.

    Source:
        Graves, Wayne, Danihelka 2014, equation 9.

    >>> sharpen(torch.tensor([[0.1, 0.8, 0.1]]), sharpness=torch.tensor([[3.0]]))
    tensor([[0.0019, 0.9961, 0.0019]])
    """
    largest = weights.detach().amax(-1, keepdim=True).clamp_min(torch.finfo(weights.dtype).tiny)
    powers = (weights / largest) ** sharpness
    return powers / powers.sum(-1, keepdim=True).clamp_min(1.0)  # the largest power is 1


def address(
    memory: Float[Tensor, "*b N M"], before: Float[Tensor, "*b H N"], head: Head
) -> Float[Tensor, "*b H N"]:
    """Where the heads go: by content, gate, shift and sharpening, in this order.

    Args:
        memory: `(*b, N, M)`.
        before: `(*b, H, N)`, where the heads were.
        head: what the controller tells them.

    Raises:
        TypeError: an input is not a floating-point tensor.
        ValueError: shapes do not fit, or the steps of the shift are even in number.

    Source:
        Graves, Wayne, Danihelka 2014, figure 2 and section 3.3.

    >>> memory, before = torch.eye(4, 2), torch.tensor([[0.0, 0.0, 1.0, 0.0]])
    >>> one = torch.ones(1, 1)
    >>> forward = torch.tensor([[0.0, 0.0, 1.0]])
    >>> address(memory, before, Head(memory[:1], 200 * one, 0 * one, forward, one))  # from before
    tensor([[0., 0., 0., 1.]])
    >>> address(memory, before, Head(memory[:1], 200 * one, one, forward, one))  # from the key
    tensor([[0., 1., 0., 0.]])
    """
    content = content_weights(head.key, memory, head.strength)
    gated = interpolate(content, before, head.gate)
    return sharpen(shift(gated, head.shift), head.sharpness)


def erase(
    memory: Float[Tensor, "*b N M"],
    weights: Float[Tensor, "*b H N"],
    vectors: Float[Tensor, "*b H M"],
) -> Float[Tensor, "*b N M"]:
    """Wipe out: entry by entry, `M(i) (1 - w(i) e)`, for every head.

    Args:
        memory: `(*b, N, M)`.
        weights: `(*b, H, N)`, where.
        vectors: `(*b, H, M)`, `e`, in [0, 1]; 1 where weight is 1 leaves 0.

    Raises:
        ValueError: slots, widths or the number of heads do not fit.

    Source:
        Graves, Wayne, Danihelka 2014, equation 3.

    >>> erase(torch.ones(2, 2), torch.tensor([[1.0, 0.5]]), torch.tensor([[1.0, 0.0]]))
    tensor([[0.0000, 1.0000],
            [0.5000, 1.0000]])
    """
    _check_write(memory, weights, vectors)
    for w, e in zip(weights.unbind(-2), vectors.unbind(-2), strict=True):
        memory = memory * (1 - w.unsqueeze(-1) * e.unsqueeze(-2))
    return memory


def add(
    memory: Float[Tensor, "*b N M"],
    weights: Float[Tensor, "*b H N"],
    vectors: Float[Tensor, "*b H M"],
) -> Float[Tensor, "*b N M"]:
    """Write onto what is there: `M(i) + w(i) a`, for every head.

    Args:
        memory: `(*b, N, M)`.
        weights: `(*b, H, N)`, where.
        vectors: `(*b, H, M)`, `a`, what.

    Raises:
        ValueError: slots, widths or the number of heads do not fit.

    Source:
        Graves, Wayne, Danihelka 2014, equation 4.

    >>> add(torch.ones(2, 2), torch.tensor([[1.0, 0.5]]), torch.tensor([[2.0, 0.0]]))
    tensor([[3., 1.],
            [2., 1.]])
    """
    _check_write(memory, weights, vectors)
    return memory + weights.mT @ vectors


def write(
    memory: Float[Tensor, "*b N M"],
    weights: Float[Tensor, "*b H N"],
    erased: Float[Tensor, "*b H M"],
    added: Float[Tensor, "*b H M"],
) -> Float[Tensor, "*b N M"]:
    """Erase with every head, then add with every head; among themselves their order is free.

    Args:
        memory: `(*b, N, M)`.
        weights: `(*b, H, N)`, where.
        erased: `(*b, H, M)`, in [0, 1].
        added: `(*b, H, M)`.

    Raises:
        ValueError: slots, widths or the number of heads do not fit.

    Source:
        Graves, Wayne, Danihelka 2014, section 3.2.

    >>> here = torch.tensor([[1.0, 0.0]])
    >>> write(torch.ones(2, 3), here, erased=torch.ones(1, 3), added=torch.full((1, 3), 5.0))
    tensor([[5., 5., 5.],
            [1., 1., 1.]])
    """
    return add(erase(memory, weights, erased), weights, added)


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
        sizes = locals()
        for name in (
            *("input_dim", "output_dim", "hidden_dim", "slots"),
            *("memory_dim", "read_heads", "write_heads", "steps"),
        ):
            if sizes[name] < 1:
                raise ValueError(f"{name} must be at least 1, got {sizes[name]}")
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
        if slots < 1:
            raise ValueError(f"slots must be at least 1, got {slots}")
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


def _check_write(memory: Tensor, weights: Tensor, vectors: Tensor) -> None:
    if weights.shape[-1] != memory.shape[-2]:
        raise ValueError(f"weights have {weights.shape[-1]} slots but memory {memory.shape[-2]}")
    if vectors.shape[-1] != memory.shape[-1]:
        raise ValueError(f"vectors have width {vectors.shape[-1]} but memory {memory.shape[-1]}")
    if vectors.shape[-2] != weights.shape[-2]:
        raise ValueError(f"vectors have {vectors.shape[-2]} heads but weights {weights.shape[-2]}")
