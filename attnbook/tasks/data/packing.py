"""How the scripts of this folder pack an archive."""

import io
import lzma
import tarfile
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path


def pack(files: Iterable[tuple[str, bytes]]) -> bytes:
    """A tar archive without dates and owners."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return plain.getvalue()


def write(target: Path, files: Iterable[tuple[str, bytes]]) -> None:
    """Write the archive, compressed, and print its size and its checksum."""
    target.write_bytes(lzma.compress(pack(files), preset=9 | lzma.PRESET_EXTREME))
    print(f"{target.name}: {target.stat().st_size:,} bytes")
    print(f"sha256 {sha256(target.read_bytes()).hexdigest()}")
