"""Figures as SVG that belongs to the page it stands on.

`to_svg` takes a matplotlib figure or a schemdraw drawing and gives one `<svg>` to put inside the
HTML:

- text is text in the page's own font, so it can be searched, selected and zoomed;
- ink is `currentColor`, every other colour is a CSS variable with the light value as its fallback
  (see `attnbook.book.palette`), the background is transparent: one file serves light and dark
  pages;
- ids carry the figure's prefix, so that two figures on a page never share one;
- the same figure gives the same bytes: no dates, no random ids, two decimals;
- it has a viewBox, no fixed size: it fills its column up to 1.35 times its own size and is never
  squeezed below 0.78 of it, so that text stays legible; a wider figure scrolls, hence its wrapper
  needs `overflow-x: auto`.
"""

import hashlib
import re
from xml.etree import ElementTree as ET

import schemdraw
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from attnbook.book.canvases import SVG, from_matplotlib, from_schemdraw
from attnbook.book.palette import VARIABLES

_HREF = "{http://www.w3.org/1999/xlink}href"
_COLOUR = re.compile(
    r"#[0-9a-fA-F]{8}\b|#[0-9a-fA-F]{6}\b|#[0-9a-fA-F]{3}\b|\b(?:black|white)\b|rgba?\([^)]*\)"
)
_REFERENCE = re.compile(r'url\(#([^)]+)\)|href="#([^"]+)"')
_NUMBER = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")
_GEOMETRY = {"d", "points", "x", "y", "x1", "y1", "x2", "y2", "cx", "cy", "r", "rx", "ry", "width"}
_GEOMETRY |= {"height", "transform", "viewBox"}
MIN_SCALE, MAX_SCALE = 0.78, 1.35
ET.register_namespace("", SVG)


def to_svg(figure: Figure | schemdraw.Drawing, prefix: str = "", alt: str = "") -> str:
    """Turn a matplotlib figure or a schemdraw drawing into SVG for the page.

    Args:
        figure: what to draw. Its colours must be those of the book's palette.
        prefix: begins every id. By default a digest of the drawing.
        alt: what is seen, for readers who do not see it. By default the figure's own `alt`
            attribute.

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
        root = from_matplotlib(figure)
    elif isinstance(figure, schemdraw.Drawing):
        root = from_schemdraw(figure)
    else:
        raise TypeError(
            "a figure must be a matplotlib Figure or a schemdraw Drawing, "
            f"got {type(figure).__module__}.{type(figure).__qualname__}"
        )
    return _finish(root, prefix, alt or getattr(figure, "alt", ""))


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
            f"colour {colour} is not in the book's palette: use plotting.INK, MUTED, GRID, PAPER "
            "or COLOURS (with alpha for shades), so that the figure suits light and dark pages"
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
            "style": f"width: 100%; min-width: {MIN_SCALE * width:.0f}px; "
            f"max-width: {MAX_SCALE * width:.0f}px",
        },
    )
    svg.extend(root)
    _once(svg)
    text = ET.tostring(svg, encoding="unicode")
    used = dict.fromkeys(a or b for a, b in _REFERENCE.findall(text))
    names = {old: f"@-{number}" for number, old in enumerate(used)}
    for element in svg.iter():
        identifier = element.attrib.pop("id", None)
        if identifier in names:
            element.set("id", names[identifier])
    text = ET.tostring(svg, encoding="unicode")
    text = _REFERENCE.sub(lambda m: m[0].replace(m[1] or m[2], names[m[1] or m[2]]), text)
    prefix = prefix or "f" + hashlib.sha256(text.encode()).hexdigest()[:8]
    return re.sub(r'((?:id="|url\(#|href="#))@(?=-\d)', rf"\g<1>{prefix}", text)


def _once(svg: ET.Element) -> None:
    """Keep the first of the signs that formulas share."""
    known: set[str] = set()
    for parent in svg.iter():
        for child in [child for child in parent if child.tag.endswith("symbol")]:
            name = child.attrib["id"]
            if name in known:
                parent.remove(child)
            known.add(name)


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
