"""`python -m snapcore.erofs ls|cat|check IMAGE`: look into an EROFS image without mounting it."""

from __future__ import annotations

import argparse
import json
import mmap
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final

from snapcore.erofs.check import check_image
from snapcore.erofs.inode import Inode
from snapcore.erofs.reader import Image
from snapcore.errors import InvalidArgument, SnapcoreError, from_os_error

_DOTS: Final = (b".", b"..")
_PIECE: Final = 1 << 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks for; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m snapcore.erofs", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    listing = verbs.add_parser("ls", help="all names below a path")
    listing.add_argument("--format", choices=("table", "json"), default="table")
    printing = verbs.add_parser("cat", help="the bytes of a file")
    checking = verbs.add_parser("check", help="go over the whole image")
    for verb in (listing, printing, checking):
        verb.add_argument("image")
    listing.add_argument("path", nargs="?", default="/")
    printing.add_argument("path")
    for verb in (printing, checking):
        verb.add_argument(
            "--device", action="append", default=[], metavar="FILE",
            help="a file that has bytes, in the order of the mount; may be repeated",
        )  # fmt: skip
    options = parser.parse_args(arguments)
    try:
        with _opened(options.image) as image:
            if options.verb == "ls":
                _list(image, options.path, options.format)
            elif options.verb == "cat":
                _print(image, options.path, options.device)
            else:
                _check(image, options.device)
    except SnapcoreError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Whoever read has enough; nothing more can be said, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


@contextmanager
def _opened(path: str) -> Iterator[Image]:
    try:
        with open(path, "rb") as file:
            if not os.fstat(file.fileno()).st_size:
                raise InvalidArgument(f"{path!r} is empty")
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise from_os_error(error, f"image {path!r}") from error
    with mapped, memoryview(mapped) as data:
        yield Image(data)


def _components(path: str) -> tuple[bytes, ...]:
    return tuple(part for part in os.fsencode(path).split(b"/") if part)


def _list(image: Image, path: str, form: str) -> None:
    start = _components(path)
    for full, inode in _walk(image, start, image.lookup(start)):
        name = "/" + b"/".join(full).decode(errors="backslashreplace")
        target = image.target(inode).decode(errors="backslashreplace") if _is_link(inode) else ""
        if form == "json":
            print(json.dumps(_fields(name, inode, target)))
        else:
            arrow = f" -> {target}" if target else ""
            print(
                f"{stat.filemode(inode.mode)} {inode.links} {inode.uid} {inode.gid} {inode.size}"
                f" {name}{arrow}"
            )


def _fields(name: str, inode: Inode, target: str) -> dict[str, str | int | tuple[int, int]]:
    return {
        "name": name,
        "inode": inode.number,
        "mode": inode.mode,
        "uid": inode.uid,
        "gid": inode.gid,
        "mtime": inode.mtime,
        "size": inode.size,
        "links": inode.links,
        "device": inode.device,
        "target": target,
    }


def _is_link(inode: Inode) -> bool:
    return stat.S_ISLNK(inode.mode)


def _walk(
    image: Image, path: tuple[bytes, ...], start: Inode
) -> Iterator[tuple[tuple[bytes, ...], Inode]]:
    pending = [(path, start)]
    seen: set[int] = set()
    while pending:
        here, inode = pending.pop()
        yield here, inode
        # A damaged image may lead back to where we come from.
        if stat.S_ISDIR(inode.mode) and inode.number not in seen:
            seen.add(inode.number)
            below = [
                ((*here, name), image.inode(number))
                for name, number, _ in image.children(inode)
                if name not in _DOTS
            ]
            pending += reversed(below)


def _print(image: Image, path: str, devices: Sequence[str]) -> None:
    inode = image.lookup(_components(path))
    if not stat.S_ISREG(inode.mode):
        raise InvalidArgument(f"{path!r} is no regular file")
    with ExitStack() as stack:
        files = [stack.enter_context(_device(device)) for device in devices]
        for extent in image.extents(inode):
            if extent.device is None:
                _write_zeros(extent.size)
            elif not 1 <= extent.device <= len(files):
                raise InvalidArgument(
                    f"the bytes of {path!r} are in device {extent.device}; give it with --device"
                )
            else:
                _copy(files[extent.device - 1], extent.offset, extent.size, path)
    sys.stdout.flush()


@contextmanager
def _device(path: str) -> Iterator[int]:
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise from_os_error(error, f"device {path!r}") from error
    try:
        yield file
    finally:
        os.close(file)


def _copy(file: int, offset: int, size: int, path: str) -> None:
    while size:
        data = os.pread(file, min(size, _PIECE), offset)
        if not data:
            raise InvalidArgument(f"a device ends before the bytes of {path!r} do")
        sys.stdout.buffer.write(data)
        offset, size = offset + len(data), size - len(data)


def _write_zeros(size: int) -> None:
    while size:
        piece = min(size, _PIECE)
        sys.stdout.buffer.write(bytes(piece))
        size -= piece


def _check(image: Image, devices: Sequence[str]) -> None:
    with ExitStack() as stack:
        files = [stack.enter_context(_device(device)) for device in devices]
        sizes = [os.fstat(file).st_size for file in files]
    found = check_image(image, sizes or None)
    print(
        f"sound: {found.inodes} inodes, {found.directories} of them directories,"
        f" {found.size} bytes of files"
    )


if __name__ == "__main__":
    sys.exit(main())
