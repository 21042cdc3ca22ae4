"""Several hosts for one registry: order, fall-through, capabilities, and whose secrets they get."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.clients import PATIENCE
from support.faults import FakeRegistry, Fault, HttpServer, Reply, status, with_body

from snapcore.content import ContentStore
from snapcore.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    SnapcoreError,
    Unavailable,
)
from snapcore.oci import Descriptor, Reference
from snapcore.oci.descriptor import OCI_LAYER, OCI_MANIFEST
from snapcore.registry import (
    Credentials,
    CredentialSource,
    DefaultHosts,
    HostsDirectories,
    RegistryClient,
    anonymous,
)

DATA = b"layer" * 100
REGISTRY = "registry.invalid"


@contextmanager
def opened(
    store: ContentStore, directory: Path, text: str, credentials: CredentialSource = anonymous
) -> Iterator[RegistryClient]:
    """A client for `REGISTRY`, which does not exist, with a hosts.toml."""
    (directory / REGISTRY).mkdir(exist_ok=True)
    (directory / REGISTRY / "hosts.toml").write_text(text)
    hosts = HostsDirectories((str(directory),), DefaultHosts().endpoint)
    client = RegistryClient(store, hosts=hosts, credentials=credentials, policy=PATIENCE)
    try:
        yield client
    finally:
        client.close()


def hosts_file(server: FakeRegistry, *mirrors: FakeRegistry, capabilities: str = "") -> str:
    tables = [f'[host."{item.server.url}"]\n{capabilities}' for item in mirrors]
    return "\n".join([f'server = "{server.server.url}"', *tables])


def layer(*registries: FakeRegistry) -> Descriptor:
    digests = {registry.add_blob(DATA) for registry in registries}
    return Descriptor(OCI_LAYER, digests.pop(), len(DATA))


REFERENCE = Reference.parse(f"{REGISTRY}/lib/app:1")


async def test_the_mirror_serves_and_is_told_for_whom(store: ContentStore, tmp_path: Path) -> None:
    with FakeRegistry() as mirror, FakeRegistry() as server:
        blob = layer(mirror, server)
        with opened(store, tmp_path, hosts_file(server, mirror)) as client:
            info = await client.fetch(blob, REFERENCE)
        assert [seen.path.partition("?")[2] for seen in mirror.server.seen] == [f"ns={REGISTRY}"]
        assert server.server.seen == []
    # The source that is remembered is the registry, not who happened to serve it.
    assert info.labels[f"containerd.io/distribution.source.{REGISTRY}"] == "lib/app"


@pytest.mark.parametrize(
    "fault",
    [status(404), status(500), status(429), status(401), status(403), with_body(b"evil!" * 100)],
    ids=["404", "500", "429", "401", "403", "wrong bytes"],
)
async def test_the_next_host_is_asked(store: ContentStore, tmp_path: Path, fault: Fault) -> None:
    with FakeRegistry() as mirror, FakeRegistry() as server:
        blob = layer(mirror, server)
        mirror.spoil("/blobs/", fault, fault, fault)
        with opened(store, tmp_path, hosts_file(server, mirror)) as client:
            await client.fetch(blob, REFERENCE)
        assert store.read_blob(blob, 1 << 20) == DATA
        assert len(server.server.seen) == 1


async def test_a_host_that_is_down_is_passed_over(store: ContentStore, tmp_path: Path) -> None:
    with FakeRegistry() as mirror:
        pass
    with FakeRegistry() as server:
        blob = layer(server)
        with opened(store, tmp_path, hosts_file(server, mirror)) as client:
            await client.fetch(blob, REFERENCE)
        assert len(server.server.seen) == 1


async def test_a_tag_is_looked_up_only_where_that_is_trusted(
    store: ContentStore, tmp_path: Path
) -> None:
    with FakeRegistry() as mirror, FakeRegistry() as server:
        wrong = mirror.add_manifest(b'{"layers": [], "config": {}}', OCI_MANIFEST, "1")
        right = server.add_manifest(b"{}", OCI_MANIFEST, "1")
        mirror.add_manifest(b"{}", OCI_MANIFEST)
        text = hosts_file(server, mirror, capabilities='capabilities = ["pull"]')
        with opened(store, tmp_path, text) as client:
            found, data = await client.resolve(REFERENCE)
        assert found.digest == right.digest != wrong.digest
        assert data == b"{}"
        # The bytes come from the mirror all the same.
        assert [seen.method for seen in server.server.seen] == ["HEAD"]
        assert [seen.method for seen in mirror.server.seen] == ["GET"]


async def test_nobody_may_look_up_a_tag(store: ContentStore, tmp_path: Path) -> None:
    text = 'server = "http://127.0.0.1:1"\ncapabilities = ["pull"]'
    with (
        opened(store, tmp_path, text) as client,
        pytest.raises(FailedPrecondition, match=r"pull, resolve.*hosts\.toml"),
    ):
        await client.resolve(REFERENCE)


async def test_every_host_is_named_with_its_reason(store: ContentStore, tmp_path: Path) -> None:
    with FakeRegistry() as mirror, FakeRegistry() as server:
        blob = layer(mirror)
        mirror.spoil("/blobs/", status(503))
        with (
            opened(store, tmp_path, hosts_file(server, mirror)) as client,
            pytest.raises(NotFound) as missed,
        ):
            await client.fetch(blob, REFERENCE)
        text = str(missed.value)
        assert f"{mirror.server.url}: registry cannot serve" in text
        assert f"{server.server.url}: " in text
        assert "HTTP 503" in text
        assert "HTTP 404" in text


async def test_a_mirror_that_stays_down_is_left_out(store: ContentStore, tmp_path: Path) -> None:
    with FakeRegistry() as mirror, FakeRegistry() as server:
        mirror.spoil("/blobs/", *[status(503)] * 9)
        with opened(store, tmp_path, hosts_file(server, mirror)) as client:
            for number in range(5):
                data = b"%d" % number
                digest = server.add_blob(data)
                await client.fetch(Descriptor(OCI_LAYER, digest, len(data)), REFERENCE)
        assert len(mirror.server.seen) == 3
        assert len(server.server.seen) == 5


async def test_secrets_stay_with_their_host(store: ContentStore, tmp_path: Path) -> None:
    def basic(challenged: Reply) -> HttpServer:
        return HttpServer(lambda _: challenged)

    asked: list[str] = []

    def source(host: str) -> Credentials | None:
        asked.append(host)
        return Credentials("alice", f"for-{host}")

    refusal = Reply(401, {"WWW-Authenticate": "Basic realm=x"})
    with basic(refusal) as mirror, basic(refusal) as server:
        text = (
            f'server = "{server.url}"\n[host."{mirror.url}"]\n'
            f'[host."{mirror.url}".header]\nx-key = ["k1", "k2"]\n'
        )
        with opened(store, tmp_path, text, source) as client, pytest.raises(SnapcoreError):
            await client.fetch(layer_of_nobody(), REFERENCE)
        shown = Credentials("alice", f"for-{mirror.host}").basic()
        assert [seen.headers.get("authorization") for seen in mirror.seen] == [None, shown]
        assert {seen.headers["x-key"] for seen in mirror.seen} <= {"k1", "k2", "k1, k2"}
        assert asked == [mirror.host, server.host]
        assert all("x-key" not in seen.headers for seen in server.seen)


def layer_of_nobody() -> Descriptor:
    with FakeRegistry() as registry:
        return layer(registry)


async def test_a_mistake_in_the_file_stops_at_once(store: ContentStore, tmp_path: Path) -> None:
    with (
        opened(store, tmp_path, "servr = 'x'") as client,
        pytest.raises(InvalidArgument, match=r"hosts\.toml.*'servr'.*'server'"),
    ):
        await client.fetch(layer_of_nobody(), REFERENCE)


async def test_a_public_mirror_cannot_send_us_inside(store: ContentStore, tmp_path: Path) -> None:
    """Loopback may send us to loopback, but not to link-local services."""
    with FakeRegistry() as server:
        blob = layer(server)
        server.spoil("/blobs/", lambda *_: Reply(307, {"Location": "http://169.254.169.254/x"}))
        with (
            opened(store, tmp_path, hosts_file(server)) as client,
            pytest.raises(Unavailable, match=r"link-local.*private_networks"),
        ):
            await client.fetch(blob, REFERENCE)
