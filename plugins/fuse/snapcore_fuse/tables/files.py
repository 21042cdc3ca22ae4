"""Tables in files: written whole or not at all, mapped into memory, and checked before use.

magic     8 bytes
version   32 bits, in the byte order of the machine that wrote it
checksum  32 bytes: SHA-256 of the rest
table     as `layout` says
"""

from __future__ import annotations

import hashlib
import mmap
import os
import struct
from contextlib import suppress
from typing import Final

from snapcore.errors import DataLoss, from_os_error
from snapcore_fuse.tables.table import Table

MAGIC: Final = b"snaptbl\n"
VERSION: Final = 1
_FRONT: Final = struct.Struct("=8sI32s")
_PAD: Final = bytes(-_FRONT.size % 8)
_START: Final = _FRONT.size + len(_PAD)


def save(table: Table, path: str) -> None:
    """Write a table to a file, over what is there.

    It is durable once the filesystem has been synced; a file that was not is found damaged.

    Raises:
        SnapcoreError: it cannot be written.
    """
    front = _FRONT.pack(MAGIC, VERSION, hashlib.sha256(table.data).digest()) + _PAD
    fresh = f"{path}.new"
    try:
        try:
            with open(fresh, "wb") as file:
                file.write(front)
                file.write(table.data)
            os.replace(fresh, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(fresh)
            raise
    except OSError as error:
        raise from_os_error(error, f"inode table {path!r}") from error


def load(path: str) -> Table:
    """Map a table from its file, which nobody may change while it is in use.

    Raises:
        DataLoss: it is damaged, or of another version or machine; make the layer lazy anew.
        NotFound: it is not there.
        SnapcoreError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < _START:
                raise DataLoss(f"inode table {path!r} is cut off; pull the image again")
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise from_os_error(error, f"inode table {path!r}") from error
    magic, version, checksum = _FRONT.unpack_from(data)
    if (magic, version) != (MAGIC, VERSION):
        raise DataLoss(f"{path!r} is no inode table of version {VERSION}; pull the image again")
    body = data[_START:]
    if hashlib.sha256(body).digest() != checksum:
        raise DataLoss(f"inode table {path!r} is damaged; pull the image again")
    try:
        return Table(body)
    except DataLoss as error:
        raise DataLoss(f"inode table {path!r}: {error}") from error
