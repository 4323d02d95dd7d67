"""Numbers in the words of a page: no line ends inside one."""

import re

_NUMBER = re.compile(
    r"(?P<kept><(?P<tag>pre|code|script|style|svg)\b.*?</(?P=tag)>|<!--.*?-->|<[^<>]*>)"
    r"|(?<=\d) (?=%)"
    r"|(?<![\w./-])(?P<digits>\d(?:\.\d+)?e)-(?=\d+\b)",
    re.S,
)


def whole(html: str) -> str:
    r"""Keep a percent sign with its number, and a power of ten with its minus; code stays.

    >>> whole('<p title="9 %">By 99 %, off by 4e-04: <code>4e-04</code>.</p>')
    '<p title="9 %">By 99\u202f%, off by 4e−04: <code>4e-04</code>.</p>'
    """

    def keep(found: re.Match[str]) -> str:
        if found["kept"]:
            return found["kept"]
        return f"{found['digits']}−" if found["digits"] else "\N{NARROW NO-BREAK SPACE}"

    return _NUMBER.sub(keep, html)
