"""The guard: what on a page looks like Python and would neither run nor say why not.

It reads the page with patterns of its own, looser than the parser's, so that a form which the
parser does not know is found rather than passed over.
"""

import ast
import re

from attnbook.book.blocks import Block
from attnbook.book.fences import fences, parse

_MARK = re.compile(r"[\s>*+:|\d.)-]*(?:`{3,}|~{3,})(?P<info>.*)$")
_PYTHON = re.compile(r"(?<![A-Za-z])(?:i?py|sage\b)(?!tb|tests?\b)", re.IGNORECASE)
_PROMPT = re.compile(r"[\s>]*>>> ")
_INDENTED = re.compile(
    r"(?: {4,}|\t)\s*(?:import [\w.]+(?: as \w+)?|from [\w.]+ import .+|:::py\w*|#!/?\S*py\w*.*)$"
)
_HTML = re.compile(r"<(?:pre|code)\b[^>]*\bpy", re.IGNORECASE)
_LITERAL = {"markdown", "md"}
_CODE = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign, ast.Call)


def escaped(text: str, page: str = "") -> list[tuple[int, str]]:
    r"""What looks like Python but is neither collected nor an explicit `.no-run`.

    Args:
        text: the page's Markdown.
        page: the page's name, for errors.

    Returns:
        Line number and text of each escape, in order.

    Raises:
        PageError: the page's fences cannot be read at all.

    >>> escaped("```ipython\nx = 1\n```\n\n    >>> 1 + 1\n    3\n")
    [(1, '```ipython'), (5, '    >>> 1 + 1')]
    """
    lines = text.split("\n")
    collected = {block.line for block in parse(text, page)}
    inside: dict[int, bool] = {}  # lines of every fence's content; True where Python may stand
    found = set()
    for fence in fences(text, page):
        literal = fence.info.lower() in _LITERAL
        span = range(fence.line + 1, fence.line + len(fence.lines) + 2)
        inside |= dict.fromkeys(span, fence.line in collected or literal)
        if not fence.info and _is_code("\n".join(fence.lines)):
            found.add(fence.line)
    for number, line in enumerate(lines, 1):
        if number in inside:
            if not inside[number] and _PROMPT.match(line):
                found.add(number)
        elif number not in collected:
            mark = _MARK.match(line)
            python = mark and _PYTHON.search(mark["info"])
            if python or _PROMPT.match(line) or _INDENTED.match(line) or _HTML.search(line):
                found.add(number)
    return [(number, lines[number - 1]) for number in sorted(found)]


def not_run(text: str, page: str = "") -> list[Block]:
    """The blocks of a page that say why they do not run."""
    return [block for block in parse(text, page) if block.no_run]


def _is_code(source: str) -> bool:
    """Whether unlabelled lines are Python that does something."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return False
    return any(isinstance(node, _CODE) for node in ast.walk(tree))
