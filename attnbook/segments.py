"""Segments: a long text is read piece by piece, and each layer remembers what it was given before.

    context = [memory, x]            the layer's inputs for the positions before, then for these
    x       = layer(query=x, key=context, value=context)

This is the recurrence of Transformer-XL. The memory is a constant, through which no gradient goes,
so training costs what a piece costs; yet what a layer remembers has itself seen a piece further
back. Positions are relative: an absolute one would be the same in every piece.
"""

from collections.abc import Iterable
from typing import NamedTuple, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from attnbook import core
from attnbook.layers import MultiHeadAttention, check_sizes, split_heads
from attnbook.masks import causal
from attnbook.positions import sinusoidal
from attnbook.transformer import AddNorm, FeedForward

__all__ = ["RelativeScore", "Segment", "SegmentLayer", "TransformerXL", "as_mask"]


class Segment(NamedTuple):
    """What a stack returns for one piece.

    Attributes:
        output: `(B, L, E)`.
        memories: for each layer its last inputs, `(B, M, E)` without gradients; pass them on with
            the next piece.
    """

    output: Float[Tensor, "B L E"]
    memories: tuple[Float[Tensor, "B M E"], ...]


class RelativeScore(nn.Module):
    """A score of contents and of distances, with a bias of each: the four terms of Transformer-XL.

        score(i, j) = ((q_i + u) . k_j  +  (q_i + v) . W r(i - j)) / sqrt(D)

    Args:
        num_heads: `H`.
        head_dim: `D`.
        dim: width of the sinusoidal vectors `r`, even.

    Shapes:
        query `(*b, H, L, D)`, key `(*b, H, S, D)`, scores `(*b, H, L, S)`. The queries are the last
        of the keys.

    Raises:
        TypeError: a size is not an integer.
        ValueError: a size is below 1 or dim is odd, or (from the score) shapes do not fit.

    Source:
        Dai et al. 2019, section 3.3. The division is that of their code.

    >>> score = RelativeScore(num_heads=2, head_dim=4, dim=8)
    >>> score(torch.zeros(2, 3, 4), torch.zeros(2, 5, 4)).shape
    torch.Size([2, 3, 5])
    """

    def __init__(self, num_heads: int, head_dim: int, dim: int) -> None:
        super().__init__()
        check_sizes(num_heads=num_heads, head_dim=head_dim, dim=dim)
        sinusoidal(1, dim)  # its checks
        self.distance = nn.Linear(dim, num_heads * head_dim, bias=False)
        self.u = nn.Parameter(torch.zeros(num_heads, 1, head_dim))
        self.v = nn.Parameter(torch.zeros(num_heads, 1, head_dim))
        nn.init.xavier_uniform_(self.distance.weight)

    def forward(
        self, query: Float[Tensor, "*#b H L D"], key: Float[Tensor, "*#b H S D"]
    ) -> Float[Tensor, "*b H L S"]:
        """Scores `(*b, H, L, S)`."""
        heads, _, width = self.u.shape
        L, S = query.shape[-2], key.shape[-2]
        if query.ndim < 3 or query.shape[-3] != heads or query.shape[-1] != width:
            raise ValueError(
                f"query must have {heads} heads of width {width}, got shape {tuple(query.shape)}"
            )
        if S < L:
            raise ValueError(
                f"query has {L} positions but key only {S}: the queries must be the last of them"
            )
        r = split_heads(self.distance(self._vectors(L, S).to(query)), heads)
        by_distance = (query + self.v) @ r.mT  # (*b, H, L, L + S - 1), from far ahead to far back
        places = torch.arange(S, device=query.device)
        apart = places[S - L :, None] - places + L - 1
        by_content = (query + self.u) @ key.mT
        by_distance = by_distance.expand(*by_content.shape[:-1], -1)
        return (by_content + by_distance.gather(-1, apart.expand(by_content.shape))) / width**0.5

    def _vectors(self, L: int, S: int) -> Tensor:
        """`r(d)` for distances d from `-(L - 1)`, which is ahead, to `S - 1`."""
        back = sinusoidal(S, self.distance.in_features)
        ahead = sinusoidal(L, self.distance.in_features)[1:].flip(0)
        ahead[:, ::2] *= -1  # the sine of what is ahead
        return torch.cat([ahead, back])


class SegmentLayer(nn.Module):
    """Attention to a memory and to the piece itself, then a feed-forward network.

    Args:
        embed_dim: `E`, even.
        num_heads: `H`.
        hidden_dim: width inside the feed-forward network.
        norm_first: pre-norm; False is post-norm, as in the paper.
        dropout: of attention weights, hidden units and sublayers' outputs.

    Raises:
        TypeError: a size is not an integer.
        ValueError: a size does not fit, or dropout is not in [0, 1).

    Source:
        Dai et al. 2019, section 3.3, the procedure of one layer.

    >>> layer = SegmentLayer(embed_dim=8, num_heads=2, hidden_dim=32)
    >>> layer(torch.rand(3, 5, 8), torch.rand(3, 4, 8)).shape
    torch.Size([3, 5, 8])
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        hidden_dim: int,
        *,
        norm_first: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_sizes(embed_dim=embed_dim, num_heads=num_heads)
        self.attention = MultiHeadAttention(
            embed_dim,
            num_heads,
            bias=False,
            dropout=dropout,
            attend=core.attend,
            score=RelativeScore(num_heads, max(1, embed_dim // num_heads), embed_dim),
        )
        self.feed_forward = FeedForward(embed_dim, hidden_dim, dropout=dropout)
        self.add_attention, self.add_feed_forward = (
            AddNorm(embed_dim, norm_first=norm_first, dropout=dropout) for _ in range(2)
        )

    @property
    def score(self) -> RelativeScore:
        """The score of its attention, which holds `u` and `v`."""
        return cast(RelativeScore, self.attention.score)

    def forward(
        self, x: Float[Tensor, "B L E"], memory: Float[Tensor, "B M E"] | None = None
    ) -> Float[Tensor, "B L E"]:
        """One layer further: each position sees the memory, and the piece up to itself."""
        past = x[:, :0] if memory is None else memory.detach()
        if past.shape[0] != x.shape[0] or past.shape[2:] != x.shape[2:]:
            raise ValueError(f"memory is {tuple(past.shape)} but x is {tuple(x.shape)}")
        mask = causal(x.shape[1], past.shape[1] + x.shape[1], past.shape[1], device=x.device)
        if self.add_attention.norm_first:
            past = self.add_attention.norm(past)

        def read(y: Tensor) -> Tensor:
            return self.attention(y, torch.cat([past, y], dim=1), mask=mask).output

        return self.add_feed_forward(self.add_attention(x, read), self.feed_forward)


class TransformerXL(nn.Module):
    """A stack of segment layers, each with a memory of its last inputs.

    Args:
        layers: each a `SegmentLayer`. All share `u` and `v` of the first, as in the authors' code.
        memory: `M`, how many positions a layer remembers; 0: none.
        norm: at the end; None, as in the paper, for post-norm layers.

    Raises:
        TypeError: memory is not an integer, or a layer is not a `SegmentLayer`.
        ValueError: there is no layer, or memory is negative.

    Source:
        Dai et al. 2019, section 3.2; the memory may be longer or shorter than a piece.

    >>> stack = TransformerXL([SegmentLayer(8, 2, 32) for _ in range(3)], memory=4)
    >>> first = stack(torch.rand(1, 4, 8))
    >>> second = stack(torch.rand(1, 4, 8), first.memories)
    >>> second.output.shape, len(second.memories), second.memories[0].shape
    (torch.Size([1, 4, 8]), 3, torch.Size([1, 4, 8]))
    """

    def __init__(
        self, layers: Iterable[SegmentLayer], memory: int, norm: nn.Module | None = None
    ) -> None:
        super().__init__()
        stack = list(layers)
        if not stack:
            raise ValueError("layers must hold at least one")
        for layer in stack:
            if not isinstance(layer, SegmentLayer):
                raise TypeError(f"layers must be SegmentLayers, got {type(layer).__name__}")
            if layer.score.u.shape == stack[0].score.u.shape:
                layer.score.u, layer.score.v = stack[0].score.u, stack[0].score.v
        if memory:
            check_sizes(memory=memory)
        self.layers, self.memory, self.norm = nn.ModuleList(stack), memory, norm

    def forward(
        self,
        x: Float[Tensor, "B L E"],
        memories: tuple[Float[Tensor, "B M E"], ...] | None = None,
    ) -> Segment:
        """Read a piece.

        Args:
            x: `(B, L, E)`; the pieces may differ in length.
            memories: of the pieces before; None: there was none.

        Returns:
            The output `(B, L, E)` and the memories for the next piece.

        Raises:
            ValueError: there are not as many memories as layers, or shapes do not fit.
        """
        if memories is None:
            memories = tuple(x[:, :0] for _ in self.layers)
        if len(memories) != len(self.layers):
            raise ValueError(f"there are {len(self.layers)} layers but {len(memories)} memories")
        kept = []
        for layer, memory in zip(self.layers, memories, strict=True):
            y = layer(x, memory)
            seen = torch.cat([memory, x], dim=1).detach()
            kept.append(seen[:, max(0, seen.shape[1] - self.memory) :])
            x = y
        return Segment(x if self.norm is None else self.norm(x), tuple(kept))


def as_mask(length: int, segment: int, memory: int) -> Bool[Tensor, "{length} {length}"]:
    """Which pairs a layer compares when a text is read in pieces: the same as one mask.

    Args:
        length: of the text.
        segment: positions in a piece.
        memory: positions remembered.

    Returns:
        `(length, length)`, True where the key is not after the query, and at most `memory` before
        its piece. `patterns.reach` says how far back several layers see: a memory further each.

    Raises:
        TypeError: a number is not an integer.
        ValueError: a number is negative, or segment is below 1.

    >>> as_mask(5, segment=2, memory=1).int()
    tensor([[1, 0, 0, 0, 0],
            [1, 1, 0, 0, 0],
            [0, 1, 1, 0, 0],
            [0, 1, 1, 1, 0],
            [0, 0, 0, 1, 1]], dtype=torch.int32)
    """
    check_sizes(segment=segment)
    if memory:
        check_sizes(memory=memory)
    seen = causal(length, length)
    place = torch.arange(length)
    return seen & (place >= place[:, None] // segment * segment - memory)
