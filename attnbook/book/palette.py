"""The colours of the book: one set for a light page, one for a dark page.

Six colours for data. Any two differ by 20 or more in CIELAB (Euclidean distance) as people with
protanopia or deuteranopia see them, and by 17 or more with tritanopia, in either set; without a
deficiency by 34. Each has a contrast of 3:1 or more with the ground of its page, as WCAG 2.1 asks
of graphics. A test measures all this, with the simulation of Machado, Oliveira and Fernandes
(2009) at full severity. A figure is drawn in the light set;
`attnbook.book.figures` turns each of its colours into a CSS variable, and `css` gives the values of
those variables in both schemes.
"""

COLOURS = ["#264292", "#e3670c", "#187561", "#c15fa7", "#624d00", "#1492e3"]
"""Six colours for data, in the order in which lines take them."""
COLOURS_DARK = ["#5babfe", "#f06a15", "#159e79", "#e178bd", "#ece77d", "#a6ecfa"]
"""What they become on a dark page."""
ACCENT = COLOURS[0]
"""The first of the six: what the eye should find first."""
INK = "#1f2328"
"""Text and outlines; the page's own ink."""
INK_DARK = "#e6e9ee"
MUTED = "#5f6875"
"""What is less important: axes, notes, forbidden cells."""
MUTED_DARK = "#9aa4b2"
GRID = "#dfe2e7"
"""Lines that only guide the eye."""
GRID_DARK = "#30353d"
PAPER = "#ffffff"
"""The page's own ground, for text on a filled shape."""
PAPER_DARK = "#14161a"

# What each colour of a drawing becomes in its SVG. Black is ink too: libraries draw in it unasked.
VARIABLES = {
    INK: "currentColor",
    "#000000": "currentColor",
    MUTED: f"var(--book-muted, {MUTED})",
    GRID: f"var(--book-grid, {GRID})",
    PAPER: f"var(--book-paper, {PAPER})",
    **{colour: f"var(--book-{n}, {colour})" for n, colour in enumerate(COLOURS, 1)},
}


def contrast(one: str, other: str) -> float:
    """Give the contrast ratio of two colours, from 1 to 21 (WCAG 2.1).

    >>> round(contrast("#000000", "#ffffff"), 1)
    21.0
    """
    light, dark = sorted((_luminance(_rgb(colour)) for colour in (one, other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def reads_on(colour: str, share: float) -> str:
    """Choose INK or PAPER for text on a cell of a palette colour with some opacity.

    The choice is the one that is easier to read in the worse of the two schemes.

    >>> reads_on(ACCENT, 0.1) == INK, reads_on(ACCENT, 0.9) == PAPER
    (True, True)
    """
    dark = COLOURS_DARK[COLOURS.index(colour)]
    ratios = {
        INK: min(
            contrast(INK, mix(colour, PAPER, share)),
            contrast(INK_DARK, mix(dark, PAPER_DARK, share)),
        ),
        PAPER: min(
            contrast(PAPER, mix(colour, PAPER, share)),
            contrast(PAPER_DARK, mix(dark, PAPER_DARK, share)),
        ),
    }
    return max(ratios, key=ratios.__getitem__)


def mix(colour: str, ground: str, share: float) -> str:
    """Give what a colour with some opacity looks like on a ground.

    >>> mix("#ff0000", "#ffffff", 0.5)
    '#ff8080'
    """
    pairs = zip(_rgb(colour), _rgb(ground), strict=True)
    return "#" + "".join(f"{round(255 * (share * a + (1 - share) * b)):02x}" for a, b in pairs)


def _rgb(colour: str) -> list[float]:
    return [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]


def _luminance(rgb: list[float]) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def css(light: str = ":root", dark: str = "[data-md-color-scheme=slate]") -> str:
    """Give the colours of both schemes as CSS rules for the two selectors; paper is always light.

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
        values += f"--book-muted:{muted};--book-grid:{grid};--book-paper:{paper}"
        rule = f"{selector}{{{values}}}"
        if colours is COLOURS_DARK:
            rule += f"{dark} .book-svg image{{filter:brightness(1.7)}}"  # a photograph's grey
        rules.append(rule if colours is COLOURS else f"@media screen{{{rule}}}")
    rules.append(".book-svg{display:block;margin-inline:auto;height:auto;overflow:visible}")
    return "\n".join(rules) + "\n"
