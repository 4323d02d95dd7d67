"""What the fast paths ask of their inputs, and what they do with them first."""

import torch
from torch import Tensor

from attnbook.core import check_inputs, check_mask
from attnbook.scores import check_same_width

__all__ = ["check", "exact", "fit", "four_axes"]


def fit(query: Tensor, key: Tensor, value: Tensor, dropout: float) -> bool:
    """Whether a kernel takes these as they are: a few comparisons in place of all of `check`."""
    if not (isinstance(query, Tensor) and isinstance(key, Tensor) and isinstance(value, Tensor)):
        return False
    if not query.ndim == key.ndim == value.ndim == 4:
        return False
    of_query, of_key, of_value = query.shape, key.shape, value.shape
    return (
        of_query[0] == of_key[0] == of_value[0]
        and of_query[1] == of_key[1] == of_value[1]
        and of_key[2] == of_value[2]
        and of_query[3] == of_key[3]
        and query.dtype == key.dtype == value.dtype
        and query.is_floating_point()
        and query.device == key.device == value.device
        and 0.0 <= dropout < 1.0
    )


def check(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float
) -> torch.Size:
    """The leading axes of the output, once the inputs are known to fit."""
    check_inputs(query, key, value, dropout)
    check_same_width(query, key)
    batch = query.shape[:-2]
    if not batch == key.shape[:-2] == value.shape[:-2]:
        batch = torch.broadcast_shapes(batch, key.shape[:-2], value.shape[:-2])  # slow to ask
    if mask is not None:
        shape = torch.Size((*batch, query.shape[-2], key.shape[-2]))
        check_mask(mask, shape, query.device)
    return batch


def four_axes(x: Tensor, batch: torch.Size) -> Tensor:
    """`x` with its leading axes expanded to `batch`, then brought to two: what the kernels take."""
    if x.shape[:-2] != batch:
        x = x.expand(*batch, *x.shape[-2:])
    if x.ndim == 4:
        return x
    return x.flatten(0, -4) if x.ndim > 4 else x[(None,) * (4 - x.ndim)]


def exact(x: Tensor) -> torch.autocast:
    """Inside it no matrix product runs in a narrower type than its inputs."""
    return torch.autocast(x.device.type, enabled=False)
