"""Registry clients for tests: over plain HTTP, impatient."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from snapcore.content import ContentStore
from snapcore.registry import (
    CredentialSource,
    DefaultHosts,
    HostsResolver,
    RegistryClient,
    RetryPolicy,
    Timeouts,
    Transport,
    anonymous,
)

PATIENCE: Final = RetryPolicy(attempts=3, wait_initial=0, wait_max=0, jitter=0)
"""Three tries at once."""
STALLED: Final = Timeouts(connect=5, read=0.1)
"""For tests in which the server goes silent: 0.1 s of silence is a stall."""


@contextmanager
def opened(
    store: ContentStore,
    credentials: CredentialSource = anonymous,
    *,
    timeouts: Timeouts | None = None,
    policy: RetryPolicy = PATIENCE,
    clock: Callable[[], float] = time.monotonic,
    hosts: HostsResolver | None = None,
) -> Iterator[RegistryClient]:
    """Open a client and close it."""
    client = RegistryClient(
        store,
        hosts=hosts or DefaultHosts(plain_http=True),
        credentials=credentials,
        transport=Transport(timeouts=timeouts, clock=clock),
        policy=policy,
    )
    try:
        yield client
    finally:
        client.close()
