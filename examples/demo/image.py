"""A real image, of this machine's own programs, libraries and data."""

from __future__ import annotations

import io
import os
import re
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from support.layout import File, LayoutBuilder, opaque, tar_of, whiteout

TAG: Final = "demo"
PROGRAMS: Final = ("sh", "cat", "ls", "uname", "id", "sha256sum", "find", "wc")
DATA: Final = "/usr/share"
_MAX_DATA_BYTES: Final = 100_000_000
_LIBRARY: Final = re.compile(r"(?:=> |^\s*)(/\S+)", re.MULTILINE)
HELLO: Final = """#!/bin/sh
echo "hello from $(uname -s), process $$, user $(id -u)"
echo "$(find /usr -type f | wc -l) files below /usr"
"""


def build_image(directory: Path, *, over_layers: bool = True) -> LayoutBuilder:
    """Build an OCI layout of four layers, tagged `demo`.

    Programs with their libraries; data; then deletions, an opaque directory and hard links over
    layers; then a script, written through the symbolic link `bin`.

    Args:
        directory: made by this.
        over_layers: with hard links to files of the layers below, and a path through a link of
            theirs; containerd 1.6 can apply neither to an overlay.
    """
    builder = LayoutBuilder(directory)
    first = programs_layer(PROGRAMS)
    second = _data()
    third = tar_of(
        whiteout("usr/data/gone"),
        opaque("usr/data/hidden"),
        File("usr/data/hidden/new", b"all that was here before is hidden\n"),
        *((File("usr/bin/list", hardlink="usr/bin/ls"),) if over_layers else ()),
    )
    fourth = tar_of(
        File("bin/hello" if over_layers else "usr/bin/hello", HELLO.encode(), mode=0o755),
        File("etc/motd", b"an image of this machine's own files\n", mtime=1_700_000_000.5),
    )
    layers = [
        builder.add_layer(first, "gzip"),
        builder.add_layer(second, "zstd"),
        builder.add_layer(third, "gzip"),
        builder.add_layer(fourth, "none"),
    ]
    builder.add_image(TAG, layers)
    return builder


def programs_layer(names: Sequence[str]) -> bytes:
    """Return a layer of this machine's own programs, with their libraries."""
    files = {path for name in names if (path := shutil.which(name))}
    for program in sorted(files):
        listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=False)
        files |= set(_LIBRARY.findall(listed.stdout))
    skeleton = [
        *(File(f"{name}/") for name in ("dev", "etc", "proc", "root", "sys", "usr", "usr/bin")),
        File("tmp/", mode=0o1777),
        File("usr/lib/"),
        *(File(name, link=f"usr/{to}") for name, to in (("bin", "bin"), ("lib", "lib"))),
        File("lib64", link="usr/lib64"),
        File("usr/lib64/"),
    ]
    copies = [
        File(_place(path), Path(path).read_bytes(), mode=_mode(path)) for path in sorted(files)
    ]
    known = {file.name.rstrip("/") for file in skeleton}
    above = {str(parent) for copy in copies for parent in PurePosixPath(copy.name).parents}
    directories = [File(f"{name}/") for name in sorted(above - known - {"."})]
    return tar_of(*skeleton, *directories, *copies)


def _place(path: str) -> str:
    """Return where a file goes: programs to `usr/bin`, libraries where their loader looks."""
    if os.path.basename(os.path.dirname(path)) in ("bin", "sbin"):
        return f"usr/bin/{os.path.basename(path)}"
    return path.lstrip("/") if path.startswith("/usr/") else f"usr{path}"


def _mode(path: str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def _data() -> bytes:
    """Return a layer of the machine's own data files, links among them kept."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in _below(DATA):
            name = f"usr/data/{os.path.relpath(path, DATA)}"
            archive.add(path, arcname=name, recursive=False, filter=_ours)
            if archive.offset > _MAX_DATA_BYTES:
                break
        for name in ("gone", "hidden/old"):
            archive.addfile(tarfile.TarInfo(f"usr/data/{name}"))
    return buffer.getvalue()


def _ours(member: tarfile.TarInfo) -> tarfile.TarInfo:
    # Owned by root, so that the demonstration also runs where only one id is mapped.
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def _below(top: str) -> Iterator[str]:
    for directory, names, files in os.walk(top):
        names.sort()
        yield from (os.path.join(directory, name) for name in sorted([*names, *files]))
