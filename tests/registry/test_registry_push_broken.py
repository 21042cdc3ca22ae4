"""Pushes that break, are refused for now, or are given up: what goes on, and what is left."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trio
from support.clients import opened
from support.faults import Reply, Seen, answer, error, status
from support.images import run_tool
from support.pushes import CHUNK, LARGE, SMALL, image, push, real
from support.relays import Relay
from support.targets import FakeTarget

from snapcore.content import ContentStore
from snapcore.errors import (
    PermissionDenied,
    Unavailable,
)
from snapcore.oci import Descriptor, Digest, Reference
from snapcore.registry import (
    PushListener,
)


def test_a_broken_upload_goes_on(store: ContentStore, target: FakeTarget) -> None:
    """The answer to a chunk is lost, but not the chunk."""
    target.spoil("PATCH", lambda _, reply: reply, status(502))
    push(store, target.server.host, image(store, LARGE))
    assert target.blobs[str(Digest.of(LARGE))] == LARGE
    starts = [seen.headers["content-range"] for seen in target.requests("PATCH")]
    assert starts == ["0-999", "1000-1999", "2000-2999", "3000-3583"]
    assert len(target.requests("GET /v2/app/blobs/uploads")) == 1


def test_a_connection_that_breaks_within_a_chunk(store: ContentStore, target: FakeTarget) -> None:
    """What has come of the chunk is not sent again: the registry says how much that is."""
    with Relay(target.server.host) as relay:
        relay.break_after(b"PATCH /v2", 900)
        push(store, relay.host, image(store, LARGE))
        sent = sum(len(seen.body) for seen in target.requests("PATCH"))
    assert target.blobs[str(Digest.of(LARGE))] == LARGE
    begin = target.requests("PATCH")[1].headers["content-range"].partition("-")[0]
    assert 0 < int(begin) < CHUNK
    assert sent == len(LARGE)


def test_a_real_registry_behind_a_connection_that_breaks(
    store: ContentStore, tmp_path: Path
) -> None:
    """Between two chunks it knows how far it came; within one it forgets all, and is told anew."""
    with real(tmp_path) as host, Relay(host) as relay:
        relay.break_after(b"Content-Range: 1000-1999", 0)
        relay.break_after(b"Content-Range: 2000-2999", 600)
        wanted = image(store, LARGE)
        assert push(store, relay.host, wanted).how[Digest.of(LARGE)] == "uploaded"
        starts = [line.partition("-")[0] for line in relay.headers("Content-Range")]
        # What it says after the second depends on whether it has noticed yet.
        assert starts[:4] == ["0", "1000", "1000", "2000"]
        raw = run_tool("skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{host}/app:1")
        assert Digest.of(raw.encode()) == wanted.root.digest


def test_gives_up_on_a_registry_that_always_forgets(
    store: ContentStore, target: FakeTarget
) -> None:
    gone = answer(error(404, "BLOB_UPLOAD_UNKNOWN"))
    target.spoil("PATCH", *[gone] * 100)
    with pytest.raises(Unavailable, match="forgets the upload"):
        push(store, target.server.host, image(store, LARGE))
    assert len(target.requests("PATCH")) < 10


def test_a_chunk_taken_in_part(store: ContentStore, target: FakeTarget) -> None:
    def half(request: Seen, _: Reply) -> Reply:
        name = urlsplit(request.path).path.rsplit("/", 1)[1]
        target.uploads[name] = target.uploads[name][: -len(request.body) // 2]
        return Reply(500)

    target.spoil("PATCH", half)
    push(store, target.server.host, image(store, LARGE))
    starts = [seen.headers["content-range"] for seen in target.requests("PATCH")]
    assert starts[:2] == ["0-999", "500-1499"]
    assert target.blobs[str(Digest.of(LARGE))] == LARGE


@pytest.mark.parametrize("method", ["PATCH", "PUT /v2/app/blobs", "GET /v2/app/blobs"])
def test_a_forgotten_upload_begins_anew(
    store: ContentStore, target: FakeTarget, method: str
) -> None:
    if method.startswith("GET"):
        target.spoil("PATCH", status(503))
    target.spoil(method, answer(error(404, "BLOB_UPLOAD_UNKNOWN")))
    push(store, target.server.host, image(store, LARGE))
    assert target.blobs[str(Digest.of(LARGE))] == LARGE


def test_a_commit_whose_answer_was_lost(store: ContentStore, target: FakeTarget) -> None:
    target.spoil("PUT /v2/app/blobs", status(504), status(504))
    push(store, target.server.host, image(store, LARGE))
    assert target.blobs.keys() >= {str(Digest.of(LARGE)), str(Digest.of(SMALL))}
    assert len(target.requests("PUT /v2/app/blobs")) == 2


@pytest.mark.parametrize("code", [429, 500, 503])
@pytest.mark.parametrize("part", ["HEAD", "POST", "PATCH", "PUT /v2/app/blobs", "PUT /v2/app/man"])
def test_a_busy_registry_is_asked_again(
    store: ContentStore, target: FakeTarget, part: str, code: int
) -> None:
    target.spoil(part, status(code, {"Retry-After": "0"}))
    push(store, target.server.host, image(store, LARGE))
    assert "1" in target.manifests


def test_gives_up_on_a_registry_that_stays_busy(store: ContentStore, target: FakeTarget) -> None:
    target.spoil("PATCH", *[answer(error(503, "UNAVAILABLE"))] * 20)
    target.uploads = _Forgetful()
    with pytest.raises(Unavailable, match="gave up"):
        push(store, target.server.host, image(store, LARGE))
    assert target.manifests == {}


class _Forgetful(dict[str, bytes]):
    """Uploads that never grow."""

    def __setitem__(self, key: str, value: bytes) -> None:
        super().__setitem__(key, b"")


def cancelled(store: ContentStore, host: str, stop: Callable[[int], bool]) -> None:
    """Push, and cancel that once the config is there and `stop` says so of a number of bytes."""

    others = threading.Event()

    async def run() -> bool:
        with trio.CancelScope() as scope, opened(store) as client:

            def sent(blob: Descriptor, offset: int) -> None:
                if stop(offset):
                    assert others.wait(10)
                    trio.from_thread.run_sync(scope.cancel)

            listener = PushListener(lambda blob: None, sent, lambda blob, how: others.set())
            wanted = image(store, LARGE)
            await client.push(wanted, Reference.parse(f"{host}/app:1"), listener, CHUNK)
        return scope.cancelled_caught

    assert trio.run(run)


def test_a_cancel_leaves_no_upload(store: ContentStore, census: None, target: FakeTarget) -> None:
    cancelled(store, target.server.host, lambda offset: offset == CHUNK)
    assert target.uploads == {}
    assert len(target.requests("DELETE")) == 1
    assert target.manifests == {}


def test_a_cancel_leaves_no_upload_at_a_real_registry(
    store: ContentStore, census: None, tmp_path: Path
) -> None:
    with real(tmp_path) as host:
        cancelled(store, host, lambda offset: offset == CHUNK)
        # It forgets its own hash's state, which is a few bytes.
        assert list(tmp_path.glob("storage/**/_uploads/*/data")) == []


async def test_a_cancel_within_a_chunk(store: ContentStore, target: FakeTarget) -> None:
    """The connection is cut at once, and the upload ended over another one."""
    reached, token = trio.Event(), trio.lowlevel.current_trio_token()

    def hold(request: Seen, reply: Reply) -> Reply:
        token.run_sync_soon(reached.set)
        target.server.wait_until_closing()
        return reply

    target.spoil("PATCH", hold)
    listener = PushListener(lambda blob: None, lambda blob, offset: None, lambda blob, how: None)
    destination = Reference.parse(f"{target.server.host}/app:1")
    with opened(store) as client:
        async with trio.open_nursery() as nursery:
            wanted = image(store, LARGE)
            nursery.start_soon(client.push, wanted, destination, listener, CHUNK)
            await reached.wait()
            nursery.cancel_scope.cancel()
    assert target.requests("DELETE")
    assert target.uploads == {}


def test_a_blob_that_fails_ends_the_uploads_of_the_others(
    store: ContentStore, target: FakeTarget
) -> None:
    target.spoil("PUT /v2/app/blobs", answer(error(403, "DENIED")))
    with pytest.raises(PermissionDenied):
        push(store, target.server.host, image(store, LARGE))
    assert target.uploads == {}


def test_a_registry_that_takes_no_cancel_does_not_hide_the_error(
    store: ContentStore, target: FakeTarget
) -> None:
    target.spoil("PUT /v2/app/blobs", answer(error(403, "DENIED")))
    target.spoil("DELETE", *[status(405)] * 2)
    with pytest.raises(PermissionDenied):
        push(store, target.server.host, image(store, LARGE))
