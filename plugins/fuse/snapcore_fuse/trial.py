"""A FUSE filesystem of one file, served from a descriptor of /dev/fuse, for the probe to try.

Run as a script, in a process of its own and without imports that cost start-up: every command
that opens the snapshotter probes. Source: kernel, include/uapi/linux/fuse.h, protocol 7.31.
"""

from __future__ import annotations

import errno
import os
import signal
import stat
import struct
import sys
from typing import Final

NAME: Final = b"file"
DATA: Final = b"read through FUSE\n"
_ROOT: Final = 1
_FILE: Final = 2
_BUFFER: Final = 1 << 20
# Long enough for a starving machine: who probes too early says that nothing works.
_SECONDS: Final = 60
_HEADER: Final = struct.Struct("<IIQQIIIHH")
_REPLY: Final = struct.Struct("<IiQ")
_ATTRIBUTES: Final = struct.Struct("<QQQQQQIIIIIIIIII")
_INIT, _INTERRUPT, _FORGET, _BATCH_FORGET = 26, 36, 2, 42
_LOOKUP, _GETATTR, _STATFS, _GETXATTR, _LISTXATTR = 1, 3, 17, 22, 23
_OPEN, _READ, _RELEASE, _OPENDIR, _READDIR, _RELEASEDIR = 14, 15, 18, 27, 28, 29
_SILENT: Final = frozenset({_FORGET, _BATCH_FORGET, _INTERRUPT})


_FIXED: Final[dict[int, bytes | int]] = {
    _OPEN: bytes(16),
    _OPENDIR: bytes(16),
    _RELEASE: b"",
    _RELEASEDIR: b"",
    _GETXATTR: errno.ENODATA,
    _LISTXATTR: bytes(8),
    _STATFS: struct.pack("<QQQQQIIII24x", 0, 0, 0, 2, 0, 4096, 255, 4096, 0),
}


def serve(device: int) -> None:
    """Answer requests until the filesystem is unmounted."""
    while True:
        try:
            request = os.read(device, _BUFFER)
        except OSError as error:
            if error.errno == errno.ENODEV:
                return
            if error.errno == errno.ENOENT:
                continue  # the request was given up before it was read
            raise
        _, opcode, unique, node, *_ = _HEADER.unpack_from(request)
        if opcode in _SILENT:
            continue
        body = _answer(opcode, node, request[_HEADER.size :])
        number = -body if isinstance(body, int) else 0
        data = b"" if isinstance(body, int) else body
        try:
            os.write(device, _REPLY.pack(_REPLY.size + len(data), number, unique) + data)
        except FileNotFoundError:
            continue  # the request was given up


def _answer(opcode: int, node: int, body: bytes) -> bytes | int:
    """Return the answer's body, or an error number."""
    if opcode == _INIT:
        minor = min(struct.unpack_from("<II", body)[1], 31)
        return struct.pack("<IIIIHHIIHH32x", 7, minor, 4096, 0, 4, 3, 4096, 1, 1, 0)
    if opcode == _LOOKUP:
        found = node == _ROOT and body.rstrip(b"\0") == NAME
        return _entry(_FILE) if found else errno.ENOENT
    if opcode in (_READ, _READDIR):
        offset, size = struct.unpack_from("<QI", body, 8)
        if opcode == _READ:
            return DATA[offset : offset + size]
        return b"" if offset else _directory()
    if opcode == _GETATTR:
        return struct.pack("<QII", 60, 0, 0) + _attributes(node)
    return _FIXED.get(opcode, errno.ENOSYS)


def _entry(node: int) -> bytes:
    return struct.pack("<QQQQII", node, 0, 60, 60, 0, 0) + _attributes(node)


def _attributes(node: int) -> bytes:
    directory = node == _ROOT
    mode = stat.S_IFDIR | 0o755 if directory else stat.S_IFREG | 0o644
    size = 0 if directory else len(DATA)
    links = 2 if directory else 1
    return _ATTRIBUTES.pack(node, size, 1, 0, 0, 0, 0, 0, 0, mode, links, 0, 0, 0, 4096, 0)


def _directory() -> bytes:
    padding = b"\0" * (-len(NAME) % 8)
    return struct.pack("<QQII", _FILE, 1, len(NAME), stat.S_IFREG >> 12) + NAME + padding


if __name__ == "__main__":
    signal.alarm(_SECONDS)
    serve(int(sys.argv[1]))
