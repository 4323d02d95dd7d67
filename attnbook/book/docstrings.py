"""The reference pages' reading of docstrings: bare doctests are sessions of code.

A doctest in a docstring of this package stands by itself, without a heading. Markdown would take
its prompts for quotations.
"""

import griffe


class Doctests(griffe.Extension):
    """Put the doctests of every docstring in fences."""

    def on_object(self, *, obj: griffe.Object, **kwargs: object) -> None:
        """Fence the doctests of an object's docstring."""
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)


def fenced(docstring: str) -> str:
    r"""Put each run of lines from a prompt to the next blank line in a fence.

    >>> fenced("Add.\n\n>>> 1 + 1\n2\n\nDone.")
    'Add.\n\n```pycon\n>>> 1 + 1\n2\n```\n\nDone.'
    """
    lines: list[str] = []
    inside = False
    for line in [*docstring.split("\n"), ""]:
        if not inside and line.startswith(">>> "):
            lines.append("```pycon")
            inside = True
        elif inside and not line.strip():
            lines.append("```")
            inside = False
        lines.append(line)
    return "\n".join(lines[:-1])
