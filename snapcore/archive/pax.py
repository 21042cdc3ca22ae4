"""PAX extended headers (POSIX.1-2017, pax, "pax Extended Header"): what an `x` record says.

Strict where readers of the field differ: the length of each record is exact, numbers are plain
decimals, names hold no NUL. Of two records with one key the last wins, as POSIX says. An empty
value of what snapcore reads is refused, except for an xattr: POSIX has it delete the field of the
ustar header too, some readers leave that field as it is, and others take nothing or 0.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from snapcore.errors import RefusedInput

MAX_RECORDS: Final = 4096
_XATTR: Final = b"SCHILY.xattr."
_SPARSE: Final = (b"GNU.sparse.", b"SCHILY.realsize", b"SUN.holesdata")
_LENGTH: Final = re.compile(rb"([1-9][0-9]{0,9}) ")
_NUMBER: Final = re.compile(rb"[0-9]{1,20}\Z")
_TIME: Final = re.compile(rb"(-?)([0-9]{1,20})(?:\.([0-9]+))?\Z")
_NANOSECONDS: Final = 1_000_000_000


@dataclass(slots=True)
class Pax:
    """What the records of one `x` header say; None where they say nothing.

    Attributes:
        path: name, raw.
        linkpath: link target, raw.
        size: bytes of payload.
        uid: owner.
        gid: group.
        mtime: nanoseconds since the epoch, digits past the ninth cut off.
        xattrs: by name without `SCHILY.xattr.`, values raw.
    """

    path: bytes | None
    linkpath: bytes | None
    size: int | None
    uid: int | None
    gid: int | None
    mtime: int | None
    xattrs: dict[bytes, bytes]


def records(body: bytes, refuse: Callable[[str], RefusedInput]) -> list[tuple[bytes, bytes]]:
    """Split the body of a PAX header into its key and value pairs.

    Args:
        body: exactly as long as the header says.
        refuse: makes the error that names the place.

    Raises:
        RefusedInput: a length that does not fit, no `=`, no newline, an empty key, a NUL in a
            key, more than 4096 records.
    """
    found: list[tuple[bytes, bytes]] = []
    at, end = 0, len(body)
    while at < end:
        match = _LENGTH.match(body, at)
        if match is None:
            raise refuse(f"a PAX record has no length at byte {at} of its block")
        stop = at + int(match[1])
        start = match.end()
        if stop > end or body[stop - 1] != 0x0A:
            raise refuse(f"the length {match[1]!r} of a PAX record does not fit")
        key, equals, value = body[start : stop - 1].partition(b"=")
        if not equals or not key or b"\0" in key:
            raise refuse(f"a PAX record has no valid key: {key[:100]!r}")
        found.append((key, value))
        if len(found) > MAX_RECORDS:
            raise refuse(f"more than {MAX_RECORDS} PAX records for one entry")
        at = stop
    return found


def parse(body: bytes, refuse: Callable[[str], RefusedInput]) -> Pax:
    """Return what an `x` body says.

    Args:
        body: exactly as long as the header says.
        refuse: makes the error that names the place.

    Raises:
        RefusedInput: a malformed or empty value, a malformed record, sparse files, a NUL in a name.
    """
    values: dict[bytes, bytes] = {}
    xattrs: dict[bytes, bytes] = {}
    for key, value in records(body, refuse):
        if key.startswith(_XATTR):
            name = key[len(_XATTR) :]
            if not name:
                raise refuse("a PAX record sets an xattr without a name")
            xattrs[name] = value
        elif key.startswith(_SPARSE):
            raise refuse(f"sparse files are not allowed in layers (PAX record {key[:100]!r})")
        else:
            values[key] = value
    return Pax(
        path=_name(b"path", values, refuse),
        linkpath=_name(b"linkpath", values, refuse),
        size=_number(b"size", values, refuse),
        uid=_number(b"uid", values, refuse),
        gid=_number(b"gid", values, refuse),
        mtime=_time(b"mtime", values, refuse),
        xattrs=xattrs,
    )


def check_global(body: bytes, refuse: Callable[[str], RefusedInput]) -> None:
    """Check a global (`g`) header, of which layers may have comments only.

    Args:
        body: exactly as long as the header says.
        refuse: makes the error that names the place.

    Raises:
        RefusedInput: any other key; readers disagree on what it would apply to.
    """
    for key, _ in records(body, refuse):
        if key != b"comment":
            raise refuse(f"a global PAX header sets {key[:100]!r}; only a comment is allowed")


def _name(
    key: bytes, values: dict[bytes, bytes], refuse: Callable[[str], RefusedInput]
) -> bytes | None:
    value = values.get(key)
    if value is None:
        return None
    if not value or b"\0" in value:
        raise refuse(f"PAX {key.decode()} is empty or holds a NUL: {value[:100]!r}")
    return value


def _number(
    key: bytes, values: dict[bytes, bytes], refuse: Callable[[str], RefusedInput]
) -> int | None:
    value = values.get(key)
    if value is None:
        return None
    if not _NUMBER.match(value):
        raise refuse(f"PAX {key.decode()} is not a number: {value[:100]!r}")
    return int(value)


def _time(
    key: bytes, values: dict[bytes, bytes], refuse: Callable[[str], RefusedInput]
) -> int | None:
    value = values.get(key)
    if value is None:
        return None
    match = _TIME.match(value)
    if match is None:
        raise refuse(f"PAX {key.decode()} is not a time: {value[:100]!r}")
    fraction = (match[3] or b"")[:9].ljust(9, b"0")
    nanoseconds = int(match[2]) * _NANOSECONDS + int(fraction)
    return -nanoseconds if match[1] else nanoseconds
