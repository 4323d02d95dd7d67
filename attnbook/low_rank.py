"""Low rank: attention to a few learned mixtures of the keys, whatever their number.

    output = attend(query, E @ key, F @ value)      E, F: (k, n), learned

`n` positions become `k`, so that the cost is linear in the length. The mixing knows positions and
not contents, and it is done before any query looks: no query can be kept from a position alone.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from attnbook import core
from attnbook.core import Attended
from attnbook.layers import check_sizes

__all__ = ["Linformer"]


class Linformer(nn.Module):
    """Attention to `k` mixtures of the keys and values: a path for `MultiHeadAttention`.

    One module given to every layer is the paper's layerwise sharing, if it has one matrix.

    Args:
        length: `n`, the most positions there will ever be; a shorter sequence takes the first
            columns of the matrices.
        rank: `k`.
        num_heads: heads with matrices of their own; None: the same for all, headwise sharing.
        one_matrix: whether the values are mixed as the keys are, `F = E`; the paper's key-value
            sharing, if the heads share as well.

    Shapes:
        query `(*b, L, D)`, key `(*b, S, D)`, value `(*b, S, Dv)` with `S <= n`; with heads of
        their own, `*b` ends in `H`. The call gives an output `(*b, L, Dv)` and weights
        `(*b, L, k)`, over the mixtures. The mask is the same for every query, `(*b, 1, S)`:
        padding. A position that it forbids is left out of every mixture; causality is not to be
        had.

    Raises:
        TypeError: a size is not an integer, or (from the call) an input is not a floating-point
            tensor of the module's type, or the mask is not boolean.
        ValueError: a size is below 1, or (from the call) there are more positions than `length`,
            the mask differs from query to query, or shapes do not fit.

    Source:
        Wang et al. 2020, equation 7, and "Parameter sharing" in section 4. Entries start from a
        normal distribution of variance `1 / n`: a mixture varies as much as what it mixes.

    >>> from attnbook.layers import MultiHeadAttention
    >>> layer = MultiHeadAttention(8, num_heads=2, attend=Linformer(length=64, rank=4))
    >>> output, weights = layer(torch.rand(1, 50, 8))
    >>> output.shape, weights.shape
    (torch.Size([1, 50, 8]), torch.Size([1, 2, 50, 4]))
    """

    def __init__(
        self, length: int, rank: int, *, num_heads: int | None = None, one_matrix: bool = False
    ) -> None:
        super().__init__()
        check_sizes(length=length, rank=rank)
        heads = () if num_heads is None else (num_heads,)
        for each in heads:
            check_sizes(num_heads=each)

        def matrix() -> nn.Parameter:
            return nn.Parameter(length**-0.5 * torch.randn(*heads, rank, length))

        self.key = matrix()
        self.value = None if one_matrix else matrix()

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
        self._check(key)
        if mask is not None:
            hidden = ~seen_by_all(mask, query, key)
            key, value = key.masked_fill(hidden, 0), value.masked_fill(hidden, 0)
        E = self.key[..., : key.shape[-2]]
        F = E if self.value is None else self.value[..., : key.shape[-2]]
        return core.attend(query, E @ key, F @ value, dropout=dropout)

    def _check(self, key: Tensor) -> None:
        length = self.key.shape[-1]
        if key.dtype != self.key.dtype and not torch.is_autocast_enabled(key.device.type):
            raise TypeError(f"key is {key.dtype} but the matrices are {self.key.dtype}")
        if key.shape[-2] > length:
            raise ValueError(
                f"key has {key.shape[-2]} positions but Linformer was built with length={length}"
            )
        heads = self.key.shape[:-2]
        if heads and (key.ndim < 3 or key.shape[-3] not in (1, *heads)):
            raise ValueError(
                f"key must have {heads[0]} heads before its positions, got {tuple(key.shape)}"
            )

    def extra_repr(self) -> str:
        """Sizes, for `print`."""
        return f"length={self.key.shape[-1]}, rank={self.key.shape[-2]}"


def seen_by_all(mask: Tensor, query: Tensor, key: Tensor) -> Tensor:
    """`(*b, S, 1)`, which keys a mask allows that is the same for every query; else a clear error.

    Raises:
        TypeError: the mask is not boolean.
        ValueError: it differs from query to query, or does not fit.
    """
    S = key.shape[-2]
    batch = torch.broadcast_shapes(query.shape[:-2], key.shape[:-2])
    if isinstance(mask, Tensor) and mask.ndim > 1 and mask.shape[-2] != 1:
        raise ValueError(
            f"mask must be the same for every query, of shape (*b, 1, {S}), got "
            f"{tuple(mask.shape)}: keys and values are summed before a query sees them"
        )
    core.check_mask(mask, torch.Size([*batch, 1, S]), key.device)
    return mask.mT if mask.ndim > 1 else mask.unsqueeze(-1)
