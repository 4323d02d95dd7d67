"""Formulas in plain characters, for search results and titles."""

import pytest

from attnbook.book import maths, reading


@pytest.mark.parametrize(
    ("latex", "shown"),
    [
        (r"\sqrt{d}", "√d"),
        (r"\sqrt{d_k + 1}", "√(d_k + 1)"),
        (r"\frac{q^\top k}{\sqrt{d_k}}", "(q^⊤ k)/√d_k"),
        (r"-\frac{1}{2}", "−1/2"),
        (r"q \cdot k / \sqrt{d}", "q ⋅ k/√d"),
        (r"\sum_{i=1}^{S} w_i v_i", "∑_(i = 1)^S w_i v_i"),
        (r"v^\top \tanh(W q + U k)", "v^⊤ tanh(Wq + Uk)"),
        (r"\exp s_j = \operatorname{softmax}(s)_j", "exp s_j = softmax(s)_j"),
        (r"-|q - k|^2 / (2 h^2)", "−|q − k|²/(2 h²)"),
        (r"\mathbf{W} \in \mathbb{R}^{2 \times 2}, \boldsymbol{\alpha}", "W ∈ ℝ^(2 × 2), α"),
        (r"\hat y_t, \bar x, f'(x)", "ŷ_t, x̄, f′(x)"),
        (r"a < b", "a < b"),
        (r"\begin{pmatrix} 1 & 0 \\ 0 & 1 \end{pmatrix}", "(1 0; 0 1)"),
        (r"\underbrace{a + b}_{n}", "a + b_n"),
    ],
)
def test_a_formula_is_spelled(latex: str, shown: str) -> None:
    made = maths.mathml(latex)
    assert reading.spelled(made[made.index("<math") :]) == shown


def test_every_formula_of_a_page_is_spelled() -> None:
    long = maths.mathml(r"p(x_1, \dots, x_n) = \prod_{i=1}^{n} p(x_i), a < b")
    assert "<wbr>" in long
    html = f"<p>That {long}.</p>{maths.mathml('x^2', display=True)}"
    shown = "<p>That p(x_1, ..., x_n) = ∏_(i = 1)^n p(x_i), a &lt; b.</p>"
    assert reading.plain(html) == f'{shown}<div class="book-maths">x²</div>'
    assert reading.plain("<p>None.</p>") == "<p>None.</p>"


def test_a_formula_that_is_no_xml_keeps_its_words() -> None:
    assert reading.spelled("<math><mi>a</mi><mo>&nosuch;</mo></math>") == "a &nosuch;"
