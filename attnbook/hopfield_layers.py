"""Layers that hold a modern Hopfield memory: associate, pool, look up.

All three are multi-head attention whose path, `Association`, updates its queries before it reads.
What is learnt differs: the projections alone (`Hopfield`), the states that ask (`HopfieldPooling`),
or the patterns that are stored (`HopfieldLayer`).
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from attnbook.core import Attended, attend
from attnbook.layers import MultiHeadAttention, check_sizes
from attnbook.scores import dot

__all__ = ["Association", "Hopfield", "HopfieldLayer", "HopfieldPooling"]


class Association(nn.Module):
    """A path for `MultiHeadAttention`: the queries are updated among the keys, then they read.

    Args:
        beta: inverse temperature; None is `1 / sqrt(D)` for keys of width `D`.
        steps: updates in all. The last one mixes the values; those before it mix the keys.

    Shapes:
        query `(*b, L, D)`, key `(*b, S, D)`, value `(*b, S, Dv)`, output `(*b, L, Dv)`.

    Raises:
        TypeError: steps is not an integer.
        ValueError: beta is not positive, or steps is below 1.

    Source:
        Ramsauer et al. 2021, equations 3 and 10.

    >>> query, key, value = torch.tensor([[0.6, 0.4]]), torch.eye(2), torch.tensor([[1.0], [2.0]])
    >>> Association(beta=4.0)(query, key, value).output
    tensor([[1.3100]])
    >>> Association(beta=4.0, steps=5)(query, key, value).output
    tensor([[1.0230]])
    """

    def __init__(self, beta: float | None = None, *, steps: int = 1) -> None:
        super().__init__()
        if beta is not None and not 0 < beta < math.inf:
            raise ValueError(f"beta must be positive and finite, got {beta}")
        check_sizes(steps=steps)
        self.beta, self.steps = beta, steps

    def forward(
        self,
        query: Float[Tensor, "*#b L D"],
        key: Float[Tensor, "*#b S D"],
        value: Float[Tensor, "*#b S Dv"],
        *,
        mask: Bool[Tensor, "..."] | None = None,
        dropout: float = 0.0,
    ) -> Attended:
        """The output `(*b, L, Dv)` and the weights `(*b, L, S)` of the last update."""
        beta = 1 / math.sqrt(query.shape[-1]) if self.beta is None else self.beta
        for _ in range(self.steps - 1):
            query = attend(query, key, key, score=dot(beta), mask=mask).output
        return attend(query, key, value, score=dot(beta), mask=mask, dropout=dropout)

    def extra_repr(self) -> str:
        """Its two numbers, for `print(layer)`."""
        return f"beta={self.beta}, steps={self.steps}"


class Hopfield(nn.Module):
    """Associate two sets: states ask, stored patterns answer.

    Args:
        embed_dim: `E`, width of the states and of the output.
        num_heads: `H`, memories side by side, each with projections of its own.
        stored_dim: width of the stored patterns that come in; None: `embed_dim`.
        head_dim: `D`, width of the space in which they are compared; None: `E / H`.
        beta: inverse temperature; None is `1 / sqrt(D)`.
        steps: updates in that space.
        norm: whether layer norms go before the projections. They fix the length of what comes in,
            and so the strength of the scores.
        dropout: probability with which a weight is dropped in training.

    Raises:
        TypeError: a size is not an integer.
        ValueError: a size does not fit, beta is not positive, or dropout is not in [0, 1).

    Source:
        Ramsauer et al. 2021, section 3, "layer Hopfield". With `steps=1`, `norm=False` and the
        default beta this is `MultiHeadAttention`, weight for weight.

    >>> states, stored = torch.rand(3, 5, 8), torch.rand(3, 7, 6)
    >>> output, weights = Hopfield(8, num_heads=2, stored_dim=6)(states, stored)
    >>> output.shape, weights.shape
    (torch.Size([3, 5, 8]), torch.Size([3, 2, 5, 7]))
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int = 1,
        *,
        stored_dim: int | None = None,
        head_dim: int | None = None,
        beta: float | None = None,
        steps: int = 1,
        norm: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        stored_dim = embed_dim if stored_dim is None else stored_dim
        self.attention = MultiHeadAttention(
            embed_dim,
            num_heads,
            key_dim=stored_dim,
            value_dim=stored_dim,
            head_dim=head_dim,
            dropout=dropout,
            attend=Association(beta, steps=steps),
        )
        widths = (embed_dim, stored_dim, stored_dim)
        made = [nn.LayerNorm(width) if norm else nn.Identity() for width in widths]
        self.state_norm, self.stored_norm, self.value_norm = made

    def forward(
        self,
        state: Float[Tensor, "*#b L E"],
        stored: Float[Tensor, "*#b S Es"] | None = None,
        value: Float[Tensor, "*#b S Es"] | None = None,
        *,
        mask: Bool[Tensor, "..."] | None = None,
    ) -> Attended:
        """Let states ask stored patterns.

        Args:
            state: `(*b, L, E)`.
            stored: `(*b, S, stored_dim)`; None: the states once more.
            value: `(*b, S, stored_dim)`, what is handed out; None: the stored patterns once more.
            mask: boolean, True = stored for this state, broadcast to `(*b, L, S)`.

        Returns:
            The output `(*b, L, E)` and the weights `(*b, H, L, S)` of the last update.

        Raises:
            TypeError: an input is not a floating-point tensor of the layer's type, or the mask is
                not boolean.
            ValueError: shapes or devices do not fit.
        """
        stored = state if stored is None else stored
        value = stored if value is None else value
        return self.attention(
            self.state_norm(state), self.stored_norm(stored), self.value_norm(value), mask=mask
        )


class HopfieldPooling(nn.Module):
    """Pool a set of any size into a few vectors: learnt states ask, the set is stored.

    Args:
        embed_dim: `E`, width of the members of the set and of the output.
        num_heads: `H`.
        queries: `L`, how many states are learnt, and vectors handed out.
        head_dim: width of the space in which they are compared; None: `E / H`.
        beta: inverse temperature; None is `1 / sqrt` of that width.
        steps: updates in that space.
        norm: whether layer norms go before the projections.
        dropout: probability with which a weight is dropped in training.

    Raises:
        TypeError: a size is not an integer.
        ValueError: a size does not fit, beta is not positive, or dropout is not in [0, 1).

    Source:
        Ramsauer et al. 2021, section 3, "layer HopfieldPooling".

    >>> bags, mask = torch.rand(3, 7, 8), torch.arange(7) < torch.tensor([[[7]], [[2]], [[4]]])
    >>> HopfieldPooling(8, queries=2)(bags, mask=mask).output.shape
    torch.Size([3, 2, 8])
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int = 1,
        *,
        queries: int = 1,
        head_dim: int | None = None,
        beta: float | None = None,
        steps: int = 1,
        norm: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_sizes(embed_dim=embed_dim, queries=queries)
        self.memory = Hopfield(
            embed_dim,
            num_heads,
            head_dim=head_dim,
            beta=beta,
            steps=steps,
            norm=norm,
            dropout=dropout,
        )
        self.state = nn.Parameter(0.02 * torch.randn(queries, embed_dim))

    def forward(
        self, stored: Float[Tensor, "*b S E"], *, mask: Bool[Tensor, "..."] | None = None
    ) -> Attended:
        """Pool.

        Args:
            stored: `(*b, S, E)`, the members of each set.
            mask: boolean, True = a member, broadcast to `(*b, L, S)`, as `masks.padding` makes it.

        Returns:
            The output `(*b, L, E)`, in which the order of the members plays no part, and the
            weights `(*b, H, L, S)`.

        Raises:
            TypeError: stored is not a floating-point tensor of the layer's type, or the mask is not
                boolean.
            ValueError: shapes or devices do not fit.
        """
        return self.memory(self.state.expand(*stored.shape[:-2], -1, -1), stored, mask=mask)


class HopfieldLayer(nn.Module):
    """Look states up in a learnt memory: the stored patterns are parameters.

    Args:
        embed_dim: `E`, width of the states and of the output.
        num_heads: `H`.
        patterns: `S`, how many are stored.
        head_dim: width of the space in which they are compared; None: `E / H`.
        beta: inverse temperature; None is `1 / sqrt` of that width.
        steps: updates in that space.
        norm: whether layer norms go before the projections.
        dropout: probability with which a weight is dropped in training.

    Raises:
        TypeError: a size is not an integer.
        ValueError: a size does not fit, beta is not positive, or dropout is not in [0, 1).

    Source:
        Ramsauer et al. 2021, section 3, "layer HopfieldLayer".

    >>> HopfieldLayer(8, patterns=16)(torch.rand(3, 5, 8)).weights.shape
    torch.Size([3, 1, 5, 16])
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int = 1,
        *,
        patterns: int,
        head_dim: int | None = None,
        beta: float | None = None,
        steps: int = 1,
        norm: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_sizes(embed_dim=embed_dim, patterns=patterns)
        self.memory = Hopfield(
            embed_dim,
            num_heads,
            head_dim=head_dim,
            beta=beta,
            steps=steps,
            norm=norm,
            dropout=dropout,
        )
        self.patterns = nn.Parameter(0.02 * torch.randn(patterns, embed_dim))

    def forward(self, state: Float[Tensor, "*b L E"]) -> Attended:
        """Look up.

        Args:
            state: `(*b, L, E)`.

        Returns:
            The output `(*b, L, E)` and the weights `(*b, H, L, S)`.

        Raises:
            TypeError: state is not a floating-point tensor of the layer's type.
            ValueError: shapes or devices do not fit.
        """
        return self.memory(state, self.patterns.expand(*state.shape[:-2], -1, -1))
