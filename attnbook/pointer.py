"""Pointer networks: the attention distribution is the output.

Written from Vinyals, Fortunato, Jaitly 2015 ("the paper" below), whose symbols are used. `B` inputs
of `S` points, `T` steps, `E` width of an encoder state `e_j` and of a decoder state `d_i`.

    scores   u_ij = v . tanh(W_1 e_j + W_2 d_i)              (B, T, S + 1)
    output   p(C_i | C_1 .. C_{i-1}, P) = softmax_j(u_ij)    (B, T, S + 1)

A pointer is a slot: 0 is the end of the output, `j` the `j`-th point, counted from 1. The slots are
as many as the input has points, and one: no vocabulary.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from attnbook.core import attention_weights
from attnbook.point_encoders import EncodedPoints, PointEncoder
from attnbook.scores import Additive

__all__ = ["Beams", "Memory", "Pointed", "PointerNetwork", "PointerState"]


class Memory(NamedTuple):
    """What every step of the decoder shares. Slot 0 comes first.

    Attributes:
        keys: `(B, S + 1, K)`, `W_1 e_j`, projected once; slot 0 is the end.
        inputs: `(B, S + 1, F)`, read after a slot was written; slot 0 is read at the start.
        mask: `(B, 1, S)`, True where a point is.
    """

    keys: Float[Tensor, "B slots K"]
    inputs: Float[Tensor, "B slots F"]
    mask: Bool[Tensor, "B 1 S"]


class PointerState(NamedTuple):
    """What the decoder carries from step to step, for `W` outputs of each input side by side.

    Attributes:
        hidden: `(B, W, E)`, `d_i`.
        cell: `(B, W, E)`, its memory cell.
        written: `(B, W, S + 1)`, how often each slot was written.
    """

    hidden: Float[Tensor, "B W E"]
    cell: Float[Tensor, "B W E"]
    written: Int[Tensor, "B W slots"]


class Pointed(NamedTuple):
    """What the network returns.

    Attributes:
        weights: `(B, T, S + 1)`, the distribution of each pointer; exactly 0 where forbidden.
        pointers: `(B, T)`, those given or chosen; after the end, 0.
        log_probability: `(B,)`, of the whole output, in nats.
    """

    weights: Float[Tensor, "B T slots"]
    pointers: Int[Tensor, "B T"]
    log_probability: Float[Tensor, " B"]


class Beams(NamedTuple):
    """What beam search returns, the best first.

    Attributes:
        pointers: `(B, W, T)`.
        log_probability: `(B, W)`, in nats; `-inf`, and pointers 0, where outputs are fewer than W.
    """

    pointers: Int[Tensor, "B W T"]
    log_probability: Float[Tensor, "B W"]


class PointerNetwork(nn.Module):
    """Ptr-Net: reads points and writes pointers to them, one at a step, until the end.

    Args:
        encoder: reads the points.
        hidden_dim: units of the score; `E` when None.
        revisit: whether a point may be pointed at again. The paper allows it, but for tours.
        stop: whether the end may be written before every point has been: True for hulls, False
            where all points are to be put in order.

    An output has at most as many points as the input; after them only the end is left. After the
    end, too, the end has weight 1, so what follows it changes no probability.

    Raises:
        TypeError: (when called) points are not floating-point, or the rest not of integers.
        ValueError: (when called) shapes do not fit, a length is not in 1..S, or a target holds a
            slot that is not there, or that may not be written there.

    Source:
        Vinyals, Fortunato, Jaitly 2015, section 2.3. The paper does not say how the end is scored;
        here it has a learnt key, as if it were one point more.

    >>> from attnbook.point_encoders import RecurrentEncoder
    >>> model = PointerNetwork(RecurrentEncoder(point_dim=2, state_dim=3))
    >>> points, lengths = torch.rand(1, 4, 2), torch.tensor([3])
    >>> model(points, lengths, torch.tensor([[2, 3, 0]])).weights.shape
    torch.Size([1, 3, 5])
    >>> bool((model.greedy(points, lengths).pointers <= 3).all())  # never the padding
    True
    """

    def __init__(
        self,
        encoder: PointEncoder,
        hidden_dim: int | None = None,
        *,
        revisit: bool = False,
        stop: bool = True,
    ) -> None:
        super().__init__()
        E, F = encoder.state_dim, encoder.input_dim
        self.encoder, self.revisit, self.stop = encoder, revisit, stop
        self.lstm = nn.LSTM(F, E, batch_first=True)
        self.score = Additive(E, E, hidden_dim or E)  # W_2, W_1, v
        self.end, self.begin = nn.Parameter(torch.randn(E)), nn.Parameter(torch.randn(F))

    def forward(
        self,
        points: Float[Tensor, "B S D"],
        lengths: Int[Tensor, " B"],
        target: Int[Tensor, "B T"],
    ) -> Pointed:
        """Teacher forcing: the distribution of each pointer, given the true ones before it.

        No step needs what another computes, so all `T` queries are made and asked together.
        """
        encoded = self.encoder(points, lengths)
        _check_target(target, points)
        memory = self.remember(encoded)
        previous = nn.functional.pad(target[:, :-1], (1, 0))  # slot 0 is read at the start
        read = _pick(memory.inputs, previous)
        queries, _ = self.lstm(read, (encoded.hidden[None], encoded.cell[None]))
        written = nn.functional.one_hot(previous.long(), memory.keys.shape[1]).cumsum(1)
        written[..., 0] -= 1
        logs = self.look(queries, memory, written)
        each = logs.gather(-1, target.long()[..., None]).squeeze(-1)
        if bool((each == float("-inf")).any()):
            b, t = (each == float("-inf")).nonzero()[0].tolist()
            raise ValueError(
                f"target may not write slot {int(target[b, t])} at step {t} of row {b}"
            )
        return Pointed(logs.exp(), target, each.sum(1))

    def remember(self, encoded: EncodedPoints) -> Memory:
        """Put slot 0 in front, and project the keys: once for all steps."""
        B = len(encoded.states)
        states = torch.cat([self.end.expand(B, 1, -1), encoded.states], dim=1)
        inputs = torch.cat([self.begin.expand(B, 1, -1), encoded.inputs], dim=1)
        return Memory(self.score.key(states), inputs, encoded.mask)

    def look(
        self,
        queries: Float[Tensor, "B L E"],
        memory: Memory,
        written: Int[Tensor, "B L slots"],
    ) -> Float[Tensor, "B L slots"]:
        """The log-probability of every slot: attention, and nothing behind it.

        It is normalised as a logarithm, so that an unlikely slot has a finite one.
        """
        return attention_weights(
            self.score.query(queries),
            memory.keys,
            score=self.score.compare,
            mask=self.allowed(memory.mask, written),
            normalize=_log_softmax,
        )

    def allowed(
        self, mask: Bool[Tensor, "B 1 S"], written: Int[Tensor, "B L slots"]
    ) -> Bool[Tensor, "B L slots"]:
        """Which slots may be written next, given how often each was."""
        ended, points = written[..., :1] > 0, written[..., 1:]
        full = points.sum(-1, keepdim=True) >= mask.sum(-1, keepdim=True)
        open_points = mask & ~ended & ~full
        if not self.revisit:
            open_points = open_points & (points == 0)
        return torch.cat([ended | full | self.stop, open_points], dim=-1)

    def begin_state(self, encoded: EncodedPoints, width: int = 1) -> PointerState:
        """The state before the first step, for `width` outputs of each input."""
        B, _, S = encoded.mask.shape
        hidden, cell = (x.unsqueeze(1).expand(-1, width, -1) for x in encoded[2:4])
        return PointerState(hidden, cell, encoded.mask.new_zeros(B, width, S + 1, dtype=torch.long))

    def step(
        self, previous: Int[Tensor, "B W"], state: PointerState, memory: Memory
    ) -> tuple[Float[Tensor, "B W slots"], PointerState]:
        """The log-probabilities of the next slots, and the state that they were asked with."""
        read = _pick(memory.inputs, previous).flatten(0, 1).unsqueeze(1)
        carried = tuple(x.flatten(0, 1).unsqueeze(0).contiguous() for x in state[:2])
        _, after = self.lstm(read, carried)
        hidden, cell = (x.squeeze(0).view(*previous.shape, -1) for x in after)
        return self.look(hidden, memory, state.written), PointerState(hidden, cell, state.written)

    @torch.no_grad()
    def greedy(self, points: Float[Tensor, "B S D"], lengths: Int[Tensor, " B"]) -> Pointed:
        """Write the likeliest slot at each step, until every output has ended."""
        return self._write(points, lengths, lambda logs: logs.argmax(-1))

    def sample(
        self,
        points: Float[Tensor, "B S D"],
        lengths: Int[Tensor, " B"],
        generator: torch.Generator | None = None,
    ) -> Pointed:
        """Draw each slot from its distribution. The log-probability has a gradient, for REINFORCE.

        Source:
            Williams 1992.
        """
        return self._write(
            points,
            lengths,
            lambda logs: torch.multinomial(
                logs.detach().exp().flatten(0, 1), 1, generator=generator
            ),
        )

    def _write(
        self, points: Tensor, lengths: Tensor, choose: Callable[[Tensor], Tensor]
    ) -> Pointed:
        encoded = self.encoder(points, lengths)
        memory, state = self.remember(encoded), self.begin_state(encoded)
        slot = lengths.new_zeros(len(points), 1, dtype=torch.long)
        all_logs, slots = [], []
        for _ in range(points.shape[1] + 1):
            logs, state = self.step(slot, state, memory)
            slot = choose(logs)
            state = state._replace(written=_count(state.written, slot))
            all_logs.append(logs.squeeze(1))
            slots.append(slot.squeeze(1))
            if not bool(slot.any()):
                break
        logs, pointers = torch.stack(all_logs, dim=1), torch.stack(slots, dim=1)
        each = logs.gather(-1, pointers.unsqueeze(-1)).squeeze(-1)
        return Pointed(logs.exp(), pointers, each.sum(1))

    @torch.no_grad()
    def beam(self, points: Float[Tensor, "B S D"], lengths: Int[Tensor, " B"], width: int) -> Beams:
        """Beam search: at each step, keep the `width` likeliest beginnings of every input.

        The beginnings of one input are queries to the same keys. An output that has ended stays in
        the beam as it is. With a width of at least all outputs, this is their whole list. Among
        equals, as two points in one place are, the lowest slot comes first.

        Raises:
            ValueError: width is below 1, or as when called.
        """
        if width < 1:
            raise ValueError(f"width must be at least 1, got {width}")
        encoded = self.encoder(points, lengths)
        memory, state = self.remember(encoded), self.begin_state(encoded, width)
        B, slots = len(points), points.shape[1] + 1
        total = memory.keys.new_full((B, width), float("-inf"))
        total[:, 0] = 0.0  # one beginning of nothing
        slot = lengths.new_zeros(B, width, dtype=torch.long)
        pointers = slot[..., :0].unsqueeze(1).expand(B, width, 0)
        for _ in range(slots):
            logs, state = self.step(slot, state, memory)
            every = (total.unsqueeze(-1) + logs).flatten(1)
            ranked, which = every.sort(dim=1, descending=True, stable=True)  # topk has no order
            total, which = ranked[:, :width], which[:, :width]
            parent, slot = which // slots, which % slots
            state = PointerState(*(_pick(x, parent) for x in state))
            state = state._replace(written=_count(state.written, slot))
            pointers = torch.cat([_pick(pointers, parent), slot.unsqueeze(-1)], dim=-1)
            slot = slot.masked_fill(total == float("-inf"), 0)
            if not bool(slot.any()):
                break
        return Beams(pointers.masked_fill((total == float("-inf"))[..., None], 0), total)


def _log_softmax(scores: Tensor) -> Tensor:
    return torch.log_softmax(scores, dim=-1)


def _pick(x: Tensor, index: Tensor) -> Tensor:
    """Along the second axis: `(B, N, F)` and `(B, L)` to `(B, L, F)`."""
    return x.gather(1, index.long().unsqueeze(-1).expand(-1, -1, x.shape[-1]))


def _count(written: Tensor, slot: Tensor) -> Tensor:
    return written + nn.functional.one_hot(slot, written.shape[-1])


def _check_target(target: Tensor, points: Tensor) -> None:
    if not isinstance(target, Tensor) or target.dtype not in (torch.int32, torch.int64):
        got = target.dtype if isinstance(target, Tensor) else type(target).__name__
        raise TypeError(f"target must be an int32 or int64 tensor, got {got}")
    if target.ndim != 2 or target.shape[1] == 0 or len(target) != len(points):
        raise ValueError(
            f"target must have shape ({len(points)}, at least 1 step), got {tuple(target.shape)}"
        )
    S = points.shape[1]
    if target.numel() and (target.min() < 0 or target.max() > S):
        low, high = int(target.min()), int(target.max())
        raise ValueError(f"target must hold slots 0..{S}, got {low}..{high}")
