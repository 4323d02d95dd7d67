"""The palette's promises, and what the helpers of the book's figures draw."""

import re
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.patches import PathPatch

from attnbook import plotting
from attnbook.book import palette, passages

# What people with protanopia, deuteranopia and tritanopia see, on linear RGB
# (Machado, Oliveira and Fernandes 2009, severity 1.0).
VISION = {
    "typical": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritanopia": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}
SETS = {
    "light": (palette.COLOURS, palette.PAPER),
    "dark": (palette.COLOURS_DARK, palette.PAPER_DARK),
}
# The least distance of two colours in CIELAB that the palette promises.
PROMISED = {"typical": 34, "protanopia": 20, "deuteranopia": 20, "tritanopia": 17}
STYLE_SHEET = Path(palette.__file__).parent / "theme" / "book.css"


def linear(colour: str) -> np.ndarray:
    c = np.array(to_rgb(colour))
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """WCAG 2.1 contrast ratio."""
    a, b = (float(linear(c) @ [0.2126, 0.7152, 0.0722]) + 0.05 for c in (one, other))
    return max(a, b) / min(a, b)


def oklab(rgb: np.ndarray) -> np.ndarray:
    """Perceptual coordinates (Ottosson 2020) of linear RGB."""
    cone = rgb @ np.array(
        [
            [0.4122214708, 0.2119034982, 0.0883024619],
            [0.5363325363, 0.6806995451, 0.2817188376],
            [0.0514459929, 0.1073969566, 0.6299787005],
        ]
    )
    return np.cbrt(cone) @ np.array(
        [
            [0.2104542553, 1.9779984951, 0.0259040371],
            [0.7936177850, -2.4285922050, 0.7827717662],
            [-0.0040720468, 0.4505937099, -0.8086757660],
        ]
    )


def cielab(rgb: np.ndarray) -> np.ndarray:
    """CIE 1976 L*a*b* of linear sRGB, for the white of sRGB (D65)."""
    to_xyz = np.array(
        [
            [0.4124564, 0.3575761, 0.1804375],
            [0.2126729, 0.7151522, 0.0721750],
            [0.0193339, 0.1191920, 0.9503041],
        ]
    )
    share = (rgb @ to_xyz.T) / to_xyz.sum(1)
    f = np.where(share > (6 / 29) ** 3, np.cbrt(share), share / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def test_cielab_is_that_of_the_standard() -> None:
    assert cielab(linear("#ffffff")) == pytest.approx([100, 0, 0], abs=0.01)
    assert cielab(linear("#ff0000")) == pytest.approx([53.24, 80.09, 67.20], abs=0.02)


@pytest.mark.parametrize("scheme", SETS)
def test_lines_stand_out_from_the_page(scheme: str) -> None:
    """From the paper of the palette, and from the grounds that the pages really have."""
    colours, paper = SETS[scheme]
    css = STYLE_SHEET.read_text(encoding="utf-8")
    at = {"light": 0, "dark": 1}[scheme]
    grounds = [re.findall(rf"--book-{name}: (#\w+);", css)[at] for name in ("page", "wash")]
    assert len(set(colours)) == 6
    for ground in (paper, *grounds):
        assert min(contrast(colour, ground) for colour in colours) >= 3


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("scheme", SETS)
def test_colours_differ_in_cielab_as_promised(scheme: str, vision: str) -> None:
    rgb = np.stack([linear(colour) for colour in SETS[scheme][0]]) @ VISION[vision].T
    seen = cielab(rgb.clip(0, 1))
    gaps = np.linalg.norm(seen[:, None] - seen[None], axis=-1) + 100 * np.eye(6)
    assert gaps.min() >= PROMISED[vision]


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("scheme", SETS)
def test_colours_can_be_told_apart(scheme: str, vision: str) -> None:
    rgb = np.stack([linear(colour) for colour in SETS[scheme][0]]) @ VISION[vision].T
    seen = oklab(rgb.clip(0, 1))
    gaps = np.linalg.norm(seen[:, None] - seen[None], axis=-1) + np.eye(6)
    assert gaps.min() >= 0.09


@pytest.mark.parametrize(
    ("ink", "muted", "paper"),
    [
        (palette.INK, palette.MUTED, palette.PAPER),
        (palette.INK_DARK, palette.MUTED_DARK, palette.PAPER_DARK),
    ],
)
def test_text_stands_out_from_the_page(ink: str, muted: str, paper: str) -> None:
    assert contrast(ink, paper) >= 7
    assert contrast(muted, paper) >= 4.5


@pytest.mark.parametrize("scheme", SETS)
def test_numbers_in_a_heatmap_can_be_read(scheme: str) -> None:
    """At every shade the number has a contrast of 3 with its cell, and mostly 4.5."""
    colours, paper = SETS[scheme]
    ink = palette.INK if scheme == "light" else palette.INK_DARK
    ratios = []
    for name, colour in zip(palette.COLOURS[:2], colours, strict=False):
        for share in np.linspace(0, 1, 21):
            text = ink if palette.reads_on(name, share) == palette.INK else paper
            ratios.append(contrast(text, palette.mix(colour, paper, share)))
    assert min(ratios) >= 3
    assert np.mean(np.array(ratios) >= 4.5) >= 0.8


def test_heatmap_shades_by_size_and_colours_by_sign() -> None:
    _, ax = plotting.axes()
    plotting.heatmap(ax, torch.tensor([[0.0, 0.5], [-2.0, 1.0]]))
    shades = {tuple(np.round(p.get_facecolor(), 2)) for p in ax.patches}
    positive, negative = to_rgb(plotting.ACCENT), to_rgb(plotting.COLOURS[1])
    assert shades == {
        tuple(np.round((*positive, 0.25), 2)),
        tuple(np.round((*positive, 0.5), 2)),
        tuple(np.round((*negative, 1.0), 2)),
    }


def test_heatmap_puts_row_0_on_top_and_each_cell_in_its_place() -> None:
    _, ax = plotting.axes()
    plotting.heatmap(ax, [[0, 1, 0], [0, 0, 0]])
    (patch,) = [p for p in ax.patches if isinstance(p, PathPatch)]
    centre = patch.get_path().vertices.min(0) / 2 + patch.get_path().vertices.max(0) / 2
    assert centre.tolist() == [1, 0]
    top, bottom = ax.transData.transform([(0, 0), (0, 1)])[:, 1]
    assert top > bottom


def test_heatmap_marks_what_is_forbidden() -> None:
    _, ax = plotting.axes()
    plotting.heatmap(ax, [[0.5, -torch.inf], [torch.nan, 0.5]], annotate=True)
    assert len(ax.lines) == 2
    assert [text.get_text() for text in ax.texts] == ["0.50", "0.50"]


def test_heatmap_of_a_mask_is_one_shape() -> None:
    _, ax = plotting.axes()
    plotting.heatmap(ax, torch.ones(64, 64).tril().bool())
    assert len(ax.patches) == 1


def test_heatmap_refuses_other_than_a_matrix() -> None:
    _, ax = plotting.axes()
    with pytest.raises(ValueError, match="matrix must have 2 dimensions, got 1"):
        plotting.heatmap(ax, [0.0, 1.0])


def test_end_labels_do_not_overlap() -> None:
    figure, ax = plotting.axes()
    for n in range(6):
        ax.plot([0, 1], [0, 1 + n / 100], label=f"line {n}")
    ax.plot([0, 1], [0, 0])
    plotting.end_labels(ax)
    figure.draw_without_rendering()
    boxes = sorted((t.get_window_extent() for t in ax.texts), key=lambda box: box.y0)
    assert len(boxes) == 6
    middles = [(box.y0 + box.y1) / 2 for box in boxes]
    assert min(np.diff(middles)) >= 12 * figure.dpi / 72


def test_titles_must_fit_the_panels() -> None:
    with pytest.raises(ValueError, match="titles must have one entry for each of 2 panels, got 1"):
        plotting.axes(1, 2, titles=["only"])


def test_lines_differ_by_more_than_colour() -> None:
    _, ax = plotting.axes()
    lines = [ax.plot([0, 1])[0] for _ in range(6)]
    assert len({line._dash_pattern for line in map(_hashable, lines)}) == 6


class _hashable:
    def __init__(self, line: matplotlib.lines.Line2D) -> None:
        offset, dashes = line._dash_pattern
        self._dash_pattern = (offset, tuple(dashes) if dashes is not None else None)


@pytest.mark.parametrize(
    ("ground", "colours", "ink"),
    [
        (palette.PAPER, palette.COLOURS, palette.INK),
        (palette.PAPER_DARK, palette.COLOURS_DARK, palette.INK_DARK),
    ],
    ids=["light", "dark"],
)
def test_marked_words_can_be_read(ground: str, colours: list[str], ink: str) -> None:
    for share in np.linspace(0, passages.GROUND, 9):
        assert contrast(ink, palette.mix(colours[0], ground, float(share))) >= 4.5


def test_passages_wrap_and_make_the_figure_as_high_as_they_are() -> None:
    words = ["pointer", "network", "."] * 12
    heights = []
    for width in (4.0, 8.0):
        figure, ax = plotting.axes(width=width)
        plotting.passages(figure, ax, [("read", words, None), ("", ["end"], [0.5])])
        rows = {round(text.get_position()[1], 1) for text in ax.texts}
        assert figure.get_figheight() * 72 == pytest.approx(ax.get_ylim()[0])
        assert max(t.get_window_extent().x1 for t in ax.texts) <= width * figure.dpi
        heights.append(len(rows))
        fills = [patch.get_facecolor()[3] for patch in ax.patches]
        assert fills == [0.2, 0.5]
    assert heights[0] > heights[1] > 2


@pytest.mark.parametrize("weights", [[0.5], [0.5, 1.5], [0.5, float("nan")]])
def test_passages_refuse_weights_that_do_not_fit(weights: list[float]) -> None:
    figure, ax = plotting.axes()
    with pytest.raises(ValueError, match=r"read must have a weight in 0..1 for each of 2 words"):
        plotting.passages(figure, ax, [("read", ["a", "b"], weights)])


def test_arrows_meet_the_facing_sides() -> None:
    drawing = plotting.diagram()
    left, right = drawing.box("a", (0, 0)), drawing.box("b", (5, 0))
    above = drawing.box("c", (5, 4))
    assert drawing.arrow(left, right).start == left.E
    assert drawing.arrow(left, right).end == right.W
    assert drawing.arrow(right, above).start == right.N
    assert drawing.arrow(above, right).end == right.N
    assert drawing.arrow(left, above, leave="N", arrive="W").start == left.N
    with pytest.raises(ValueError, match='leave must be "N", "E", "S" or "W", got \'north\''):
        drawing.arrow(left, right, leave="north")


def test_a_box_grows_with_its_label() -> None:
    drawing = plotting.diagram()
    short, long = drawing.box("a", (0, 0)), drawing.box("a much longer label", (0, 2))
    tall = drawing.box("one\ntwo\nthree", (0, 5))
    assert long.E.x - long.W.x > short.E.x - short.W.x
    assert tall.N.y - tall.S.y > short.N.y - short.S.y


def test_css_gives_both_schemes_every_variable() -> None:
    light, dark = palette.css().splitlines()[:2]
    for n, (one, other) in enumerate(zip(palette.COLOURS, palette.COLOURS_DARK, strict=True), 1):
        assert f"--book-{n}:{one};" in light
        assert f"--book-{n}:{other};" in dark
    for name in ("muted", "grid", "paper"):
        assert f"--book-{name}:" in light
        assert f"--book-{name}:" in dark
