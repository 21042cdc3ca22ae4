"""A content store behind a socket: a fake of containerd's for faults, and what both must do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import grpc
import pytest
from google.protobuf.message import Message

from snapcore.errors import NotFound
from snapcore.oci import Descriptor, Digest
from snapcore.service.client import ContentClient
from snapcore.service.names import CONTENT, IMAGES
from snapcore.service.proto import content_pb2, descriptor_pb2, images_pb2
from support.answers import Service, answering

PIECE: Final = 1000
"""Bytes of an answer."""

Fault = Callable[[int, bytes], bytes | None]
"""Makes of an offset and the piece there what is sent instead; None ends the stream."""


@dataclass
class FakeContent:
    """Blobs and images, and what goes wrong with them.

    Attributes:
        blobs: by digest.
        images: by name.
        fault: see `Fault`.
    """

    blobs: Mapping[str, bytes]
    images: Mapping[str, Descriptor] = field(default_factory=dict)
    fault: Fault = lambda _offset, piece: piece

    def services(self) -> tuple[Service, Service]:
        """Return what it answers."""
        content = Service(CONTENT, {"Info": self._info}, {"List": self._list, "Read": self._read})
        return content, Service(IMAGES, {"Get": self._get})

    def _info(self, data: bytes, context: grpc.ServicerContext) -> bytes:
        digest = content_pb2.InfoRequest.FromString(data).digest
        blob = self._blob(digest, context)
        info = content_pb2.Info(digest=digest, size=len(blob), labels={"a": "1"})
        return _bytes(content_pb2.InfoResponse(info=info))

    def _list(self, _data: bytes, _context: grpc.ServicerContext) -> Iterator[bytes]:
        for digest, blob in self.blobs.items():
            info = content_pb2.Info(digest=digest, size=len(blob), labels={"a": "1"})
            yield _bytes(content_pb2.ListContentResponse(info=[info]))

    def _read(self, data: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        request = content_pb2.ReadContentRequest.FromString(data)
        blob = self._blob(request.digest, context)
        end = request.offset + request.size
        if end > len(blob):
            context.abort(grpc.StatusCode.OUT_OF_RANGE, "read past the end")
        for offset in range(request.offset, end, PIECE):
            piece = blob[offset : min(offset + PIECE, end)]
            sent = self.fault(offset, piece)
            if sent is None:
                return
            began = offset - request.offset
            yield _bytes(content_pb2.ReadContentResponse(offset=began, data=sent))

    def _get(self, data: bytes, context: grpc.ServicerContext) -> bytes:
        name = images_pb2.GetImageRequest.FromString(data).name
        if name not in self.images:
            context.abort(grpc.StatusCode.NOT_FOUND, f"image {name!r}: not found")
        found = self.images[name]
        target = descriptor_pb2.Descriptor(
            media_type=found.media_type, digest=str(found.digest), size=found.size
        )
        return _bytes(images_pb2.GetImageResponse(image=images_pb2.Image(name=name, target=target)))

    def _blob(self, digest: str, context: grpc.ServicerContext) -> bytes:
        if digest not in self.blobs:
            context.abort(grpc.StatusCode.NOT_FOUND, f"content {digest}: not found")
        return self.blobs[digest]


@contextmanager
def fake_content(path: Path, content: FakeContent) -> Iterator[grpc.Server]:
    """Serve a fake at a socket for the duration of a `with` block."""
    with answering(path, *content.services()) as server:
        yield server


def expect_contents(client: ContentClient, blobs: Mapping[str, bytes]) -> None:
    """Check that a store reads as containerd's does; the fake is checked by this, too.

    Args:
        client: of the store.
        blobs: some that it has, by digest.
    """
    sizes = {str(info.digest): info.size for info in client.walk()}
    for text, blob in blobs.items():
        digest = Digest.parse(text)
        info = client.info(digest)
        assert (info.digest, info.size) == (digest, len(blob))
        assert sizes[text] == len(blob)
        assert b"".join(client.read(digest, len(blob))) == blob
        assert b"".join(client.read(digest, len(blob), offset=7)) == blob[7:]
        assert list(client.read(digest, len(blob), offset=len(blob))) == []
    missing = Digest.of(b"missing")
    with pytest.raises(NotFound):
        client.info(missing)
    with pytest.raises(NotFound):
        list(client.read(missing, 1))
    with pytest.raises(NotFound, match="nothing"):
        client.image("example.com/nothing:latest")


def _bytes(message: Message) -> bytes:
    data: bytes = message.SerializeToString()
    return data
