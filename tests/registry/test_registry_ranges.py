"""Reading pieces of a blob: one request each, right bytes or a typed error, in bounded time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing
from support.clients import PATIENCE, opened
from support.faults import (
    FakeRegistry,
    Fault,
    Reply,
    Seen,
    answer,
    cut,
    error,
    redirect,
    stall,
    status,
    with_body,
    with_headers,
)
from support.registry import TokenServer, docker_registry

from snapcore.content import ContentStore
from snapcore.errors import (
    DataLoss,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    SnapcoreError,
    Unavailable,
)
from snapcore.oci import Descriptor, Digest, Reference
from snapcore.oci.descriptor import OCI_LAYER
from snapcore.registry import (
    BlobRanges,
    Credentials,
    CredentialSource,
    DefaultHosts,
    HostsDirectories,
    RangePatience,
    RegistryClient,
    anonymous,
)
from snapcore.registry.breaker import STRIKES, Breaker

DATA = bytes(range(256)) * 4096
QUICK = RangePatience(deadline=3, stall=0.1)
REGISTRY = "registry.invalid"


def layer(*registries: FakeRegistry, data: bytes = DATA) -> Descriptor:
    digests = {registry.add_blob(data) for registry in registries}
    return Descriptor(OCI_LAYER, digests.pop(), len(data))


async def ranges(
    client: RegistryClient, host: str, blob: Descriptor, patience: RangePatience = QUICK
) -> BlobRanges:
    return await client.ranges(blob, Reference.parse(f"{host}/lib/app:1"), patience)


async def read_spoiled(
    store: ContentStore, *faults: Fault, patience: RangePatience = QUICK
) -> tuple[bytes, list[str]]:
    """Read 1000 bytes at 300 000 from a registry with these faults; return also what it saw."""
    with FakeRegistry() as registry, opened(store) as client:
        reader = await ranges(client, registry.host, layer(registry), patience)
        registry.spoil("/blobs/", *faults)
        data = await reader.read(300_000, 1000)
        return data, [seen.headers.get("range", "") for seen in registry.server.seen]


WANTED = DATA[300_000:301_000]
ASKED = "bytes=300000-300999"


@pytest.mark.parametrize(
    ("offset", "size"), [(0, 1), (0, len(DATA)), (len(DATA) - 1, 1), (4097, 131_072)]
)
async def test_a_range_is_one_request(
    store: ContentStore, census: None, offset: int, size: int
) -> None:
    with FakeRegistry() as registry, opened(store) as client:
        reader = await ranges(client, registry.host, layer(registry))
        assert await reader.read(offset, size) == DATA[offset : offset + size]
        (seen,) = registry.server.seen
        assert seen.headers["range"] == f"bytes={offset}-{offset + size - 1}"


async def test_a_connection_is_used_again(store: ContentStore) -> None:
    with FakeRegistry() as registry, opened(store) as client:
        reader = await ranges(client, registry.host, layer(registry))
        for offset in range(0, 50_000, 10_000):
            await reader.read(offset, 5000)
        assert len({seen.client for seen in registry.server.seen}) == 1


@pytest.mark.parametrize(("offset", "size"), [(-1, 5), (0, 0), (0, len(DATA) + 1), (len(DATA), 1)])
async def test_ranges_outside_the_blob_are_refused(
    store: ContentStore, offset: int, size: int
) -> None:
    with FakeRegistry() as registry, opened(store) as client:
        reader = await ranges(client, registry.host, layer(registry))
        with pytest.raises(InvalidArgument):
            await reader.read(offset, size)
        assert not registry.server.seen


async def test_where_a_registry_redirects_to_is_remembered(store: ContentStore) -> None:
    with FakeRegistry() as registry, FakeRegistry() as storage, opened(store) as client:
        blob = layer(registry, storage)
        registry.spoil("/blobs/", redirect(f"{storage.server.url}/s/blobs/{blob.digest}?sig=1"))
        reader = await ranges(client, registry.host, blob)
        for offset in (5, 6, 7):
            assert await reader.read(offset, 9) == DATA[offset : offset + 9]
        assert (len(registry.server.seen), len(storage.server.seen)) == (1, 3)
        assert len({seen.client for seen in storage.server.seen}) == 1


@pytest.mark.parametrize("code", [400, 401, 403, 404])
async def test_an_expired_redirect_is_asked_for_once_more(store: ContentStore, code: int) -> None:
    with FakeRegistry() as registry, FakeRegistry() as storage, opened(store) as client:
        blob = layer(registry, storage)
        there = redirect(f"{storage.server.url}/s/blobs/{blob.digest}?sig=1")
        registry.spoil("/blobs/", there, there)
        reader = await ranges(client, registry.host, blob)
        await reader.read(0, 9)
        storage.spoil("/blobs/", status(code))
        assert await reader.read(9, 9) == DATA[9:18]
        assert (len(registry.server.seen), len(storage.server.seen)) == (2, 3)


async def test_a_storage_that_refuses_for_good_is_asked_twice(store: ContentStore) -> None:
    with FakeRegistry() as registry, FakeRegistry() as storage, opened(store) as client:
        blob = layer(registry, storage)
        there = redirect(f"{storage.server.url}/s/blobs/{blob.digest}?sig=1")
        registry.spoil("/blobs/", there, there)
        reader = await ranges(client, registry.host, blob)
        await reader.read(0, 9)
        storage.spoil("/blobs/", status(403), status(403))
        with pytest.raises(PermissionDenied):
            await reader.read(9, 9)
        assert len(storage.server.seen) == 3
        # Recovered: the registry serves it itself by now.
        assert await reader.read(9, 9) == DATA[9:18]


@pytest.mark.parametrize("fault", [cut(0), status(503), stall(0)], ids=["cut", "503", "stall"])
async def test_a_storage_that_fails_is_left(store: ContentStore, fault: Fault) -> None:
    with FakeRegistry() as registry, FakeRegistry() as storage, opened(store) as client:
        blob = layer(registry, storage)
        registry.spoil("/blobs/", redirect(f"{storage.server.url}/s/blobs/{blob.digest}"))
        reader = await ranges(client, registry.host, blob)
        await reader.read(0, 9)
        storage.spoil("/blobs/", fault)
        assert await reader.read(9, 9) == DATA[9:18]
        assert (len(registry.server.seen), len(storage.server.seen)) == (2, 2)


async def test_credentials_stay_with_the_registry(store: ContentStore) -> None:
    def known(host: str) -> Credentials:
        return Credentials("user", "password")

    challenge = answer(error(401, "UNAUTHORIZED", {"WWW-Authenticate": 'Basic realm="r"'}))
    with FakeRegistry() as registry, FakeRegistry() as storage, opened(store, known) as client:
        blob = layer(registry, storage)
        reader = await ranges(client, registry.host, blob)
        await reader.read(0, 9)
        registry.spoil(
            "/blobs/", challenge, redirect(f"{storage.server.url}/s/blobs/{blob.digest}")
        )
        await reader.read(9, 9)
        await reader.read(18, 9)
        seen = ["authorization" in request.headers for request in registry.server.seen]
        assert seen == [False, False, True]
        assert not any("authorization" in request.headers for request in storage.server.seen)


async def test_a_token_that_ends_meanwhile_is_renewed(store: ContentStore, tmp_path: Path) -> None:
    now = 0.0
    blob = Descriptor(OCI_LAYER, Digest.of(DATA), len(DATA))
    with (
        TokenServer() as tokens,
        docker_registry(tmp_path, tmp_path, tokens=tokens) as host,
        closing(
            RegistryClient(store, hosts=DefaultHosts(plain_http=True), clock=lambda: now)
        ) as client,
    ):
        _serve(tmp_path, blob)
        reader = await ranges(client, host, blob)
        assert await reader.read(1, 9) == DATA[1:10]
        assert await reader.read(2, 9) == DATA[2:11]
        assert len(tokens.server.seen) == 1
        now = 1000.0
        assert await reader.read(3, 9) == DATA[3:12]
        assert len(tokens.server.seen) == 2


def _serve(storage: Path, blob: Descriptor) -> None:
    """Put a blob into the directory of a docker-registry."""
    base = storage / "docker/registry/v2"
    stored = base / "blobs/sha256" / blob.digest.hex[:2] / blob.digest.hex
    linked = base / "repositories/lib/app/_layers/sha256" / blob.digest.hex
    stored.mkdir(parents=True)
    linked.mkdir(parents=True)
    (stored / "data").write_bytes(DATA)
    (linked / "link").write_text(str(blob.digest))


@pytest.mark.parametrize("count", [0, 1, 500, 999])
@pytest.mark.parametrize("fault", [cut, stall])
async def test_a_body_that_breaks_off_is_taken_up_there(
    store: ContentStore, fault: Callable[[int], Fault], count: int
) -> None:
    data, seen = await read_spoiled(store, fault(count))
    assert data == WANTED
    assert seen == [ASKED, f"bytes={300_000 + count}-300999"]


async def test_many_cuts_are_forgiven_while_bytes_come(store: ContentStore) -> None:
    data, seen = await read_spoiled(store, *[cut(100)] * 9)
    assert data == WANTED
    assert len(seen) == 10


def content_range(text: str) -> Fault:
    return with_headers({"Content-Range": text})


@pytest.mark.parametrize(
    "fault",
    [
        status(500),
        status(502),
        status(503, {"Retry-After": "0"}),
        status(429, {"Retry-After": "0"}),
        content_range(f"bytes 300001-301000/{len(DATA)}"),
        content_range(f"bytes 300000-301000/{len(DATA)}"),
        content_range("bytes 300001-300999/*"),
        content_range("bytes 300000-299999/*"),
        content_range("garbage"),
        answer(Reply(206, {}, b"x" * 1000)),
    ],
)
async def test_one_bad_answer_is_got_over(store: ContentStore, fault: Fault) -> None:
    data, seen = await read_spoiled(store, fault)
    assert data == WANTED
    assert seen == [ASKED, ASKED]


@pytest.mark.parametrize(
    ("fault", "kind", "says"),
    [
        (status(404), NotFound, "not found"),
        (status(403), PermissionDenied, "refused access"),
        (status(418), Unavailable, "unexpected answer"),
        (answer(Reply(416)), Unavailable, "HTTP 416"),
        (answer(Reply(416, {"Content-Range": "bytes */7"})), DataLoss, "has 7 bytes"),
        (content_range(f"bytes 300000-300999/{len(DATA) + 1}"), DataLoss, "bytes for"),
        (answer(Reply(200, {}, DATA)), Unavailable, "does not support ranges"),
        (answer(Reply(200, {}, DATA + b"x")), DataLoss, "bytes for"),
        (with_headers({"Content-Encoding": "gzip"}), Unavailable, "Content-Encoding"),
        (status(429, {"Retry-After": "3600"}), Unavailable, "429"),
        (status(503, {"Retry-After": "30"}), Unavailable, "503"),
    ],
)
async def test_what_cannot_get_better_fails_at_once(
    store: ContentStore, fault: Fault, kind: type[SnapcoreError], says: str
) -> None:
    with FakeRegistry() as registry, opened(store) as client:
        reader = await ranges(client, registry.host, layer(registry))
        registry.spoil("/blobs/", fault)
        with pytest.raises(kind, match=says):
            await reader.read(300_000, 1000)
        assert len(registry.server.seen) == 1
        assert await reader.read(300_000, 1000) == WANTED


@pytest.mark.parametrize(
    "fault",
    [status(500), status(429), cut(0), stall(0), content_range("garbage")],
    ids=["500", "429", "cut", "stall", "wrong range"],
)
async def test_what_does_not_get_better_ends(store: ContentStore, fault: Fault) -> None:
    with FakeRegistry() as registry, opened(store) as client:
        reader = await ranges(client, registry.host, layer(registry))
        registry.spoil("/blobs/", *[fault] * PATIENCE.attempts)
        with pytest.raises(Unavailable, match="gave up after 3 tries"):
            await reader.read(300_000, 1000)
        assert await reader.read(300_000, 1000) == WANTED


async def test_a_trickle_ends_with_the_deadline(store: ContentStore) -> None:
    started = time.monotonic()
    with pytest.raises(Unavailable, match=r"within 0\.3 s"):
        await read_spoiled(
            store, stall(1), stall(0), stall(0), patience=RangePatience(deadline=0.3, stall=60)
        )
    assert time.monotonic() - started < 3


async def test_a_cancel_ends_a_read_at_once(store: ContentStore) -> None:
    with trio.move_on_after(0.05) as scope:
        await read_spoiled(store, stall(1), patience=RangePatience(60, 60))
    assert scope.cancelled_caught


async def test_a_short_whole_body_is_as_good_as_a_range(store: ContentStore) -> None:
    def whole(seen: Seen, reply: Reply) -> Reply:
        return Reply(200, {}, DATA)

    with FakeRegistry() as registry, opened(store) as client:
        reader = await ranges(client, registry.host, layer(registry))
        registry.spoil("/blobs/", whole)
        assert await reader.read(70_000, 100_000) == DATA[70_000:170_000]


async def test_a_range_cut_short_by_the_server_is_completed(store: ContentStore) -> None:
    def shorter(seen: Seen, reply: Reply) -> Reply:
        headers = {"Content-Range": f"bytes 300000-300399/{len(DATA)}"}
        return replace(reply, headers=headers, body=reply.body[:400])

    data, seen = await read_spoiled(store, shorter)
    assert data == WANTED
    assert seen == [ASKED, "bytes=300400-300999"]


@contextmanager
def mirrored(
    store: ContentStore,
    directory: Path,
    *servers: FakeRegistry,
    credentials: CredentialSource = anonymous,
) -> Iterator[RegistryClient]:
    """A client for `REGISTRY`, whose mirrors are all servers but the last."""
    (directory / REGISTRY).mkdir(exist_ok=True)
    tables = [f'server = "{servers[-1].server.url}"']
    tables += [f'[host."{item.server.url}"]' for item in servers[:-1]]
    (directory / REGISTRY / "hosts.toml").write_text("\n".join(tables))
    hosts = HostsDirectories((str(directory),), DefaultHosts().endpoint)
    with opened(store, credentials, hosts=hosts) as client:
        yield client


@pytest.mark.parametrize(
    "fault",
    [
        status(404), status(403), status(429), status(500), cut(0), stall(3),
        answer(Reply(200, {}, DATA)), content_range(f"bytes 300000-300999/{len(DATA) + 1}"),
    ],
    ids=["404", "403", "429", "500", "cut", "stall", "whole", "other size"],
)  # fmt: skip
async def test_the_next_host_is_asked(store: ContentStore, tmp_path: Path, fault: Fault) -> None:
    with (
        FakeRegistry() as mirror,
        FakeRegistry() as server,
        mirrored(store, tmp_path, mirror, server) as client,
    ):
        mirror.spoil("/blobs/", fault, status(404))
        reader = await ranges(client, REGISTRY, layer(mirror, server))
        assert await reader.read(300_000, 1000) == WANTED
        assert len(server.server.seen) == 1


async def test_a_host_whose_bytes_are_wrong_is_left_alone(
    store: ContentStore, tmp_path: Path
) -> None:
    with (
        FakeRegistry() as mirror,
        FakeRegistry() as server,
        mirrored(store, tmp_path, mirror, server) as client,
    ):
        mirror.spoil("/blobs/", with_body(b"evil" * 250))
        reader = await ranges(client, REGISTRY, layer(mirror, server))
        assert await reader.read(300_000, 1000) != WANTED
        reader.distrust()
        assert await reader.read(300_000, 1000) == WANTED
        assert len(mirror.server.seen) == 1


async def test_a_registry_whose_storage_is_wrong_is_asked_itself(store: ContentStore) -> None:
    with FakeRegistry() as registry, FakeRegistry() as storage, opened(store) as client:
        blob = layer(registry, storage)
        registry.spoil("/blobs/", redirect(f"{storage.server.url}/s/blobs/{blob.digest}"))
        storage.spoil("/blobs/", with_body(b"evil" * 250))
        reader = await ranges(client, registry.host, blob)
        assert await reader.read(300_000, 1000) != WANTED
        reader.distrust()
        assert await reader.read(300_000, 1000) == WANTED
        assert (len(registry.server.seen), len(storage.server.seen)) == (2, 1)


def test_a_dead_registry_fails_at_once_and_is_probed_later(store: ContentStore) -> None:
    clock = trio.testing.MockClock(rate=1)

    async def main() -> None:
        with FakeRegistry() as registry, opened(store) as client:
            reader = await ranges(client, registry.host, layer(registry))
            registry.spoil("/blobs/", *[status(500)] * (STRIKES + 1) * PATIENCE.attempts)
            for _ in range(STRIKES):
                with pytest.raises(Unavailable, match="gave up"):
                    await reader.read(0, 9)
            asked = len(registry.server.seen)
            for _ in range(50):
                with pytest.raises(Unavailable, match="failed 3 times just now"):
                    await reader.read(0, 9)
            assert len(registry.server.seen) == asked
            clock.jump(16)
            with pytest.raises(Unavailable, match="gave up"):
                await reader.read(0, 9)
            with pytest.raises(Unavailable, match="just now"):
                await reader.read(0, 9)
            clock.jump(16)
            assert await reader.read(0, 9) == DATA[:9]
            assert await reader.read(9, 9) == DATA[9:18]

    trio.run(main, clock=clock)


def test_a_breaker_lets_one_probe_through_after_each_pause() -> None:
    now = 0.0
    breaker = Breaker(strikes=2, pause=10, clock=lambda: now)
    breaker.failed()
    assert [breaker.admits() for _ in range(3)] == [True] * 3
    breaker.failed()
    assert [breaker.admits() for _ in range(3)] == [False] * 3
    now = 10
    assert [breaker.admits() for _ in range(3)] == [True, False, False]
    now = 20
    assert breaker.admits()
    breaker.succeeded()
    assert [breaker.admits() for _ in range(3)] == [True] * 3
    breaker.distrust()
    assert not breaker.admits()


async def test_a_real_registry_serves_ranges(store: ContentStore, tmp_path: Path) -> None:
    blob = Descriptor(OCI_LAYER, Digest.of(DATA), len(DATA))
    with docker_registry(tmp_path, tmp_path) as host, opened(store) as client:
        _serve(tmp_path, blob)
        reader = await ranges(client, host, blob)
        for offset, size in ((0, 1), (4097, 131_072), (len(DATA) - 5, 5), (0, len(DATA))):
            assert await reader.read(offset, size) == DATA[offset : offset + size]
        missing = replace(blob, digest=Digest.of(b"another"))
        with pytest.raises(NotFound):
            await (await ranges(client, host, missing)).read(0, 1)
        larger = replace(blob, size=len(DATA) + 5)
        with pytest.raises(DataLoss):
            await (await ranges(client, host, larger)).read(0, 1)
