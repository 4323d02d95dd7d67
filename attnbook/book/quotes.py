"""Quotation marks beside formulas, code and other elements, which `smarty` turns the wrong way.

It looks at the text between two elements by itself, so it takes a mark behind an element for one at
the beginning of a text.
"""

import re

_INLINE = "a|abbr|b|cite|code|del|em|i|ins|kbd|mark|math|q|s|samp|small|span|strong|sub|sup"
_BEHIND = re.compile(
    rf"(?P<before></(?:{_INLINE})>|\\\))"
    rf"(?P<marks>(?:&[lr]squo;|&[lr]dquo;(?!\w|<(?:{_INLINE})\b))+)"
)
_BEFORE = re.compile(
    r"(?P<before>[\s(\[]|<(?:p|li|td|th|dd|dt|figcaption|h[1-6])\b[^>]*>)&rdquo;"
    rf"(?=[^\s<.,;:!?)\]&]|<(?:{_INLINE})\b)"
)


def turned(html: str) -> str:
    r"""Close a quotation behind an element, open one before what is not a space.

    Args:
        html: as `smarty` leaves it, quotation marks as entities, formulas not yet set.

    >>> turned('said &ldquo;<span class="arithmatex">\\(w\\)</span>&ldquo;.')
    'said &ldquo;<span class="arithmatex">\\(w\\)</span>&rdquo;.'
    """
    html = _BEHIND.sub(
        lambda m: m["before"] + m["marks"].replace("&ld", "&rd").replace("&ls", "&rs"), html
    )
    return _BEFORE.sub(lambda match: f"{match['before']}&ldquo;", html)
