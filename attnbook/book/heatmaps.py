"""Matrices as cells of one colour, the stronger the larger."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from attnbook.book.labels import plain
from attnbook.book.palette import ACCENT, COLOURS, MUTED, reads_on


def heatmap(
    ax: Axes,
    matrix: Any,
    *,
    rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    annotate: bool = False,
    limit: float | None = None,
    format: str = ".2f",
) -> None:
    """Draw a matrix as cells of one colour, the stronger the larger: weights, masks, scores.

    Negative numbers take the second colour, NaN and infinities (forbidden positions) a thin stroke.
    Row 0 is at the top.

    Args:
        ax: where to draw.
        matrix: (rows, columns); a tensor, an array or nested lists; booleans count as 0 and 1.
        rows: names of the rows.
        columns: names of the columns; turned upright when they are long.
        annotate: True writes each number in its cell.
        limit: the size that gets the full colour; by default 1, or the largest if that is more.
        format: of the written numbers.

    >>> from attnbook import plotting
    >>> figure, ax = plotting.axes()
    >>> heatmap(ax, [[1.0, 0.0], [0.25, 0.75]], rows=["$q_1$", "$q_2$"], annotate=True)
    >>> [text.get_text() for text in ax.texts]
    ['1.00', '0.00', '0.25', '0.75']
    """
    values = torch.as_tensor(matrix).detach().cpu().double().numpy()
    if values.ndim != 2:
        raise ValueError(f"matrix must have 2 dimensions, got {values.ndim}")
    height, width = values.shape
    finite = np.isfinite(values)
    limit = max(1.0, float(np.abs(values[finite]).max(initial=0.0))) if limit is None else limit
    half = 0.47 if max(height, width) <= 16 else 0.5
    cells: dict[tuple[str, float], list[tuple[int, int]]] = {}
    for i, j in np.ndindex(height, width):
        value = float(values[i, j])
        if not finite[i, j]:
            stroke = [j - 0.22, j + 0.22], [i + 0.22, i - 0.22]
            ax.plot(*stroke, color=MUTED, linewidth=1, linestyle="-")
            continue
        share = round(min(abs(value) / limit, 1.0), 2)
        kind = (ACCENT if value > 0 else COLOURS[1], share)
        cells.setdefault(kind, []).append((i, j))
        if annotate:
            colour = reads_on(kind[0], share)
            number = f"{value:{format}}".replace("-", "−")
            ax.text(j, i, number, ha="center", va="center", color=colour, fontsize=10.5)
    for (colour, share), places in cells.items():  # one shape a shade: no seams, a small file
        if share:
            shape = Path.make_compound_path(*_rectangles(places, half))
            ax.add_patch(PathPatch(shape, facecolor=to_rgba(colour, share), linewidth=0))
    ax.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), aspect="equal")
    ax.grid(False)
    ax.spines[:].set_visible(True)
    ax.tick_params(length=0)
    if columns is not None:
        figure = ax.get_figure(root=True)
        wide, high = figure.get_size_inches() if figure else (5.8, 3.1)
        place = ax.get_position()
        room = 72 * min(place.width * wide / width, place.height * high / height)
        upright = 6.5 * max(len(plain(name)) for name in columns) > room
        ax.set_xticks(range(width), columns, rotation=90 if upright else 0)
    elif width <= 16:
        ax.set_xticks(range(width))
    if rows is not None:
        ax.set_yticks(range(height), rows)
    elif height <= 16:
        ax.set_yticks(range(height))


def _rectangles(places: list[tuple[int, int]], half: float) -> list[Path]:
    """Outline cells, given row by row; neighbours that touch become one rectangle."""
    runs: list[tuple[int, int, int]] = []
    for i, j in places:
        if runs and half == 0.5 and runs[-1][0] == i and runs[-1][2] == j - 1:
            runs[-1] = (i, runs[-1][1], j)
        else:
            runs.append((i, j, j))
    return [
        Path(
            [
                (first - half, i - half),
                (last + half, i - half),
                (last + half, i + half),
                (first - half, i + half),
                (first - half, i - half),
            ],
            closed=True,
        )
        for i, first, last in runs
    ]
