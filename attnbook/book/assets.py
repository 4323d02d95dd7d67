"""What the site makes for all its pages: style, script, the maths font, the picture for previews.

The font and the picture are kept in the cache, by a digest of what they are made from.
"""

import shutil
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from attnbook._reach import digest
from attnbook.book import maths, palette, snippets

THEME = Path(__file__).parent / "theme"
FOLDER = "assets/book"
_WEEK = 7 * 24 * 3600


class Card(NamedTuple):
    """The picture that a preview of a link shows; `attnbook.book.card` draws it."""

    file: str = f"{FOLDER}/card.png"
    width: int = 1200
    height: int = 630
    alt: str = (
        "The words Attention, one equation at a time; its three lines: score, mask and normalise, "
        "aggregate; and a matrix of causal attention weights, strongest on its diagonal."
    )


CARD = Card()


def style() -> str:
    """The book's style sheet, for screens and for paper."""
    sheets = [_source(THEME / name) for name in ("book.css", "print.css")]
    return "".join([palette.css(), maths.css(), *sheets])


def script() -> str:
    """The book's script."""
    return snippets.ASSEMBLE_JS + _source(THEME / "book.js")


def font(characters: set[str], cache: Path, folder: Path) -> None:
    """Cut the maths font for some characters, or take it from the cache, and put it in a folder."""

    def make(target: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # ziamath, as it loads its font
            maths.write_font(characters, target)

    _kept(make, [*sorted(characters), _source(Path(maths.__file__))], cache / "fonts", folder)


def card(cache: Path, folder: Path) -> None:
    """Draw the picture for previews, or take it from the cache, and put it in a folder."""

    def make(target: Path) -> None:
        from attnbook.book.card import write  # torch and matplotlib, only where it is drawn

        write(target / Path(CARD.file).name, (CARD.width, CARD.height))

    sources = [_source(Path(__file__).with_name(name)) for name in ("card.py", "palette.py")]
    _kept(make, sources, cache / "fonts", folder)


def forget(cache: Path) -> None:
    """Delete what a week did not use."""
    for path in cache.glob("[pf]*/**/*.*"):
        if path.is_file() and time.time() - path.stat().st_mtime > _WEEK:
            path.unlink()


def _kept(make: Callable[[Path], None], parts: list[str], cache: Path, folder: Path) -> None:
    kept = cache / digest(parts)
    if not (kept / "done.txt").exists():
        kept.mkdir(parents=True, exist_ok=True)
        make(kept)
        (kept / "done.txt").touch()
    folder.mkdir(parents=True, exist_ok=True)
    for path in kept.iterdir():
        path.touch()
        if path.name != "done.txt":
            shutil.copyfile(path, folder / path.name)


def _source(path: Path) -> str:
    return path.read_text(encoding="utf-8")
