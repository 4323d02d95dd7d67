r"""The pictures of the book, in one visual language.

Data is drawn with matplotlib on `axes`, matrices with `heatmap`, structure with `diagram`. Draw in
`INK`, `MUTED` and the six `COLOURS` only: on the site each of them follows the reader's light or
dark page. A figure block of a page ends with the figure itself::

    figure, ax = plotting.axes()
    ax.plot(widths, spread)
    ax.set(xlabel="key width $d_k$", ylabel="standard deviation of a score")
    figure

The visual language, held by a test over every figure of the site:

- colours: those of `attnbook.book.palette`, which people with any common colour-vision deficiency
  can tell apart; lines differ by their dashes besides;
- sizes of text: 12 for titles, 11.5 for axes, 11 for all else, `SMALL` (10.5) where room is short;
- widths of lines: 2 for data, 3 for the one line that matters, 1.6 for boxes and arrows, 1.2 and 1
  for frames and levels, 0.8 for ticks and grids;
- shapes: rounded boxes are steps or tensors, coloured where they matter, dashed where they may be
  left out; circles are small operations; cells are numbers, the stronger the larger; a full
  triangle heads every arrow.

Labels may hold maths between dollar signs. Simple maths (letters, Greek, sub- and superscripts,
$\mathbf{W}$) stays text in the reader's fonts; fractions, roots and accents become outlines.
"""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from attnbook.book.diagram import Diagram
from attnbook.book.figures import to_svg
from attnbook.book.heatmaps import heatmap
from attnbook.book.palette import ACCENT, COLOURS, COLOURS_DARK, GRID, INK, MUTED, PAPER
from attnbook.book.passages import passages
from attnbook.book.pictures import picture

__all__ = [
    "ACCENT",
    "COLOURS",
    "COLOURS_DARK",
    "GRID",
    "INK",
    "MUTED",
    "PAPER",
    "SIZES",
    "SMALL",
    "WIDTHS",
    "BookFigure",
    "Diagram",
    "arrow",
    "axes",
    "diagram",
    "end_labels",
    "heatmap",
    "passages",
    "picture",
    "shades",
]

SMALL = 10.5
"""The size of text where room is short: numbers in cells, long names."""
SIZES = (SMALL, 11.0, 11.5, 12.0)
"""The sizes of text in a figure, in points."""
WIDTHS = (0.8, 1.0, 1.2, 1.6, 2.0, 3.0)
"""The widths of lines in a figure, in points."""
DASHES: list[Any] = ["-", (0, (5, 2)), (0, (1, 1.6)), (0, (6, 2, 1, 2)), (0, (9, 2)), (0, (3, 1.5))]
STYLE: Any = {
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 11.5,
    "axes.linewidth": 1.0,
    "axes.prop_cycle": cycler(color=COLOURS) + cycler(linestyle=DASHES),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlesize": 12,
    "figure.facecolor": "none",
    "font.size": 11,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "legend.fontsize": 11,
    "legend.frameon": False,
    "lines.linewidth": 2.0,
    "lines.markersize": 5,
    "mathtext.fontset": "stix",
    "patch.edgecolor": INK,
    "text.color": INK,
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "xtick.labelsize": 11,
    "xtick.minor.width": 0.8,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
    "ytick.labelsize": 11,
    "ytick.minor.width": 0.8,
}


class BookFigure(Figure):
    """A matplotlib figure that shows itself, in a notebook too, as the book's SVG."""

    alt: str = ""

    def _repr_svg_(self) -> str:
        return to_svg(self)


def axes(
    nrows: int = 1,
    ncols: int = 1,
    *,
    width: float | None = None,
    height: float | None = None,
    titles: Sequence[str] = (),
    alt: str = "",
    **subplots: Any,
) -> tuple[BookFigure, Any]:
    """Make a figure with axes in the book's style.

    The style is set for the whole process (matplotlib reads it at each later call), pyplot is not
    used.

    Args:
        nrows: rows of small multiples.
        ncols: columns of small multiples.
        width: of the figure in inches; by default 5.8, or 7.6 for three columns or more. A figure
            wider than 5.8 scrolls on a phone.
        height: in inches; by default 3.1 for one row, 2.5 a row for more.
        titles: one for each panel, in reading order.
        alt: what is seen, where no figure block gives it (a lab).
        subplots: passed to `Figure.subplots`, such as `sharey=True`.

    Returns:
        The figure, and one matplotlib `Axes` or an array of them as `Figure.subplots` gives it.

    >>> figure, (left, right) = axes(1, 2, sharey=True, titles=["dot", "scaled dot"])
    >>> right.get_title()
    'scaled dot'
    """
    matplotlib.rcParams.update(STYLE)
    width = (5.8 if ncols < 3 else 7.6) if width is None else width
    height = (3.1 if nrows == 1 else 2.5 * nrows) if height is None else height
    figure = BookFigure(figsize=(width, height), layout="constrained")
    figure.alt = alt
    made = figure.subplots(nrows, ncols, **subplots)
    panels = [made] if isinstance(made, Axes) else list(np.ravel(made))
    if titles and len(titles) != len(panels):
        raise ValueError(
            f"titles must have one entry for each of {len(panels)} panels, got {len(titles)}"
        )
    for panel, title in zip(panels, titles, strict=False):
        panel.set_title(title)
    return figure, made


def shades(count: int, colour: str = ACCENT) -> list[tuple[float, float, float, float]]:
    """Give `count` shades of one colour, pale to full, for an ordered family of lines or areas.

    >>> [round(shade[3], 2) for shade in shades(3)]
    [0.35, 0.68, 1.0]
    """
    return [
        to_rgba(colour, float(alpha)) for alpha in np.linspace(0.35 if count > 1 else 1, 1, count)
    ]


def end_labels(ax: Axes, *, gap: float = 6.0) -> None:
    """Name each labelled line at its right end, in place of a legend; close names are moved apart.

    >>> figure, ax = axes()
    >>> _ = ax.plot([0, 1], [0, 1], label="dot")
    >>> end_labels(ax)
    >>> ax.texts[0].get_text()
    'dot'
    """
    lines = [line for line in ax.get_lines() if not str(line.get_label()).startswith("_")]
    ends = [np.asarray(line.get_xydata(), dtype=float)[-1] for line in lines]
    figure = ax.get_figure(root=True)
    if figure is None:
        raise ValueError("ax must belong to a figure")
    figure.draw_without_rendering()
    scale = 72 / figure.dpi
    heights = [float(ax.transData.transform(end)[1]) * scale for end in ends]
    placed = -np.inf
    for n in sorted(range(len(lines)), key=lambda n: heights[n]):
        placed = max(heights[n], placed + 13.0)
        ax.annotate(
            str(lines[n].get_label()),
            (float(ends[n][0]), float(ends[n][1])),
            xytext=(gap, placed - heights[n]),
            textcoords="offset points",
            va="center",
            color=INK,
        )


def arrow(
    ax: Axes,
    start: tuple[float | int, float | int],
    end: tuple[float | int, float | int],
    *,
    colour: str = INK,
    strong: bool = False,
) -> None:
    """Draw an arrow in a plot, with the head that arrows of diagrams have.

    Args:
        ax: where to draw.
        start: its tail, in the units of the axes.
        end: its head.
        colour: of the palette.
        strong: the one arrow that matters.

    >>> figure, ax = axes()
    >>> arrow(ax, (0, 0), (1, 1))
    >>> ax.texts[0].arrow_patch.get_linewidth()
    1.6
    """
    head = {"arrowstyle": "-|>,head_length=0.55,head_width=0.2", "mutation_scale": 16}
    line = {"linewidth": 3.0 if strong else 1.6, "color": colour, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", end, start, arrowprops={**head, **line})


def diagram(alt: str = "") -> Diagram:
    r"""Make an empty structure diagram.

    It is a schemdraw drawing with `box`, `circle`, `cells`, `arrow`, `note` and `frame`.

    >>> drawing = diagram()
    >>> query = drawing.box("query $q$", (0, 1.5), colour=COLOURS[0])
    >>> keys = drawing.box("keys $K$", (0, 0), colour=COLOURS[1])
    >>> score = drawing.box("score", (4, 0.75))
    >>> for source in (query, keys):
    ...     _ = drawing.arrow(source, score)
    >>> _ = drawing.note("one number for each key", (4, -0.4))
    >>> "keys" in to_svg(drawing, "demo")
    True
    """
    return Diagram(alt)
