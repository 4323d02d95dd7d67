"""Figures as SVG that belongs to the page it stands on.

`to_svg` takes a matplotlib figure or a schemdraw drawing and gives one `<svg>` to put inside the HTML:

- text is text in the page's own font, so it can be searched, selected and zoomed;
- ink is `currentColor`, every other colour is a CSS variable with the light value as its fallback
  (see `attnbook.book.palette`), the background is transparent: one file serves light and dark pages;
- ids carry the figure's prefix, so that two figures on a page never share one;
- the same figure gives the same bytes: no dates, no random ids, two decimals;
- it has a viewBox, no fixed size: it fills its column up to 1.35 times its own size and is never squeezed below
  0.78 of it, so that text stays legible; a wider figure scrolls, hence its wrapper needs `overflow-x: auto`.
"""

import hashlib
import io
import re
from typing import Any, cast
from xml.etree import ElementTree as ET

import matplotlib
import numpy as np
import schemdraw
import ziamath
from matplotlib.backends.backend_svg import RendererSVG
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from schemdraw.backends import svg as schemdraw_svg

from attnbook.book.labels import spans, text_element
from attnbook.book.palette import VARIABLES

SVG = "http://www.w3.org/2000/svg"
_HREF = "{http://www.w3.org/1999/xlink}href"
_COLOUR = re.compile(
    r"#[0-9a-fA-F]{8}\b|#[0-9a-fA-F]{6}\b|#[0-9a-fA-F]{3}\b|\b(?:black|white)\b|rgba?\([^)]*\)"
)
_NUMBER = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")
_GEOMETRY = {"d", "points", "x", "y", "x1", "y1", "x2", "y2", "cx", "cy", "r", "rx", "ry", "width"}
_GEOMETRY |= {"height", "transform", "viewBox"}
ET.register_namespace("", SVG)


def to_svg(figure: Figure | schemdraw.Drawing, prefix: str = "", alt: str = "") -> str:
    """Turn a matplotlib figure or a schemdraw drawing into SVG for the page.

    Args:
        figure: what to draw. Its colours must be those of the book's palette.
        prefix: begins every id. By default a digest of the drawing.
        alt: what is seen, for readers who do not see it. By default the figure's own `alt` attribute.

    Raises:
        TypeError: `figure` is neither of the two kinds.
        ValueError: a colour is not in the palette.

    >>> figure = Figure(figsize=(2, 1))
    >>> _ = figure.text(0.5, 0.5, "keys $k_1$", ha="center", color="#1f2328")
    >>> svg = to_svg(figure, "demo", alt="The word keys")
    >>> 'aria-label="The word keys"' in svg, "fill: currentColor" in svg, "#1f2328" in svg
    (True, True, False)
    """
    if isinstance(figure, Figure):
        root = _matplotlib(figure)
    elif isinstance(figure, schemdraw.Drawing):
        root = _schemdraw(figure)
    else:
        raise TypeError(
            "a figure must be a matplotlib Figure or a schemdraw Drawing, "
            f"got {type(figure).__module__}.{type(figure).__qualname__}"
        )
    return _finish(root, prefix, alt or getattr(figure, "alt", ""))


class _Renderer(RendererSVG):
    """Matplotlib's SVG renderer, but for text: every line becomes one `<text>`, anchored as it is aligned."""

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


def _matplotlib(figure: Figure) -> ET.Element:
    """Draw a matplotlib figure at 72 units an inch."""
    dpi = figure.dpi
    style = {"svg.fonttype": "path", "svg.hashsalt": "attnbook", "path.simplify": True}
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
    for element in [e for e in root.iter() if _name(e) in ("metadata", "style")]:
        parents[element].remove(element)
    root.set("stroke-linejoin", "round")
    return root


class _Canvas(schemdraw_svg.Figure):
    """Schemdraw's SVG canvas, but for text: lines that are words are `<text>`, lines that are maths are outlines."""

    def text(self, s: str, x: float, y: float, **style: Any) -> None:
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
                drawn = ziamath.Text(line, textfont="sans", size=1.15 * size, color=colour)
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


def _schemdraw(drawing: schemdraw.Drawing) -> ET.Element:
    """Draw a schemdraw drawing; its unit is half an inch, 36 units of the SVG."""
    schemdraw_svg.Figure.total_clips = 0
    canvas = _Canvas(
        drawing.get_bbox(),
        inches_per_unit=drawing.dwgparams.get("inches_per_unit", 0.5),
        margin=max(drawing.dwgparams.get("margin", 0.1), 0.1),
    )
    canvas.svgdefs.extend(drawing.svgdefs)
    for element in drawing.elements:
        element._draw(canvas)
    root = cast(ET.Element, canvas.getsvg())
    # Schemdraw and ziamath leave the namespace off; give it to every element, as a parser would.
    for element in root.iter():
        if "}" not in element.tag:
            element.tag = f"{{{SVG}}}{element.tag}"
    return root


def _name(element: ET.Element) -> str:
    return element.tag.rsplit("}", 1)[-1] if isinstance(element.tag, str) else ""


def _variable(match: re.Match[str]) -> str:
    """The CSS value of a colour, as `value` or, with its own opacity, `value|opacity`."""
    text = match.group()
    if text.startswith("rgb"):
        parts = [float(p.rstrip("%")) for p in re.findall(r"[\d.]+%?", text)]
        text = "#" + "".join(f"{round(p):02x}" for p in parts[:3])
        text += f"{round(255 * parts[3]):02x}" if len(parts) > 3 else ""
    full = to_hex(text, keep_alpha=True)
    colour, alpha = full[:7], int(full[7:], 16) / 255
    if colour not in VARIABLES:
        raise ValueError(
            f"colour {colour} is not in the book's palette: use plotting.INK, MUTED, GRID, PAPER or COLOURS "
            "(with alpha for shades), so that the figure suits light and dark pages"
        )
    return VARIABLES[colour] + (f"|{alpha:.3g}" if alpha < 1 else "")


def _style(style: str) -> str:
    """Rewrite the colours of one style attribute."""
    rules: list[str] = []
    for rule in filter(None, (part.strip() for part in style.split(";"))):
        name, _, value = (part.strip() for part in rule.partition(":"))
        value, _, alpha = _COLOUR.sub(_variable, value).partition("|")
        rules.append(f"{name}: {value}")
        if alpha:
            rules.append(f"{name}-opacity: {alpha}")
    return "; ".join(rules)


def _short(number: str, digits: int) -> str:
    text = f"{float(number):.{digits}f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _finish(root: ET.Element, prefix: str, alt: str) -> str:
    """Colours, numbers, ids, size and label, the same for both libraries."""
    for element in root.iter():
        if _HREF in element.attrib:
            element.set("href", element.attrib.pop(_HREF))
        for name in ("fill", "stroke"):  # as attributes, variables would not resolve everywhere
            if name in element.attrib and element is not root:
                value = element.attrib.pop(name)
                element.set("style", f"{name}: {value}; {element.get('style', '')}")
        if "style" in element.attrib:
            element.set("style", _style(element.attrib["style"]))
        for name in _GEOMETRY & element.attrib.keys():
            digits = 4 if name == "transform" else 2
            value = " ".join(element.attrib[name].split())
            value = _NUMBER.sub(lambda m, n=digits: _short(m.group(), n), value)
            element.set(name, re.sub(r"(?<=[A-Za-z]) (?=[-\d])|(?<=\d) (?=[A-Za-z])", "", value))
        if element.text is not None and not element.text.strip():
            element.text = None
        element.tail = None
    _prune(root)
    left, top, width, height = (float(v) for v in root.attrib["viewBox"].split())
    svg = ET.Element(
        f"{{{SVG}}}svg",
        {
            "class": "book-svg",
            "viewBox": f"{left:g} {top:g} {width:g} {height:g}",
            "role": "img",
            **({"aria-label": alt} if alt else {}),
            "fill": "currentColor",
            "font-family": "inherit",
            **({"stroke-linejoin": "round"} if "stroke-linejoin" in root.attrib else {}),
            "style": f"width: 100%; min-width: {0.78 * width:.0f}px; max-width: {1.35 * width:.0f}px",
        },
    )
    svg.extend(root)
    prefix = prefix or "f" + hashlib.sha256(ET.tostring(svg)).hexdigest()[:8]
    text = ET.tostring(svg, encoding="unicode")
    used = dict.fromkeys(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', text))
    names = {a or b: f"{prefix}-{n}" for n, (a, b) in enumerate(used)}
    for element in svg.iter():
        identifier = element.attrib.pop("id", None)
        if identifier in names:
            element.set("id", names[identifier])
    text = ET.tostring(svg, encoding="unicode")
    text = re.sub(r"url\(#([^)]+)\)", lambda m: f"url(#{names[m.group(1)]})", text)
    return re.sub(r'href="#([^"]+)"', lambda m: f'href="#{names[m.group(1)]}"', text)


def _prune(element: ET.Element) -> None:
    """Drop groups that hold nothing, and unwrap groups that say nothing."""
    children: list[ET.Element] = []
    for child in list(element):
        _prune(child)
        invisible = _name(child) == "path" and re.fullmatch(r"fill: none;?", child.get("style", ""))
        if (_name(child) in ("g", "defs") and len(child) == 0) or (
            invisible and "id" not in child.attrib
        ):
            continue
        if _name(child) == "g" and not child.attrib.keys() - {"id"}:
            children.extend(child)
        else:
            children.append(child)
    element[:] = children
