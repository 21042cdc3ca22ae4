"""Which names mean which images."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import apsw
import msgspec

from snapcore import labels as label_rules
from snapcore.errors import AlreadyExists, DataLoss, InvalidArgument, NotFound
from snapcore.filters import Fields, compile_filters, record_fields
from snapcore.metadata.columns import decode_texts, encode_texts, without_empty
from snapcore.oci import Descriptor, Digest, Platform
from snapcore.sqlite import Database

_MAX_NAME_BYTES: Final = 4096
_COLUMNS: Final = (
    "name, media_type, digest, size, annotations, platform, urls, labels, created, updated, used"
)


@dataclass(frozen=True, slots=True)
class Image:
    """A name, and what it means on this node.

    Attributes:
        name: a normalised reference.
        target: the index or manifest.
        labels: see `snapcore.labels`.
        created: nanoseconds since the epoch, when the name came to be.
        updated: nanoseconds since the epoch, of the last `put`.
        used: nanoseconds since the epoch, of the last `put` or `touch`.
    """

    name: str
    target: Descriptor
    labels: Mapping[str, str] = field(default_factory=dict)
    created: int = 0
    updated: int = 0
    used: int = 0


class ImageStore:
    """The images of a node."""

    __slots__ = ("_database",)

    def __init__(self, database: Database) -> None:
        self._database: Final = database

    def get(self, name: str) -> Image:
        """Return an image.

        Raises:
            NotFound: no such name.
        """
        with self._database.read() as connection:
            image = _select(connection, name)
        if image is None:
            raise NotFound(f"no image {name!r}")
        return image

    def list(self, filters: Sequence[str] = ()) -> tuple[Image, ...]:
        """Return images, sorted by the bytes of their names.

        Args:
            filters: OR-ed; see `snapcore.filters`. Fields: `name`, `target.digest`,
                `target.mediatype`, `labels`, `annotations` (of the target).

        Raises:
            InvalidArgument: a filter does not parse.
        """
        matches = compile_filters(filters, ("name", "target", "labels", "annotations"))
        with self._database.read() as connection:
            rows = connection.execute(f"SELECT {_COLUMNS} FROM images ORDER BY name")  # noqa: S608 (constant)
            images = [_image(row) for row in rows]
        return tuple(image for image in images if matches(_fields(image)))

    def put(
        self,
        name: str,
        target: Descriptor,
        labels: Mapping[str, str] | None = None,
        *,
        move: bool = True,
    ) -> Image:
        """Make a name mean something; on disk when this returns.

        Args:
            name: a normalised reference; 1 to 4096 bytes without control characters.
            target: the index or manifest.
            labels: all labels it shall have; one with an empty value is dropped.
            move: whether a name that means something else may be given away.

        Returns:
            The image; `created` stays if the name was known.

        Raises:
            InvalidArgument: the name or a label breaks a rule.
            AlreadyExists: the name means something else, and `move` is False.
        """
        _check_name(name)
        label_rules.check(labels or {})
        now = time.time_ns()
        with self._database.write() as connection:
            old = _select(connection, name)
            if not move and old and old.target.digest != target.digest:
                raise AlreadyExists(f"image {name!r} exists and is {old.target.digest}")
            image = Image(
                name, target, without_empty(labels or {}), old.created if old else now, now, now
            )
            connection.execute(
                f"INSERT OR REPLACE INTO images ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?)",  # noqa: S608 (constant)
                _row(image),
            )
        return image

    def touch(self, name: str) -> None:
        """Note that an image is used now; nothing happens if it is unknown."""
        with self._database.write() as connection:
            connection.execute("UPDATE images SET used = ? WHERE name = ?", (time.time_ns(), name))

    def delete(self, name: str) -> None:
        """Forget a name; what it meant stays until it is collected.

        Raises:
            NotFound: no such name.
        """
        with self._database.write() as connection:
            connection.execute("DELETE FROM images WHERE name = ?", (name,))
            if not connection.changes():
                raise NotFound(f"no image {name!r}")


def _select(connection: apsw.Connection, name: str) -> Image | None:
    rows = connection.execute(f"SELECT {_COLUMNS} FROM images WHERE name = ?", (name,))  # noqa: S608 (constant)
    for row in rows:
        return _image(row)
    return None


def _row(image: Image) -> tuple[str | int, ...]:
    target = image.target
    return (
        image.name,
        target.media_type,
        str(target.digest),
        target.size,
        encode_texts(target.annotations),
        str(target.platform or ""),
        msgspec.json.encode(target.urls).decode(),
        encode_texts(image.labels),
        image.created,
        image.updated,
        image.used,
    )


def _image(row: tuple[Any, ...]) -> Image:
    name, media_type, digest, size, annotations, platform, urls, labels, *times = row
    where = f"image {name!r}"
    try:
        target = Descriptor(
            str(media_type),
            Digest.parse(str(digest)),
            size,
            decode_texts(str(annotations), where),
            Platform.parse(str(platform)) if platform else None,
            msgspec.json.decode(str(urls), type=tuple[str, ...]),
        )
    except (InvalidArgument, msgspec.DecodeError) as error:
        raise DataLoss(f"{where}: its row in the node database is damaged: {error}") from error
    return Image(str(name), target, decode_texts(str(labels), where), *times)


def _fields(image: Image) -> Fields:
    plain = record_fields({"name": image.name}, image.labels)
    target = {"digest": str(image.target.digest), "mediatype": image.target.media_type}

    def field_of(path: tuple[str, ...], /) -> str | None:
        if path[0] == "target":
            return target.get(".".join(path[1:]))
        if path[0] == "annotations":
            return image.target.annotations.get(".".join(path[1:]))
        return plain(path)

    return field_of


def _check_name(name: str) -> None:
    try:
        size = len(name.encode())
    except UnicodeEncodeError as error:
        raise InvalidArgument(f"image name {name[:100]!r} is not valid Unicode") from error
    if not 1 <= size <= _MAX_NAME_BYTES or any(ord(c) < 32 or ord(c) == 127 for c in name):
        raise InvalidArgument(
            f"not an image name: {name[:100]!r} (want 1 to {_MAX_NAME_BYTES} bytes without"
            " control characters)"
        )
