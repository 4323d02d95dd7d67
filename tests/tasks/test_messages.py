import importlib
import io
import lzma
import random
import struct
import sys
import tarfile
import tomllib
import zipfile
from hashlib import sha256
from pathlib import Path

import pytest
import scripts
import torch

from attnbook.tasks.messages import SHA256, Messages, Subwords, load

DATA = scripts.DATA
ROOT = Path(__file__).parents[2]
pack = scripts.script("packing").pack
script = scripts.script("make_messages")


@pytest.fixture(scope="module")
def task():
    return Messages()


def test_the_messages_are_those_that_the_page_promises():
    messages = load()
    assert len(messages) == len({m.english for m in messages}) == 5_554
    assert {m.package for m in messages} == {"jupyterlab", "django", "wagtail", "sphinx"}
    for m in messages:
        assert script.fits(m.english, m.chinese), m
        assert script.tidy(m.english, m.chinese) == (m.english, m.chinese)


def test_no_family_is_on_two_sides(task):
    sides = (task.train_messages, task.dev_messages, task.test_messages)
    assert sorted(m for side in sides for m in side) == sorted(load())
    for n, side in enumerate(sides):
        for other in sides[n + 1 :]:
            assert not {m.family for m in side} & {m.family for m in other}
            assert not {m.chinese for m in side} & {m.chinese for m in other}
    assert [len(side) for side in sides[1:]] == pytest.approx([555, 555], abs=60)


def test_no_near_duplicate_is_on_two_sides(task):
    """Of the words of two messages less than 60 % are in both: counted as products of matrices."""
    rows = [(m, script.words(m.english)) for m in load()]
    column = {word: n for n, word in enumerate({word for _, some in rows for word in some})}
    bags = torch.zeros(len(rows), len(column))
    for row, (_, some) in enumerate(rows):
        bags[row, [column[word] for word in some]] = 1.0
    known = {m.english for m in task.train_messages}
    kept = torch.tensor([m.english in known for m, _ in rows])
    both = bags[~kept] @ bags[kept].T
    either = bags[~kept].sum(1)[:, None] + bags[kept].sum(1) - both
    assert len(both) == len(task.dev_messages) + len(task.test_messages)
    assert (both / either.clamp(min=1)).max() < 0.6


def test_the_split_follows_its_seed(task):
    small = {"source_size": 200, "target_size": 1500}
    assert Messages(**small).test_messages == task.test_messages
    assert Messages(**small, seed=1).test_messages != task.test_messages


def test_the_vocabularies_are_of_the_training_messages_alone(task):
    assert (len(task.source), len(task.target)) == (1000, 2000)
    for words, texts in (
        (task.source, [m.english for m in task.train_messages]),
        (task.target, [m.chinese for m in task.train_messages]),
    ):
        again = Subwords(texts, len(words), lower=words is task.source)
        both = [[one.pieces(range(3, len(one))) for one in (words, again)]]
        assert both[0][0] == both[0][1]
        assert not any(words.UNKNOWN in words.encode(text) for text in texts)
    new = {c for m in task.test_messages for c in m.chinese}
    new -= {c for m in task.train_messages for c in m.chinese}
    assert len(new) > 5
    assert all(task.target.encode(c) == [Subwords.UNKNOWN] for c in new)


def test_subwords_give_the_text_back(task):
    for message in task.train_messages:
        assert task.source.decode(task.source.encode(message.english)) == message.english.lower()
        assert task.target.decode(task.target.encode(message.chinese)) == message.chinese


def test_a_field_is_one_symbol_and_a_mark_within_a_text_is_not(task):
    for words, text in ((task.source, "'{0}' of {1}: {2}{3}"), (task.target, "“{0}”的{1}：{2}{3}")):
        found = words.encode(text)
        assert [p for p in words.pieces(found) if "{" in p] == list(Subwords.FIELDS)
        assert words.decode(found) == text
    assert Subwords.END not in task.source.encode("write <end> here <pad>")
    assert "{4}" not in task.source.pieces(task.source.encode("{4}"))


def test_frequent_pairs_become_one_symbol_and_no_symbol_crosses_a_word():
    words = Subwords(["aaab aaab", "aaac,"] * 9, 30)
    assert words.pieces(words.encode("aaab")) == ["aaab"]
    assert words.pieces(words.encode("aaa")) == ["aaa"]
    assert words.pieces(words.encode("aaab aaab, aaab")) == ["aaab", "▁aaab", ",", "▁aaab"]
    assert words.decode([1, *words.encode("aaab aaac"), 2, 5, 0]) == "aaab aaac"
    assert words.pieces(words.encode("aaac,")) == ["aaac", ","]
    assert words.pieces(words.encode("aaab?")) == ["aaab", "<unknown>"]


def test_a_batch_can_be_read_back(task):
    messages = random.Random(0).sample(task.test_messages, 50)
    batch = task.batch(messages)
    for n, message in enumerate(messages):
        length = int(batch.lengths[n])
        assert not batch.source[n, length:].any()
        assert task.source.decode(batch.source[n, :length].tolist()) == message.english.lower()
        encoded = task.target.encode(message.chinese)
        assert batch.target[n].tolist()[: len(encoded) + 1] == [*encoded, Subwords.END]


def test_batches_repeat_and_are_of_training_messages(task):
    one, two = (next(task.batches(8, seed=3)) for _ in range(2))
    assert (one.source == two.source).all()
    known = {m.english.lower() for m in task.train_messages}
    assert all(task.source.decode([s for s in row if s]) in known for row in one.source.tolist())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda t: Messages(test_share=0.0), "leave every side messages, got 0.1 and 0.0"),
        (lambda t: Messages(dev_share=0.9), "leave every side messages, got 0.9 and 0.1"),
        (lambda t: Messages(target_size=900), r"size must be at least \d{4} for these texts"),
        (lambda t: Subwords([], 100), "texts must not be empty"),
        (lambda t: Subwords(["a b"], 3), "size must be at least 9, with eight symbols always"),
        (lambda t: t.source.encode(" "), "text must not be empty"),
        (lambda t: t.source.decode([1000]), r"symbols must be in 0\.\.999, got 1000"),
        (lambda t: t.source.decode([-1]), r"symbols must be in 0\.\.999, got -1"),
        (lambda t: t.batch([]), "messages must not be empty"),
        (lambda t: t.batches(0, 0), "size must be at least 1, got 0"),
    ],
)
def test_clear_errors(task, make, message):
    with pytest.raises(ValueError, match=message):
        make(task)


def test_missing_tokenizers_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    monkeypatch.delitem(sys.modules, "attnbook.tasks.messages")
    with pytest.raises(ImportError, match=r"tokenizers; .* with: pip install attnbook\[labs\]"):
        importlib.import_module("attnbook.tasks.messages")


def catalogue(pairs, order="<"):
    """A file of messages as gettext compiles them."""
    texts = [text.encode() for side in zip(*pairs, strict=True) for text in side]
    start, table, body = 28 + 16 * len(pairs), b"", b""
    for text in texts:
        table += struct.pack(f"{order}2I", len(text), start + len(body))
        body += text + b"\0"
    head = (0x950412DE, 0, len(pairs), 28, 28 + 8 * len(pairs), 0, 0)
    return struct.pack(f"{order}7I", *head) + table + body


ENTRIES = [
    ("", "Content-Type: text/plain; charset=UTF-8\n"),
    ("%d file\0%d files", "%d 个文件"),
    ("title\x04Open %(name)s in %(place)s", "于%(place)s打开%(name)s"),
    ("menu\x04Open %(name)s in %(place)s", "在 %(place)s 中打开%(name)s"),
    ("button\x04Open %(name)s in %(place)s", "在 %(place)s 中打开 %(name)s"),
    ("Loading\n  now...", "正在加载……"),
    ("Saved %s as %s", "%s已存为%s"),
    ("Lost {field}", "丢失"),
    ("See <b>this</b>", "看<b>这个</b>"),
    ("OK then", "OK"),
]


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_script_reads_catalogues(order):
    found = list(script.entries(catalogue(ENTRIES, order)))
    assert found[:2] == [("%d files", "%d 个文件"), ("Open %(name)s in %(place)s", ENTRIES[2][1])]
    assert len(found) == len(ENTRIES) - 1


def test_the_script_keeps_what_fits_with_its_most_frequent_translation():
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as wheel:
        wheel.writestr("x/locale/zh_Hans/LC_MESSAGES/django.mo", catalogue(ENTRIES))
        wheel.writestr("x/locale/fr/LC_MESSAGES/django.mo", catalogue([("Open", "Ouvrir")]))
    assert [m[1:] for m in script.messages([("x", zipfile.ZipFile(packed))])] == [
        ("{0} files", "{0}个文件"),
        ("Open {0} in {1}", "在{1}中打开{0}"),
        ("Loading now…", "正在加载…"),
        ("Saved {0} as {1}", "{0}已存为{1}"),
    ]


def test_the_script_finds_families():
    def family(*pairs):
        return [script.Message("x", *pair) for pair in pairs]

    nearly = family(("Open the files", "甲"), ("open {0} the file!", "乙"))
    most = family(("show a very big window", "丙"), ("Show a big window", "丁"))
    chinese = family(("Halt", "停止。"), ("Stop it", "停止"))
    apart = [*family(("Close the file", "戊")), *family(("Save a file", "己"))]
    found = script.families([*nearly, *most, *chinese, *apart])
    assert sorted(map(len, found)) == [1, 1, 2, 2, 2]
    assert script.words("Copied 2 {0} files, don't") == {"copi", "fil", "dont"}


def test_the_script_refuses_another_original(tmp_path):
    (tmp_path / next(iter(script.ORIGINAL))).write_bytes(b"x")
    with pytest.raises(ValueError, match=r"jupyterlab\S+ is not the original"):
        script.subset(tmp_path)


def test_the_shipped_archive_is_packed_as_the_script_packs():
    """The same tar inside, whatever the version of liblzma."""
    packed = (DATA / "messages.tar.xz").read_bytes()
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        files = [(m.name, archive.extractfile(m).read()) for m in archive]
    assert pack(files) == lzma.decompress(packed)
    assert sha256(packed).hexdigest() == SHA256


def test_the_data_has_the_licence_of_each_package():
    licence = (DATA / "messages.LICENSE").read_text()
    for holder in (
        "Copyright (c) 2023 Project Jupyter Contributors",
        "Copyright (c) Django Software Foundation and individual contributors.",
        "Copyright (c) 2014-present Torchbox Ltd and individual contributors.",
        "Copyright (c) 2007-2025 by the Sphinx team",
    ):
        assert holder in licence
    assert SHA256 in (DATA / "README.md").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "attnbook/tasks/data/messages.LICENSE" in project["license-files"]
    assert (DATA / "messages.tar.xz").stat().st_size < 110_000
