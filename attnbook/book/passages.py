"""Text in a figure: paragraphs whose words are marked, the more the larger their weight."""

from collections.abc import Sequence
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle

from attnbook.book.palette import ACCENT, MUTED

SIZE, LINE, GAP = 11.0, 19.0, 7.0
TIGHT = set(".,;:!?)'")
"""Marks that stand close to the word before them."""
GROUND = 0.4
"""The strongest shade behind a word, on which ink can still be read; the line below is full."""


def passages(
    figure: Figure, ax: Any, paragraphs: Sequence[tuple[str, Sequence[str], Sequence[float] | None]]
) -> None:
    """Write paragraphs under each other, each word shaded and underlined by its weight.

    The lines are as wide as the figure, and the figure becomes as high as they need. A word is
    centred in the room that it takes in matplotlib's own font, which is wider than most.

    Args:
        figure: what to fill.
        ax: its only axes.
        paragraphs: for each a title, its words, and their weights in 0..1, or None for plain text.
            A paragraph without a title belongs to the one above.

    Raises:
        ValueError: a paragraph has not as many weights as words, or a weight is not in 0..1.

    >>> from attnbook import plotting
    >>> figure, ax = plotting.axes(width=4.0)
    >>> passages(figure, ax, [("written", ["reads", "gemma", "."], [0.0, 1.0, 0.0])])
    >>> [text.get_text() for text in ax.texts], len(ax.patches)
    (['written', 'reads', 'gemma', '.'], 2)
    """
    wide = 72 * figure.get_figwidth()
    renderer: Any = FigureCanvasAgg(Figure(dpi=72)).get_renderer()
    font = FontProperties(size=SIZE)
    blank = 3.6

    def width(word: str) -> float:
        return float(renderer.get_text_width_height_descent(word, font, ismath=False)[0])

    down = 0.0
    for title, words, weights in paragraphs:
        shades = [0.0] * len(words) if weights is None else [float(weight) for weight in weights]
        if len(shades) != len(words) or not all(0 <= shade <= 1 for shade in shades):
            raise ValueError(
                f"{title or 'a paragraph'} must have a weight in 0..1 for each of {len(words)} "
                f"words, got {shades}"
            )
        if title:
            down += GAP if down else 0.0
            ax.text(0, down + LINE / 2, title, color=MUTED, va="center", fontsize=SIZE)
            down += LINE
        across = 0.0
        for word, shade in zip(words, shades, strict=True):
            room = width(word)
            across += 0.0 if not across else 1.0 if word in TIGHT else blank
            if across + room > wide - 2 and across:
                across, down = 0.0, down + LINE
            for height, strength in ((LINE - 5, GROUND * shade), (2.0, shade)):
                colour = to_rgba(ACCENT, round(strength, 2))
                if colour[3]:
                    place = across, down + LINE - 2 - height
                    ax.add_patch(Rectangle(place, room, height, facecolor=colour, linewidth=0))
            middle = across + room / 2, down + LINE / 2 - 1
            ax.text(*middle, word, ha="center", va="center", fontsize=SIZE)
            across += room
        down += LINE
    figure.set_figheight(down / 72)
    figure.set_layout_engine("none")
    ax.set_position((0, 0, 1, 1))
    ax.set(xlim=(0, wide), ylim=(down, 0))
    ax.set_axis_off()
