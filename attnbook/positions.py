"""Positions: what tells a place in the sequence from another. Attention alone cannot.

Three ways in, none of them a change of attention: added to the inputs (`Sinusoidal`, `Learned`), a
score (`ALiBi`), or a path that `MultiHeadAttention(attend=...)` takes (`Rotary`, `Relative`). Where
there are fewer queries than keys, as under a cache, the queries are the last ones: query `i` of `L`
stands at position `S - L + i`.
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from attnbook import core
from attnbook.core import Attended
from attnbook.fused import sdpa
from attnbook.layers import Attend
from attnbook.normalizers import softmax
from attnbook.scores import scaled_dot

__all__ = [
    "ALiBi",
    "Learned",
    "Relative",
    "Rotary",
    "Sinusoidal",
    "alibi_slopes",
    "sinusoidal",
    "to_halves",
    "to_interleaved",
]


def sinusoidal(
    length: int, dim: int, *, base: float = 10000.0, offset: int = 0
) -> Float[Tensor, "{length} {dim}"]:
    """Sines and cosines of the position, of wavelengths from `2 pi` to nearly `2 pi base`.

    Args:
        length: number of positions.
        dim: width, even.
        base: how far the wavelengths reach, in radians for each position.
        offset: the first position.

    Returns:
        Positions `(length, dim)` where column `2 i` is `sin(p / base^(2 i / dim))`, and column
        `2 i + 1` its cosine.

    Raises:
        ValueError: dim is odd or not positive, base is not positive, or a count is negative.

    Source:
        Vaswani et al. 2017, section 3.5.

    >>> sinusoidal(2, 4)
    tensor([[0.0000, 1.0000, 0.0000, 1.0000],
            [0.8415, 0.5403, 0.0100, 0.9999]])
    """
    return _sinusoids(length, dim, base, offset).float()


class Sinusoidal(nn.Module):
    """Adds `sinusoidal` positions to the inputs; no parameters, no longest length.

    Args:
        dim: `E`, even.
        base: as in `sinusoidal`.

    >>> Sinusoidal(4)(torch.zeros(1, 2, 4))[0, 1]
    tensor([0.8415, 0.5403, 0.0100, 0.9999])
    """

    def __init__(self, dim: int, *, base: float = 10000.0) -> None:
        super().__init__()
        _angles(torch.arange(1), dim, base)  # its checks
        self.dim, self.base = dim, base

    def forward(self, x: Float[Tensor, "*b L E"], offset: int = 0) -> Float[Tensor, "*b L E"]:
        """`x` with its positions, of which the first is `offset`."""
        _check_width("x", x, "dim", self.dim)
        return x + _sinusoids(x.shape[-2], self.dim, self.base, offset).to(x.device, x.dtype)


class Learned(nn.Module):
    """Adds a learned vector for each position to the inputs.

    Args:
        max_length: positions that there are vectors for; there is none beyond.
        dim: `E`.

    Raises:
        ValueError: max_length or dim is below 1, or (from the call) x has another width, or a
            position is beyond the last.

    Source:
        Gehring et al. 2017, section 3.1; Vaswani et al. 2017, table 3, row (E). They start from a
        normal distribution of variance `1 / E`, close to BERT's and GPT-2's at their width.

    >>> Learned(16, 4)(torch.zeros(1, 2, 4)).shape
    torch.Size([1, 2, 4])
    """

    def __init__(self, max_length: int, dim: int) -> None:
        super().__init__()
        if max_length < 1 or dim < 1:
            raise ValueError(f"max_length and dim must be at least 1, got {max_length} and {dim}")
        self.table = nn.Parameter(dim**-0.5 * torch.randn(max_length, dim))

    def forward(self, x: Float[Tensor, "*b L E"], offset: int = 0) -> Float[Tensor, "*b L E"]:
        """`x` with its positions, of which the first is `offset`."""
        _check_width("x", x, "dim", self.table.shape[-1])
        _check_count("offset", offset)
        end = offset + x.shape[-2]
        if end > len(self.table):
            raise ValueError(f"there are {len(self.table)} learned positions, but {end} are asked")
        return x + self.table[offset:end]


class Rotary(nn.Module):
    """Turns queries and keys by an angle that grows with the position, and then attends.

    The dot product of a turned query with a turned key depends on their distance alone.

    Args:
        head_dim: `D`, even.
        base: as in `sinusoidal`.
        interleaved: which two columns make a plane. True: neighbours, `2 i` and `2 i + 1`, as the
            paper, GPT-J and Meta's own code for Llama have it. False: `i` and `i + D / 2`, as
            GPT-NeoX does, and the `transformers` library for Llama.
        attend: the path taken with the turned queries and keys.

    Raises:
        ValueError: head_dim is odd, or (from the call) not the width of the queries.

    Source:
        Su et al. 2024, equations 14 to 16 and 34.

    >>> from attnbook.layers import MultiHeadAttention
    >>> layer = MultiHeadAttention(8, num_heads=2, attend=Rotary(head_dim=4))
    >>> layer(torch.rand(1, 5, 8)).output.shape
    torch.Size([1, 5, 8])
    """

    def __init__(
        self,
        head_dim: int,
        *,
        base: float = 10000.0,
        interleaved: bool = True,
        attend: Attend = sdpa,
    ) -> None:
        super().__init__()
        _angles(torch.arange(1), head_dim, base)  # its checks
        self.head_dim, self.base, self.interleaved = head_dim, base, interleaved
        self.attend = attend

    def rotate(self, x: Float[Tensor, "*b L D"], offset: int = 0) -> Float[Tensor, "*b L D"]:
        """`x` with each position turned by its angle; the first position is `offset`."""
        _check_width("x", x, "head_dim", self.head_dim)
        places = torch.arange(offset, offset + x.shape[-2], device=x.device)
        angles = _angles(places, self.head_dim, self.base)
        cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        planes = (-1, 2) if self.interleaved else (2, -1)
        axis = -1 if self.interleaved else -2
        a, b = x.unflatten(-1, planes).unbind(axis)
        return torch.stack([a * cos - b * sin, a * sin + b * cos], dim=axis).flatten(-2)

    def forward(
        self,
        query: Float[Tensor, "*#b L D"],
        key: Float[Tensor, "*#b S D"],
        value: Float[Tensor, "*#b S Dv"],
        *,
        mask: Bool[Tensor, "..."] | None = None,
        dropout: float = 0.0,
    ) -> Attended:
        """Attend, as the path does."""
        core.check_pair(query, key)
        query = self.rotate(query, _first(query, key))
        return self.attend(query, self.rotate(key), value, mask=mask, dropout=dropout)


def to_halves(weight: Float[Tensor, "HD *E"], num_heads: int) -> Float[Tensor, "HD *E"]:
    """The weight or bias of a query or key projection, from neighbouring columns to halves.

    Args:
        weight: `(H D, E)` or `(H D,)`, for `Rotary(interleaved=True)`.
        num_heads: `H`.

    Returns:
        The same rows in the order for `Rotary(interleaved=False)`, which then attends as before.

    Raises:
        ValueError: the rows are not so many heads of even width.

    >>> to_halves(torch.tensor([0.0, 1.0, 2.0, 3.0]), num_heads=1)
    tensor([0., 2., 1., 3.])
    """
    return _planes(weight, num_heads, (-1, 2))


def to_interleaved(weight: Float[Tensor, "HD *E"], num_heads: int) -> Float[Tensor, "HD *E"]:
    """What `to_halves` did, undone: from halves to neighbouring columns.

    >>> to_interleaved(torch.tensor([0.0, 2.0, 1.0, 3.0]), num_heads=1)
    tensor([0., 1., 2., 3.])
    """
    return _planes(weight, num_heads, (2, -1))


def alibi_slopes(num_heads: int) -> Float[Tensor, " {num_heads}"]:
    """How steeply each head of ALiBi falls with the distance.

    Args:
        num_heads: `H`.

    Returns:
        Slopes `(H,)`, which are `2^(-8 / H), 2^(-16 / H), ..., 2^-8` where `H` is a power of two.
        Elsewhere those of the power of two below, then every second one of the power above.

    Raises:
        ValueError: num_heads is below 1.

    Source:
        Press, Smith, Lewis 2022, section 3; the second rule is in the authors' code.

    >>> alibi_slopes(3)
    tensor([0.0625, 0.0039, 0.2500])
    """
    return torch.tensor(_slopes(num_heads))


class ALiBi(nn.Module):
    """A score: the scaled dot product, less the distance times the head's slope.

    Args:
        num_heads: `H`, the axis before the queries.

    Source:
        Press, Smith, Lewis 2022, section 3. Distance is `|i - j|`, so that without a causal mask
        both sides fall.

    >>> score = ALiBi(num_heads=2)
    >>> score(torch.zeros(2, 3, 4), torch.zeros(2, 3, 4))[0]
    tensor([[ 0.0000, -0.0625, -0.1250],
            [-0.0625,  0.0000, -0.0625],
            [-0.1250, -0.0625,  0.0000]])
    """

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        self.slopes = _slopes(num_heads)  # numbers: a tensor would follow every change of type

    def forward(
        self, query: Float[Tensor, "*#b H L D"], key: Float[Tensor, "*#b H S D"]
    ) -> Float[Tensor, "*b H L S"]:
        """Scores `(*b, H, L, S)`."""
        scores = scaled_dot(query, key)
        if scores.ndim < 3 or scores.shape[-3] != len(self.slopes):
            raise ValueError(
                f"query must have {len(self.slopes)} heads before its positions, got shape "
                f"{tuple(query.shape)}"
            )
        wide = torch.promote_types(scores.dtype, torch.float32)
        slopes = torch.tensor(self.slopes, dtype=wide, device=scores.device)
        falling = slopes[:, None, None] * _distances(query, key).abs()
        return scores - falling.to(scores.dtype)


class Relative(nn.Module):
    """Attention with a learned vector for each distance, in the keys and in the values.

    Args:
        head_dim: `D`, shared by all heads; of the values too.
        max_distance: `k`; what is farther counts as this far.
        values: whether the values have vectors as well.

    Source:
        Shaw, Uszkoreit, Vaswani 2018, equations 3 to 5.

    >>> from attnbook.layers import MultiHeadAttention
    >>> layer = MultiHeadAttention(8, num_heads=2, attend=Relative(head_dim=4, max_distance=3))
    >>> layer(torch.rand(1, 5, 8)).weights.shape
    torch.Size([1, 2, 5, 5])
    """

    def __init__(self, head_dim: int, max_distance: int, *, values: bool = True) -> None:
        super().__init__()
        _check_count("max_distance", max_distance)
        self.max_distance = max_distance
        self.key = nn.Parameter(torch.empty(2 * max_distance + 1, head_dim))
        self.value = nn.Parameter(torch.empty_like(self.key)) if values else None
        nn.init.xavier_uniform_(self.key)
        if self.value is not None:
            nn.init.xavier_uniform_(self.value)

    def forward(
        self,
        query: Float[Tensor, "*#b L D"],
        key: Float[Tensor, "*#b S D"],
        value: Float[Tensor, "*#b S Dv"],
        *,
        mask: Bool[Tensor, "..."] | None = None,
        dropout: float = 0.0,
    ) -> Attended:
        """Attend; the weights are those before dropout."""
        core.check_inputs(query, key, value, dropout)
        _check_width("query", query, "head_dim", self.key.shape[-1])
        if self.value is not None:
            _check_width("value", value, "head_dim", self.value.shape[-1])
        if mask is not None and value.shape[:-2] != query.shape[:-2]:  # it may go by the value's
            leading = (x.shape[:-2] for x in (query, key, value))
            query = query.expand(*torch.broadcast_shapes(*leading), *query.shape[-2:])
        reach = self.max_distance
        apart = _distances(query, key).clamp(-reach, reach) + reach  # (L, S), an index
        by_distance = query @ self.key.mT / math.sqrt(query.shape[-1])  # (*b, L, 2 k + 1)
        scores = scaled_dot(query, key)
        scores = scores + by_distance.expand(*scores.shape[:-1], -1).gather(
            -1, apart.expand(scores.shape)
        )
        weights = softmax(core.apply_mask(scores, mask))
        kept = torch.dropout(weights, dropout, train=True) if dropout else weights
        output = core.aggregate(kept, value)
        if self.value is not None:
            sums = kept.new_zeros(*kept.shape[:-1], 2 * reach + 1)
            output = output + sums.scatter_add(-1, apart.expand(kept.shape), kept) @ self.value
        return Attended(output, weights)


def _slopes(num_heads: int) -> list[float]:
    if num_heads < 1:
        raise ValueError(f"num_heads must be at least 1, got {num_heads}")
    below = 2 ** int(math.log2(num_heads))
    slopes = [2 ** (-8 * (i + 1) / below) for i in range(below)]
    return slopes + [2 ** (-4 * (i + 1) / below) for i in range(0, 2 * (num_heads - below), 2)]


def _angles(places: Int[Tensor, " L"], dim: int, base: float) -> Float[Tensor, "L half"]:
    """`p / base^(2 i / dim)` in float64, since a float32 angle of 1e5 has lost three digits."""
    if dim < 2 or dim % 2:
        raise ValueError(f"the width must be even and at least 2, got {dim}")
    if not base > 0:
        raise ValueError(f"base must be positive, got {base}")
    wide = torch.float32 if places.device.type == "mps" else torch.float64  # MPS has no float64
    powers = torch.arange(0, dim, 2, dtype=wide, device=places.device) / dim
    return places[:, None].to(wide) / base**powers


def _sinusoids(length: int, dim: int, base: float, offset: int) -> Float[Tensor, "L dim"]:
    """`sinusoidal`, in float64."""
    _check_count("length", length)
    _check_count("offset", offset)
    angles = _angles(torch.arange(offset, offset + length), dim, base)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)


def _first(query: Tensor, key: Tensor) -> int:
    """The position of the first query, where the last query stands at the last key."""
    first = key.shape[-2] - query.shape[-2]
    if first < 0:
        raise ValueError(
            f"query has {query.shape[-2]} positions but key only {key.shape[-2]}: the queries "
            "must be the last of the keys' positions"
        )
    return first


def _distances(query: Tensor, key: Tensor) -> Int[Tensor, "L S"]:
    """How far each key stands after (above 0) or before (below 0) each query."""
    places = torch.arange(key.shape[-2], device=key.device)
    return places - places[_first(query, key) :, None]


def _planes(weight: Tensor, num_heads: int, planes: tuple[int, int]) -> Tensor:
    """The rows of each head, with the two axes of `planes` exchanged."""
    if num_heads < 1 or weight.shape[0] % (2 * num_heads):
        raise ValueError(
            f"weight must have {num_heads} heads of even width, got {weight.shape[0]} rows"
        )
    heads = weight.unflatten(0, (num_heads, -1))
    return heads.unflatten(1, planes).transpose(1, 2).flatten(1, 2).flatten(0, 1)


def _check_count(name: str, count: int) -> None:
    if count < 0:
        raise ValueError(f"{name} must not be negative, got {count}")


def _check_width(name: str, x: Tensor, wanted: str, width: int) -> None:
    if x.shape[-1] != width:
        raise ValueError(f"{name} must have width {wanted} = {width}, got {x.shape[-1]}")
