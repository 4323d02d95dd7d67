"""Photographs in a figure."""

import base64
import io
import re

import matplotlib.image
import numpy as np
import pytest
import torch

from attnbook import plotting
from attnbook.book.figures import to_svg
from attnbook.book.palette import MUTED


def drawn(pixels: object) -> np.ndarray:
    """The picture inside the figure's SVG, as bytes (rows, columns, 4)."""
    figure, ax = plotting.axes()
    plotting.picture(ax, pixels)
    (png,) = re.findall(r'<image [^>]*href="data:image/png;base64,\s*([^"]+)"', to_svg(figure))
    image = matplotlib.image.imread(io.BytesIO(base64.b64decode(png)))
    return np.round(255 * image).astype(int)


def test_a_pixel_is_a_share_of_the_middle_grey() -> None:
    pixels = torch.rand(5, 7)
    image = drawn(pixels)
    shown = image if image.shape[:2] == (5, 7) else image[::-1]
    assert shown.shape == (5, 7, 4)
    assert np.array_equal(shown[..., 3], (255 * pixels).round().int().numpy())
    assert {tuple(pixel) for pixel in shown[shown[..., 3] > 0][:, :3]} == {
        tuple(int(MUTED[n : n + 2], 16) for n in (1, 3, 5))
    }


def test_row_0_is_at_the_top() -> None:
    _, ax = plotting.axes()
    plotting.picture(ax, torch.eye(4))
    bottom, top = ax.get_ylim()
    assert bottom > top


@pytest.mark.parametrize(
    "pixels", [torch.zeros(3), torch.zeros(1, 3, 3), torch.full((2, 2), 1.5), -torch.ones(2, 2)]
)
def test_what_is_no_picture_is_refused(pixels: torch.Tensor) -> None:
    _, ax = plotting.axes()
    with pytest.raises(ValueError, match=r"pixels must be \(rows, columns\) of numbers in 0\.\.1"):
        plotting.picture(ax, pixels)
