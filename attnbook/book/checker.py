"""What a session printed, against what the page says it prints.

Text must agree exactly. A number written with a point or an exponent agrees with any number at most
half a unit of its last printed digit away: `0.50` with 0.504, not with 0.51. `1.` is how arrays
print a whole number among whole numbers, the digits behind the point being zero: it agrees with
1.00004, not with 1.2. Whole numbers without a point, `inf` and `nan` are text. Blank space inside
the brackets of an array is layout and counts only as a separator. `...` stands for anything.
"""

import doctest
import re
from decimal import Decimal

_NUMBER = re.compile(
    r"(?<![\w.])[+-]?(?:\d+\.\d*|\.\d+|\d+(?=[eE][+-]?\d))(?:[eE][+-]?\d{1,4})?(?!\w|\.\d)",
    re.ASCII,
)
_ARRAY = re.compile(r"\[|\b(?:tensor|array|Parameter)\(")
_QUOTED = re.compile(r"'(?:\\.|[^'\\\n])*'|\"(?:\\.|[^\"\\\n])*\"")
_CLOSING = {"[": "]", "(": ")"}
_HIDDEN_DIGITS = 4  # behind the point of `1.`, as torch prints them
Token = str | tuple[Decimal, Decimal]  # a character, or a number and half its last unit


def matches(want: str, got: str) -> bool:
    """Whether the output `got` is what the page says, `want`.

    >>> matches("tensor([0.50, 1.])", "tensor([0.5012, 1.0000])"), matches("0.50", "0.51")
    (True, False)
    """
    want, got = _normalised(want.replace("<BLANKLINE>", "")), _normalised(got)
    pieces = [_tokens(piece) for piece in want.split("...")]
    tokens = _tokens(got)
    if len(pieces) == 1:
        return _agree(pieces[0], tokens)
    first, *middle, last = pieces
    if len(first) + len(last) > len(tokens) or not _agree(first, tokens[: len(first)]):
        return False
    end = len(tokens) - len(last)
    if not _agree(last, tokens[end:]):
        return False
    position = len(first)
    for piece in middle:
        while not _agree(piece, tokens[position : position + len(piece)]):
            position += 1
            if position + len(piece) > end:
                return False
        position += len(piece)
    return position <= end


def difference(want: str, got: str) -> str:
    """The two outputs, one under the other, for a reader."""

    def indented(text: str) -> str:
        return "".join(f"    {line}\n" for line in text.rstrip("\n").split("\n"))

    return f"the page says:\n{indented(want)}it prints:\n{indented(got)}"


class OutputChecker(doctest.OutputChecker):
    """The same comparison for doctests in docstrings."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        """Whether `got` is what the docstring says, `want`."""
        return matches(want, got)


def _agree(want: list[Token], got: list[Token]) -> bool:
    return len(want) == len(got) and all(map(_same, want, got))


def _same(want: Token, got: Token) -> bool:
    if isinstance(want, tuple) and isinstance(got, tuple):
        return abs(want[0] - got[0]) <= want[1]
    return want == got


def _tokens(text: str) -> list[Token]:
    """The numbers of a text, and each character between them."""
    tokens: list[Token] = []
    end = 0
    for number in _NUMBER.finditer(text):
        tokens += text[end : number.start()]
        tokens.append((Decimal(number.group()), _half_unit(number.group())))
        end = number.end()
    return tokens + list(text[end:])


def _half_unit(number: str) -> Decimal:
    mantissa, _, exponent = number.lower().partition("e")
    _, point, digits = mantissa.partition(".")
    places = len(digits) if digits or not point else _HIDDEN_DIGITS
    return Decimal(5).scaleb(int(exponent or 0) - places - 1)


def _normalised(text: str) -> str:
    """Without blanks at the ends of lines and around the elements of arrays."""
    text = re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE).rstrip("\n")
    parts, position = [], 0
    while match := _ARRAY.search(text, position):
        end = _close(text, match.end() - 1)
        if end is None:
            parts.append(text[position : match.end()])
            position = match.end()
            continue
        parts += [text[position : match.start()], _packed(text[match.start() : end])]
        position = end
    return "".join(parts) + text[position:]


def _close(text: str, start: int) -> int | None:
    """The position after the bracket that closes the one at `start`."""
    stack: list[str] = []
    position = start
    while position < len(text):
        if quoted := _QUOTED.match(text, position):
            position = quoted.end()
            continue
        character = text[position]
        if character in _CLOSING:
            stack.append(_CLOSING[character])
        elif stack and character == stack[-1]:
            stack.pop()
            if not stack:
                return position + 1
        position += 1
    return None


def _packed(text: str) -> str:
    """An array's text with every blank that is mere layout taken out."""
    parts, position = [], 0
    for quoted in [*_QUOTED.finditer(text), None]:
        bare = text[position : quoted.start() if quoted else len(text)]
        bare = re.sub(r"\s+", " ", bare)
        parts.append(re.sub(r"(?<=[\[(]) | (?=[\]),])", "", bare))
        if quoted:
            parts.append(quoted.group())
            position = quoted.end()
    return "".join(parts)
