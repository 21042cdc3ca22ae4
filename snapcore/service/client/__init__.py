"""The other half: what is behind a socket, as if it were here.

A snapshotter of ours or of containerd, as an ordinary `Snapshotter`; and containerd's content.
Names are loaded on first use, and gRPC with them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from snapcore.lazily import on_first_use

if TYPE_CHECKING:
    from snapcore.service.client.content import BlobReading as BlobReading
    from snapcore.service.client.content import ContentClient as ContentClient
    from snapcore.service.client.content import open_content as open_content
    from snapcore.service.client.leases import leased as leased
    from snapcore.service.client.opening import open_service as open_service

__getattr__ = on_first_use(
    __name__,
    {
        "BlobReading": "content",
        "ContentClient": "content",
        "leased": "leases",
        "open_content": "content",
        "open_service": "opening",
    },
)
