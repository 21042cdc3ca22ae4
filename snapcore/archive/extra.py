"""What the headers before an entry (PAX `x`, GNU `L` and `K`) say of it."""

from __future__ import annotations

from collections.abc import Callable

from snapcore.archive.header import Header
from snapcore.archive.pax import Pax
from snapcore.archive.pax import parse as parse_pax
from snapcore.errors import RefusedInput


class Extra:
    """Collects the headers that stand before one entry and merges them into its header.

    Attributes:
        pending: whether there was any.
        xattrs: raw name and value pairs.
    """

    __slots__ = ("_link", "_name", "_pax", "_refuse", "pending", "xattrs")

    def __init__(self, refuse: Callable[[str], RefusedInput]) -> None:
        """Start without any; `refuse` makes the error that names the place."""
        self.pending = False
        self.xattrs: tuple[tuple[bytes, bytes], ...] = ()
        self._refuse = refuse
        self._pax: Pax | None = None
        self._name: bytes | None = None
        self._link: bytes | None = None

    def add(self, kind: bytes, body: bytes) -> None:
        """Take the body of one header of type `x`, `L` or `K`.

        Raises:
            RefusedInput: malformed, or the second of its type.
        """
        self.pending = True
        if kind == b"x":
            if self._pax is not None:
                raise self._refuse("a second PAX header before one entry")
            self._pax = parse_pax(body, self._refuse)
            self.xattrs = tuple(self._pax.xattrs.items())
        elif kind == b"L":
            self._name = self._long(body, self._name)
        else:
            self._link = self._long(body, self._link)

    def apply(self, header: Header) -> Header:
        """Return the entry's header with what was said before it.

        Raises:
            RefusedInput: a long link name before something that is no link, or a PAX and a GNU
                record for the same field.
        """
        pax = self._pax
        name, link = self._name, self._link
        if link is not None and header.type not in (b"1", b"2"):
            raise self._refuse("a long link name before something that is no link")
        if pax is not None:
            if (name and pax.path) or (link and pax.linkpath):
                raise self._refuse("both a PAX and a GNU long name for one entry")
            name, link = name or pax.path, link or pax.linkpath
            uid, gid, size, mtime = pax.uid, pax.gid, pax.size, pax.mtime
        else:
            uid = gid = size = mtime = None
        return Header(
            header.name if name is None else name,
            header.type,
            header.mode,
            header.uid if uid is None else uid,
            header.gid if gid is None else gid,
            header.size if size is None else size,
            header.mtime if mtime is None else mtime,
            header.link if link is None else link,
            header.v7,
        )

    def _long(self, body: bytes, before: bytes | None) -> bytes:
        name = body.rstrip(b"\0")
        if before is not None:
            raise self._refuse("a second GNU long name before one entry")
        if not name or b"\0" in name:
            raise self._refuse("a GNU long name is empty or holds a NUL")
        if len(name) == len(body):
            # Some readers stop at the size, others go on to the next NUL.
            raise self._refuse("a GNU long name does not end in a NUL")
        return name
