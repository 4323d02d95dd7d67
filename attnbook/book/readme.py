"""The README's picture: a figure of the home page, in one file for light pages and one for dark.

A README is shown by viewers that give an image neither the page's fonts nor its colours. So the
two files hold plain colours on a background of their own; each can be read on any page.

    python -m attnbook.book.readme      draws both files again
"""

import re
from pathlib import Path

from attnbook._reach import PACKAGE
from attnbook.book.figures import to_svg
from attnbook.book.palette import (
    COLOURS,
    COLOURS_DARK,
    GRID,
    GRID_DARK,
    INK,
    INK_DARK,
    MUTED,
    MUTED_DARK,
    PAPER,
    PAPER_DARK,
)
from attnbook.book.runner import Page

DOCS = PACKAGE.parent / "docs"
FIGURE = "stations"
LIGHT = [*COLOURS, MUTED, GRID, PAPER]
DARK = [*COLOURS_DARK, MUTED_DARK, GRID_DARK, PAPER_DARK]


def pictures(docs: Path = DOCS) -> dict[Path, str]:
    """Draw the picture from the home page's own block: file -> SVG.

    Raises:
        ValueError: the home page has no figure of that name.
        PageError: the home page does not run.
    """
    page = Page((docs / "index.md").read_text(encoding="utf-8"), "docs/index.md")
    block = next((b for b in page.blocks if b.fig == FIGURE), None)
    if block is None:
        raise ValueError(f"docs/index.md has no figure named {FIGURE!r}")
    figure = page.run(block.index).figure
    svg = to_svg(figure, prefix=FIGURE, alt=block.value("alt"))
    folder = docs / "assets"
    return {
        folder / f"{FIGURE}-light.svg": stand_alone(svg, INK, LIGHT),
        folder / f"{FIGURE}-dark.svg": stand_alone(svg, INK_DARK, DARK),
    }


def stand_alone(svg: str, ink: str, colours: list[str]) -> str:
    r"""Give a figure of the site fixed colours, a background and a margin.

    Args:
        svg: as `to_svg` makes it.
        ink: what `currentColor` becomes.
        colours: the six colours, muted, grid and paper of one scheme.

    >>> bare = '<svg viewBox="0 0 4 2" style="x"><path fill="var(--book-1, #264292)" /></svg>'
    >>> stand_alone(bare, INK_DARK, DARK)[-54:]
    'rx="8" fill="#14161a" /><path fill="#5babfe" /></svg>\n'
    """
    for plain, colour in zip(LIGHT, colours, strict=True):
        svg = re.sub(rf"var\([^()]*{plain}\)", colour, svg)
    svg = svg.replace("currentColor", ink).replace(
        'font-family="inherit"', 'font-family="sans-serif"'
    )
    x, y, width, height = map(float, re.findall(r'viewBox="([^"]*)"', svg)[0].split())
    box = [x - 12, y - 12, width + 24, height + 24]
    place = " ".join(f"{number:g}" for number in box)
    sides = zip(("x", "y", "width", "height"), box, strict=True)
    paper = " ".join(f'{name}="{number:g}"' for name, number in sides)
    svg = re.sub(r'viewBox="[^"]*"', f'viewBox="{place}" width="{box[2]:g}"', svg, count=1)
    svg = re.sub(
        r'( style="[^"]*")?>', f'><rect {paper} rx="8" fill="{colours[-1]}" />', svg, count=1
    )
    return svg + "\n"


if __name__ == "__main__":
    for path, drawn in pictures().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(drawn, encoding="utf-8")
        print(f"wrote {path.relative_to(DOCS.parent)}")
