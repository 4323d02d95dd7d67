"""Sessions: the steps of a `pycon` block, each a piece of code and what it printed.

The standard library's doctest parser drops comments, and drops in silence whatever output follows a
blank line; inside a fence there is no need to: output reaches to the next prompt.
"""

import re
from dataclasses import dataclass

from attnbook.book.blocks import Block, PageError

_DIRECTIVE = re.compile(r"#\s*doctest:")
_TRACEBACK = re.compile(r"Traceback \(.*\):\n(?:[ .].*\n|\n)*(?P<error>\S(?s:.*))")


@dataclass(frozen=True)
class Step:
    """One prompt with its continuation lines, and the output below it."""

    source: str  # without prompts, ended by \n
    want: str  # the printed output, ended by \n, or ""
    line: int  # line of the page, from 1

    @property
    def error(self) -> str:
        """`Type: message` where the output is a traceback, else ""."""
        match = _TRACEBACK.fullmatch(self.want)
        return match["error"].rstrip("\n") if match else ""


def steps(block: Block) -> list[Step]:
    r"""The steps of a `pycon` block.

    Raises:
        PageError: the block does not begin with a prompt, or carries a doctest directive.

    >>> block = Block("pycon", ">>> 1 + 1\n2\n>>> for i in 1, 2:\n...     i\n1\n2\n", 10)
    >>> [(step.source, step.want, step.line) for step in steps(block)]
    [('1 + 1\n', '2\n', 11), ('for i in 1, 2:\n    i\n', '1\n2\n', 13)]
    """
    found: list[tuple[list[str], list[str], int]] = []
    for number, line in enumerate(block.source.splitlines(), block.code_line):
        if line == ">>>" or line.startswith(">>> "):
            found.append(([line[4:]], [], number))
        elif not found:
            if line.strip():
                message = "a session (pycon) begins with the prompt '>>> '"
                raise PageError(block.page, number, message, code=line, block_line=block.code_line)
        elif not found[-1][1] and (line == "..." or line.startswith("... ")):
            found[-1][0].append(line[4:])
        else:
            found[-1][1].append(line.rstrip())
        if found and _DIRECTIVE.search(line) and not found[-1][1]:
            message = "doctest directives would show on the page, and the checker needs none"
            raise PageError(block.page, number, message, code=line, block_line=block.code_line)
    if not found:
        message = "a session (pycon) without a prompt '>>> '"
        raise PageError(block.page, block.line, message, block_line=block.code_line)
    return [
        Step("\n".join(source).rstrip() + "\n", _joined(want), number)
        for source, want, number in found
    ]


def _joined(lines: list[str]) -> str:
    text = "\n".join(lines).rstrip("\n")
    return f"{text}\n" if text else ""
