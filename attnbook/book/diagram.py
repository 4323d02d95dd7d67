"""Structure diagrams: rounded boxes, arrows, rows of cells, with maths in their labels.

Coordinates are in schemdraw's units: one unit is half an inch, and a label's line is about a third
of a unit high. Every helper adds to the drawing at once and returns the element, whose `N`, `E`,
`S`, `W` and `center` are points.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import schemdraw
from schemdraw.elements import Element
from schemdraw.segments import Segment, SegmentBezier, SegmentCircle, SegmentPath, SegmentText
from schemdraw.util import Point

from attnbook.book.figures import to_svg
from attnbook.book.geometry import OUT, curve, label_size, middle_of, rectangle, tint
from attnbook.book.palette import ACCENT, INK, MUTED

FONT_SIZE = 12.0
LINE = 1.6
XY = tuple[float, float]


class Diagram(schemdraw.Drawing):
    """A schemdraw drawing in the book's style; make one with `attnbook.plotting.diagram`."""

    def __init__(self, alt: str = "") -> None:
        super().__init__(canvas="svg", show=False)
        self.alt = alt
        self.config(
            unit=1, inches_per_unit=0.5, fontsize=FONT_SIZE, color=INK, lw=LINE, margin=0.15
        )

    def _repr_svg_(self) -> str:
        return to_svg(self)

    def _put(
        self, segments: Sequence[Any], at: XY, anchors: dict[str, XY] | None = None
    ) -> Element:
        element = Element()
        element.segments.extend(segments)
        element.anchors.update(anchors or {})
        return self.add(element.at(at).theta(0))

    def box(
        self,
        label: str,
        at: XY,
        *,
        width: float | None = None,
        height: float | None = None,
        colour: str = INK,
        filled: bool = True,
        dashed: bool = False,
    ) -> Element:
        r"""Add a rounded box, centred at `at`, as large as its label needs.

        Args:
            label: lines separated by a newline; maths between dollar signs.
            at: the centre.
            width: in units; by default from the label, at least 1.8.
            height: in units; by default from the label, at least 1.
            colour: of the outline and, pale, of the inside.
            filled: False leaves the inside empty.
            dashed: True dashes the outline.

        >>> from attnbook import plotting
        >>> drawing = plotting.diagram()
        >>> query = drawing.box("query\n$q$", (0, 0))
        >>> query.E.x > 0, query.N.y > 0
        (True, True)
        """
        need = label_size(label, FONT_SIZE)
        w = (max(need[0] + 0.6, 1.8) if width is None else width) / 2
        h = (max(need[1] + 0.4, 1.0) if height is None else height) / 2
        path = rectangle(-w, -h, w, h, radius=min(0.22, w, h))
        fill = tint(colour, 0.06 if colour == INK else 0.14) if filled else "none"
        outline = SegmentPath(
            path, color=colour, lw=LINE, ls="--" if dashed else "-", fill=fill, zorder=1
        )
        text = SegmentText((0, 0), label, align=("center", "center"), color=INK, fontsize=FONT_SIZE)
        anchors = {
            "N": (0.0, h),
            "S": (0.0, -h),
            "E": (w, 0.0),
            "W": (-w, 0.0),
            "center": (0.0, 0.0),
        }
        anchors |= {"NE": (w, h), "NW": (-w, h), "SE": (w, -h), "SW": (-w, -h)}
        return self._put([outline, text], at, anchors)

    def circle(self, label: str, at: XY, *, radius: float = 0.42, colour: str = INK) -> Element:
        r"""Add a circle for a small operation such as $\times$ or $+$.

        >>> from attnbook import plotting
        >>> plotting.diagram().circle(r"$\oplus$", (1, 2)).center
        Point(1.0,2.0)
        """
        ring = SegmentCircle((0, 0), radius, color=colour, lw=LINE, fill="none", zorder=1)
        text = SegmentText((0, 0), label, align=("center", "center"), color=INK, fontsize=FONT_SIZE)
        anchors = {side: (radius * x, radius * y) for side, (x, y) in OUT.items()}
        return self._put([ring, text], at, anchors | {"center": (0.0, 0.0)})

    def note(self, label: str, at: XY, *, align: Any = "center", colour: str = MUTED) -> Element:
        """Add free text, smaller than a box's; `align` is `"left"`, `"center"` or `"right"`.

        >>> from attnbook import plotting
        >>> plotting.diagram().note("one row per query", (0, 1)).center
        Point(0.0,1.0)
        """
        text = SegmentText(
            (0, 0), label, align=(align, "center"), color=colour, fontsize=FONT_SIZE - 1
        )
        width, height = label_size(label, FONT_SIZE - 1)
        left = {"left": 0.0, "center": width / 2, "right": width}[align]
        anchors = {"N": (width / 2 - left, height / 2), "S": (width / 2 - left, -height / 2)}
        anchors |= {"W": (-left, 0.0), "E": (width - left, 0.0), "center": (width / 2 - left, 0.0)}
        return self._put([text], at, anchors)

    def cells(
        self,
        at: XY,
        weights: Any,
        *,
        label: str = "",
        colour: str = ACCENT,
        size: float = 0.5,
    ) -> Element:
        """Add a grid of square cells, centred at `at`: a picture of a vector or a matrix.

        Args:
            at: the centre.
            weights: rows of numbers in 0..1, drawn as shades; one flat row of floats; or `(rows,
                columns)` as two integers for evenly shaded cells.
            label: above the grid.
            colour: of the cells.
            size: side of a cell in units.

        >>> from attnbook import plotting
        >>> grid = plotting.diagram().cells((0, 0), [0.1, 0.7, 0.2], label="weights")
        >>> grid.E.x
        0.75
        """
        grid = np.asarray(weights, dtype=float)
        if isinstance(weights, tuple) and all(isinstance(n, int) for n in weights):
            grid = np.full([int(n) for n in grid], 0.22)
        grid = np.atleast_2d(grid)
        h, w = size * grid.shape[0] / 2, size * grid.shape[1] / 2
        segments: list[Any] = []
        for (i, j), weight in np.ndenumerate(grid):
            x, y = size * j - w, h - size * i
            path = rectangle(x, y - size, x + size, y)
            fill = tint(colour, float(weight))
            segments.append(SegmentPath(path, color=colour, lw=1, fill=fill, zorder=1))
        if label:
            align: Any = ("center", "bottom")
            segments.append(
                SegmentText((0, h + 0.12), label, align=align, color=INK, fontsize=FONT_SIZE)
            )
        anchors = {
            "N": (0.0, h),
            "S": (0.0, -h),
            "E": (w, 0.0),
            "W": (-w, 0.0),
            "center": (0.0, 0.0),
        }
        return self._put(segments, at, anchors)

    def arrow(
        self,
        start: Element | XY,
        end: Element | XY,
        label: str = "",
        *,
        leave: str = "",
        arrive: str = "",
        colour: str = INK,
        dashed: bool = False,
        head: str = "->",
    ) -> Element:
        """Add an arrow between boxes or points: straight where in line, else a smooth bend.

        Args:
            start: an element of this drawing, or a point.
            end: the same.
            label: beside the middle of the arrow.
            leave: the side it leaves from, `"N"`, `"E"`, `"S"` or `"W"`; by default the one that
                faces the other end.
            arrive: the side it arrives at.
            colour: of the line.
            dashed: True dashes the line.
            head: `"->"`, `"<-"`, `"<->"`, or `""` for a line without a head.

        >>> from attnbook import plotting
        >>> drawing = plotting.diagram()
        >>> query, score = drawing.box("query", (0, 0)), drawing.box("score", (4, 0))
        >>> drawing.arrow(query, score, "$q$").center.y
        0.0
        """
        for name, side in (("leave", leave), ("arrive", arrive)):
            if side and side not in OUT:
                raise ValueError(f'{name} must be "N", "E", "S" or "W", got {side!r}')
        middle = [p.center if isinstance(p, Element) else Point(p) for p in (start, end)]
        dx, dy = middle[1].x - middle[0].x, middle[1].y - middle[0].y
        sideways = abs(dx) >= abs(dy)
        leave = leave or (("E" if dx > 0 else "W") if sideways else ("N" if dy > 0 else "S"))
        arrive = arrive or (("W" if dx > 0 else "E") if sideways else ("S" if dy > 0 else "N"))
        p = getattr(start, leave) if isinstance(start, Element) else middle[0]
        q = getattr(end, arrive) if isinstance(end, Element) else middle[1]
        line: dict[str, Any] = {"color": colour, "lw": LINE, "ls": "--" if dashed else "-"}
        line |= {"arrow": head or None, "arrowwidth": 0.22, "arrowlength": 0.3, "zorder": 2}
        free = not (isinstance(start, Element) or isinstance(end, Element))
        segment: Any
        if free or abs(q.x - p.x) < 1e-6 or abs(q.y - p.y) < 1e-6:
            segment, centre = Segment([p, q], **line), Point(((p.x + q.x) / 2, (p.y + q.y) / 2))
        else:
            bend = curve(p, q, OUT[leave], OUT[arrive])
            segment, centre = SegmentBezier(bend, **line), middle_of(bend)
        segments = [segment]
        if label:
            level = abs(q.x - p.x) >= abs(q.y - p.y)
            away = (0.0, 0.1) if level else (0.14, 0.0)
            align: Any = ("center", "bottom") if level else ("left", "center")
            xy = (centre.x + away[0], centre.y + away[1])
            segments.append(SegmentText(xy, label, align=align, color=INK, fontsize=FONT_SIZE - 1))
        anchors = {"center": (centre.x, centre.y), "start": (p.x, p.y), "end": (q.x, q.y)}
        return self._put(segments, (0, 0), anchors)

    def frame(
        self, label: str, *elements: Element, pad: float = 0.35, colour: str = MUTED
    ) -> Element:
        """Add a dashed frame around elements, its label above the top left corner.

        >>> from attnbook import plotting
        >>> drawing = plotting.diagram()
        >>> frame = drawing.frame("encoder", drawing.box("a", (0, 0)), drawing.box("b", (3, 0)))
        >>> frame.W.x < -0.9
        True
        """
        boxes = [element.get_bbox(transform=True) for element in elements]
        left, right = min(b.xmin for b in boxes) - pad, max(b.xmax for b in boxes) + pad
        low, high = min(b.ymin for b in boxes) - pad, max(b.ymax for b in boxes) + pad
        path = rectangle(left, low, right, high)
        align: Any = ("left", "bottom")
        segments: list[Any] = [
            SegmentPath(path, color=colour, lw=1.2, ls="--", fill="none", zorder=0)
        ]
        segments.append(
            SegmentText(
                (left, high + 0.1), label, align=align, color=colour, fontsize=FONT_SIZE - 1
            )
        )
        x, y = (left + right) / 2, (low + high) / 2
        anchors = {"N": (x, high), "S": (x, low), "W": (left, y), "E": (right, y), "center": (x, y)}
        return self._put(segments, (0, 0), anchors)
