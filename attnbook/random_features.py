"""Random features: softmax attention estimated by a kernel of positive random features (FAVOR+).

    exp(q . k / sqrt(D)) = E[phi(q) . phi(k)],    phi(x) = exp(w_f . x' - |x'|^2 / 2) / sqrt(m)

for `m` directions `w_f` drawn from the normal distribution and `x' = x / D^(1/4)`. With the kernel
the sums can be reordered (`attnbook.linear`), so that the cost is linear in the length. It is an
estimate: its error falls with `1 / sqrt(m)` and grows fast with the length of queries and keys.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from attnbook import core
from attnbook.core import Attended
from attnbook.layers import check_sizes
from attnbook.linear import LinearState, chunked, linear_attention
from attnbook.low_rank import seen_by_all

__all__ = ["FAVOR", "RandomFeatures"]


class RandomFeatures(nn.Module):
    """Positive random features: their dot product estimates `exp(q . k / sqrt(D))`, unbiased.

    A feature map for `attnbook.linear` and for `scores.log_kernel`.

    Args:
        width: `D`, of queries and keys.
        features: `m`, number of directions.
        orthogonal: draw directions in blocks of `D` that are at right angles, each still
            distributed as a normal one: the same mean, less variance.
        hyperbolic: take `exp(-w . x')` beside `exp(w . x')`: `2 m` features.
        regularized: all directions as long as `sqrt(D)`. Estimates a kernel that is nowhere above
            that of softmax.
        generator: of the draws.

    Attributes:
        directions: `(m, D)`, no parameters; saved with the module.

    Raises:
        TypeError: a size is not an integer, or (from the call) x is not a floating-point tensor.
        ValueError: a size is below 1, or (from the call) x has another width.

    Source:
        Choromanski et al. 2021, lemma 1, section 2.3 for the regularised kernel, section 2.4 for
        the orthogonal directions.

    >>> q, k = torch.tensor([[0.5, 0.5, -0.5, 0.5]]), torch.tensor([[0.5, 0.5, 0.5, 0.5]])
    >>> phi = RandomFeatures(4, 4096, generator=torch.Generator().manual_seed(0))
    >>> phi(q) @ phi(k).T, ((q @ k.T) / 2).exp()
    (tensor([[1.2728]]), tensor([[1.2840]]))
    """

    directions: Tensor

    def __init__(
        self,
        width: int,
        features: int,
        *,
        orthogonal: bool = True,
        hyperbolic: bool = False,
        regularized: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_sizes(width=width, features=features)
        self.orthogonal, self.hyperbolic, self.regularized = orthogonal, hyperbolic, regularized
        self.register_buffer("directions", torch.empty(features, width))
        self.redraw(generator)

    def redraw(self, generator: torch.Generator | None = None) -> None:
        """New directions, as the paper draws them now and then in training (section 4.2)."""
        m, width = self.directions.shape
        drawn = torch.randn(m, width, dtype=torch.float64, generator=generator)
        lengths = drawn.norm(dim=-1, keepdim=True)
        units = drawn / lengths
        if self.orthogonal:
            blocks = [_orthogonal(width, generator) for _ in range(math.ceil(m / width))]
            units = torch.cat(blocks)[:m]
        self.directions.copy_(units * (math.sqrt(width) if self.regularized else lengths))

    def exponents(self, x: Float[Tensor, "*b N D"]) -> Float[Tensor, "*b N F"]:
        """The logarithms of the features, without `1 / sqrt(m)`, in at least float32."""
        if not isinstance(x, Tensor) or not x.is_floating_point():
            got = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise TypeError(f"x must be a floating-point tensor, got {got}")
        width = self.directions.shape[-1]
        if x.shape[-1] != width:
            raise ValueError(f"x must have width {width}, got {x.shape[-1]}")
        wide = torch.promote_types(x.dtype, torch.float32)
        x = x.to(wide) / width**0.25
        along = x @ self.directions.to(wide).mT
        if self.hyperbolic:
            along = torch.cat([along, -along], dim=-1)
        return along - x.square().sum(-1, keepdim=True) / 2

    def forward(self, x: Float[Tensor, "*b N D"]) -> Float[Tensor, "*b N F"]:
        """Features `(*b, N, F)`, `F` being `m`, or `2 m` if hyperbolic; in at least float32.

        An exponent is at most `|w|^2 / 2`, about `D / 2`: above `D = 128` or so a feature may
        overflow in float32. `FAVOR` cannot.
        """
        exponents = self.exponents(x)
        return exponents.exp() / math.sqrt(exponents.shape[-1])


class FAVOR(nn.Module):
    """Softmax attention estimated by random features: a path for `MultiHeadAttention`.

    What is taken from the exponents of the keys, so that none overflows, is given to those of the
    queries: for each feature one number, so that no weight changes.

    Args:
        features: the features; all heads share them. Redraw them now and then in training.
        causal: query i sees the keys up to its own position; the queries are the last of the keys.

    Shapes:
        query `(*b, L, D)`, key `(*b, S, D)`, value `(*b, S, Dv)`. The mask is the same for every
        query, `(*b, 1, S)`: padding. The call gives an output `(*b, L, Dv)`, and None for the
        weights: there are none, so dropout must be 0. Keys may have any
        length; in the causal form those with `|k|^2 / (2 sqrt(D))` above 80 or so count for
        nothing, and a query that sees no other gets a row of zeros.

    Raises:
        TypeError: an input is not a floating-point tensor, the mask is not boolean, or features
            are not `RandomFeatures`.
        ValueError: the mask differs from query to query, dropout is not 0, a causal call has fewer
            keys than queries, or shapes do not fit.

    Source:
        Choromanski et al. 2021, section 2.2 and algorithm 1. Their code takes one number for all
        features of the keys, and adds a small one to every feature.

    >>> from attnbook.layers import MultiHeadAttention
    >>> layer = MultiHeadAttention(8, num_heads=2, attend=FAVOR(RandomFeatures(4, 16)))
    >>> layer(torch.rand(1, 50, 8)).output.shape
    torch.Size([1, 50, 8])
    """

    def __init__(self, features: RandomFeatures, *, causal: bool = False) -> None:
        super().__init__()
        if not isinstance(features, RandomFeatures):
            raise TypeError(f"features must be RandomFeatures, got {type(features).__name__}")
        self.features, self.causal = features, causal

    def forward(
        self,
        query: Float[Tensor, "*#b L D"],
        key: Float[Tensor, "*#b S D"],
        value: Float[Tensor, "*#b S Dv"],
        *,
        mask: Bool[Tensor, "..."] | None = None,
        dropout: float = 0.0,
    ) -> Attended:
        """Attend, in time linear in `L + S`."""
        core.check_inputs(query, key, value, dropout)
        if dropout:
            raise ValueError(f"dropout must be 0, for no weights are formed, got {dropout}")
        q, k = self.features.exponents(query), self.features.exponents(key)
        if mask is not None:
            k = k.masked_fill(~seen_by_all(mask, query, key), -torch.inf)
        shift = self._largest(k)
        q = q + shift
        q = (q - q.amax(dim=-1, keepdim=True).detach()).exp()  # of a row: it cancels
        k, v = (k - shift).exp(), value.to(k.dtype)
        if not self.causal:
            output = linear_attention(q, k, v, feature_map=_as_is).output
        else:
            output = _causal(q, k, v)
        return Attended(output.to(value.dtype), None)

    def _largest(self, k: Tensor) -> Tensor:
        """What to take from the exponents of the keys, for each feature: `(*b, 1, F)`.

        The largest of them. Causal attention takes a number that no later key can change: the
        most that any key could have, less what float32 bears.
        """
        if self.causal:
            most = self.features.directions.to(k.dtype).square().sum(-1) / 2
            shift = (most - 60).clamp_min(0)
            return torch.cat([shift, shift]) if self.features.hyperbolic else shift
        if not k.shape[-2]:
            return k.new_zeros(())
        shift = k.detach().amax(dim=-2, keepdim=True)
        return shift.masked_fill(shift == -torch.inf, 0)


def _causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal linear attention of features; the queries are the last of the positions."""
    before = k.shape[-2] - q.shape[-2]
    if before < 0:
        raise ValueError(f"query has {q.shape[-2]} positions but key only {k.shape[-2]}")
    batch = torch.broadcast_shapes(*(x.shape[:-2] for x in (q, k, v)))
    k, v = (x.expand(*batch, *x.shape[-2:]) for x in (k, v))
    past = k[..., :before, :]
    state = LinearState(past.mT @ v[..., :before, :], past.sum(dim=-2))
    here = slice(before, None)
    return chunked(q, k[..., here, :], v[..., here, :], feature_map=_as_is, state=state).output


def _orthogonal(width: int, generator: torch.Generator | None) -> Tensor:
    """Rows at right angles of length 1, evenly distributed over all such sets.

    Without the signs of R the first row would always point to the same side.
    """
    drawn = torch.randn(width, width, dtype=torch.float64, generator=generator)
    q, r = torch.linalg.qr(drawn)
    return (q * r.diagonal().sign()).mT


def _as_is(x: Tensor) -> Tensor:
    return x
