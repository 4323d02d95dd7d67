"""Make `synopses.tar.xz`: descriptions of packages and their synopses, from GNU Guix.

    python attnbook/tasks/data/make_synopses.py FOLDER

FOLDER is `gnu/packages` of GNU Guix 1.5.0: in the release from https://ftp.gnu.org/gnu/guix, or in
the Debian package guix 1.5.0-1. Its files are checked, together, against `ORIGINAL`.

Kept is every package whose synopsis and description are plain strings: the first paragraph of the
description and the synopsis, without the marks of Texinfo, where the paragraph has 8 to 80 tokens
and the synopsis 3 to 12 (a token is a word or a mark of punctuation). Packages that share their
name's stem, their synopsis or their paragraph are one family. Families are taken, in the order of a
checksum of their first name, until there are `KEEP` packages. The archive holds the licence, the
authors, and `packages.txt`, a line for each package: family, name, paragraph and synopsis, with
tabs between them.

Run again, it gives the same files inside the archive; the archive's own bytes may depend on the
version of liblzma.
"""

import re
import sys
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from packing import write  # type: ignore[import-not-found]  # beside this one

HERE = Path(__file__).parent
TARGET = HERE / "synopses.tar.xz"
LICENCE = HERE / "synopses.LICENSE"
KEEP = 12_000
ORIGINAL = "bacb9db2f258a7e28458ef55a15dde47d7d3f5bec8fb7ad8693c2644e8e90eb3"
"""SHA-256 of the SHA-256 of every file, in the order of their names."""

STRING = r'"((?:[^"\\]|\\.)*)"'
TOKEN = re.compile(r"\w+(?:[-'./+]\w+)*|[^\w\s]")
LANGUAGES = (
    "(?:python|python2|r|ruby|perl|go|rust|emacs|ghc|ocaml|java|sbcl|cl|ecl|guile|texlive|node)"
)


class Package(NamedTuple):
    """One package of Guix."""

    name: str
    body: str
    synopsis: str


def plain(text: str) -> str:
    """A string of Scheme without escapes, without Texinfo's marks, on one line."""
    text = re.sub(r"\\\n\s*", "", text).replace("\\n", " ").replace('\\"', '"')
    text = text.replace("\\\\", "\\")
    text = re.sub(r"@(?:end|begin|c|comment)\b.*", " ", text)
    text = re.sub(r"@(?:itemize|enumerate|table|example|lisp|quotation)\b.*", " ", text)
    text = re.sub(r"@(?:uref|url|acronym|abbr)\{([^{},]*)[^{}]*\}", r"\1", text)
    text = text.replace("@dots{}", "...").replace("@tie{}", " ").replace("@bullet{}", " ")
    for _ in range(3):  # marks within marks
        text = re.sub(r"@\w+\{([^{}]*)\}", r"\1", text)
    text = re.sub(r"@(?:item|itemx)\b", " ", text)
    text = re.sub(r"@([@{}])", r"\1", text.replace("@:", ""))
    return " ".join(text.split())


def packages(text: str) -> Iterator[Package]:
    """The packages of one file whose name, synopsis and description are plain strings."""
    text = re.sub(r"(?m)^\s*;.*\n", "", text)
    for form in re.split(r"(?m)^(?=\(define)", text)[1:]:
        fields = [
            re.search(rf"\({field}\s+{STRING}\s*\)", form)
            for field in ("name", "description", "synopsis")
        ]
        if all(fields):
            name, description, synopsis = (found[1] for found in fields if found)
            paragraph = re.split(r"\n\s*\n|\\n\\n", description.strip())[0]
            yield Package(name, plain(paragraph), plain(synopsis).rstrip("."))


def fits(package: Package) -> bool:
    """Whether it has the length that is kept, and no tab or stray mark of Texinfo."""
    lengths = [len(TOKEN.findall(text)) for text in (package.body, package.synopsis)]
    clean = not re.search(r"@\w+\{|\t", package.body + package.synopsis)
    return clean and 8 <= lengths[0] <= 80 and 3 <= lengths[1] <= 12


def stem(name: str) -> str:
    """The name without the language before it and the version or variant after it."""
    bare = re.sub(rf"^{LANGUAGES}-", "", name)
    return re.sub(r"[-.]?(?:\d[\w.]*|minimal|doc|next|full|qt|gtk\d?)$", "", bare) or bare


def families(found: Iterable[Package]) -> list[list[Package]]:
    """Packages that share a stem, a synopsis or a paragraph, directly or through others."""
    head: dict[str, str] = {}

    def root(mark: str) -> str:
        while head.setdefault(mark, mark) != mark:
            head[mark] = mark = head[head[mark]]
        return mark

    once = list(dict.fromkeys(found))
    for package in once:
        marks = (f"n {stem(package.name)}", f"s {package.synopsis.lower()}", f"b {package.body}")
        for mark in marks[1:]:
            head[root(mark)] = root(marks[0])
    together: dict[str, list[Package]] = {}
    for package in once:
        together.setdefault(root(f"n {stem(package.name)}"), []).append(package)
    return [sorted(family) for family in together.values()]


def select(found: Iterable[Package], keep: int) -> list[tuple[int, Package]]:
    """Whole families, numbered, together `keep` packages or a few more."""
    ordered = sorted(families(found), key=lambda f: sha256(f[0].name.encode()).hexdigest())
    chosen: list[tuple[int, Package]] = []
    for number, family in enumerate(ordered):
        if len(chosen) >= keep:
            break
        chosen += [(number, package) for package in family]
    return chosen


def original(folder: Path) -> list[tuple[str, str]]:
    """Name and text of every file, checked."""
    contents = [(path.name, path.read_bytes()) for path in sorted(folder.rglob("*.scm"))]
    digest = sha256("".join(sha256(c).hexdigest() for _, c in contents).encode()).hexdigest()
    if digest != ORIGINAL:
        raise ValueError(f"{folder} is not the original: {digest}")
    return [(name, content.decode(errors="replace")) for name, content in contents]


def authors(files: Iterable[tuple[str, str]]) -> str:
    """Everyone whom a file names as a holder of its copyright, once."""
    lines = {
        match[1].strip()
        for _, text in files
        for match in re.finditer(r"(?m)^;+ Copyright ©\s+[\d., -]+(.*)$", text)
    }
    return "".join(f"{line}\n" for line in sorted(lines - {""}))


def subset(folder: Path) -> list[tuple[str, bytes]]:
    """Name and content of each file of the archive."""
    files = original(folder)
    found = [p for _, text in files for p in packages(text) if fits(p)]
    lines = ["\t".join((str(number), *package)) + "\n" for number, package in select(found, KEEP)]
    print(f"{len(found):,} pairs, of which {len(lines):,} are kept")
    return [
        ("LICENSE", LICENCE.read_bytes()),
        ("AUTHORS", authors(files).encode()),
        ("packages.txt", "".join(lines).encode()),
    ]


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    write(TARGET, subset(Path(sys.argv[1])))
