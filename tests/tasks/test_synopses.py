import io
import itertools
import lzma
import tarfile
import tomllib
from collections import Counter
from hashlib import sha256
from pathlib import Path

import pytest
import scripts

from attnbook.tasks import synopses
from attnbook.tasks.synopses import SHA256, Synopses, load, tokens

DATA = scripts.DATA
ROOT = Path(__file__).parents[2]
pack = scripts.script("packing").pack


@pytest.fixture(scope="module")
def some():
    return Synopses(words=2000)


@pytest.fixture(scope="module")
def script():
    return scripts.script("make_synopses")


def test_the_packages_are_those_that_the_page_promises():
    packages = load()
    assert len(packages) == len(set(packages)) == 12_000
    lengths = [(len(tokens(p.description)), len(tokens(p.synopsis))) for p in packages]
    assert min(lengths)[0] >= 8
    assert max(lengths)[0] <= 80
    assert all(3 <= n <= 12 for _, n in lengths)
    wanted = [(t, set(tokens(p.description))) for p in packages for t in tokens(p.synopsis)]
    assert sum(t in said for t, said in wanted) / len(wanted) == pytest.approx(2 / 3, abs=0.02)


def test_no_family_is_on_both_sides(some):
    train, test = some.train_packages, some.test_packages
    assert sorted(train + test) == sorted(load())
    assert not {p.family for p in train} & {p.family for p in test}
    assert not {p.synopsis for p in train} & {p.synopsis for p in test}
    assert not {p.description for p in train} & {p.description for p in test}
    assert len(test) == pytest.approx(1200, abs=60)


def test_the_split_follows_its_seed(some):
    assert Synopses(words=9).test_packages == some.test_packages
    assert Synopses(words=9, seed=1).test_packages != some.test_packages


def test_the_vocabulary_is_of_the_training_pairs_alone(some):
    words = some.vocabulary.tokens[1:]
    assert len(words) == 2000
    counts = Counter(
        token
        for p in some.train_packages
        for token in (*tokens(p.description), *tokens(p.synopsis))
    )
    assert some.counts == counts  # a word of the test pairs alone counts 0
    least = min(counts[word] for word in words)
    assert least > 0
    rest = counts.keys() - set(words)
    assert all(counts[token] <= least for token in rest)


def test_a_batch_can_be_read_back(some):
    packages = some.test_packages[:50]
    batch = some.batch(packages)
    lacking = 0
    for n, package in enumerate(packages):
        said, wanted = tokens(package.description), tokens(package.synopsis)
        length = int(batch.lengths[n])
        assert length == len(said)
        assert not batch.source[n, length:].any()
        assert not batch.copied[n, length:].any()
        assert some.decode(batch.copied[n].tolist(), batch.unknown[n]) == said
        known = [t if t in some.vocabulary.tokens else "<unknown>" for t in said]
        assert some.decode(batch.source[n].tolist()) == known
        there = set(some.vocabulary.tokens) | set(said)
        written = [t if t in there else "<unknown>" for t in wanted]
        assert some.decode(batch.written[n].tolist(), batch.unknown[n]) == written
        plain = [t if t in some.vocabulary.tokens else "<unknown>" for t in wanted]
        assert some.decode(batch.target[n].tolist()) == plain
        lacking += len(batch.unknown[n])
    assert lacking > 50
    assert batch.source.max() < len(some.vocabulary) <= batch.copied.max()


def test_batches_repeat_and_are_of_training_packages(some):
    one, two = (next(some.batches(8, seed=3)) for _ in range(2))
    assert (one.copied == two.copied).all()
    known = {tuple(tokens(p.description)) for p in some.train_packages}
    for row, unknown in zip(one.copied, one.unknown, strict=True):
        assert tuple(some.decode(row.tolist(), unknown)) in known


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda s: Synopses(words=0), "words must be at least 1, got 0"),
        (lambda s: Synopses(test_share=0.0), "both sides packages, got 0.0"),
        (lambda s: Synopses(test_share=1.0), "both sides packages, got 1.0"),
        (lambda s: s.batch([]), "packages must not be empty"),
        (lambda s: s.batches(0, 0), "size must be at least 1, got 0"),
        (lambda s: s.decode([2004]), r"symbols must be in 0\.\.2003, got 2004"),
        (lambda s: s.decode([-1]), r"symbols must be in 0\.\.2003, got -1"),
    ],
)
def test_clear_errors(some, make, message):
    with pytest.raises(ValueError, match=message):
        make(some)


def test_an_installed_package_says_where_the_data_are(monkeypatch):
    def missing(*_):
        raise FileNotFoundError

    monkeypatch.setattr(synopses, "shipped", missing)
    with pytest.raises(FileNotFoundError, match=r"with the repository .* run this in a clone"):
        load.__wrapped__()


FILE = r"""
;;; Copyright © 2020, 2021 Ada Lovelace <ada@example.org>
(define-public r-one
  (package
    (name "r-one")
    ; (synopsis "not this")
    (synopsis "Draw @code{one} \"line\".")
    (description
     "One draws @emph{a @code{very} long} line, see @url{https://x.org, here}
with two ends.

@itemize
@item another paragraph
@end itemize")))

(define-public computed
  (package (name "computed") (synopsis "A b c") (description (string-append "x" "y"))))
"""


def test_the_script_reads_plain_strings(script):
    assert list(script.packages(FILE)) == [
        script.Package(
            "r-one",
            "One draws a very long line, see https://x.org with two ends.",
            'Draw one "line"',
        )
    ]
    assert script.authors([("x.scm", FILE)]) == "Ada Lovelace <ada@example.org>\n"


def test_the_script_finds_families(script):
    def make(name, body, synopsis):
        return script.Package(name, body, synopsis)

    same_stem = [
        make("python-foo", "a", "x"),
        make("foo-1.2", "b", "y"),
        make("foo-minimal", "c", "z"),
    ]
    same_text = [make("bar", "d", "Y"), make("baz", "d", "w")]
    alone = [make("qux", "e", "v")]
    found = script.families([*alone, *same_text, *same_stem, alone[0]])
    assert sorted(map(len, found)) == [1, 5]
    chosen = script.select([*same_stem, *same_text, *alone], keep=2)
    assert len(chosen) in (5, 6)
    assert [number for number, _ in chosen] == sorted(number for number, _ in chosen)


def test_the_script_refuses_another_original(script, tmp_path):
    (tmp_path / "a.scm").write_text(FILE)
    with pytest.raises(ValueError, match="is not the original"):
        script.original(tmp_path)


def test_the_shipped_archive_is_packed_as_the_script_packs():
    """The same tar inside, whatever the version of liblzma."""
    packed = (DATA / "synopses.tar.xz").read_bytes()
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        files = [(m.name, archive.extractfile(m).read()) for m in archive]
    assert pack(files) == lzma.decompress(packed)
    assert sha256(packed).hexdigest() == SHA256


def test_the_data_stay_out_of_the_wheel_and_have_their_licence_and_authors():
    with tarfile.open(DATA / "synopses.tar.xz") as archive:
        licence = archive.extractfile("LICENSE").read().decode()
        authors = archive.extractfile("AUTHORS").read().decode().splitlines()
    assert "GNU GENERAL PUBLIC LICENSE" in licence
    assert "Version 3" in licence
    assert len(authors) > 900
    assert SHA256 in (DATA / "README.md").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert "attnbook/tasks/data/synopses.*" in wheel["exclude"]
    assert not any("synopses" in path for path in project["project"]["license-files"])
    assert (DATA / "synopses.tar.xz").stat().st_size < 820_000


def test_tokens_keep_names_whole():
    text = "An R/C++ wrapper: `r-cpp11`'s API (e.g. v1.2)."
    assert tokens(text) == [
        *("an", "r/c", "+", "+", "wrapper", ":", "`", "r-cpp11", "`", "'", "s", "api"),
        *("(", "e.g", ".", "v1.2", ")", "."),
    ]
    assert list(itertools.chain.from_iterable(map(tokens, text.split()))) == tokens(text)
