"""Output agrees with the page to half a unit of the last printed digit, and in every letter."""

from decimal import Decimal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attnbook.book.checker import OutputChecker, difference, matches

AGREE = [
    ("1.", "1."),
    ("1.", "1.0000"),
    ("1.", "0.99996"),
    ("1.e-05", "1.00003e-05"),
    ("0.50", "0.5049"),
    ("0.50", "0.4951"),
    ("0.5", "0.50"),
    ("-0.5", "-0.5499"),
    ("1e-3", "0.00104"),
    ("1.2e+02", "124.9"),
    ("100 of 3", "100 of 3"),
    ("nan and inf", "nan and inf"),
    ("tensor([0.1, inf, nan])", "tensor([0.1000,    inf,    nan])"),
    ("tensor([[1., 2.], [3., 4.]])", "tensor([[1., 2.],\n        [3., 4.]])"),
    ("[[1. 2.]\n [3. 4.]]", "[[1.0 2.0]\n [3.0 4.0]]"),
    ("tensor(0.50)", "tensor(0.5000)"),
    ("tensor([1., 2.], dtype=torch.float64)", "tensor([1., 2.],\n       dtype=torch.float64)"),
    ("a = 0.5, b = 2", "a = 0.5000, b = 2"),
    ("It is 0.5.", "It is 0.5012."),
    ("text   \nmore\n", "text\nmore"),
    ("loss ... 0.5", "loss 12 of 13: 0.5012"),
    ("[1.0, ..., 9.0]", "[1.0, 2.0, 3.0, 9.0]"),
    ("...", "anything"),
    ("a...b...c", "a--b--b--c"),
    ("", ""),
    ("a\n<BLANKLINE>\nb", "a\n\nb"),
    ("1.5+2.5j", "1.5+2.5j"),
]
DIFFER = [
    ("1.", "2."),
    ("1.", "1.2"),
    ("tensor([1., 0.])", "tensor([0.6225, 0.3775])"),
    ("0.50", "0.51"),
    ("0.50", "0.5051"),
    ("0.500", "0.5006"),
    ("0.5", "-0.5"),
    ("1e-3", "1.6e-3"),
    ("100", "101"),
    ("1", "1.0"),
    ("1.0", "1"),
    ("1.", "1"),
    ("nan", "0.0"),
    ("0.0", "nan"),
    ("inf", "-inf"),
    ("inf", "1e38"),
    ("1.0", "inf"),
    ("True", "False"),
    ("red", "Red"),
    ("a  b", "a b"),
    ("a\nb", "a b"),
    ("tensor([1., 2.])", "tensor([1., 2., 3.])"),
    ("tensor([12., 3.])", "tensor([1., 23.])"),
    ("['a  b']", "['a b']"),
    ("v1.2.3", "v1.2.4"),
    ("layer0.5", "layer0.6"),
    ("a...b", "ab..."),
    ("a...b...b", "a--b"),
    ("x...y", "xz"),
    ("", "1"),
    ("1.0", ""),
    ("tensor([0.1, 0.2], grad_fn=<MulBackward0>)", "tensor([0.1, 0.2])"),
    ("[1, 2", "[1,  2"),
]


@pytest.mark.parametrize(("want", "got"), AGREE)
def test_agree(want: str, got: str) -> None:
    assert matches(want, got)
    assert OutputChecker().check_output(f"{want}\n", f"{got}\n", 0)


@pytest.mark.parametrize(("want", "got"), DIFFER)
def test_differ(want: str, got: str) -> None:
    assert not matches(want, got)
    assert not OutputChecker().check_output(f"{want}\n", f"{got}\n", 0)


@given(st.decimals(-1000, 1000, places=6), st.decimals(-1000, 1000, places=6), st.integers(1, 5))
def test_a_number_agrees_within_half_a_unit_of_its_last_digit(
    value: Decimal, shift: Decimal, digits: int
) -> None:
    want, unit = f"{value:.{digits}f}", Decimal(1).scaleb(-digits)
    got = Decimal(want) + shift * unit / 500
    assert matches(f"x {want}", f"x {got:f}") == (abs(got - Decimal(want)) <= unit / 2)


FLOATS = st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=40)


@given(FLOATS, st.integers(1, 5))
def test_tensors_agree_with_themselves_printed_shorter(values: list[float], digits: int) -> None:
    tensor = torch.tensor(values)

    def printed(precision: int, width: int) -> str:
        with torch._tensor_str.printoptions(precision=precision, linewidth=width, sci_mode=False):
            return repr(tensor)

    assert matches(printed(digits, 40), printed(7, 80))


@given(st.integers(0, 5), st.sampled_from([-1.0, 1.0]))
def test_one_changed_entry_is_seen(place: int, sign: float) -> None:
    tensor = torch.linspace(-3, 2, 6).view(2, 3)
    other = tensor.clone()
    other.view(-1)[place] += sign * 1.1e-4  # torch prints four digits
    assert matches(repr(tensor), repr(tensor))
    assert not matches(repr(tensor), repr(other))


@given(st.text(max_size=60))
def test_any_text_agrees_with_itself(text: str) -> None:
    assert matches(text.replace("...", ""), text.replace("...", ""))


@given(
    st.text(st.sampled_from("ab 1.5[](,)'\n"), max_size=20), st.text("xyz", min_size=1, max_size=3)
)
def test_a_changed_letter_is_seen(text: str, letters: str) -> None:
    text = text.replace("...", "")
    assert not matches(text + letters, text)
    assert not matches(letters + text, text + letters + "w")


def test_the_difference_shows_both() -> None:
    assert difference("1\n2", "1\n3") == "the page says:\n    1\n    2\nit prints:\n    1\n    3\n"
