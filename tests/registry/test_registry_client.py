"""The client against Debian's docker-registry: open, with passwords, with tokens."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.clients import opened
from support.faults import FakeRegistry
from support.images import skopeo_copy, tiny_layout
from support.registry import TokenServer, docker_registry

from snapcore.content import ContentStore
from snapcore.errors import NotFound, PermissionDenied
from snapcore.labels import distribution_source
from snapcore.oci import Descriptor, Digest, Manifest, Reference, parse_document
from snapcore.registry import (
    Credentials,
    GivenCredentials,
    RegistryClient,
)
from snapcore.registry.source import ACCEPT

USER = Credentials("alice", "s3cret")


@dataclass(frozen=True, slots=True)
class Image:
    """What lies in the registry's storage."""

    storage: Path
    manifest: bytes


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """Push a tiny image as `lib/tiny:latest` once; every registry serves the same storage."""
    work = tmp_path_factory.mktemp("seed")
    layout = tiny_layout(work / "layout")
    with docker_registry(work / "storage", work) as host:
        skopeo_copy(f"oci:{layout.directory}:latest", f"docker://{host}/lib/tiny:latest")
        skopeo_copy(f"oci:{layout.directory}:latest", f"docker://{host}/lib/copy:latest")
    index = json.loads((layout.directory / "index.json").read_bytes())
    digest = Digest.parse(index["manifests"][0]["digest"])
    return Image(work / "storage", layout.blob_path(digest).read_bytes())


async def pull(client: RegistryClient, host: str, repository: str = "lib/tiny") -> list[Descriptor]:
    """Fetch a whole image; return all its descriptors, the manifest first."""
    reference = Reference.parse(f"{host}/{repository}")
    descriptor, data = await client.resolve(reference)
    manifest = parse_document(data, descriptor.media_type)
    assert isinstance(manifest, Manifest)
    for child in manifest.children:
        await client.fetch(child, reference)
    return [descriptor, *manifest.children]


async def test_pulls_a_whole_image(
    store: ContentStore, tmp_path: Path, image: Image, census: None
) -> None:
    with docker_registry(image.storage, tmp_path) as host, opened(store) as client:
        fetched = await pull(client, host)
    assert store.read_blob(fetched[0], 1 << 20) == image.manifest
    assert len(fetched) == 4
    for descriptor in fetched:
        info = store.info(descriptor.digest)
        assert info.size == descriptor.size
        assert info.labels[distribution_source(host)] == "lib/tiny"
    assert not store.statuses()


async def test_second_source_is_added_to_the_label(
    store: ContentStore, tmp_path: Path, image: Image
) -> None:
    with docker_registry(image.storage, tmp_path) as host, opened(store) as client:
        await pull(client, host)
        fetched = await pull(client, host, "lib/copy")
        await pull(client, host, "lib/copy")
    for descriptor in fetched:
        labels = store.info(descriptor.digest).labels
        assert labels[distribution_source(host)] == "lib/tiny,lib/copy"


async def test_digest_reference_resolves_to_itself(
    store: ContentStore, tmp_path: Path, image: Image
) -> None:
    digest = Digest.of(image.manifest)
    with (
        docker_registry(image.storage, tmp_path) as host,
        opened(store) as client,
    ):
        reference = Reference.parse(f"{host}/lib/tiny:gone@{digest}")
        descriptor, data = await client.resolve(reference)
    assert (descriptor.digest, data) == (digest, image.manifest)


@pytest.mark.parametrize("name", ["lib/tiny:absent", "lib/absent:latest"])
async def test_unknown_names_are_not_found(
    store: ContentStore, tmp_path: Path, image: Image, name: str
) -> None:
    with (
        docker_registry(image.storage, tmp_path) as host,
        opened(store) as client,
    ):
        with pytest.raises(NotFound, match=name):
            await client.resolve(Reference.parse(f"{host}/{name}"))
        absent = Descriptor("application/octet-stream", Digest.of(b"absent"), 6)
        with pytest.raises(NotFound, match=absent.digest.hex):
            await client.fetch(absent, Reference.parse(f"{host}/lib/tiny"))


async def test_basic_authentication(
    store: ContentStore, tmp_path: Path, image: Image, census: None
) -> None:
    with docker_registry(image.storage, tmp_path, users={"alice": "s3cret"}) as host:
        with opened(store) as client, pytest.raises(PermissionDenied, match="log in"):
            await pull(client, host)
        wrong = GivenCredentials(host, Credentials("alice", "wr0ng"))
        with opened(store, wrong) as client, pytest.raises(PermissionDenied) as refused:
            await pull(client, host)
        assert "wr0ng" not in str(refused.value)
        elsewhere = GivenCredentials("elsewhere.example", USER)
        with opened(store, elsewhere) as client, pytest.raises(PermissionDenied):
            await pull(client, host)
        assert not list(store.walk())
        with opened(store, GivenCredentials(host, USER)) as client:
            assert len(await pull(client, host)) == 4


@pytest.mark.parametrize(
    ("users", "refresh", "credentials", "methods"),
    [
        ({}, None, None, {"GET"}),
        ({"alice": "s3cret"}, None, USER, {"GET"}),
        (
            {"alice": "s3cret"},
            frozenset({"r3fresh"}),
            Credentials(identity_token="r3fresh"),
            {"POST"},
        ),
        (
            {"alice": "r3fresh"},
            None,
            Credentials("alice", identity_token="r3fresh"),
            {"POST", "GET"},
        ),
    ],
    ids=["anonymous", "password", "identity-token", "identity-token-over-get"],
)
async def test_token_authentication(
    store: ContentStore,
    tmp_path: Path,
    image: Image,
    users: dict[str, str],
    refresh: frozenset[str] | None,
    credentials: Credentials | None,
    methods: set[str],
) -> None:

    def source(host: str) -> Credentials | None:
        return credentials

    with (
        TokenServer(users, refresh) as tokens,
        docker_registry(image.storage, tmp_path, tokens=tokens) as host,
        opened(store, source) as client,
    ):
        assert len(await pull(client, host)) == 4
    assert {seen.method for seen in tokens.server.seen} == methods
    # One token serves all requests of one scope.
    assert len(tokens.server.seen) == len(methods)


async def test_token_server_refuses(store: ContentStore, tmp_path: Path, image: Image) -> None:
    with (
        TokenServer({"alice": "s3cret"}) as tokens,
        docker_registry(image.storage, tmp_path, tokens=tokens) as host,
        opened(store) as client,
        pytest.raises(PermissionDenied, match="token"),
    ):
        await pull(client, host)


async def test_the_fake_registry_answers_as_the_real_one(
    store: ContentStore, tmp_path: Path, image: Image
) -> None:
    """What the fault tests rest on: without faults, both servers look the same to us."""
    manifest = parse_document(image.manifest, json.loads(image.manifest)["mediaType"])
    assert isinstance(manifest, Manifest)
    layer = manifest.layers[0]
    paths = [
        ("HEAD", "manifests/latest", {"Accept": ACCEPT}),
        ("GET", "manifests/latest", {"Accept": ACCEPT}),
        ("HEAD", "manifests/absent", {}),
        ("GET", "manifests/absent", {}),
        ("GET", f"blobs/{layer.digest}", {}),
        ("GET", f"blobs/{layer.digest}", {"Range": "bytes=10-"}),
        ("GET", f"blobs/{layer.digest}", {"Range": f"bytes={layer.size}-"}),
        ("GET", f"blobs/{Digest.of(b'absent')}", {}),
    ]
    with docker_registry(image.storage, tmp_path) as host, opened(store) as client:
        await pull(client, host)
        real = [await observe(client, host, path) for path in paths]
    with FakeRegistry() as fake, opened(store) as client:
        fake.add_manifest(image.manifest, manifest.media_type)
        for child in manifest.children:
            fake.add_blob(store.read_blob(child, 1 << 20))
        imitated = [await observe(client, fake.host, path) for path in paths]
    assert imitated == real


Observed = tuple[int, dict[str, str], bytes]


async def observe(
    client: RegistryClient, host: str, asked: tuple[str, str, dict[str, str]]
) -> Observed:
    """Return what a client sees of one answer."""
    method, path, headers = asked
    source = client.source(Reference.parse(f"{host}/lib/tiny"))
    url = f"{source.host.base_url}/v2/lib/tiny/{path}"
    compared = ("Content-Type", "Docker-Content-Digest", "Content-Range", "Content-Length")
    with source.send(method, url, headers) as response:
        found = {name: response.headers.get(name, "") for name in compared}
        if response.status >= 400:
            found = {}
        return response.status, found, response.first_bytes() if response.status < 400 else b""
