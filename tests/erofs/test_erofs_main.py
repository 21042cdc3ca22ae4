"""`python -m snapcore.erofs`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from support.erofs import ErofsStack
from support.layer_cases import BASE

from snapcore.erofs.__main__ import main


@pytest.fixture
def devices(tmp_path: Path) -> list[str]:
    """The arguments that name the devices of the image `image` there."""
    stack = ErofsStack()
    stack.apply(BASE)
    options = stack.write(str(tmp_path), "image").split(",")
    return [option.replace("device=", "--device=") for option in options]


def test_ls(devices: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", str(tmp_path / "image"), "/d"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("drwxr-xr-x 3 0 0 ")
    assert [line.split()[5] for line in lines] == [
        "/d", "/d/h3", "/d/one", "/d/sub", "/d/sub/deep", "/d/two", "/d/up",
    ]  # fmt: skip
    assert lines[-1].endswith("/d/up -> ..")


def test_ls_as_json(devices: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", "--format", "json", str(tmp_path / "image"), "/file"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["name"], found["size"], found["links"]) == ("/file", 4, 1)


def test_cat(devices: list[str], tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["cat", *devices, str(tmp_path / "image"), "/d/sub/deep"]) == 0
    assert capfdbinary.readouterr().out == b"deep"


def test_check(devices: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", *devices, str(tmp_path / "image")]) == 0
    assert capsys.readouterr().out.startswith("sound: 18 inodes, 5 of them directories")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["ls", "{}/none"], "none'"),
        (["ls", "{}/data0"], "not an EROFS image|outside"),
        (["ls", "{}/image", "/none"], "there is no '/none' in the image"),
        (["cat", "{}/image", "/d"], "'/d' is no regular file"),
        (["cat", "{}/image", "/file"], "are in device 1; give it with --device"),
        (["check", "--device={}/none", "{}/image"], "none"),
        (["check", "--device=/dev/null", "{}/image"], "past the end of device 1"),
        (["cat", "--device=/dev/null", "{}/image", "/file"], "a device ends before"),
    ],
)
def test_what_cannot_be_done_is_said(
    arguments: list[str],
    says: str,
    devices: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([each.format(tmp_path) for each in arguments]) == 1
    err = capsys.readouterr().err
    assert err.startswith("python -m snapcore.erofs: ")
    assert len(err.splitlines()) == 1
    assert re.search(says, err)
