r"""The line that opens a fence: its language and its attributes.

    language, attrs = read('{.python fig="ramp" alt="A ramp"}')

Attributes: `title`, `hl_lines="2 3-5"`, `fig` with `alt`, `table`, `caption`, `hide`, and `.no-run`
with `reason`. In a quoted value a backslash keeps the next character: `alt="a \"hat\""`.
"""

import difflib
import re

LANGUAGES = dict.fromkeys(("python", "py", "python3", "py3"), "python") | {"pycon": "pycon"}
FLAGS = {"hide", ".no-run"}
VALUES = {"title", "hl_lines", "fig", "alt", "caption", "table", "reason"}
Attributes = dict[str, str | bool]

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<key>[A-Za-z_][\w-]*)=(?:
            "(?P<double>(?:\\.|[^"\\])*)"|'(?P<single>(?:\\.|[^'\\])*)'|(?P<bare>[^\s"'=}]+)
        )
        |(?P<flag>\.?[A-Za-z_][\w-]*)
    )(?=\s|$)""",
    re.VERBOSE,
)
_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_LINES = re.compile(r"\d+(-\d+)?( +\d+(-\d+)?)*")


def read(info: str) -> tuple[str | None, Attributes]:
    """The language ("python", "pycon", or None where it is neither) and the attributes.

    Raises:
        ValueError: an attribute is unknown, given twice or cannot be read.

    >>> read('py title="One" hide')
    ('python', {'title': 'One', 'hide': True})
    >>> read("bash")
    (None, {})
    """
    match = re.fullmatch(r"\.?(?P<language>[^\s{]*)\s*(?P<rest>.*?)\s*", info.strip())
    assert match is not None
    language, rest = match["language"].lower(), match["rest"]
    if rest.startswith("{") and rest.endswith("}"):
        rest = rest[1:-1].strip()
    if language and language not in LANGUAGES:
        return None, {}
    pairs, unread = _tokens(rest)
    for name, value in pairs if not language else []:
        if value is True and name.startswith(".") and name != ".no-run":
            pairs.remove((name, value))
            language = name[1:].lower()
            break
    if language not in LANGUAGES:
        return None, {}
    if unread:
        raise ValueError(f"cannot read the attributes from {unread!r} on")
    attrs: Attributes = {}
    for name, value in pairs:
        if name not in (FLAGS if value is True else VALUES):
            near = difflib.get_close_matches(name, FLAGS | VALUES, 1)
            raise ValueError(
                f"unknown attribute {name!r}" + (f"; is {near[0]!r} meant?" if near else "")
            )
        if name in attrs:
            raise ValueError(f"the attribute {name!r} is given twice")
        attrs[name] = value
    if attrs.pop(".no-run", False):
        attrs["no_run"] = True
    return LANGUAGES[language], attrs


def _tokens(text: str) -> tuple[list[tuple[str, str | bool]], str]:
    """Names and values (True for a bare word or a class), and what could not be read."""
    pairs: list[tuple[str, str | bool]] = []
    position = 0
    while position < len(text):
        token = _TOKEN.match(text, position)
        if token is None:
            return pairs, text[position:].strip()
        position = token.end()
        if token["flag"]:
            pairs.append((token["flag"], True))
        elif token["bare"]:
            pairs.append((token["key"], token["bare"]))
        else:
            quoted = token["double"] if token["double"] is not None else token["single"]
            pairs.append((token["key"], re.sub(r"\\(.)", r"\1", quoted)))
    return pairs, ""


def check(language: str, attrs: Attributes, size: int) -> None:
    """Refuse attributes that do not go together.

    Args:
        language: "python" or "pycon".
        attrs: as `read` gives them.
        size: how many lines of code the block has.

    Raises:
        ValueError: says which, and what to do.
    """
    fig, table, no_run = "fig" in attrs, "table" in attrs, "no_run" in attrs
    value = {name: str(attrs.get(name, "")).strip() for name in VALUES}
    if fig and not value["alt"]:
        raise ValueError(
            f'the figure {value["fig"]!r} has no alt text: say what is seen, alt="..."'
        )
    if found := re.search(r"\{(?:claim|source)\b|\[@|\$", value["alt"]):
        raise ValueError(
            f"the alt text has {found.group()!r}: it is read out as it stands, so say it in words"
        )
    if fig and table:
        raise ValueError("a block draws a figure or a table, not both")
    if "alt" in attrs and not fig:
        raise ValueError("alt text without fig")
    if "caption" in attrs and not (fig or table):
        raise ValueError("a caption without fig or table")
    if (fig or table) and language == "pycon":
        raise ValueError("a session (pycon) cannot be a figure or a table")
    if no_run and not value["reason"]:
        raise ValueError('a block that does not run must say why: reason="..."')
    if "reason" in attrs and not no_run:
        raise ValueError("a reason without .no-run")
    if no_run and (fig or table or "hide" in attrs):
        raise ValueError(".no-run with fig, table or hide leaves nothing to see")
    for kind in ("fig", "table"):
        if kind in attrs and not _NAME.fullmatch(value[kind]):
            raise ValueError(f"{kind}={value[kind]!r} is not a name of the form 'lower-case-words'")
    if "hl_lines" in attrs:
        lines = value["hl_lines"]
        if not _LINES.fullmatch(lines):
            raise ValueError(f"hl_lines={lines!r} is not of the form '1 3-4'")
        if not all(1 <= int(line) <= size for line in re.findall(r"\d+", lines)):
            raise ValueError(f"hl_lines={lines!r} in a block of {size} lines")
