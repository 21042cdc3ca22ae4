"""Snapshotters served by containerd's own gRPC interface (extra `snapcore[service]`).

Names are loaded on first use, and gRPC with them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from snapcore.lazily import on_first_use

if TYPE_CHECKING:
    from snapcore.service.activation import inherited as inherited
    from snapcore.service.address import socket_path as socket_path
    from snapcore.service.calls import CallRecord as CallRecord
    from snapcore.service.calls import Observer as Observer
    from snapcore.service.exposition import exposing as exposing
    from snapcore.service.log import log_call as log_call
    from snapcore.service.metrics import Metrics as Metrics
    from snapcore.service.readiness import notify as notify
    from snapcore.service.readiness import tell as tell
    from snapcore.service.server import serving as serving

__getattr__ = on_first_use(
    __name__,
    {
        "inherited": "activation",
        "socket_path": "address",
        "CallRecord": "calls",
        "Observer": "calls",
        "exposing": "exposition",
        "log_call": "log",
        "Metrics": "metrics",
        "notify": "readiness",
        "tell": "readiness",
        "serving": "server",
    },
)
