import datetime
import itertools
import random
import subprocess
import sys
import unicodedata

import pytest
import torch
from babel import Locale
from babel.dates import format_date

from attnbook.tasks.dates import (
    HELD_OUT,
    LOCALES,
    Dates,
    ambiguous,
    cldr_version,
    patterns,
    render,
)
from attnbook.tasks.symbols import Vocabulary

ALL = (*LOCALES, HELD_OUT)
SMALL = {"locales": ("en", "fr"), "held_out": "es", "last": datetime.date(1910, 12, 31)}


@pytest.fixture(scope="module")
def dates():
    return Dates()


def some_dates(n, seed=0):
    first = datetime.date(1900, 1, 1).toordinal()
    last = datetime.date(2099, 12, 31).toordinal()
    draw = random.Random(seed)
    return [datetime.date.fromordinal(draw.randint(first, last)) for _ in range(n)]


def test_at_least_twenty_locales_in_several_scripts():
    assert len(set(LOCALES)) >= 20
    assert HELD_OUT not in LOCALES
    letters = {c for name in LOCALES for c in render(datetime.date(2025, 3, 5), name, "EEEE MMMM")}
    scripts = {unicodedata.name(c).split()[0] for c in letters if c.isalpha()}
    assert scripts == {
        *("LATIN", "CYRILLIC", "GREEK", "HEBREW", "ARABIC", "DEVANAGARI", "CJK", "HANGUL"),
        *("GEORGIAN", "ARMENIAN"),
    }


@pytest.mark.parametrize("locale", ALL)
def test_locale_writes_the_digits_0_to_9(locale):
    assert Locale.parse(locale).default_numbering_system == "latn"


@pytest.mark.parametrize("locale", ALL)
def test_render_equals_babel(locale):
    for pattern, date in itertools.product(patterns(locale), some_dates(20)):
        assert render(date, locale, pattern) == format_date(date, pattern, locale)


@pytest.mark.parametrize("locale", ALL)
def test_medium_long_and_full_are_among_the_patterns_and_short_is_not(locale):
    formats = Locale.parse(locale).date_formats
    assert {formats[name].pattern for name in ("medium", "long", "full")} <= set(patterns(locale))
    assert formats["short"].pattern not in patterns(locale) or "yy" not in formats["short"].pattern


def test_every_text_has_its_year_as_the_only_four_digits_in_a_row():
    for locale, date in itertools.product(ALL, some_dates(20)):
        for pattern in patterns(locale):
            runs = "".join(c if c.isdigit() else " " for c in render(date, locale, pattern)).split()
            assert [run for run in runs if len(run) > 2] == [str(date.year)]


@pytest.mark.parametrize("locale", ALL)
def test_no_text_means_two_dates_within_a_locale(locale):
    assert ambiguous((locale,)) == frozenset()


def test_no_text_means_two_dates_across_the_shipped_locales():
    assert ambiguous(ALL) == frozenset()


def test_ambiguous_finds_what_an_exhaustive_search_of_a_year_finds():
    """Basa's "may" is February, Spanish "may" is May; 2025 rendered in full says the same."""
    meanings = {}
    for day in range(365):
        date = datetime.date(2025, 1, 1) + datetime.timedelta(days=day)
        for locale in ("es", "bas"):
            for pattern in patterns(locale):
                text = render(date, locale, pattern).replace("2025", "y")
                meanings.setdefault(text, set()).add(date)
    clashes = {text for text, found in meanings.items() if len(found) > 1}
    assert clashes
    assert clashes <= ambiguous(("es", "bas"))


def test_ambiguous_texts_are_dropped():
    clashes = ambiguous(("bas", "es"))
    dates = Dates(locales=("bas",), held_out="es", last=datetime.date(1910, 12, 31))
    for example in [*dates.train(2000, seed=0), *dates.held_out(2000, seed=0)]:
        assert example.text.replace(example.iso[:4], "y") not in clashes


def test_what_is_ambiguous_with_a_locale_asked_for_later_is_dropped_too():
    clashes = ambiguous(("bas", "es"))
    dates = Dates(locales=("bas",), held_out="en", last=datetime.date(1910, 12, 31))
    for example in dates.test(2000, seed=0, locales=["es"]):
        assert example.text.replace(example.iso[:4], "y") not in clashes


def test_no_test_date_is_seen_in_training_in_any_locale(dates):
    train, test = set(dates.train_dates), set(dates.test_dates)
    assert not train & test
    assert len(train) + len(test) == (dates_span := 73049)  # 1900-01-01 .. 2099-12-31
    assert len(test) == round(0.1 * dates_span)
    assert {e.iso for e in dates.train(500, seed=1)} <= {d.isoformat() for d in train}
    assert {e.iso for e in dates.test(500, seed=1)} <= {d.isoformat() for d in test}
    assert {e.iso for e in dates.held_out(500, seed=1)} <= {d.isoformat() for d in test}


def test_held_out_locale_is_never_trained_on_and_all_its_characters_are_known(dates):
    assert {e.locale for e in dates.train(2000, seed=0)} == set(LOCALES)
    assert {e.locale for e in dates.held_out(50, seed=0)} == {HELD_OUT}
    every_day = [datetime.date(2025, 1, 1) + datetime.timedelta(days=d) for d in range(365)]
    for date, pattern in itertools.product(every_day, patterns(HELD_OUT)):
        dates.source.encode(render(date, HELD_OUT, pattern))


def test_every_training_text_can_be_encoded(dates):
    for example in dates.train(5000, seed=3):
        assert dates.source.decode(dates.source.encode(example.text)) == example.text
        assert dates.target.decode(dates.target.encode(example.iso)) == example.iso


def test_same_seed_same_examples_other_seed_others(dates):
    assert dates.train(20, seed=5) == dates.train(20, seed=5) != dates.train(20, seed=6)
    again, other = Dates(**SMALL), Dates(**SMALL, seed=1)
    assert again.test_dates == Dates(**SMALL).test_dates != other.test_dates
    first, second = (next(dates.batches(4, seed=7)) for _ in range(2))
    assert torch.equal(first.source, second.source)


def test_batch_pads_at_the_end_and_ends_the_target(dates):
    examples = dates.train(16, seed=0)
    batch = dates.batch(examples)
    assert batch.source.shape == (16, max(len(e.text) for e in examples))
    assert batch.target.shape == (16, 11)
    for row, length, target, example in zip(*batch, examples, strict=True):
        assert length == len(example.text)
        assert row[:length].tolist() == dates.source.encode(example.text)
        assert (row[length:] == Vocabulary.PAD).all()
        assert target.tolist() == [*dates.target.encode(example.iso), Vocabulary.END]


def test_batches_of_a_pool_hold_neighbours_in_length(dates):
    pool = list(itertools.islice(dates.batches(32, seed=0, pool=10), 10))
    padding = sum((b.source == Vocabulary.PAD).sum() for b in pool)
    cells = sum(b.source.numel() for b in pool)
    assert padding / cells < 0.1
    spans = sorted((int(b.lengths.min()), int(b.lengths.max())) for b in pool)
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))


def test_cldr_version_is_that_of_babel():
    from babel.core import get_global

    assert cldr_version() == get_global("cldr")["version"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: patterns("xx"), "locale must be one of CLDR, such as 'en' or 'pt_PT', got 'xx'"),
        (lambda: Dates(locales=("en", "xx")), "got 'xx'"),
        (lambda: patterns("th"), "fields other than year, month, day, weekday: \\['G'\\]"),
        (lambda: Dates(locales=("en", "nb")), "held_out must not be one of the locales, got 'nb'"),
        (lambda: Dates(locales=()), "locales must not be empty"),
        (lambda: Dates(first=datetime.date(800, 1, 1)), "years 1000..9999, got 0800-01-01"),
        (lambda: Dates(last=datetime.date(1899, 1, 1)), "first must not be after last"),
        (lambda: Dates(test_share=0.0), "test_share must leave both sets non-empty, got 0.0"),
        (lambda: Dates(test_share=1.0), "test_share must leave both sets non-empty, got 1.0"),
        (lambda: Dates(**SMALL).batch([]), "examples must not be empty"),
        (lambda: Dates(**SMALL).batches(4, 0, pool=0), "pool must be at least 1, got 0"),
        (lambda: Dates(**SMALL).batches(0, 0), "size must be at least 1, got 0"),
        (lambda: Dates(**SMALL).test(1, 0, []), "locales must not be empty"),
    ],
)
def test_clear_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_missing_babel_says_what_to_install():
    code = "import sys; sys.modules['babel'] = None; import attnbook.tasks.dates"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 1
    assert "ImportError: attnbook.tasks.dates needs Babel" in run.stderr
    assert "pip install attnbook[labs]" in run.stderr
