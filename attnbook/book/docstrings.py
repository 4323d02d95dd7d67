"""The reference pages' reading of docstrings: doctests are sessions, indented blocks are code.

A doctest in a docstring of this package stands by itself, without a heading. Markdown would take
its prompts for quotations.
"""

import re
import textwrap

import griffe

_DOCTEST = re.compile(r"^>>> .*\n(?:[^\n]+\n)*", re.M)
_LITERAL = re.compile(r"::\n\n((?:(?: {4}.*)?\n)+)")


class Doctests(griffe.Extension):
    """Put the doctests of every docstring in fences."""

    def on_object(self, *, obj: griffe.Object, **kwargs: object) -> None:
        """Fence the doctests of an object's docstring."""
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)


def fenced(docstring: str) -> str:
    r"""Put each run of lines from a prompt to the next blank line in a fence, and each `::` block.

    >>> fenced("Add.\n\n>>> 1 + 1\n2\n\nAs in::\n\n    x = 1\n\nDone.")
    'Add.\n\n```pycon\n>>> 1 + 1\n2\n```\n\nAs in:\n\n```python\nx = 1\n```\n\nDone.'
    """
    text = _DOCTEST.sub(lambda match: f"```pycon\n{match[0].rstrip()}\n```\n", docstring + "\n")

    def code(match: re.Match[str]) -> str:
        return f":\n\n```python\n{textwrap.dedent(match[1]).rstrip()}\n```\n\n"

    return _LITERAL.sub(code, text).rstrip("\n")
