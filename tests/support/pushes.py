"""Images to push, and what a push told."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from snapcore.content import ContentStore
from snapcore.oci import Descriptor, Digest, Reference
from snapcore.oci.descriptor import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST
from snapcore.registry import (
    CredentialSource,
    HostsResolver,
    Outgoing,
    PushListener,
    anonymous,
)
from snapcore.unpack import single_error
from support.clients import opened
from support.content import put_blob
from support.registry import TokenServer, docker_registry

CHUNK: Final = 1000
LARGE: Final = bytes(range(256)) * 14
SMALL: Final = b"{}"


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push told."""

    how: Mapping[Digest, str]
    offsets: list[int]


def stored(store: ContentStore, data: bytes, media_type: str) -> Descriptor:
    digest = Digest.of(data)
    if not store.exists(digest):
        put_blob(store, data)
    return Descriptor(media_type, digest, len(data))


def record(blob: Descriptor) -> dict[str, object]:
    return {"mediaType": blob.media_type, "digest": str(blob.digest), "size": blob.size}


def image(store: ContentStore, *layers: bytes) -> Outgoing:
    blobs = [stored(store, data, OCI_LAYER) for data in layers]
    config = stored(store, SMALL, OCI_CONFIG)
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": record(config),
        "layers": [record(blob) for blob in blobs],
    }
    manifest = stored(store, json.dumps(document).encode(), OCI_MANIFEST)
    return Outgoing("localhost/app:1", manifest, (config, *blobs, manifest))


def push(
    store: ContentStore,
    host: str,
    wanted: Outgoing,
    name: str = "app:1",
    credentials: CredentialSource = anonymous,
    hosts: HostsResolver | None = None,
) -> Pushed:
    how: dict[Digest, str] = {}
    offsets: list[int] = []
    listener = PushListener(
        lambda blob: None,
        lambda blob, offset: offsets.append(offset),
        lambda blob, said: how.__setitem__(blob.digest, said),
    )

    async def run() -> None:
        with opened(store, credentials, hosts=hosts) as client, single_error():
            await client.push(wanted, Reference.parse(f"{host}/{name}"), listener, CHUNK)

    trio.run(run)
    return Pushed(how, offsets)


@contextmanager
def real(
    tmp_path: Path, users: dict[str, str] | None = None, tokens: TokenServer | None = None
) -> Iterator[str]:
    with docker_registry(tmp_path / "storage", tmp_path, users=users, tokens=tokens) as host:
        yield host
