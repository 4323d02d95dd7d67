r"""Formulas in plain characters, for what has no room for MathML: search results, window titles.

plain(html)         the page's HTML with each <math> as text
spelled(mathml)     one formula: √d_k, (a + b)/2, ∑_(m = 1)^d q_m k_m
search(index)       has Material's search index read pages so
"""

import re
import unicodedata
from collections.abc import Callable
from html import escape
from typing import Any
from xml.etree import ElementTree as ET

from mkdocs.structure.pages import Page

_MATH = re.compile(r"<math\b.*?</math>", re.S)
_BREAK = re.compile(r"</math><wbr><math\b[^>]*>")  # where a long formula may wrap
_SPACED = set("=≤≥≠≈∼∝∈∉→↦≔<>+−-±⊙⊕⊗⋅×∣∘≪≫≡⊂⊆∪∩∧∨←⇒⟺")
_ACCENTS = {"^": "\u0302", "ˆ": "\u0302", "¯": "\u0304", "‾": "\u0304", "~": "\u0303"}
_ACCENTS |= {"˜": "\u0303", "→": "\u20d7", "˙": "\u0307"}
_RAISED = {"2": "²", "3": "³", "′": "′"}
_APPLIED = "\u2061"  # the application of a function
_BRACES = {"⏞", "⏟"}


def plain(html: str) -> str:
    """Write every formula of a page in plain characters.

    >>> plain("<p>Divide by <math><msqrt><mi>d</mi></msqrt></math>.</p>")
    '<p>Divide by √d.</p>'
    """
    whole = _BREAK.sub("", html)
    return _MATH.sub(lambda match: escape(spelled(match.group()), quote=False), whole)


def search(index: Any) -> None:
    """Let a search index read the formulas of pages in plain characters; of MathML it loses signs.

    Args:
        index: of Material's search; None where there is no search.
    """
    if index is None:
        return
    read: Callable[[Page], None] = index.add_entry_from_context

    def add(page: Page) -> None:
        shown = page.content
        page.content = plain(shown or "")
        try:
            read(page)
        finally:
            page.content = shown

    index.add_entry_from_context = add


def spelled(mathml: str) -> str:
    """Write one formula in plain characters.

    >>> spelled("<math><mfrac><mn>1</mn><mrow><mi>a</mi><mo>+</mo><mi>b</mi></mrow></mfrac></math>")
    '1/(a + b)'
    """
    try:
        text = _spell(ET.fromstring(mathml))
    except ET.ParseError:  # an entity of HTML that XML does not have
        text = re.sub(r"<[^>]*>", " ", mathml)
    text = re.sub(r"\s+", " ", re.sub(r"\s*\u2061\s*", _APPLIED, text))
    text = re.sub(rf"{_APPLIED}(?=[(\[])", "", text).replace(_APPLIED, " ")
    text = re.sub(r" ?/ ?", "/", re.sub(r"(?<=[′²³]) (?=\()", "", text))
    return re.sub(r"(?<=[(\[{⟨]) | (?=[)\]}⟩,;])| (?=[|‖](?:[\s/)^²,]|$))|^ | $", "", text)


def _spell(node: ET.Element) -> str:
    parts = [_spell(child) for child in node]
    match node.tag:
        case "mi" | "mn" | "mtext":
            return _upright(node.text or "")
        case "mo":
            return _operator(node)
        case "mspace":
            return " "
        case "msub" | "munder":
            return _scripted(parts[0], below=parts[1])
        case "msup" | "mover":
            return _accented(*parts) or _scripted(parts[0], above=parts[1])
        case "msubsup" | "munderover":
            return _scripted(parts[0], parts[1], parts[2])
        case "mfrac":
            return f" {_group(parts[0])}/{_group(parts[1])} "
        case "msqrt":
            return f"√{_group(_row(node, parts))}"
        case "mroot":
            return f"{_group(parts[1])}√{_group(parts[0])}"
        case "mtr":
            return " ".join(parts)
        case "mtable":
            return "; ".join(parts)
        case "annotation" | "annotation-xml" | "mphantom":
            return ""
        case _:
            return _row(node, parts)


def _row(node: ET.Element, parts: list[str]) -> str:
    """The parts of a row; a sign is set between spaces only where something stands before it."""
    text, tight = "", True
    for child, part in zip(node, parts, strict=True):
        bare = part.strip()
        if child.tag == "mo" and bare in _SPACED and not tight:
            text += f" {bare} "
        elif child.tag in ("msub", "msup", "msubsup", "munderover", "mfrac"):
            text += f"{'' if tight else ' '}{bare} "
        else:
            joined = len(bare) > 1 and text[-1:].isalnum() and bare[0].isalpha()
            text += f" {part}" if joined else part
        if bare:
            tight = bare[-1] in "([{,;=/|‖⟨" or (child.tag == "mo" and tight)
    return text


def _operator(node: ET.Element) -> str:
    sign = _upright(node.text or "")
    return f"{sign} " if sign in {",", ";"} else sign.strip("\u2062\u2063\u2064")


def _scripted(base: str, below: str = "", above: str = "") -> str:
    if below.strip() in _BRACES or above.strip() in _BRACES:
        return base
    text = base.strip()
    text += f"_{_group(below)}" if below.strip() else ""
    if not above.strip():
        return text
    return text + (_RAISED.get(above.strip()) or f"^{_group(above)}")


def _accented(base: str, over: str) -> str:
    accent = _ACCENTS.get(over.strip())
    if accent is None or len(base.strip()) != 1:
        return ""
    return unicodedata.normalize("NFC", base.strip() + accent)


def _group(text: str) -> str:
    """In brackets, if it is more than one thing."""
    text = text.strip()
    one = re.fullmatch(r"[\w.]+[²³′]?|[^\w\s]|√\w+|\w_\w+|\([^()]*\)", text)
    return text if one else f"({text})"


def _upright(text: str) -> str:
    """Letters of the mathematical alphabets, bold or italic, as plain ones."""
    return "".join(
        unicodedata.normalize("NFKC", c) if 0x1D400 <= ord(c) <= 0x1D7FF else c for c in text
    )
