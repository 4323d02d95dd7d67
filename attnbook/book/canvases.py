"""Where figures are drawn: the SVG canvases of matplotlib and schemdraw, with text as text.

Both give an SVG tree with the libraries' own colours and ids; `attnbook.book.figures` makes it
the book's.
"""

import io
from typing import Any
from xml.etree import ElementTree as ET

import matplotlib
import numpy as np
import schemdraw
from matplotlib.backends.backend_svg import RendererSVG
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from schemdraw.backends import svg as schemdraw_svg
from ziamath.zmath import Text

from attnbook.book.labels import spans, text_element

SVG = "http://www.w3.org/2000/svg"


class _Renderer(RendererSVG):
    """Matplotlib's SVG renderer, but a line of text becomes one `<text>`, anchored as aligned."""

    def __init__(self, width: float, height: float, file: io.StringIO) -> None:
        super().__init__(width, height, file, image_dpi=144, metadata={"Date": None})
        self.texts: list[ET.Element] = []

    def draw_text(
        self,
        gc: Any,
        x: float,
        y: float,
        s: str,
        prop: Any,
        angle: float,
        ismath: bool | str = False,
        mtext: Any = None,
    ) -> None:
        line = spans(s) if ismath else spans(s.replace("$", r"\$"))
        if line is None or ismath == "TeX":
            super().draw_text(gc, x, y, s, prop, angle, ismath, mtext)
            return
        share = _anchor_share(mtext, angle)
        width = self.get_text_width_height_descent(s, prop, ismath)[0]
        turn = np.radians(angle)
        element = text_element(
            line,
            x + share * width * np.cos(turn),
            y - share * width * np.sin(turn),
            size=prop.get_size_in_points(),
            anchor={0.0: "start", 0.5: "middle", 1.0: "end"}[share],
            fill=to_hex(gc.get_rgb()[:3]),
            angle=-angle,
        )
        alpha = gc.get_alpha() if gc.get_forced_alpha() else gc.get_rgb()[3]
        if alpha != 1:
            element.set("style", f"{element.get('style')}; opacity: {alpha:.2f}")
        if prop.get_weight() in ("bold", "semibold", 700, 600):
            element.set("style", f"{element.get('style')}; font-weight: bold")
        self.writer.element("text", attrib={"data-text": str(len(self.texts))})
        self.texts.append(element)


def _anchor_share(mtext: Any, angle: float) -> float:
    """Where along its line a text is held: 0 at its start, 0.5 in the middle, 1 at its end."""
    if mtext is None:
        return 0.0
    across = {"left": 0.0, "center": 0.5, "right": 1.0}
    along = {"bottom": 0.0, "baseline": 0.0, "center": 0.5, "center_baseline": 0.5, "top": 1.0}
    if mtext.get_rotation_mode() != "anchor" and round(angle) % 180 == 90:
        share = along[mtext.get_va()]
        return share if round(angle) % 360 == 90 else 1.0 - share
    return across[mtext.get_ha()]


def from_matplotlib(figure: Figure) -> ET.Element:
    """Draw a matplotlib figure at 72 units an inch."""
    dpi = figure.dpi
    style: Any = {"svg.fonttype": "path", "svg.hashsalt": "attnbook", "path.simplify": True}
    file = io.StringIO()
    try:
        figure.dpi = 72
        figure.patch.set_visible(False)
        with matplotlib.rc_context(style):
            width, height = figure.get_size_inches() * 72
            renderer = _Renderer(float(width), float(height), file)
            figure.draw(renderer)
            renderer.finalize()
    finally:
        figure.dpi = dpi
    root = ET.fromstring(file.getvalue())
    parents = {child: parent for parent in root.iter() for child in parent}
    for element in [e for e in root.iter(f"{{{SVG}}}text") if "data-text" in e.attrib]:
        parent = parents[element]
        parent[list(parent).index(element)] = renderer.texts[int(element.attrib["data-text"])]
    for element in [e for e in root.iter() if e.tag in (f"{{{SVG}}}metadata", f"{{{SVG}}}style")]:
        parents[element].remove(element)
    root.set("stroke-linejoin", "round")
    return root


class _Canvas(schemdraw_svg.Figure):
    """Schemdraw's SVG canvas, but lines of words are `<text>`; only hard maths is outlines."""

    def text(self, s: str, x: float, y: float, **style: Any) -> None:  # type: ignore[override]
        size, colour = float(style.get("fontsize", 13)), str(style.get("color", "black"))
        halign, valign = style.get("halign", "center"), style.get("valign", "center")
        x0, y0 = self.xform(x, y)
        lines = s.split("\n")
        step = 1.25 * size
        first = {
            "center": y0 - step * (len(lines) - 1) / 2,
            "top": y0 + 0.6 * size,
            "bottom": y0 - step * (len(lines) - 1) - 0.45 * size,
        }.get(valign, y0 - step * (len(lines) - 1) - 0.35 * size)
        group = ET.Element("g")
        rotation = float(style.get("rotation") or 0)
        if rotation:
            group.set("transform", f"rotate({-rotation:g} {x0:g} {y0:g})")
        for number, line in enumerate(lines):
            middle = first + step * number
            runs = spans(line)
            if runs is None:
                drawn = Text(line, textfont="sans", size=1.15 * size, color=colour)
                drawn.drawon(group, x0, middle, halign=halign, valign="center")
            elif runs:
                anchor = {"left": "start", "center": "middle", "right": "end"}[halign]
                group.append(
                    text_element(
                        runs, x0, middle + 0.35 * size, size=size, anchor=anchor, fill=colour
                    )
                )
        self.addclip(group, style.get("clip"))
        self.svgelements.append((style.get("zorder", 3), group))


def from_schemdraw(drawing: schemdraw.Drawing) -> ET.Element:
    """Draw a schemdraw drawing; its unit is half an inch, 36 units of the SVG."""
    if not drawing.elements:
        raise ValueError("the drawing is empty")
    schemdraw_svg.Figure.total_clips = 0
    canvas = _Canvas(
        drawing.get_bbox(),
        inches_per_unit=drawing.dwgparams.get("inches_per_unit", 0.5),
        margin=max(drawing.dwgparams.get("margin", 0.1), 0.1),
    )
    canvas.svgdefs.extend(drawing.svgdefs)
    for element in drawing.elements:
        element._draw(canvas)
    root = canvas.getsvg()
    # Schemdraw and ziamath leave the namespace off; give it to every element, as a parser would.
    for node in root.iter():
        if "}" not in node.tag:
            node.tag = f"{{{SVG}}}{node.tag}"
    return root
