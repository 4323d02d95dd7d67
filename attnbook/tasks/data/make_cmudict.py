"""Make `cmudict.tar.xz`: a subset of the CMU Pronouncing Dictionary, small enough to ship.

    python attnbook/tasks/data/make_cmudict.py FILE

FILE is `cmudict.dict` of https://github.com/cmusphinx/cmudict, as in the Python package cmudict
1.1.3; it is checked against `ORIGINAL`.

Kept are words of 3 to 12 letters a to z, with every pronunciation, without the marks of stress.
Words with the same first four letters stay together: such families are taken, in the order of a
checksum of their letters, until there are `KEEP` words. The archive holds the licence and
`words.txt`, a line for each word: the spelling, a tab, the pronunciations with `|` between them.

Run again, it gives the same files inside the archive; the archive's own bytes may depend on the
version of liblzma.
"""

import re
import sys
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from packing import write  # type: ignore[import-not-found]  # beside this one

HERE = Path(__file__).parent
TARGET = HERE / "cmudict.tar.xz"
LICENCE = HERE / "cmudict.LICENSE"
KEEP = 50_000
FAMILY = 4
ORIGINAL = "81917843c7f44ce2b094ac63873c2c7a4cf802040792c455ba3ca406891c3d22"
"""SHA-256 of the original."""


def words(text: str) -> dict[str, list[str]]:
    """The pronunciations of every word that is kept, without stress, each once, in order."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        spelling, _, phones = line.partition("#")[0].strip().partition(" ")
        spelling = re.sub(r"\(\d+\)$", "", spelling)
        if re.fullmatch("[a-z]{3,12}", spelling):
            several = found.setdefault(spelling, [])
            if (plain := re.sub(r"\d", "", phones)) not in several:
                several.append(plain)
    return found


def select(spellings: Iterable[str], keep: int) -> list[str]:
    """Whole families of words, together `keep` words or a few more, in alphabetical order."""
    families: dict[str, list[str]] = {}
    for spelling in spellings:
        families.setdefault(spelling[:FAMILY], []).append(spelling)
    chosen: list[str] = []
    for letters in sorted(families, key=lambda letters: sha256(letters.encode()).hexdigest()):
        if len(chosen) >= keep:
            break
        chosen += families[letters]
    return sorted(chosen)


def subset(path: Path) -> list[tuple[str, bytes]]:
    """Name and content of each file of the archive."""
    content = path.read_bytes()
    if (digest := sha256(content).hexdigest()) != ORIGINAL:
        raise ValueError(f"{path} is not the original: {digest}")
    found = words(content.decode())
    lines = [f"{word}\t{'|'.join(found[word])}\n" for word in select(found, KEEP)]
    return [("LICENSE", LICENCE.read_bytes()), ("words.txt", "".join(lines).encode())]


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    write(TARGET, subset(Path(sys.argv[1])))
