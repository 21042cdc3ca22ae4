"""A place where the kernel mounts EROFS images that are files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.erofs import ErofsStack, mounted
from support.layers import file


@pytest.fixture(scope="session")
def erofs_works(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Why the kernel cannot, or ""."""
    place = tmp_path_factory.mktemp("erofs")
    stack = ErofsStack()
    stack.apply([file("it", b"works")])
    devices = stack.write(str(place), "image")
    try:
        with mounted(str(place / "image"), devices, str(place / "mnt")) as target:
            return "" if (Path(target) / "it").read_bytes() == b"works" else "it reads wrong bytes"
    except OSError as error:
        return os.strerror(error.errno or 0)


@pytest.fixture
def erofs_place(erofs_works: str, tmp_path: Path) -> Path:
    """An empty directory on a filesystem from which images can be mounted."""
    if erofs_works:
        pytest.skip(f"no EROFS from files here: {erofs_works}")
    return tmp_path
