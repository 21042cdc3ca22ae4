"""Waits between tries, on a clock that jumps instead of passing."""

from __future__ import annotations

from collections.abc import Callable, Coroutine

import pytest
import trio
import trio.testing
from support.clients import opened
from support.faults import FakeRegistry, status

from snapcore.content import ContentStore
from snapcore.errors import NotFound, Unavailable
from snapcore.oci import Descriptor, Reference
from snapcore.oci.descriptor import OCI_LAYER
from snapcore.registry import RetryPolicy
from snapcore.registry.failures import MAX_RETRY_AFTER, Transient


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """A clock that jumps to the next deadline when everybody waits."""
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


def failing(*errors: Exception) -> Callable[[], Coroutine[object, object, str]]:
    left = list(errors)

    async def call() -> str:
        await trio.lowlevel.checkpoint()
        if left:
            raise left.pop(0)
        return "done"

    return call


async def test_waits_double_up_to_their_cap() -> None:
    policy = RetryPolicy(attempts=6, wait_initial=1, wait_max=5, jitter=0)
    begin = trio.current_time()
    assert await policy.run(failing(*[Transient("x")] * 5)) == "done"
    assert trio.current_time() - begin == pytest.approx(1 + 2 + 4 + 5 + 5)


async def test_a_time_that_the_peer_names_is_waited_for() -> None:
    policy = RetryPolicy(attempts=3, wait_initial=1, jitter=0)
    begin = trio.current_time()
    await policy.run(failing(Transient("x", 7.0), Transient("x", 0.0)))
    assert trio.current_time() - begin == pytest.approx(7)


async def test_the_last_failure_is_told_with_its_cause() -> None:
    last = Transient("the last one")
    with pytest.raises(Unavailable, match="the last one; gave up after 2 tries") as refused:
        await RetryPolicy(attempts=2).run(failing(Transient("first"), last))
    assert type(refused.value) is Unavailable
    assert refused.value.__cause__ is last


async def test_other_failures_end_at_once() -> None:
    begin = trio.current_time()
    with pytest.raises(NotFound):
        await RetryPolicy().run(failing(NotFound("x")))
    assert trio.current_time() == begin


async def test_an_absurd_retry_after_is_cut(store: ContentStore) -> None:
    begin = trio.current_time()
    with FakeRegistry() as registry, opened(store) as client:
        descriptor = Descriptor(OCI_LAYER, registry.add_blob(b"layer"), 5)
        registry.spoil("/blobs/", status(429, {"Retry-After": "31536000"}))
        await client.fetch(descriptor, Reference.parse(f"{registry.host}/lib/app"))
    assert trio.current_time() - begin == pytest.approx(MAX_RETRY_AFTER)
