"""Data files that come with the package: a checksum first, then the files inside."""

import io
import tarfile
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from importlib import resources
from importlib.resources.abc import Traversable
from types import MappingProxyType

__all__ = ["read", "shipped"]


@cache
def shipped(name: str, checksum: str) -> Mapping[str, bytes]:
    """The files of an archive in `attnbook/tasks/data`, by name.

    Args:
        name: of the archive.
        checksum: SHA-256 of the archive as it was published.

    Raises:
        FileNotFoundError: the archive is not there.
        ValueError: the archive is not the one that was published; its checksum differs.

    >>> from attnbook.tasks.fashion import SHA256
    >>> sorted(shipped("fashion.tar.xz", SHA256))[0]
    'LICENSE'
    """
    return MappingProxyType(read(resources.files("attnbook.tasks") / "data" / name, checksum))


def read(path: Traversable, checksum: str) -> dict[str, bytes]:
    """The files of the archive at `path`, if it has this checksum; errors as in `shipped`."""
    try:
        packed = path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path.name} is not in this installation of attnbook; install it again"
        ) from None
    found = sha256(packed).hexdigest()
    if found != checksum:
        raise ValueError(
            f"{path.name} is damaged: its SHA-256 is {found}, expected {checksum}; "
            "install attnbook again"
        )
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        members = {member.name: archive.extractfile(member) for member in archive}
        return {name: file.read() for name, file in members.items() if file is not None}
