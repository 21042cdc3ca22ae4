"""Platforms: normalisation and ranking."""

from __future__ import annotations

import pytest

from snapcore.errors import InvalidArgument
from snapcore.oci import Platform


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("linux/amd64", "linux/amd64"),
        ("linux/x86_64", "linux/amd64"),
        ("Linux/AMD64/v1", "linux/amd64"),
        ("linux/amd64/v3", "linux/amd64/v3"),
        ("aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm64/8", "linux/arm64"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/armhf", "linux/arm/v7"),
        ("linux/arm/v6", "linux/arm/v6"),
        ("linux/i386", "linux/386"),
        ("windows/amd64", "windows/amd64"),
    ],
)
def test_parse(text: str, normal: str) -> None:
    assert str(Platform.parse(text)) == normal


@pytest.mark.parametrize("text", ["", "a/b/c/d", "linux/", "linux/am d64", "linux/amd64\n"])
def test_refuse(text: str) -> None:
    with pytest.raises(InvalidArgument, match="platform"):
        Platform.parse(text)


def rank(host: str, candidate: str) -> int | None:
    return Platform.parse(host).rank(Platform.parse(candidate))


def test_rank() -> None:
    assert rank("linux/amd64", "linux/amd64") == 0
    assert rank("linux/amd64", "linux/arm64") is None
    assert rank("linux/amd64", "windows/amd64") is None
    assert rank("linux/amd64/v3", "linux/amd64") == 1
    assert rank("linux/amd64", "linux/amd64/v3") is None
    assert rank("linux/arm/v7", "linux/arm/v6") == 1
    assert rank("linux/arm/v7", "linux/arm/v5") == 2
    assert rank("linux/arm/v6", "linux/arm/v7") is None


def test_local_is_linux() -> None:
    assert Platform.local().os == "linux"
    assert Platform.local().rank(Platform.local()) == 0
