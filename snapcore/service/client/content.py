"""containerd's content store behind its socket, to be read: blobs, and images by their names."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from types import TracebackType
from typing import Final, Self

from snapcore.content import ContentInfo
from snapcore.errors import DigestMismatch
from snapcore.oci import Descriptor, Digest
from snapcore.service.client.connection import CALL_SECONDS, Connection, Method, namespaced
from snapcore.service.names import CONTENT, IMAGES
from snapcore.service.proto import content_pb2, images_pb2

WINDOW: Final = 64 << 20
"""Most bytes that are asked for at a time: a call has a deadline, and a blob may be large."""

_INFO: Final = Method(CONTENT, "Info", content_pb2.InfoResponse)
_LIST: Final = Method(CONTENT, "List", content_pb2.ListContentResponse)
_READ: Final = Method(CONTENT, "Read", content_pb2.ReadContentResponse)
_IMAGE: Final = Method(IMAGES, "Get", images_pb2.GetImageResponse)


def open_content(
    address: str, *, namespace: str = "default", timeout: float = CALL_SECONDS
) -> ContentClient:
    """Open the content store of a containerd.

    Args:
        address: the socket: a path, or `unix://` and a path.
        namespace: whose content.
        timeout: seconds that each call may take; a blob is read in calls of 64 MiB.

    Raises:
        InvalidArgument: not the address of a unix socket.
    """
    return ContentClient(Connection(address, namespaced(namespace), timeout))


class ContentClient:
    """A content store behind a socket; `open_content` makes it. Safe for any number of threads.

    Every method raises Unavailable where nobody answers, and FailedPrecondition after `close`.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection: Final = connection

    @property
    def path(self) -> str:
        """The socket."""
        return self._connection.path

    def info(self, digest: Digest) -> ContentInfo:
        """Return what is known of a blob.

        Raises:
            NotFound: no such blob in this namespace.
        """
        request = content_pb2.InfoRequest(digest=str(digest))
        return _info(self._connection.call(_INFO, request).info)

    def walk(self, filters: Sequence[str] = ()) -> Iterator[ContentInfo]:
        """Yield blobs, in the order in which the other side has them.

        Args:
            filters: OR-ed, as in `snapcore.filters`; the other side looks at them.

        Raises:
            ContractError: a filter does not parse; containerd has no other word for it.
        """
        request = content_pb2.ListContentRequest(filters=filters)
        for part in self._connection.stream(_LIST, request):
            yield from map(_info, part.info)

    def read(self, digest: Digest, size: int, *, offset: int = 0) -> BlobReading:
        """Read a blob, or the end of it. The bytes are not verified here.

        Args:
            digest: names the blob.
            size: bytes that it has.
            offset: of the first byte wanted.
        """
        return BlobReading(self._connection, digest, size, offset)

    def image(self, name: str) -> Descriptor:
        """Return what an image's name stands for: a manifest or an index.

        Args:
            name: as containerd has it, such as `docker.io/library/hello:latest`.

        Raises:
            NotFound: no image of that name in this namespace.
            RefusedInput: what it says of its target is malformed.
        """
        request = images_pb2.GetImageRequest(name=name)
        target = self._connection.call(_IMAGE, request).image.target
        return Descriptor(target.media_type, Digest.parse(target.digest), target.size)

    def close(self) -> bool:
        """Hang up; True if it was open."""
        return self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class BlobReading:
    """The bytes of one blob, as they come; to be iterated over once.

    Iterating raises:
        NotFound: no such blob.
        DigestMismatch: it has fewer bytes, or more came than were asked for.
        Unavailable: the other side went away, or `cancel` was called.
    """

    def __init__(self, connection: Connection, digest: Digest, size: int, offset: int) -> None:
        self._connection: Final = connection
        self._digest: Final = digest
        self._size: Final = size
        self._offset: Final = offset
        self._guard = threading.Lock()
        self._end: Callable[[], object] = _nothing
        self._cancelled = False

    def __iter__(self) -> Iterator[bytes]:
        for start in range(self._offset, self._size, WINDOW):
            yield from self._window(start, min(start + WINDOW, self._size))

    def cancel(self) -> None:
        """End it, from any thread."""
        with self._guard:
            self._cancelled = True
            self._end()

    def _window(self, start: int, end: int) -> Iterator[bytes]:
        request = content_pb2.ReadContentRequest(
            digest=str(self._digest), offset=start, size=end - start
        )
        with closing(self._connection.stream(_READ, request, self._begun)) as parts:
            # A part has an offset too, which containerd counts from where the reading began.
            for part in parts:
                if len(part.data) > end - start:
                    raise DigestMismatch(
                        f"blob {self._digest} of {self._connection.path!r}: {len(part.data)} bytes"
                        f" at {start}, where {end - start} were asked for"
                    )
                start += len(part.data)
                yield part.data
        if start != end:
            raise DigestMismatch(
                f"blob {self._digest} of {self._connection.path!r} ends after {start} bytes; it"
                f" should have {self._size}"
            )

    def _begun(self, end: Callable[[], object]) -> None:
        with self._guard:
            self._end = end
            if self._cancelled:
                end()


def _nothing() -> None:
    """End nothing, before anything has begun."""


def _info(message: content_pb2.Info) -> ContentInfo:
    return ContentInfo(
        Digest.parse(message.digest),
        message.size,
        created=message.created_at.ToNanoseconds(),
        updated=message.updated_at.ToNanoseconds(),
        labels=dict(message.labels),
    )
