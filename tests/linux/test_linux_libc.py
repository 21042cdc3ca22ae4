"""How a failed call becomes an OSError."""

from __future__ import annotations

import errno
import os

import pytest

from snapcore.linux._libc import check, libc


def test_what_is_not_negative_is_the_result() -> None:
    assert [check(0), check(7)] == [0, 7]


@pytest.mark.parametrize("path", [b"/not/there", "/not/there", None])
def test_a_failure_names_the_error_and_the_path(path: str | bytes | None) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        check(libc.rmdir(b"/not/there"), path)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOENT, path)
    assert caught.value.strerror == os.strerror(errno.ENOENT)


def test_an_earlier_error_does_not_show_in_a_later_success() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        check(libc.close(-1))
    assert check(libc.getpid()) == os.getpid()
