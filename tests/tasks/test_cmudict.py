import io
import lzma
import random
import tarfile
import tomllib
from functools import cache
from hashlib import sha256
from pathlib import Path

import pytest
import scripts
from hypothesis import given
from hypothesis import strategies as st

from attnbook.tasks.cmudict import PHONEMES, SHA256, Spellings, Word, distance, errors, load

DATA = scripts.DATA
ROOT = Path(__file__).parents[2]
pack = scripts.script("packing").pack


@pytest.fixture(scope="module")
def spellings():
    return Spellings()


@pytest.fixture(scope="module")
def script():
    return scripts.script("make_cmudict")


def test_the_words_are_those_that_the_page_promises():
    words = load()
    assert len(words) == len({word.spelling for word in words}) == 50_003 >= 40_000
    assert [word.spelling for word in words] == sorted(word.spelling for word in words)
    for spelling, several in words:
        assert spelling.isascii()
        assert spelling.isalpha()
        assert spelling.islower()
        assert 3 <= len(spelling) <= 12
        assert len(set(several)) == len(several) >= 1
    assert {p for word in words for said in word.pronunciations for p in said.split()} == set(
        PHONEMES
    )
    assert sum(len(word.pronunciations) > 1 for word in words) == 3_100


@pytest.mark.parametrize(
    ("spelling", "several"),
    [
        ("colonel", ("K ER N AH L",)),
        ("aalborg", ("AO L B AO R G", "AA L B AO R G")),
        ("either", ("IY DH ER", "AY DH ER")),
    ],
)
def test_known_words(spelling, several):
    assert dict(load())[spelling] == several


def test_no_test_word_begins_like_a_training_word(spellings):
    heads = [{w.spelling[:4] for w in s} for s in (spellings.train_words, spellings.test_words)]
    assert not heads[0] & heads[1]
    assert sorted(spellings.train_words + spellings.test_words) == list(load())


def test_the_split_follows_its_seed():
    one, two, other = (Spellings(seed=seed).test_words for seed in (0, 0, 1))
    assert one == two
    assert set(one) != set(other)
    assert len(Spellings(test_share=0.3).test_words) == pytest.approx(15_001, abs=50)


def test_a_batch_holds_its_words(spellings):
    words = spellings.test_words[:16]
    batch = spellings.batch(words)
    for row, length, target, word in zip(*batch, words, strict=True):
        assert spellings.source.decode(row[:length].tolist()) == word.spelling
        assert not row[length:].any()
        assert spellings.target.decode(target.tolist()) == word.pronunciations[0]


def test_training_hears_every_pronunciation(spellings):
    word = next(w for w in spellings.train_words if len(w.pronunciations) == 3)
    batch = spellings.batch([word] * 60, random.Random(0))
    heard = {spellings.target.decode(row.tolist()) for row in batch.target}
    assert heard == set(word.pronunciations)


def test_batches_are_of_training_words_and_repeat(spellings):
    train = {w.spelling for w in spellings.train_words}
    one, two = (next(spellings.batches(32, seed=5, pool=2)) for _ in range(2))
    assert (one.target == two.target).all()
    assert all(spellings.source.decode(row.tolist()) in train for row in one.source)


def by_recursion(one, other):
    """The definition, without a table."""

    @cache
    def least(i, j):
        if not i or not j:
            return i + j
        substituted = least(i - 1, j - 1) + (one[i - 1] != other[j - 1])
        return min(least(i - 1, j) + 1, least(i, j - 1) + 1, substituted)

    return least(len(one), len(other))


@given(st.text("abc", max_size=7), st.text("abc", max_size=7))
def test_distance_is_that_of_the_definition(one, other):
    assert distance(one, other) == by_recursion(one, other) == distance(other, one)


def test_errors_take_the_closest_pronunciation():
    word = Word("x", ("A B C", "D E F G"))
    assert errors(["A B C"], [word]) == (0, 0)
    assert errors(["D E F G"], [word]) == (0, 0)
    assert errors(["D E F"], [word]) == (1 / 4, 1)
    assert errors([""], [word]) == (1, 1)
    assert errors(["A B C", "D E F"], [word, word]) == (1 / 7, 1 / 2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda s: Spellings(test_share=0.0), "both sides words, got 0.0"),
        (lambda s: Spellings(test_share=1.5), "both sides words, got 1.5"),
        (lambda s: s.batch([]), "words must not be empty"),
        (lambda s: s.batch([Word("naïve", ("N",))]), r"outside the vocabulary: \['ï'\]"),
        (lambda s: s.batches(0, 0), "size must be at least 1, got 0"),
        (lambda s: errors([], []), "got 0 outputs for 0 words"),
        (lambda s: errors(["A"], []), "got 1 outputs for 0 words"),
    ],
)
def test_clear_errors(spellings, make, message):
    with pytest.raises(ValueError, match=message):
        make(spellings)


def test_the_script_reads_the_format_of_the_dictionary(script):
    text = "a AH0\nread R EH1 D\nread(2) R IY1 D\nread(3) R EH2 D # again\nread's R IY1 D Z\n"
    assert script.words(text + "abc EY1 B # x\n") == {"read": ["R EH D", "R IY D"], "abc": ["EY B"]}


def test_the_script_keeps_families_together(script):
    words = [head + tail for head in ("abcd", "efgh", "ijkl", "mnop") for tail in ("", "e", "es")]
    chosen = script.select(words, keep=5)
    assert len(chosen) == 6
    assert all(sum(w[:4] == word[:4] for w in chosen) == 3 for word in chosen)
    assert script.select(reversed(words), keep=5) == chosen == sorted(chosen)


def test_the_script_refuses_another_original(script, tmp_path):
    (tmp_path / "cmudict.dict").write_text("a AH0\n")
    with pytest.raises(ValueError, match=r"cmudict\.dict is not the original"):
        script.subset(tmp_path / "cmudict.dict")


def test_the_shipped_archive_is_packed_as_the_script_packs():
    """The same tar inside, whatever the version of liblzma."""
    packed = (DATA / "cmudict.tar.xz").read_bytes()
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        files = [(m.name, archive.extractfile(m).read()) for m in archive]
    assert pack(files) == lzma.decompress(packed)
    assert sha256(packed).hexdigest() == SHA256


def test_the_data_file_has_its_licence_its_checksum_and_its_place_in_the_wheel():
    assert b"Copyright (C) 1993-2015 Carnegie Mellon" in (DATA / "cmudict.LICENSE").read_bytes()
    assert SHA256 in (DATA / "README.md").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "attnbook/tasks/data/cmudict.LICENSE" in project["license-files"]
    assert (DATA / "cmudict.tar.xz").stat().st_size < 300_000
