"""Photographs in a figure: grey pixels that suit a light and a dark page."""

from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb

from attnbook.book.palette import MUTED


def picture(ax: Axes, pixels: Any) -> None:
    """Draw a picture: the stronger a pixel, the more of the middle grey of the book.

    A pixel of 0 is transparent, so that the page, or what was drawn before, shows through.
    Row 0 is at the top; a pixel is one unit wide, centred on its indices.

    Args:
        ax: where to draw.
        pixels: (rows, columns), numbers from 0 to 1.

    >>> from attnbook import plotting
    >>> figure, ax = plotting.axes()
    >>> picture(ax, [[0.0, 0.5], [1.0, 0.0]])
    >>> ax.images[0].get_array()[1, 0, 3]
    np.uint8(255)
    """
    grey = torch.as_tensor(pixels).detach().cpu().float()
    if grey.ndim != 2 or not (grey.min() >= 0 and grey.max() <= 1):
        shape = tuple(grey.shape)
        raise ValueError(f"pixels must be (rows, columns) of numbers in 0..1, got shape {shape}")
    colour = torch.tensor(to_rgb(MUTED)).expand(*grey.shape, 3)
    image = torch.cat([colour, grey[..., None]], dim=-1)
    ax.imshow((255 * image).round().byte().numpy(), interpolation="none")
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
    ax.spines[:].set_visible(True)
