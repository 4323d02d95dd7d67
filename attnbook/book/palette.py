"""The colours of the book: one set for a light page, one for a dark page.

Six colours that people with any of the common colour-vision deficiencies can tell apart, each at
least 3:1 against its page (a test measures both). A figure is drawn in the light set;
`attnbook.book.figures` turns each of its colours into a CSS variable, and `css` gives the values of
those variables in both schemes.
"""

COLOURS = ["#264292", "#e3670c", "#187561", "#c15fa7", "#624d00", "#1492e3"]
COLOURS_DARK = ["#5babfe", "#f06a15", "#159e79", "#e178bd", "#ece77d", "#a6ecfa"]
ACCENT = COLOURS[0]
INK, INK_DARK = "#1f2328", "#e6e9ee"
MUTED, MUTED_DARK = "#5f6875", "#9aa4b2"
GRID, GRID_DARK = "#dfe2e7", "#30353d"
PAPER, PAPER_DARK = "#ffffff", "#14161a"

# What each colour of a drawing becomes in its SVG. Black is ink too: libraries draw in it unasked.
VARIABLES = {
    INK: "currentColor",
    "#000000": "currentColor",
    MUTED: f"var(--book-muted, {MUTED})",
    GRID: f"var(--book-grid, {GRID})",
    PAPER: f"var(--book-paper, {PAPER})",
    **{colour: f"var(--book-{n}, {colour})" for n, colour in enumerate(COLOURS, 1)},
}


def css(light: str = ":root", dark: str = "[data-md-color-scheme=slate]") -> str:
    """Give the colours of both schemes as CSS rules for the two selectors.

    >>> print(css().splitlines()[0][:24])
    :root{--book-1:#264292;-
    """
    rules = []
    for selector, colours, muted, grid in (
        (light, COLOURS, MUTED, GRID),
        (dark, COLOURS_DARK, MUTED_DARK, GRID_DARK),
    ):
        values = "".join(f"--book-{n}:{colour};" for n, colour in enumerate(colours, 1))
        paper = f"var(--md-default-bg-color,{PAPER if colours is COLOURS else PAPER_DARK})"
        rules.append(
            f"{selector}{{{values}--book-muted:{muted};--book-grid:{grid};--book-paper:{paper}}}"
        )
    rules.append(".book-svg{display:block;margin-inline:auto;height:auto;overflow:visible}")
    return "\n".join(rules) + "\n"
