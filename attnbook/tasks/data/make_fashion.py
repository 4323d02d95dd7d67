"""Make `fashion.tar.xz`: a subset of Fashion-MNIST, small enough to ship.

    python attnbook/tasks/data/make_fashion.py FOLDER

FOLDER holds the four original files, `train-images-idx3-ubyte.gz` and so on: from
https://github.com/zalandoresearch/fashion-mnist (its folder data/fashion), or from the Debian
package dataset-fashion-mnist. Their contents are checked against `ORIGINAL`.

Kept are the first 350 training images and the first 100 test images of each class, in the order of
the originals; a training image stays one, and so does a test image. Pixels are not changed. The
archive holds the licence and four files in the format of the originals (IDX: a header, then bytes).

Run again, it gives the same files inside the archive; the archive's own bytes may depend on the
version of liblzma.
"""

import gzip
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from packing import write  # type: ignore[import-not-found]  # beside this one

HERE = Path(__file__).parent
TARGET = HERE / "fashion.tar.xz"
LICENCE = HERE / "fashion.LICENSE"
KEEP = {"train": 350, "t10k": 100}
ORIGINAL = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
"""SHA-256 of each original, unpacked."""


def kept(labels: bytes, each: int) -> list[int]:
    """The places of the first `each` examples of every class, in order."""
    seen: dict[int, int] = {}
    places = []
    for place, label in enumerate(labels):
        seen[label] = seen.get(label, 0) + 1
        if seen[label] <= each:
            places.append(place)
    return places


def select(images: bytes, labels: bytes, each: int) -> tuple[bytes, bytes]:
    """An IDX file of images and one of labels, cut down to `each` examples of every class."""
    count, height, width = (int.from_bytes(images[n : n + 4], "big") for n in (4, 8, 12))
    if images[:4] != b"\0\0\x08\x03" or labels[:4] != b"\0\0\x08\x01":
        raise ValueError("these are not IDX files of bytes, one of images and one of labels")
    size = height * width
    if len(images) != 16 + count * size or len(labels) != 8 + count:
        raise ValueError(f"{count} images need {count} labels and {size} bytes each")
    places = kept(labels[8:], each)
    number = len(places).to_bytes(4, "big")
    pixels = b"".join(images[16 + n * size : 16 + (n + 1) * size] for n in places)
    return (
        images[:4] + number + images[8:16] + pixels,
        labels[:4] + number + bytes(labels[8 + n] for n in places),
    )


def subset(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of each file of the archive."""
    original = {name: gzip.decompress((folder / f"{name}.gz").read_bytes()) for name in ORIGINAL}
    for name, content in original.items():
        if sha256(content).hexdigest() != ORIGINAL[name]:
            raise ValueError(
                f"{folder / name}.gz is not the original: {sha256(content).hexdigest()}"
            )
    yield "LICENSE", LICENCE.read_bytes()
    for split, each in KEEP.items():
        names = f"{split}-images-idx3-ubyte", f"{split}-labels-idx1-ubyte"
        images, labels = (original[name] for name in names)
        yield from zip(names, select(images, labels, each), strict=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    write(TARGET, subset(Path(sys.argv[1])))
