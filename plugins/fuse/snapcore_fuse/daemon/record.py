"""What is kept of a lazy layer so that a restart needs no network."""

from __future__ import annotations

from typing import Final

import msgspec

from snapcore.errors import DataLoss, from_os_error
from snapcore.oci import Descriptor, Digest, Reference
from snapcore_fuse.daemon.messages import Layer
from snapcore_fuse.formats import LayerSource

_MAX_BYTES: Final = 1 << 20


class SourceRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Where a lazy layer comes from, and how it is read.

    Attributes:
        layer: as its puller named it.
        media_type: of the blob.
        size: of the blob, in bytes.
        format: of its index.
        index: digest of the kept index.
    """

    layer: Layer
    media_type: str
    size: int
    format: str
    index: str

    @property
    def reference(self) -> Reference:
        """The repository that has the blob."""
        return Reference.parse(self.layer.image)

    @property
    def descriptor(self) -> Descriptor:
        """The blob."""
        return Descriptor(self.media_type, Digest.parse(self.layer.digest), self.size)

    @property
    def source(self) -> LayerSource:
        """The blob, as formats know it."""
        return LayerSource(
            Digest.parse(self.layer.digest),
            self.size,
            self.media_type,
            Digest.parse(self.layer.diff_id),
        )

    def write(self, path: str) -> None:
        """Write the record to a new file.

        Raises:
            SnapcoreError: it cannot be written.
        """
        try:
            with open(path, "xb") as file:
                file.write(msgspec.json.encode(self))
        except OSError as error:
            raise from_os_error(error, f"record of a lazy layer {path!r}") from error

    @classmethod
    def read(cls, path: str) -> SourceRecord:
        """Read the record in a file.

        Raises:
            NotFound: there is none.
            DataLoss: it is damaged.
            SnapcoreError: it cannot be read.
        """
        try:
            with open(path, "rb") as file:
                data = file.read(_MAX_BYTES)
        except OSError as error:
            raise from_os_error(error, f"record of a lazy layer {path!r}") from error
        try:
            return msgspec.json.decode(data, type=cls)
        except msgspec.MsgspecError as error:
            raise DataLoss(f"record of a lazy layer {path!r} is damaged: {error}") from error
