r"""Short labels with a little maths, as SVG text that stays text.

A label such as ``key width $d_k$`` becomes one ``<text>`` with ``<tspan>``s: letters in italics,
lowered subscripts, Greek in Unicode. It is set in the reader's own fonts, can be searched and
selected, and follows the page's ink. Maths that needs a second dimension (fractions, roots,
accents) is beyond this module: `spans` answers None and the caller draws outlines.
"""

import re
from dataclasses import dataclass, replace
from xml.etree import ElementTree as ET

MATHS_FAMILY = "'STIX Two Text', 'Times New Roman', Times, serif"


def _table(pairs: str) -> dict[str, str]:
    """Read "name sign name sign ..." as a table."""
    words = iter(pairs.split())
    return dict(zip(words, words, strict=True))


_GREEK = _table(
    "alpha α beta β gamma γ delta δ epsilon ϵ zeta ζ eta η theta θ iota ι kappa κ lambda λ mu μ "
    "nu ν xi ξ pi π rho ρ sigma σ tau τ upsilon υ phi ϕ chi χ psi ψ omega ω varepsilon ε varphi φ "
    "ell ℓ partial ∂"
)
_UPRIGHT = _table(
    "Gamma Γ Delta Δ Theta Θ Lambda Λ Xi Ξ Pi Π Sigma Σ Upsilon Υ Phi Φ Psi Ψ Omega Ω top ⊤ "
    "infty ∞ sum ∑ prod ∏ int ∫ nabla ∇ forall ∀ exists ∃ emptyset ∅ ldots … cdots ⋯ dots … "
    "vdots ⋮ prime ′ lVert ‖ rVert ‖ Vert ‖ | ‖ langle ⟨ rangle ⟩ { { } } % % $ $ # # & & _ _"
)
_RELATIONS = _table(
    "leq ≤ geq ≥ neq ≠ le ≤ ge ≥ ne ≠ approx ≈ sim ∼ propto ∝ in ∈ to → rightarrow → leftarrow ← "
    "mapsto ↦ times × cdot ⋅ pm ± odot ⊙ oplus ⊕ otimes ⊗ ll ≪ gg ≫ equiv ≡ circ ∘"
)
_SPACES = {",": "\u2009", ":": "\u2005", ";": "\u2004", " ": " ", "quad": "\u2003", "!": ""}
_NAMES = ["exp", "log", "ln", "tanh", "cos", "sin", "max", "min", "arg", "sup", "inf", "det", "dim"]
_BLACKBOARD = {"R": "ℝ", "E": "𝔼", "N": "ℕ", "Z": "ℤ", "P": "ℙ", "C": "ℂ"}
_TOKEN = re.compile(r"\\(?:[A-Za-z]+|.)|[{}^_]|\s+|.", re.S)
_DOLLAR = re.compile(r"(?<!\\)\$")


@dataclass(frozen=True)
class Span:
    """A run of text in one style; `level` is 0 on the line, 1 raised, -1 lowered."""

    text: str
    maths: bool = False
    italic: bool = False
    bold: bool = False
    level: int = 0


class _TooHard(Exception):
    """The formula needs more than one line of text."""


def spans(label: str) -> list[Span] | None:
    r"""Cut one line of a label into styled runs; None when its maths needs a second dimension.

    >>> spans("keys")
    [Span(text='keys', maths=False, italic=False, bold=False, level=0)]
    >>> [(span.text, span.level) for span in spans(r"width $d_k$")]
    [('width ', 0), ('d', 0), ('k', -1)]
    >>> spans(r"$\frac{1}{2}$") is None
    True
    """
    found: list[Span] = []
    try:
        for number, part in enumerate(_DOLLAR.split(label)):
            if number % 2 == 0:
                found += [Span(part.replace(r"\$", "$"))] if part else []
            else:
                found += _trimmed(_maths([t for t in _TOKEN.findall(part) if not t.isspace()]))
    except _TooHard:
        return None
    merged: list[Span] = []
    for span in found:
        last = merged[-1] if merged else None
        if last and (last.maths, last.italic, last.bold, last.level) == (
            span.maths,
            span.italic,
            span.bold,
            span.level,
        ):
            merged[-1] = Span(last.text + span.text, span.maths, span.italic, span.bold, span.level)
        else:
            merged.append(span)
    return merged


def _trimmed(runs: list[Span]) -> list[Span]:
    """A formula without the spaces that its signs leave at its ends."""
    if runs:
        runs[0] = replace(runs[0], text=runs[0].text.lstrip("\u2009"))
        runs[-1] = replace(runs[-1], text=runs[-1].text.rstrip("\u2009"))
    return runs


def _argument(tokens: list[str]) -> list[str]:
    """Take one argument (a token or a group in braces) off the front of the tokens."""
    if not tokens:
        raise _TooHard
    first = tokens.pop(0)
    if first != "{":
        return [first]
    group: list[str] = []
    depth = 1
    while tokens:
        token = tokens.pop(0)
        depth += (token == "{") - (token == "}")
        if depth == 0:
            return group
        group.append(token)
    raise _TooHard


def _maths(tokens: list[str], level: int = 0, face: str = "") -> list[Span]:
    """Turn maths tokens into runs; `face` is "", "bold", "upright" or "blackboard"."""
    found: list[Span] = []
    tokens = list(tokens)

    def put(text: str, italic: bool = False) -> None:
        bold = face == "bold"
        found.append(Span(text, True, italic and not face, bold, level))

    while tokens:
        token = tokens.pop(0)
        name = token[1:] if token.startswith("\\") else ""
        if token == "{":
            found += _maths(_argument(["{", *tokens]), level, face)
            depth = 1
            while depth:
                token = tokens.pop(0)
                depth += (token == "{") - (token == "}")
        elif token in "^_":
            if level:
                raise _TooHard
            found += _maths(_argument(tokens), 1 if token == "^" else -1, face)
        elif name in ("mathbf", "boldsymbol", "bm"):
            found += _maths(_argument(tokens), level, "bold")
        elif name in ("mathrm", "text", "operatorname"):
            found += _maths(_argument(tokens), level, "upright")
        elif name == "mathdefault":
            inner = _maths(_argument(tokens), level, "upright")
            found += [Span(span.text, level=span.level) for span in inner]
        elif name == "mathbb":
            put("".join(_BLACKBOARD.get(t, t) for t in _argument(tokens)))
        elif name in ("left", "right"):
            continue
        elif name in _GREEK:
            put(_GREEK[name], italic=True)
        elif name in _UPRIGHT:
            put(_UPRIGHT[name])
        elif name in _RELATIONS or token in ("=", "<", ">", "+"):
            put(
                f"\u2009{_RELATIONS.get(name, token)}\u2009"
                if not level
                else _RELATIONS.get(name, token)
            )
        elif token == "-":
            put("\u2009−\u2009" if found and not level else "−")
        elif name in _SPACES:
            put(_SPACES[name])
        elif name in _NAMES:
            put(name + "\u2009")
        elif name:
            raise _TooHard
        elif token == "'":
            put("′")
        elif token == "*":
            put("∗")
        else:
            put(token, italic=token.isalpha())
    return found


def plain(label: str) -> str:
    r"""The label as plain characters, for alt texts and tests.

    >>> plain(r"width $d_k$ and $\beta$")
    'width dk and β'
    """
    found = spans(label)
    return label if found is None else "".join(span.text for span in found)


def text_element(
    label: list[Span],
    x: float,
    y: float,
    *,
    size: float,
    anchor: str,
    fill: str,
    angle: float = 0.0,
) -> ET.Element:
    """Make the SVG element of one line of text with its baseline's anchor at (x, y).

    >>> element = text_element(spans("$d_k$"), 0, 0, size=10, anchor="middle", fill="#1f2328")
    >>> "".join(element.itertext())
    'dk'
    """
    place = {"x": f"{x:g}", "y": f"{y:g}"}
    if angle:
        place["transform"] = f"rotate({angle:g} {x:g} {y:g})"
    element = ET.Element("text", place)
    style = f"font-size: {size:g}px; text-anchor: {anchor}; fill: {fill}"
    element.set("style", style)
    height = 0.0
    if not any(span.maths or span.level for span in label):
        element.text = "".join(span.text for span in label)
        return element
    for span in label:
        rules = []
        if span.maths:
            rules.append(f"font-family: {MATHS_FAMILY}")
        if span.italic:
            rules.append("font-style: italic")
        if span.bold:
            rules.append("font-weight: bold")
        if span.level:
            rules.append(f"font-size: {0.72 * size:g}px")
        elif span.maths:
            rules.append(f"font-size: {1.08 * size:g}px")
        piece = ET.SubElement(element, "tspan")
        if rules:
            piece.set("style", "; ".join(rules))
        target = {1: -0.38, 0: 0.0, -1: 0.2}[span.level] * size
        if target != height:
            piece.set("dy", f"{target - height:.2f}")
            height = target
        piece.text = span.text
    return element
