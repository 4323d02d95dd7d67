"""Formulas: LaTeX to MathML, in pages and in notebooks, and the font that they are set in."""

import io
import re
from pathlib import Path

import markdown
import pytest
from fontTools.ttLib import TTFont
from playwright.sync_api import Browser

from attnbook.book import maths

COURSE = [
    r"\frac{q^\top k}{\sqrt{d_k}}",
    r"\sum_{i=1}^{S} w_i v_i,\quad w_i = \frac{\exp s_i}{\sum_{j} \exp s_j}",
    r"v^\top \tanh(W q + U k)",
    r"\begin{aligned} s &= q^\top k \\ w &= \operatorname{softmax}(s) \end{aligned}",
    r"\begin{pmatrix} 1 & 0 \\ 0 & 1 \end{pmatrix} \in \mathbb{R}^{2 \times 2}",
    r"\mathbb{E}[X] = \int x\,p(x)\,\mathrm{d}x,\ \mathbf{W}, \boldsymbol{\alpha}, \mathcal{L}",
    r"f(x) = \begin{cases} 1 & x > 0 \\ 0 & \text{otherwise} \end{cases}",
    r"\hat y, \bar x, \tilde z, \lVert q - k \rVert^2, \lfloor x \rfloor, \underbrace{a + b}_{n}",
]


def page(text: str) -> str:
    return markdown.markdown(
        text,
        extensions=["pymdownx.arithmatex", "tables"],
        extension_configs={"pymdownx.arithmatex": {"generic": True}},
    )


def test_formulas_of_a_page_become_mathml() -> None:
    html = maths.convert(page("Width $d_k$.\n\n$$\na < b\n$$\n\n| $x$ |\n|---|\n| $y$ |\n"))
    assert "arithmatex" not in html
    assert "\\(" not in html
    assert html.count("<math") == 4
    assert html.count('<math display="block">') == 1
    assert "<mo>&lt;</mo>" in html
    assert '<div class="book-maths">' in html


@pytest.mark.parametrize("latex", COURSE)
def test_the_formulas_of_the_course_convert(latex: str) -> None:
    made = maths.mathml(latex, display=True)
    assert not re.search(r"\\[a-z]|merror|\$", made)


def test_an_unknown_command_names_page_and_formula() -> None:
    html = page(r"Some $\nosuch{x}$.")
    with pytest.raises(
        maths.MathsError, match=r'chapters/x\.md: cannot set \$\\nosuch\{x\}\$: .*"\\nosuch"'
    ):
        maths.convert(html, "chapters/x.md")


@pytest.mark.parametrize("latex", [r"\frac{1}", "a & b", r"\begin{aligned} x", "x_", "a_b_c"])
def test_a_broken_formula_is_an_error(latex: str) -> None:
    with pytest.raises(maths.MathsError, match=re.escape(latex.strip())):
        maths.mathml(latex, page="p")


@pytest.mark.parametrize(
    ("latex", "reason"),
    [
        ("p = 5% of x", r"all behind % is a comment in LaTeX; write \%"),
        (r"p = 5\\% x", "all behind % is a comment"),
        (r"a \\ b", "breaks no line outside an environment"),
        (r"a = \eqref{b}", r"\eqref refers to nothing"),
    ],
)
def test_what_would_be_lost_is_an_error(latex: str, reason: str) -> None:
    with pytest.raises(maths.MathsError, match=re.escape(reason)):
        maths.mathml(latex)


def test_a_percent_sign_is_set() -> None:
    assert "%" in maths.mathml(r"p = 5\% + x")


def test_a_long_inline_formula_can_wrap() -> None:
    short = maths.mathml("a = b + c")
    long = maths.mathml(r"p(x_1, \dots, x_n) = \prod_{i=1}^{n} p(x_i \mid x_1, \dots, x_{i-1})")
    assert "<wbr>" not in short
    assert "<wbr>" in long
    assert long.count("<math") == long.count("</math>") == long.count("<wbr>") + 1
    assert 'form="infix">=</mo></math><wbr>' in long
    assert "<wbr>" not in maths.mathml(r"a = b, c = d, e = f, g = h, i = j, k = l", display=True)


def test_a_wide_display_can_be_reached_by_keyboard() -> None:
    assert "tabindex" not in maths.mathml("a = b", display=True)
    assert '<div class="book-maths" tabindex="0">' in maths.mathml(
        "+".join("abcdefghijklmnop"), display=True
    )


def all_characters() -> set[str]:
    return set().union(*(maths.characters(maths.mathml(latex, display=True)) for latex in COURSE))


def test_the_font_has_every_character_that_the_formulas_show() -> None:
    face = TTFont(io.BytesIO(maths.font(all_characters())))
    covered = set(face.getBestCmap())
    missing = {c for c in all_characters() if ord(c) not in covered} - set("\u2061\u2003")
    assert missing == set()
    assert {ord(c) for c in "𝑑𝑞𝑘𝑤𝛼ℝ𝔼𝐖𝜶ℒ√∑(["} <= covered | {ord("𝛼")}
    assert 0x1D451 in covered  # the italic d that a browser shows for <mi>d</mi>


def test_the_font_keeps_what_makes_it_a_maths_font() -> None:
    data = maths.font(all_characters())
    face = TTFont(io.BytesIO(data))
    assert len(data) < 80_000
    table = face["MATH"].table
    assert table.MathConstants.RadicalRuleThickness.Value > 0
    names, variants = face.getBestCmap(), table.MathVariants
    stretchy = dict(
        zip(variants.VertGlyphCoverage.glyphs, variants.VertGlyphConstruction, strict=True)
    )
    for sign in "()[]{√∑":
        made = stretchy[names[ord(sign)]]
        assert made.VariantCount >= 2, sign
    assert stretchy[names[ord("(")]].GlyphAssembly is not None
    features = {record.FeatureTag for record in face["GSUB"].table.FeatureList.FeatureRecord}
    assert "ssty" in features


def test_the_same_characters_give_the_same_font_with_its_licence(tmp_path: Path) -> None:
    path = maths.write_font("dk", tmp_path)
    assert path.read_bytes() == maths.font("kd")
    assert path.read_bytes()[:4] == b"wOF2"
    licence = (tmp_path / maths.LICENCE_FILE).read_text(encoding="utf-8")
    assert "SIL Open Font License, Version 1.1" in licence
    assert "STIX Fonts Project Authors" in licence


@pytest.mark.browser
def test_in_a_browser_formulas_are_laid_out_and_wide_ones_scroll_in_their_box(
    browser: Browser, tmp_path: Path
) -> None:
    shown = "".join(f"<p>{maths.mathml(f)}</p>{maths.mathml(f, display=True)}" for f in COURSE)
    wide = maths.mathml(
        " + ".join(rf"\frac{{{c}}}{{2}}" for c in "abcdefghijklmnopqrst"), display=True
    )
    body = f'<div id="shown">{shown}</div><div id="wide">{wide}</div>'
    maths.write_font(maths.characters(body), tmp_path)
    (tmp_path / "page.html").write_text(
        f"<!doctype html><meta charset=utf-8><style>{maths.css()}</style>{body}", encoding="utf-8"
    )
    page = browser.new_page(viewport={"width": 360, "height": 700})
    page.goto((tmp_path / "page.html").as_uri())
    page.evaluate("document.fonts.ready")
    assert page.evaluate("document.fonts.check('16px \"Book Math\"')")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.evaluate(
        "(b => b.scrollWidth > b.clientWidth)(document.querySelector('#wide div'))"
    )
    sizes = page.evaluate(
        """() => { const f = document.querySelector('math[display] mfrac');
            const [over, under] = f.children, m = e => e.getBoundingClientRect();
            return [m(over).bottom, m(under).top, m(f).height]; }"""
    )
    page.close()
    assert sizes[0] <= sizes[1]  # the numerator stands above the denominator
    assert sizes[2] > 30
