"""The directives of a page: how each is written, and what is written almost like one."""

import re
from collections.abc import Callable

CLAIM = re.compile(r"\{claim(?P<words>[^{}]*)\}")
SOURCE = re.compile(r"^(?P<prefix>[> \t]*)\{source\s+(?P<name>[^\s{}]+)\s*\}[ \t]*$", re.M)
BOARD = re.compile(r"^\{scoreboard\}[ \t]*$", re.M)
BENCHMARKS = re.compile(r"^\{benchmarks\}[ \t]*$", re.M)
GLOSSARY = re.compile(r"^\{glossary\}[ \t]*$", re.M)
MILESTONES = re.compile(r"^\{milestones (?P<first>\d{4}) (?P<last>\d{4})\}[ \t]*$", re.M)
LIST = re.compile(r"^\\bibliography[ \t]*$", re.M)
TABLE = re.compile(r"^(?P<prefix>[> \t]*)Table: (?=.*\{#(?P<id>tbl-[a-z0-9-]+)\}[ \t]*$)", re.M)
TABLE_END = re.compile(r"[ \t]*\{#tbl-[a-z0-9-]+\}[ \t]*$", re.M)
# What would be left on the page as it is: written or placed wrongly, or a key without its brackets.
LOOSE = re.compile(
    r"(?<![\w^_}\\$])\{\s*(?i:sources?|scoreboard|benchmarks?|glossary|milestones|claims?)(?:\s[^{}\n]*\}?|\})"
    r"|\\bibliography\b|^[> \t]*(?i:Table):.*$"
    r"|(?<![\w@./])@[a-z]+\d{4}[a-z]\w*|\\cite\w*\{[^{}\n]*\}?"
    r"|(?<!\])\[[a-z]+(?:1[89]|20)\d\d[a-z]+(?:[;,][^\[\]\n]*)?\](?![(\[:])",
    re.M,
)
Makers = list[tuple[re.Pattern[str], Callable[[re.Match[str], int], str]]]
LITERAL = re.compile(  # inline code, in backticks or in tags, and comments
    r"(?<![`\\])(`+)(?!`)(?:(?!\n[ \t]*\n).)+?(?<!`)\1(?!`)|<code>.*?</code>|<!--.*?-->", re.S
)
_FORMS = {
    "{source": "it is written {source attnbook.module.name}, alone on its line",
    "{scoreboard": "it stands alone on its line, at its beginning",
    "{benchmark": "it is written {benchmarks}, alone on its line, at its beginning",
    "{glossary": "it stands alone on its line, at its beginning",
    "{milestones": "it is written {milestones 2013 2015}, alone on its line",
    "{claim": "it is written {claim stem/name}",
    "\\cite": "a citation is written [@key]",
    "\\": "it stands alone on its line, at its beginning",
    "table": "the line above a table is of the form 'Table: caption {#tbl-name}'",
    "@": "a citation stands in brackets of its own, [@key]",
    "[": "a citation is written with an @, [@key]",
}


def complaint(written: str) -> str:
    """Say how what `LOOSE` has found should be written.

    >>> complaint("{ claim scores/std}")
    "'{ claim scores/std}' is not carried out: it is written {claim stem/name}"
    """
    written = written.strip("> \t")
    begins = written.replace(" ", "").lower()
    form = next(form for start, form in _FORMS.items() if begins.startswith(start))
    return f"{written!r} is not carried out: {form}"


def replaced(text: str, first_line: int, makers: Makers) -> str:
    """Replace what the patterns find outside code, the first that begins wins."""
    literal = [span.span() for span in LITERAL.finditer(text)]
    found = [(match, make) for pattern, make in makers for match in pattern.finditer(text)]
    parts: list[str] = []
    position = 0
    for match, make in sorted(found, key=lambda pair: pair[0].start()):
        start, end = match.span()
        if start < position or any(a <= start < b for a, b in literal):
            continue
        parts.append(text[position:start])
        parts.append(make(match, first_line + text.count("\n", 0, start)))
        position = end
    return "".join([*parts, text[position:]])
