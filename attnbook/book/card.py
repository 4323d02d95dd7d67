"""The picture that a preview of a link shows: the course's name, its equation, and weights.

A preview is drawn by another program, which takes a PNG of a fixed size and no style sheet; so this
picture alone of the book has its colours and its ground in it.
"""

from pathlib import Path

import torch
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from attnbook.book import palette
from attnbook.core import attention_weights
from attnbook.masks import causal
from attnbook.scores import gaussian

_LINES = [
    r"$e_j = \mathrm{score}(q,\, k_j)$",
    r"$\alpha = \mathrm{normalise}(\mathrm{mask}(e))$",
    r"$c = \sum_j\, \alpha_j\, v_j$",
]


def write(path: Path, size: tuple[int, int]) -> None:
    """Draw the picture as a PNG of so many pixels across and down."""
    places = torch.arange(9.0)[:, None]
    weights = attention_weights(places, places, score=gaussian(1.6), mask=causal(9, 9))
    with rc_context({"mathtext.fontset": "stix", "font.family": "STIXGeneral"}):
        figure = Figure(figsize=(size[0] / 100, size[1] / 100), dpi=100, facecolor=palette.PAPER)
        FigureCanvasAgg(figure)
        title = "Attention,\none equation at a time"
        figure.text(0.07, 0.71, title, size=44, color=palette.INK, linespacing=0.95)
        for row, line in enumerate(_LINES):
            figure.text(0.07, 0.50 - 0.115 * row, line, size=32, color=palette.INK)
        figure.text(0.07, 0.09, "attnbook: every block of code runs", size=24, color=palette.MUTED)
        axes = figure.add_axes((0.60, 0.12, 0.36, 0.36 * size[0] / size[1]))
        axes.set(xlim=(-0.5, 8.5), ylim=(8.5, -0.5))
        axes.set_axis_off()
        for i, j in torch.cartesian_prod(torch.arange(9), torch.arange(9)).tolist():
            if j <= i:
                share = float(weights[i, j]) ** 0.5  # so that small weights are seen
                shade = palette.mix(palette.ACCENT, palette.PAPER, share)
                cell = (j - 0.47, i - 0.47)
                axes.add_patch(Rectangle(cell, 0.94, 0.94, facecolor=shade, linewidth=0))
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Software": None})
