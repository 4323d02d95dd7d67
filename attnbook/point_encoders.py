"""Encoders of points: an LSTM that reads them in order, and self-attention that has no order.

`B` inputs of `S` points with `D` coordinates; `E` is the width of a state. Padding stands behind
the true points and changes nothing. `attnbook.pointer` points at what they leave.
"""

from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from attnbook.core import attend
from attnbook.masks import padding

__all__ = ["AttentionEncoder", "EncodedPoints", "PointEncoder", "RecurrentEncoder"]


class EncodedPoints(NamedTuple):
    """What an encoder leaves for the decoder.

    Attributes:
        states: `(B, S, E)`, `e_j`: what is pointed at.
        inputs: `(B, S, F)`, what the decoder reads after it has pointed at a point.
        hidden: `(B, E)`, the decoder's first state `d_0`.
        cell: `(B, E)`, its first memory cell.
        mask: `(B, 1, S)`, True where a point is, False on padding.
    """

    states: Float[Tensor, "B S E"]
    inputs: Float[Tensor, "B S F"]
    hidden: Float[Tensor, "B E"]
    cell: Float[Tensor, "B E"]
    mask: Bool[Tensor, "B 1 S"]


@runtime_checkable
class PointEncoder(Protocol):
    """What the network asks of an encoder: `AttentionEncoder` and `RecurrentEncoder` are two."""

    state_dim: int
    """`E`."""
    input_dim: int
    """`F`."""

    def __call__(self, points: Tensor, lengths: Tensor) -> EncodedPoints:
        """Read the points `(B, S, D)`."""


class RecurrentEncoder(nn.Module):
    """The paper's: an LSTM over the points in the order in which they come.

    The decoder starts from its last state, and reads the point that it has pointed at.

    Args:
        point_dim: `D`, coordinates of a point.
        state_dim: `E`, units of the LSTM; the paper has 256 or 512.

    Source:
        Vinyals, Fortunato, Jaitly 2015, sections 2.1, 2.3 and 4.1.

    >>> encoder = RecurrentEncoder(point_dim=2, state_dim=3)
    >>> encoder(torch.rand(1, 4, 2), torch.tensor([3])).states.shape
    torch.Size([1, 4, 3])
    """

    def __init__(self, point_dim: int, state_dim: int) -> None:
        super().__init__()
        self.state_dim, self.input_dim = state_dim, point_dim
        self.lstm = nn.LSTM(point_dim, state_dim, batch_first=True)

    def forward(self, points: Float[Tensor, "B S D"], lengths: Int[Tensor, " B"]) -> EncodedPoints:
        """Read the points."""
        points, mask = _clean(points, lengths, self.input_dim)
        packed = pack_padded_sequence(points, lengths.cpu(), batch_first=True, enforce_sorted=False)
        states, (hidden, cell) = self.lstm(packed)
        states, _ = pad_packed_sequence(states, batch_first=True, total_length=points.shape[1])
        return EncodedPoints(states, points, hidden[0], cell[0], mask)


class AttentionEncoder(nn.Module):
    """Blocks of self-attention: every point looks at every other, and their order says nothing.

    Not the paper's. The decoder starts from the mean of the states, and reads the state of the
    point that it has pointed at; in the paper it reads the point itself.

    Args:
        point_dim: `D`, coordinates of a point.
        state_dim: `E`, divisible by heads.
        heads: attentions side by side in a block, each on its share of the state.
        blocks: how many.

    Raises:
        ValueError: heads does not divide state_dim.

    >>> encoder = AttentionEncoder(point_dim=2, state_dim=8, heads=2, blocks=1)
    >>> encoder(torch.rand(1, 4, 2), torch.tensor([3])).states.shape
    torch.Size([1, 4, 8])
    """

    def __init__(
        self, point_dim: int, state_dim: int = 64, heads: int = 4, blocks: int = 3
    ) -> None:
        super().__init__()
        if heads < 1 or state_dim % heads:
            raise ValueError(f"heads must divide state_dim = {state_dim}, got {heads}")
        self.state_dim, self.input_dim = state_dim, state_dim
        self.embed = nn.Linear(point_dim, state_dim)
        self.blocks = nn.ModuleList(_Block(state_dim, heads) for _ in range(blocks))
        self.norm = nn.LayerNorm(state_dim)
        self.first_state = nn.Linear(state_dim, state_dim)

    def forward(self, points: Float[Tensor, "B S D"], lengths: Int[Tensor, " B"]) -> EncodedPoints:
        """Read the points."""
        points, mask = _clean(points, lengths, self.embed.in_features)
        x = self.embed(points)
        for block in self.blocks:
            x = block(x, mask.unsqueeze(1))
        states = self.norm(x) * mask.mT
        mean = states.sum(1) / mask.sum(-1)
        hidden = torch.tanh(self.first_state(mean))
        return EncodedPoints(states, states, hidden, torch.zeros_like(hidden), mask)


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.project, self.output = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.each = nn.Sequential(
            nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width)
        )

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`(B, S, E)` to the same shape; the mask is `(B, 1, 1, S)`."""
        projected = self.project(self.norms[0](x)).unflatten(-1, (3, self.heads, -1))
        query, key, value = projected.permute(2, 0, 3, 1, 4)  # each (B, heads, S, E / heads)
        found = attend(query, key, value, mask=mask).output
        x = x + self.output(found.transpose(1, 2).flatten(2))
        return x + self.each(self.norms[1](x))


def _clean(points: Tensor, lengths: Tensor, point_dim: int) -> tuple[Tensor, Tensor]:
    """The points with zeros for padding, and where they are; or a clear error."""
    if not isinstance(points, Tensor) or not points.is_floating_point():
        got = points.dtype if isinstance(points, Tensor) else type(points).__name__
        raise TypeError(f"points must be a floating-point tensor, got {got}")
    if points.ndim != 3 or not points.shape[1] or points.shape[2] != point_dim:
        raise ValueError(
            f"points must have shape (batch, at least 1, {point_dim}), got {tuple(points.shape)}"
        )
    if not len(points):
        raise ValueError(f"points must hold at least 1 input, got shape {tuple(points.shape)}")
    mask = padding(lengths, points.shape[1])
    if lengths.shape != points.shape[:1]:
        raise ValueError(
            f"lengths must have shape {tuple(points.shape[:1])}, one for each input, "
            f"got {tuple(lengths.shape)}"
        )
    if lengths.numel() and int(lengths.min()) < 1:
        raise ValueError(f"every input needs at least 1 point, got length {int(lengths.min())}")
    return points.masked_fill(~mask.mT, 0.0), mask
