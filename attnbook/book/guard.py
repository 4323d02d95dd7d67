"""The guard: what on a page looks like Python and would neither run nor say why not.

It reads the page with patterns of its own, looser than the parser's, so that a form which the
parser does not know is found rather than passed over.
"""

import ast
import html
import re
import textwrap
from collections.abc import Container, Iterator

from attnbook.book.blocks import Block
from attnbook.book.fences import fences, parse

_MARK = re.compile(r"[\s>*+:|\d.)-]*(?:`{3,}|~{3,})(?P<info>.*)$")
_PYTHON = re.compile(r"(?<![A-Za-z])(?:i?py|sage\b)(?!tb|tests?\b)", re.IGNORECASE)
_PROMPT = re.compile(r"[\s>]*>>> ")
_INDENTED = re.compile(
    r"(?: {4,}|\t)\s*(?:import [\w.]+(?: as \w+)?|from [\w.]+ import .+|:::py\w*|#!/?\S*py\w*.*)$"
)
_TAG = re.compile(
    r"<(?:m?py-\w+|(?:pre|code|script|samp|textarea|div|span)\b[^<>]*?"
    r"\b[im]?py(?:thon[\d.]*|con|odide|script)?\b)[^<>]*>",
    re.IGNORECASE,
)
_PRE = re.compile(r"<(?P<tag>pre|script|textarea)\b[^<>]*>(?P<inside>.*?)</(?P=tag)", re.I | re.S)
_LITERAL = {"markdown", "md"}
_STATEMENT = (
    *(ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Assign),
    *(ast.AugAssign, ast.Delete, ast.Assert, ast.Raise, ast.For, ast.While, ast.With),
    *(ast.Call, ast.Lambda, ast.ListComp, ast.DictComp, ast.GeneratorExp, ast.MatMult),
)


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
            if python or _PROMPT.match(line) or _INDENTED.match(line):
                found.add(number)
    covered = collected | inside.keys()
    found |= {number for number in _in_html(text) if number not in covered}
    found |= set(_indented(lines, covered))
    return [(number, lines[number - 1]) for number in sorted(found)]


def not_run(text: str, page: str = "") -> list[Block]:
    """The blocks of a page that say why they do not run."""
    return [block for block in parse(text, page) if block.no_run]


def _in_html(text: str) -> Iterator[int]:
    """The lines of the tags that hold Python, or say that they do."""
    for tag in _TAG.finditer(text):
        yield text.count("\n", 0, tag.start()) + 1
    for block in _PRE.finditer(text):
        source = html.unescape(re.sub(r"<[^<>]*>", "", block["inside"]))
        if _is_code(textwrap.dedent(source).strip()):
            yield text.count("\n", 0, block.start()) + 1


def _indented(lines: list[str], covered: Container[int]) -> Iterator[int]:
    """The first line of each piece of Python that is set in by four columns or more."""
    run: list[tuple[int, str]] = []  # numbers and texts of lines that are set in, and blank ones
    for number, line in enumerate([*lines, "."], 1):
        bare = re.sub(r"^(?: {0,3}> ?)+", "", line).expandtabs(4)
        if number not in covered and (not bare.strip() or bare.startswith("    ")):
            run.append((number, bare))
            continue
        yield from _pieces(run)
        run = []


def _pieces(run: list[tuple[int, str]]) -> Iterator[int]:
    """The first line of each stretch of paragraphs that is Python, the longest there is."""
    paragraphs: list[list[tuple[int, str]]] = [[]]
    for number, text in run:
        if text.strip():
            paragraphs[-1].append((number, text))
        elif paragraphs[-1]:
            paragraphs.append([])
    paragraphs = [paragraph for paragraph in paragraphs if paragraph]
    while paragraphs:
        for size in range(len(paragraphs), 0, -1):
            stretch = "\n\n".join("\n".join(t for _, t in part) for part in paragraphs[:size])
            if _is_code(textwrap.dedent(stretch)):
                yield paragraphs[0][0][0]
                break
        else:
            size = 1
        del paragraphs[:size]


def _is_code(source: str) -> bool:
    """Whether unlabelled lines are Python that does something."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return False
    return any(isinstance(node, _STATEMENT) for node in ast.walk(tree))
