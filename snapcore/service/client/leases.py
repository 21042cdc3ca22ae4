"""Leases of containerd: what is made under one stays until it is given back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Final

from google.protobuf.empty_pb2 import Empty

from snapcore.errors import NotFound, Unavailable, Unimplemented
from snapcore.labels import GC_EXPIRE
from snapcore.service.client.connection import CALL_SECONDS, Connection, Method, namespaced
from snapcore.service.names import LEASES
from snapcore.service.proto import leases_pb2

_LIFE: Final = timedelta(hours=24)
"""Of one that nobody gives back (containerd's own pulls: the same)."""

_CREATE: Final = Method(LEASES, "Create", leases_pb2.CreateResponse)
_DELETE: Final = Method(LEASES, "Delete", Empty)


@contextmanager
def leased(
    address: str, *, namespace: str = "default", timeout: float = CALL_SECONDS
) -> Iterator[str]:
    """Hold a lease for the duration of a `with` block, and yield its id.

    "" where there are none, as with `snapcore serve`, which collects nothing of its clients.
    When it is given back, containerd collects what only the lease has kept, and is waited for.

    Args:
        address: the socket.
        namespace: of containerd; what is made in it can be kept.
        timeout: seconds that each call may take.

    Raises:
        InvalidArgument: not the address of a unix socket.
        Unavailable: nobody listens there.
    """
    connection = Connection(address, namespaced(namespace), timeout)
    try:
        expires = (datetime.now(UTC) + _LIFE).isoformat(timespec="seconds")
        request = leases_pb2.CreateRequest(labels={GC_EXPIRE: expires.replace("+00:00", "Z")})
        try:
            id_ = connection.call(_CREATE, request).lease.id
        except Unimplemented:
            id_ = ""
        try:
            yield id_
        finally:
            if id_:
                # Gone with its time, or with the other side, which forgets none until then.
                with suppress(NotFound, Unavailable):
                    connection.call(_DELETE, leases_pb2.DeleteRequest(id=id_, sync=True))
    finally:
        connection.close()
