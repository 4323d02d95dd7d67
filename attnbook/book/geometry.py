"""The shapes of a structure diagram: how large a label is, how an arrow bends."""

from typing import Any

from schemdraw.backends import svg as schemdraw_svg
from schemdraw.util import Point

from attnbook.book.labels import plain, spans

UNIT = 36.0  # of the SVG in one unit of a drawing
OUT = {"N": (0, 1), "E": (1, 0), "S": (0, -1), "W": (-1, 0)}


def label_size(label: str, size: float) -> tuple[float, float]:
    r"""Give the width and height of a label in units, a little generous.

    >>> one, two = label_size("keys", 13.0), label_size("keys\n$K$", 13.0)
    >>> one[0] == two[0], two[1] == 2 * one[1]
    (True, True)
    """
    lines = label.split("\n")
    shown = [line if spans(line) is None else plain(line) for line in lines]
    width = max(
        schemdraw_svg.text_size(line, font="sans", size=size)[0] if line else 0 for line in shown
    )
    tall = sum(1.25 if spans(line) is not None else 2.0 for line in lines)
    return width / UNIT, size * tall / UNIT


def tint(colour: str, share: float) -> str:
    """Give a colour with an opacity between 0 and 1.

    >>> tint("#264292", 0.5)
    '#26429280'
    """
    return f"{colour}{round(255 * min(max(share, 0.0), 1.0)):02x}"


def rectangle(x0: float, y0: float, x1: float, y1: float, radius: float = 0) -> list[Any]:
    """Give the path of a rectangle, its corners rounded.

    >>> len(rectangle(0, 0, 2, 1)), len(rectangle(0, 0, 2, 1, radius=0.2)) > 9
    (9, True)
    """
    r = radius
    path: list[Any] = ["M", (x0 + r, y1), "L", (x1 - r, y1), "Q", (x1, y1), (x1, y1 - r)]
    path += ["L", (x1, y0 + r), "Q", (x1, y0), (x1 - r, y0), "L", (x0 + r, y0)]
    path += ["Q", (x0, y0), (x0, y0 + r), "L", (x0, y1 - r), "Q", (x0, y1), (x0 + r, y1), "Z"]
    return path if radius else ["M", (x0, y1), "L", (x1, y1), "L", (x1, y0), "L", (x0, y0), "Z"]


def curve(p: Point, q: Point, leave: tuple[int, int], arrive: tuple[int, int]) -> list[Point]:
    """Give the four points of a smooth bend from p to q, by the ways that both sides face.

    >>> curve(Point((0, 0)), Point((4, 2)), OUT["E"], OUT["W"])[1]
    Point(2.0,0.0)
    """
    (ux, uy), (vx, vy) = leave, arrive
    part = 0.5 if (ux, uy) == (-vx, -vy) else 0.62
    run = max(part * (abs(q.x - p.x) if ux else abs(q.y - p.y)), 0.5)
    land = max(part * (abs(q.x - p.x) if vx else abs(q.y - p.y)), 0.5)
    first, last = (p.x + run * ux, p.y + run * uy), (q.x + land * vx, q.y + land * vy)
    return [p, Point(first), Point(last), q]


def middle_of(bend: list[Point]) -> Point:
    """Give the point halfway along a bend.

    >>> middle_of([Point((0, 0)), Point((2, 0)), Point((2, 2)), Point((4, 2))])
    Point(2.0,1.0)
    """
    a, b, c, d = bend
    return Point(tuple((a[n] + 3 * b[n] + 3 * c[n] + d[n]) / 8 for n in (0, 1)))
