r"""LaTeX to MathML Core while the site is built, and the maths font cut to what the site uses.

    convert(html, page)             formulas of a page (pymdownx.arithmatex, generic) become <math>
    characters(html)                the characters that the page's formulas need of the font
    write_font(characters, folder)  book-math.woff2, book-root.woff2 and the font's licence
    css(url)                        the rules that use it

No JavaScript: browsers lay MathML Core out themselves, given a font with a MATH table. An unknown
command is an error that names the page and the formula.
"""

import html as entities
import io
import re
import unicodedata
from collections.abc import Iterable
from importlib import metadata, resources
from pathlib import Path
from xml.etree import ElementTree as ET

from fontTools import subset  # type: ignore[import-untyped]
from fontTools.ttLib import TTFont  # type: ignore[import-untyped]
from math_core import LatexError, LatexToMathML

FAMILY = "Book Math"
FONT_FILE = "book-math.woff2"
# Browsers leave room behind a root for the widest form of its sign. Over one letter, as in √d,
# that gap shows; there the sign comes from a font in which it has one form.
ROOT_FILE = "book-root.woff2"
LICENCE_FILE = "book-math-LICENCE.txt"
# What every formula may use, whatever the page: digits, letters, signs, fences, roots, accents.
_ALWAYS = "".join(map(chr, range(0x20, 0x7F))) + "−×⋅′()[]{}|‖√⟨⟩⌊⌋⌈⌉ˆ¯˜→˙⏞⏟\u2061\u2062\u2063"
_ARITHMATEX = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">'
    r"(?:\\\((?P<inline>.*?)\\\)|\\\[(?P<display>.*?)\\\])</(?P=tag)>",
    re.S,
)
_LETTER = r"<m[in]>(?:[^<&]{1,2}|&\w+;)</m[in]>"
_LOW_ROOT = re.compile(f"<msqrt>({_LETTER}|<msub>{_LETTER}{_LETTER}</msub>)</msqrt>")
_PRIME = re.compile(f"<msup>({_LETTER})<mo>([′″‴])</mo></msup>")  # the font has raised it
_MATH = re.compile(r"<math\b.*?</math>", re.S)
_CLINGING = re.compile(r"([(\[“‘]*)(<math\b(?:(?!</math>).)*</math>)([)\].,;:?!%”’]*)", re.S)
_WIDE, _LONG = 26, 20
_BREAKS = set("=≤≥≠≈∼∝∈→↦,<>≔")


class MathsError(ValueError):
    """A formula that cannot be set.

    Attributes:
        page: the page, as it was named.
        latex: the formula.
        reason: what is wrong with it.
    """

    def __init__(self, page: str, latex: str, reason: str) -> None:
        super().__init__(f"{page or 'formula'}: cannot set ${latex}$: {reason}")
        self.page, self.latex, self.reason = page, latex, reason


_converter = LatexToMathML(fancy_error=False)


def mathml(latex: str, *, display: bool = False, page: str = "") -> str:
    r"""Convert one formula.

    Raises:
        MathsError: the formula uses an unknown command or is not well formed.

    >>> mathml(r"d_k")
    '<math><msub><mi>d</mi><mi>k</mi></msub></math>'
    >>> mathml(r"f'")
    '<math><mrow><mi>f</mi><mo lspace="0" rspace="0">′</mo></mrow></math>'
    >>> mathml(r"\sqrt{D_k}").count("book-root")
    1
    """
    if lost := _lost(latex):
        raise MathsError(page, latex.strip(), lost)
    try:
        made = str(_converter.convert_with_local_state(latex.strip(), displaystyle=display))
    except LatexError as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "not well formed"
        raise MathsError(page, latex.strip(), reason) from None
    made = made.replace("&ApplyFunction;", "\u2061").replace("\ufe00", "")
    made = _LOW_ROOT.sub(r'<msqrt class="book-root">\1</msqrt>', made)
    made = _PRIME.sub(r'<mrow>\1<mo lspace="0" rspace="0">\2</mo></mrow>', made)
    if not display:
        return _breakable(made)
    shown = len(re.sub(r"<[^>]+>|\s", "", made))
    focus = (
        ' tabindex="0"' if shown > _WIDE else ""
    )  # a box that scrolls must be reachable by keyboard
    return f'<div class="book-maths"{focus}>{made}</div>'


def _lost(latex: str) -> str:
    """What the converter would leave out without a word, or set as question marks."""
    bare = re.sub(r"\\\\", "  ", latex)
    if re.search(r"(?<!\\)%", bare):
        return r"all behind % is a comment in LaTeX; write \%"
    if bare != latex and r"\begin{" not in latex and r"\substack" not in latex:
        return r"\\ breaks no line outside an environment such as aligned"
    if found := re.search(r"\\(?:eq)?ref\b", bare):
        return f"{found.group()} refers to nothing: formulas have no numbers here"
    return ""


def _breakable(made: str) -> str:
    """Let a long inline formula wrap after its relations and commas; one <math> never would.

    Where it has none, it may wrap after a sum's signs.
    """
    root = ET.fromstring(made)
    if len("".join(root.itertext()).replace(" ", "")) <= _LONG:
        return made
    signs = {child.text for child in root[1:-1] if child.tag == "mo"}
    breaks = _BREAKS if signs & _BREAKS else set("+−")
    pieces: list[ET.Element] = [ET.Element("math", root.attrib)]
    for number, child in enumerate(root):
        pieces[-1].append(child)
        if child.tag == "mo" and child.text in breaks and 0 < number < len(root) - 1:
            child.attrib.setdefault("form", "infix")  # at the end of a row it would be a postfix
            pieces.append(ET.Element("math", root.attrib))
    return "<wbr>".join(ET.tostring(piece, encoding="unicode") for piece in pieces)


def convert(html: str, page: str = "") -> str:
    r"""Replace the formulas that `pymdownx.arithmatex` (generic) marked in a page's HTML.

    >>> convert('<p>Width <span class="arithmatex">\\(d\\)</span></p>')
    '<p>Width <math><mi>d</mi></math></p>'
    >>> convert('<p>of <span class="arithmatex">\\(d\\)</span>.</p>')
    '<p>of <span class="book-short"><math><mi>d</mi></math>.</span></p>'
    """

    def replace(match: re.Match[str]) -> str:
        display = match["display"] is not None
        latex = entities.unescape(match["display"] if display else match["inline"])
        return mathml(latex, display=display, page=page)

    return _CLINGING.sub(_together, _ARITHMATEX.sub(replace, html))


def _together(match: re.Match[str]) -> str:
    """A formula and the signs that touch it, which a line's end must not part."""
    whole = match.group()
    return f'<span class="book-short">{whole}</span>' if match[1] or match[3] else whole


def characters(html: str) -> set[str]:
    """Give the characters that the formulas of a page take from the maths font.

    A single letter in `<mi>` is shown in italics, which is another character of the font.

    >>> sorted(characters("<math><mi>d</mi><mo>+</mo></math>"))
    ['+', 'd', '𝑑']
    """
    found: set[str] = set()
    for match in _MATH.finditer(html):
        source = match.group()
        found |= set(entities.unescape(re.sub(r"<[^>]+>", "", source)))
        for letter in re.findall(r"<mi>([^<]|&\w+;)</mi>", source):
            found.add(_italic(entities.unescape(letter)))
        found |= {"√"} if "<msqrt" in source or "<mroot" in source else set()
    return {character for character in found if not character.isspace()}


def _italic(letter: str) -> str:
    """The mathematical italic of a Latin or Greek letter; other characters as they are."""
    if letter == "h":
        return "ℎ"
    match = re.fullmatch(
        r"(?:LATIN|GREEK) ((?:SMALL|CAPITAL)) LETTER (.+)", unicodedata.name(letter, "")
    )
    try:
        return unicodedata.lookup(f"MATHEMATICAL ITALIC {match[1]} {match[2]}") if match else letter
    except KeyError:
        return letter


def _source_font() -> Path:
    return Path(str(resources.files("ziamath") / "fonts" / "STIXTwoMath-Regular.ttf"))


def font(needed: Iterable[str]) -> bytes:
    """Cut the maths font to some characters and pack it as woff2; deterministic.

    The MATH table stays, with the larger forms of fences, roots and sums that stretch, and the
    forms for scripts.
    """
    options = subset.Options()
    options.flavor = "woff2"
    options.layout_features = ["ssty", "dtls", "flac", "mark", "mkmk", "ccmp"]
    options.hinting = False
    options.desubroutinize = True
    options.drop_tables += ["DSIG"]
    options.name_IDs = [0, 1, 2, 3, 4, 5, 6, 13, 14]
    options.notdef_outline = True
    with TTFont(_source_font(), recalcTimestamp=False) as face:
        cutter = subset.Subsetter(options)
        cutter.populate(text="".join(sorted({*needed, *_ALWAYS, *map(_italic, _ALWAYS)})))
        cutter.subset(face)
        face.flavor = "woff2"
        buffer = io.BytesIO()
        face.save(buffer, reorderTables=True)
    return buffer.getvalue()


def root_font() -> bytes:
    """Cut the font to the sign of the root in its smallest form, as woff2; deterministic."""
    options = subset.Options()
    options.flavor = "woff2"
    options.layout_features = []
    options.hinting = False
    options.name_IDs = [0, 1, 2, 3, 4, 5, 6, 13, 14]
    options.notdef_outline = True
    with TTFont(_source_font(), recalcTimestamp=False) as face:
        cutter = subset.Subsetter(options)
        cutter.populate(text=" √")
        cutter.subset(face)
        variants = face["MATH"].table.MathVariants
        variants.VertGlyphCoverage, variants.VertGlyphConstruction = None, []
        variants.VertGlyphCount = 0
        face.flavor = "woff2"
        buffer = io.BytesIO()
        face.save(buffer, reorderTables=True)
    return buffer.getvalue()


def write_font(needed: Iterable[str], folder: Path) -> Path:
    """Write the fonts for some characters, and their licence beside them; give the first's path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FONT_FILE
    path.write_bytes(font(needed))
    (folder / ROOT_FILE).write_bytes(root_font())
    with TTFont(_source_font(), lazy=True) as face:
        names = {n: face["name"].getDebugName(n) for n in (0, 1, 5, 13, 14)}
    (folder / LICENCE_FILE).write_text(
        f"{FONT_FILE} and {ROOT_FILE} are subsets of {names[1]}, {names[5]}, from the copy in the "
        f"Python package ziamath {metadata.version('ziamath')}.\n\n"
        f"{names[0]}\n\n{names[13]}\n{names[14]}\n",
        encoding="utf-8",
    )
    return path


def css(url: str = FONT_FILE) -> str:
    """Give the CSS rules for formulas; `url` leads from the stylesheet to the font.

    >>> "font-display:swap" in css()
    True
    """
    return (
        f'@font-face{{font-family:"{FAMILY}";src:url("{url}") format("woff2");'
        "font-display:swap}\n"
        f'math{{font-family:"{FAMILY}","STIX Two Math","Cambria Math",math,serif;'
        "font-size:1.08em}\n"
        f'@font-face{{font-family:"Book Root";src:url("{url.replace(FONT_FILE, ROOT_FILE)}") '
        'format("woff2");font-display:swap}\n'
        f'.book-root{{font-family:"Book Root","{FAMILY}","STIX Two Math",math,serif}}\n'
        ".book-maths{overflow:auto hidden;padding:.35em 0;margin:.6em 0}\n"
        ".book-maths>math{margin:0 auto}\n"
        "mtable[displaystyle=true]>mtr>mtd{padding-top:.3em;padding-bottom:.3em}\n"
    )
