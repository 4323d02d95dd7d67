"""What Markdown leaves on a page as it was typed, or loses, without a word about it.

It never fails: a formula that it does not take for one, a footnote without its text, an image
without words, a note whose text is not indented, all look like something else.
"""

import re
from collections.abc import Iterable

from attnbook.book.fences import Fence

_SHOWN_AS_IT_IS = re.compile(
    r"<(?P<tag>code|pre|script|style|textarea)\b.*?</(?P=tag)>|<!--.*?-->"
    r'|<(?P<maths>span|div) class="arithmatex">.*?</(?P=maths)>',
    re.S,
)
_DISPLAY = re.compile(r"[^<>]{0,40}\$\$[^<>]{0,40}")
_DOLLAR = re.compile(r"(?P<around>[^<>]{0,40}(?P<word>\$[^\s<>]*)[^<>]{0,40})")
_COMMENT = re.compile(r"<!--.*?-->", re.S)
_TAG = re.compile(r"<[^<>]*>")
_IMAGE = re.compile(r"<img\b[^<>]*>", re.I)
_ALT = re.compile(r"""\salt=(?:"\s*[^"\s]|'\s*[^'\s]|[^\s"'>])""", re.I)
_FOOTNOTE = re.compile(r"\[\^[^\]\s<>]+\]")
_NOTE = re.compile(r"(?P<prefix>[> \t]*)(?:!!!|\?\?\?\+?|===[!+]?)[ \t]+[\w\"].*")


def left(html: str) -> tuple[str, tuple[str, ...]] | None:
    r"""The first thing that is left in a page's HTML, formulas not yet set: what to do about it.

    Returns:
        The message, and phrases by which its line can be found; None where nothing is left.

    >>> left("<p>The width $d_k is.</p>")[0]
    "'$' is left on the page; close the formula, or write &#36; for a dollar: 'The width $d_k is.'"
    """
    html = _SHOWN_AS_IT_IS.sub("", html)
    if found := _DISPLAY.search(html):
        around = " ".join(found.group().split())
        return f"$$ is left on the page; close the formula: {around!r}", (around, "$$")
    for image in _IMAGE.findall(html):
        if not _ALT.search(image):
            source = re.search(r"src=[\"']?([^\"'\s>]+)", image)
            name = source[1] if source else image
            return f"the image {name!r} has no alternative text: say what is seen", (name,)
    text = _TAG.sub("<>", html)
    if dollar := _DOLLAR.search(text):
        around = " ".join(dollar["around"].split())
        message = "'$' is left on the page; close the formula, or write &#36; for a dollar"
        return f"{message}: {around!r}", (around, dollar["word"], "$")
    if footnote := _FOOTNOTE.search(text):
        return f"the footnote {footnote.group()} has no text", (footnote.group(),)
    return None


def empty_note(text: str, fences: Iterable[Fence]) -> int:
    r"""The line of the first note, folded part or tab that nothing belongs to; 0 for none.

    Args:
        text: a page's Markdown.
        fences: its fences; what stands in them is no Markdown.

    >>> empty_note('??? success "Solution"\n\nIt is 3.', [])
    1
    """
    inside = {n for f in fences for n in range(f.line + 1, f.line + len(f.lines) + 2)}
    text = _COMMENT.sub(lambda comment: "\n" * comment.group().count("\n"), text)
    lines = [(n, line) for n, line in enumerate(text.split("\n"), 1) if n not in inside]
    for place, (number, line) in enumerate(lines):
        match = _NOTE.fullmatch(line)
        if match is None:
            continue
        below = next((line for _, line in lines[place + 1 :] if line.strip("> \t")), "")
        if _columns(below) < _columns(match["prefix"]) + 4:
            return number
    return 0


def _columns(line: str) -> int:
    return len(line.expandtabs(4)) - len(line.expandtabs(4).lstrip("> "))
