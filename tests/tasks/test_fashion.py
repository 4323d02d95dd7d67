import gzip
import io
import lzma
import re
import tarfile
import tomllib
from hashlib import sha256
from pathlib import Path

import pytest
import scripts
import torch

from attnbook.tasks.fashion import CLASSES, SHA256, Images, draw, load

DATA = scripts.DATA
ROOT = Path(__file__).parents[2]
pack = scripts.script("packing").pack


@pytest.fixture(scope="module")
def data():
    return load()


@pytest.fixture(scope="module")
def script():
    return scripts.script("make_fashion")


def test_sizes_and_classes(data):
    for images, each in ((data.train, 350), (data.test, 100)):
        assert images.pixels.shape == (10 * each, 28, 28)
        assert images.pixels.dtype == torch.float32
        assert images.labels.dtype == torch.int64
        assert images.labels.bincount().tolist() == [each] * len(CLASSES)
        assert images.pixels.min() == 0
        assert images.pixels.max() == 1


def test_pixels_are_the_original_bytes(data):
    """An independent reading of the archive: the header of IDX, then one byte a pixel."""
    with tarfile.open(DATA / "fashion.tar.xz") as archive:
        raw = archive.extractfile("t10k-images-idx3-ubyte").read()
        labels = archive.extractfile("t10k-labels-idx1-ubyte").read()
    assert [int.from_bytes(raw[n : n + 4], "big") for n in range(0, 16, 4)] == [2051, 1000, 28, 28]
    assert [int.from_bytes(labels[n : n + 4], "big") for n in (0, 4)] == [2049, 1000]
    for picture, row, column in ((0, 0, 0), (3, 14, 14), (999, 27, 5), (512, 10, 20)):
        byte = raw[16 + 784 * picture + 28 * row + column]
        assert data.test.pixels[picture, row, column].item() == pytest.approx(byte / 255)
    assert list(labels[8:]) == data.test.labels.tolist()


def test_no_test_picture_is_a_training_picture(data):
    train = {row.numpy().tobytes() for row in data.train.pixels}
    test = {row.numpy().tobytes() for row in data.test.pixels}
    assert len(train) == 3500
    assert len(test) == 1000
    assert not train & test


def test_classes_are_told_apart_by_their_means(data):
    """The labels belong to the pictures: the nearest mean picture is right far above chance."""
    means = torch.stack([data.train.pixels[data.train.labels == c].mean(0) for c in range(10)])
    nearest = torch.cdist(data.test.pixels.flatten(1), means.flatten(1)).argmin(-1)
    assert (nearest == data.test.labels).float().mean() > 0.6


def test_a_caller_cannot_spoil_the_data_of_the_next(data):
    load().train.pixels.zero_()
    load().train.labels.zero_()
    again = load()
    assert torch.equal(again.train.pixels, data.train.pixels)
    assert torch.equal(again.train.labels, data.train.labels)


def test_draw_is_balanced_and_a_partition(data):
    drawn, rest = draw(data.train, each=7, seed=3)
    assert drawn.labels.tolist() == list(range(10)) * 7
    assert len(rest.labels) == 3430
    parts = torch.cat([drawn.pixels, rest.pixels]).flatten(1)
    everything = {row.numpy().tobytes() for row in data.train.pixels.flatten(1)}
    assert {row.numpy().tobytes() for row in parts} == everything
    assert draw(data.train, each=350, seed=0)[1].labels.tolist() == []


def test_draw_repeats_differs_and_nests(data):
    one, two, other = (draw(data.train, 5, seed)[0].pixels for seed in (0, 0, 1))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert torch.equal(draw(data.train, 20, seed=0)[0].pixels[:50], one)


def test_drawn_pictures_keep_their_labels(data):
    label = {p.numpy().tobytes(): int(n) for p, n in zip(*data.train, strict=True)}
    for part in draw(data.train, 11, seed=2):
        assert all(label[p.numpy().tobytes()] == n for p, n in zip(*part, strict=True))


@pytest.mark.parametrize("each", [0, -1, 101])
def test_draw_says_how_many_there_are(data, each):
    with pytest.raises(ValueError, match=rf"each must be in 1\.\.100, .* got {each}"):
        draw(data.test, each, seed=0)


def test_draw_wants_every_class(data):
    some = data.test.labels != 4
    with pytest.raises(ValueError, match=r"the size of the smallest class"):
        draw(Images(data.test.pixels[some], data.test.labels[some]), 1, seed=0)


def test_the_data_file_has_its_licence_its_checksum_and_its_place_in_the_wheel():
    with tarfile.open(DATA / "fashion.tar.xz") as archive:
        licence = archive.extractfile("LICENSE").read()
    assert licence == (DATA / "fashion.LICENSE").read_bytes()
    assert b"Copyright (c) 2017 Zalando SE" in licence
    assert SHA256 in (DATA / "README.md").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "attnbook/tasks/data/fashion.LICENSE" in project["license-files"]
    assert (DATA / "fashion.tar.xz").stat().st_size < 1_750_000


def test_every_data_file_is_in_the_list_of_data_files():
    listed = set(re.findall(r"^\| `([\w.-]+)`", (DATA / "README.md").read_text(), re.M))
    kinds = {".md", ".py", ".LICENSE"}
    assert {p.name for p in DATA.iterdir() if p.is_file() and p.suffix not in kinds} == listed


def idx(images, labels):
    """The two files of a split, as bytes, from rows of pixels and labels."""
    n, side = len(labels).to_bytes(4, "big"), (2).to_bytes(4, "big")
    pixels = b"".join(bytes(row) for row in images)
    return b"\0\0\x08\x03" + n + side + side + pixels, b"\0\0\x08\x01" + n + bytes(labels)


def test_the_script_keeps_the_first_of_each_class_in_order(script):
    labels = [1, 0, 1, 1, 0, 2, 0]
    images, kept = script.select(*idx([[n] * 4 for n in range(7)], labels), each=2)
    assert list(kept[8:]) == [1, 0, 1, 0, 2]
    assert list(images[16:]) == [n for n in (0, 1, 2, 4, 5) for _ in range(4)]
    assert int.from_bytes(images[4:8], "big") == int.from_bytes(kept[4:8], "big") == 5


def test_the_script_refuses_what_is_not_an_image_file(script):
    images, labels = idx([[0] * 4], [1])
    for bad in ((labels, labels), (images[:-1], labels), (images, labels + b"\0")):
        with pytest.raises(ValueError, match=r"IDX|images need"):
            script.select(*bad, each=1)


def test_the_script_refuses_other_originals(script, tmp_path):
    for name in script.ORIGINAL:
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(b"other"))
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte\.gz is not the original"):
        list(script.subset(tmp_path))


def test_the_shipped_archive_is_packed_as_the_script_packs():
    """The same tar inside, whatever the version of liblzma."""
    packed = (DATA / "fashion.tar.xz").read_bytes()
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        files = [(m.name, archive.extractfile(m).read()) for m in archive]
    assert pack(iter(files)) == lzma.decompress(packed)
    assert sha256(packed).hexdigest() == SHA256
