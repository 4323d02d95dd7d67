"""PyTorch's own fused kernels."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from attnbook.core import Attended, check_mask
from attnbook.fused.inputs import check, fit, four_axes

__all__ = ["sdpa"]


def sdpa(
    query: Float[Tensor, "*#b L D"],
    key: Float[Tensor, "*#b S D"],
    value: Float[Tensor, "*#b S Dv"],
    *,
    mask: Bool[Tensor, "..."] | None = None,
    dropout: float = 0.0,
) -> Attended:
    """Attention by PyTorch's fused `scaled_dot_product_attention`.

    Its backward pass keeps one number a row, the log of the sum of exponentials, so that its
    gradients lose digits where scores are very large (1e6 in float32); `tiled` keeps two.

    Args:
        query: `(*b, L, D)`.
        key: `(*b, S, D)`.
        value: `(*b, S, Dv)`, one for each key. Keys and values must be finite at forbidden
            positions too.
        mask: boolean, True = may attend, broadcast to `(*b, L, S)`.
        dropout: probability with which a weight is dropped. Pass 0 when evaluating.

    Returns:
        The output `(*b, L, Dv)`, and None for the weights.

    Raises:
        TypeError: an input is not a floating-point tensor, or the mask is not boolean.
        ValueError: shapes or devices do not fit, or dropout is not in [0, 1).

    Source:
        Vaswani et al. 2017, equation 1; Dao et al. 2022 for the kernels.

    >>> query, key = torch.eye(2, 4), torch.eye(3, 4)
    >>> value = torch.tensor([[1.0], [2.0], [3.0]])
    >>> sdpa(query, key, value)
    Attended(output=tensor([[1.8222],
            [2.0000]]), weights=None)
    """
    if fit(query, key, value, dropout):
        if mask is not None:
            check_mask(mask, torch.Size((*query.shape[:3], key.shape[2])), query.device)
            mask = mask[(None,) * (4 - mask.ndim)] if mask.ndim < 4 else mask
        output = F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, dropout_p=dropout
        )
        return Attended(output, None)
    batch = check(query, key, value, mask, dropout)
    query, key, value = (four_axes(x, batch) for x in (query, key, value))
    if mask is not None:
        mask = mask[(None,) * (2 - mask.ndim)]  # at least (L, S)
        mask = four_axes(mask, batch if len(batch) > 2 else mask.shape[:-2])
    output = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
    return Attended(output.reshape(*batch, *output.shape[-2:]), None)
