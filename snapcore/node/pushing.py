"""Pushing an image of this node to a registry."""

from __future__ import annotations

from functools import partial

from snapcore.content import ContentStore
from snapcore.metadata import Image
from snapcore.node.outgoing import outgoing
from snapcore.oci import Platform, Reference
from snapcore.registry import Outgoing, PushListener, RegistryClient, run_blocking
from snapcore.unpack import Events, Resolved, SendDone, SendProgress, SendStarted


async def push_image(
    client: RegistryClient,
    store: ContentStore,
    image: Image,
    destination: Reference,
    platform: Platform | None,
    events: Events,
) -> Outgoing:
    """Push an image; see `Node.push`.

    Args:
        client: reaches the registry.
        store: has the image.
        image: what is pushed.
        destination: what it shall be called there; with a digest it must be the image's.
        platform: of an image for several; None for all of it.
        events: told what happens.
    """
    chosen = await run_blocking(partial(outgoing, store, image, platform))
    events(Resolved(str(destination), chosen.root))
    listener = PushListener(
        lambda blob: events(SendStarted(blob)),
        lambda blob, offset: events(SendProgress(blob, offset)),
        lambda blob, how: events(SendDone(blob, how)),
    )
    await client.push(chosen, destination, listener)
    return Outgoing(str(destination), chosen.root, chosen.blobs)
