"""Human dates in many languages, to be rewritten as ISO 8601.

"Wednesday, March 5, 2025", "2025年3月5日水曜日" and "Mittwoch, 5. März 2025" are all `2025-03-05`.

The words and patterns come from the Unicode CLDR (Common Locale Data Repository) through the Babel
package; `cldr_version()` reads which release. CLDR is copyright Unicode, Inc., under the licence
Unicode-3.0 (<https://www.unicode.org/license.txt>), Babel under BSD-3-Clause; neither is copied
here.

Every locale of `LOCALES` writes the Gregorian calendar with the digits 0-9. The "short" formats,
with two-digit years and day and month in either order, are left out: each text keeps its
four-digit year. `ambiguous` finds any text that still means two dates, and `Dates` drops it.
Training and test sets are split **by date**: a test date is never seen in training, in any
language. One locale is held out whole.
"""

import datetime
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import NamedTuple

from attnbook.tasks import symbols
from attnbook.tasks.symbols import Batch, Vocabulary

try:
    from babel import Locale, UnknownLocaleError
    from babel.core import get_global
    from babel.dates import DateTimeFormat, parse_pattern
except ImportError as error:  # pragma: no cover - tested in a fresh interpreter
    raise ImportError(
        "attnbook.tasks.dates needs Babel; install it with: pip install attnbook[labs]"
    ) from error

__all__ = [
    "HELD_OUT",
    "LOCALES",
    "Dates",
    "Example",
    "ambiguous",
    "cldr_version",
    "patterns",
    "render",
]

LOCALES = (
    *("en", "de", "fr", "es", "it", "pt", "nl", "sv", "da", "fi", "pl", "cs", "hu", "ro", "tr"),
    *("id", "vi", "ru", "uk", "bg", "el", "he", "ar", "hi", "zh", "ja", "ko", "ka", "hy"),
)
"""The locales to train on: 29 languages in 10 scripts."""

HELD_OUT = "nb"
"""Norwegian (Bokmål), next to Danish and Swedish: no character of it is new to a model."""

SKELETONS = ("yMMMd", "yMMMEd", "yMMMMd", "yMMMMEEEEd")
FIELD = re.compile(r"%\((\w+)\)s")


class Example(NamedTuple):
    """A date as people write it, the same date in ISO 8601, and the locale of the writing."""

    text: str
    iso: str
    locale: str


def cldr_version() -> str:
    """The CLDR release in the installed Babel.

    >>> int(cldr_version()) >= 44
    True
    """
    return str(get_global("cldr")["version"])


@cache
def patterns(locale: str) -> tuple[str, ...]:
    """The date patterns of a locale: medium, long and full, then those of `SKELETONS`, each once.

    Raises:
        ValueError: CLDR has no such locale, or it writes more than year, month, day and weekday.

    >>> patterns("en")
    ('MMM d, y', 'MMMM d, y', 'EEEE, MMMM d, y', 'E, MMM d, y')
    """
    data = _locale(locale)
    found = [data.date_formats[name].pattern for name in ("medium", "long", "full")]
    found += [data.datetime_skeletons[s].pattern for s in SKELETONS if s in data.datetime_skeletons]
    for pattern in found:
        _template(pattern)
    return tuple(dict.fromkeys(found))


def render(date: datetime.date, locale: str, pattern: str) -> str:
    """The date as the locale writes it. Equal to Babel's `format_date`, and faster.

    >>> render(datetime.date(2025, 3, 5), "de", "EEEE, d. MMMM y")
    'Mittwoch, 5. März 2025'
    """
    return _fill(locale, pattern, date.year, date.month, date.day, date.weekday())


@cache
def ambiguous(locales: tuple[str, ...]) -> frozenset[str]:
    """The texts that mean more than one date, with `y` in place of the year's digits.

    Every (weekday, month, day) is rendered, so the answer holds for all years: two dates with the
    same text have the same year, whose digits are the only four in a row.

    >>> ambiguous(("en", "de"))
    frozenset()
    """
    meaning: dict[str, tuple[int, int]] = {}
    clashes = set()
    for locale in locales:
        for pattern in patterns(locale):
            weekdays = range(7) if any(f[0] in "Ec" for f in _template(pattern)[1]) else range(1)
            for month, day in _DAYS:
                for weekday in weekdays:
                    text = _fill(locale, pattern, "y", month, day, weekday)
                    if meaning.setdefault(text, (month, day)) != (month, day):
                        clashes.add(text)
    return frozenset(clashes)


class Dates:
    """Human dates to ISO dates: training and test sets, and a locale held out.

    Args:
        locales: CLDR locales to train on.
        held_out: a locale never trained on; every character of it must occur in the others.
        first: the earliest date.
        last: the latest date; both years have four digits.
        test_share: share of the **dates** kept for testing.
        seed: of the split.

    Raises:
        ValueError: a locale is unknown, there is none, held_out is among them, a year has not four
            digits, `first` is after `last`, or a set would be empty.

    >>> dates = Dates(locales=("en", "fr"), held_out="es", last=datetime.date(1950, 12, 31))
    >>> example = dates.test(1, seed=0)[0]
    >>> example.locale in ("en", "fr") and len(example.iso) == 10
    True
    >>> batch = next(dates.batches(size=4, seed=0))
    >>> batch.target.shape
    torch.Size([4, 11])
    """

    def __init__(
        self,
        locales: Sequence[str] = LOCALES,
        held_out: str = HELD_OUT,
        *,
        first: datetime.date = datetime.date(1900, 1, 1),
        last: datetime.date = datetime.date(2099, 12, 31),
        test_share: float = 0.1,
        seed: int = 0,
    ) -> None:
        if not locales:
            raise ValueError("locales must not be empty")
        if held_out in locales:
            raise ValueError(f"held_out must not be one of the locales, got {held_out!r}")
        if not 1000 <= first.year <= last.year <= 9999 or first > last:
            raise ValueError(
                f"first must not be after last, in years 1000..9999, got {first}, {last}"
            )
        self.locales, self.held_out_locale = tuple(locales), held_out
        days = [first + datetime.timedelta(days=d) for d in range((last - first).days + 1)]
        random.Random(seed).shuffle(days)
        cut = round(test_share * len(days))
        if not 0 < cut < len(days):
            raise ValueError(f"test_share must leave both sets non-empty, got {test_share}")
        self.test_dates, self.train_dates = days[:cut], days[cut:]
        self.source = Vocabulary([*"0123456789", *sorted(_characters(self.locales))])
        self.target = Vocabulary("0123456789-")

    def train(self, n: int, seed: int) -> list[Example]:
        """`n` random training examples: a locale, one of its patterns and a training date."""
        return self._draw(self.train_dates, self.locales, n, random.Random(seed))

    def test(self, n: int, seed: int, locales: Sequence[str] | None = None) -> list[Example]:
        """`n` random examples on test dates, in the training locales or those given."""
        locales = self.locales if locales is None else tuple(locales)
        if not locales:
            raise ValueError("locales must not be empty")
        return self._draw(self.test_dates, locales, n, random.Random(seed))

    def held_out(self, n: int, seed: int) -> list[Example]:
        """`n` random examples on test dates in the held-out locale."""
        return self.test(n, seed, [self.held_out_locale])

    def batch(self, examples: Sequence[Example]) -> Batch:
        """Examples as tensors.

        Raises:
            ValueError: there are none, or a character is not in the vocabulary.
        """
        if not examples:
            raise ValueError("examples must not be empty")
        return symbols.pad(
            [self.source.encode(e.text) for e in examples],
            [self.target.encode(e.iso) for e in examples],
        )

    def batches(self, size: int, seed: int, pool: int = 20) -> Iterator[Batch]:
        """Training batches without end: `pool` of them drawn at a time, sorted by length.

        Sorting within a pool wastes little on padding (Bahdanau, Cho, Bengio 2015, appendix B.2).

        Raises:
            ValueError: size or pool is below 1.
        """
        return symbols.batches(
            lambda n, draw: self._draw(self.train_dates, self.locales, n, draw),
            self.batch,
            lambda example: len(example.text),
            size=size,
            seed=seed,
            pool=pool,
        )

    def _draw(
        self, days: Sequence[datetime.date], locales: Sequence[str], n: int, draw: random.Random
    ) -> list[Example]:
        unclear = ambiguous(tuple(dict.fromkeys((*self.locales, self.held_out_locale, *locales))))
        found: list[Example] = []
        while len(found) < n:
            date, locale = draw.choice(days), draw.choice(locales)
            text = render(date, locale, draw.choice(patterns(locale)))
            if text.replace(str(date.year), "y") not in unclear:
                found.append(Example(text, date.isoformat(), locale))
        return found


_DAYS = [
    (d.month, d.day)
    for d in (datetime.date(2000, 1, 1) + datetime.timedelta(n) for n in range(366))
]


@cache
def _locale(name: str) -> Locale:
    try:
        return Locale.parse(name)
    except (UnknownLocaleError, ValueError, TypeError) as error:
        raise ValueError(
            f"locale must be one of CLDR, such as 'en' or 'pt_PT', got {name!r}"
        ) from error


@cache
def _template(pattern: str) -> tuple[str, tuple[str, ...]]:
    """The pattern as a format string, and its fields."""
    template: str = parse_pattern(pattern).format  # type: ignore[assignment]
    fields = tuple(FIELD.findall(template))
    if unknown := [f for f in fields if f[0] not in "yMLdEc" or (f[0] == "y" and f != "y")]:
        raise ValueError(
            f"pattern {pattern!r} has fields other than year, month, day, weekday: {unknown}"
        )
    return template, fields


@cache
def _word(locale: str, field: str, value: int) -> str:
    """A month, a day of the month or a weekday (0 is Monday) as the locale's field writes it."""
    if field[0] in "ML":
        date = datetime.date(2000, value, 1)
    elif field[0] == "d":
        date = datetime.date(2000, 1, value)
    else:
        date = datetime.date(2000, 1, 3 + value)  # 3 January 2000 was a Monday
    return str(DateTimeFormat(date, _locale(locale))[field])


def _fill(locale: str, pattern: str, year: int | str, month: int, day: int, weekday: int) -> str:
    template, fields = _template(pattern)
    values = {"M": month, "L": month, "d": day, "E": weekday, "c": weekday}
    return template % {f: year if f == "y" else _word(locale, f, values[f[0]]) for f in fields}


def _characters(locales: Iterable[str]) -> set[str]:
    """Every character of every date of these locales, but for the year's digits."""
    return {
        character
        for locale in locales
        for pattern in patterns(locale)
        for weekday, (month, day) in enumerate(_DAYS)
        for character in _fill(locale, pattern, "", month, day, weekday % 7)
    }
