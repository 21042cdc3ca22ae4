"""Lazy reads from registries that want a login, long after the pull: a real registry each time."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
from support.images import File, require_tools, skopeo_copy
from support.layout import Layer, LayoutBuilder
from support.lazyimages import BIG, estargz_layer
from support.registry import docker_registry, made_directory

from snapcore.config import NodeConfig
from snapcore.mount import mounts_below
from snapcore.node import Node, PullOptions
from snapcore.oci import Platform
from snapcore.snapshots import OptionValue, SnapshotStatus
from snapcore_fuse.daemon.client import Daemon
from snapcore_fuse.daemon.places import Places
from snapcore_fuse.settings import Settings

pytestmark = [pytest.mark.needs_root, pytest.mark.anyio]
PASSWORD: Final = "s3cret:word"
FILES: Final = (File("first", BIG[:200_000]), File("second", BIG[200_000:]))


class Place:
    """A registry's storage with an image of one eStargz layer, and a node that pulls from it."""

    def __init__(self, top: Path) -> None:
        self.top: Final = top
        self.config: Final = top / "config.json"
        self.secrets: Final = top / "secrets.json"
        self.host = ""
        builder = LayoutBuilder(top / "layout")
        self.layer: Final[Layer] = estargz_layer(builder, *FILES)
        builder.add_image("latest", [self.layer])
        self._work: Final = made_directory(top / "registry")
        with docker_registry(top / "storage", self._work) as host:
            skopeo_copy(f"oci:{builder.directory}:latest", f"docker://{host}/lazy:latest")

    @contextmanager
    def registry(self, password: str = PASSWORD) -> Iterator[None]:
        """Run the registry, for one user."""
        users = {"alice": password}
        with docker_registry(self.top / "storage", self._work, users=users) as self.host:
            yield

    @property
    def name(self) -> str:
        return f"{self.host}/lazy:latest"

    @property
    def places(self) -> Places:
        return Places(str(self.top / "root/snapshotters/fuse"))

    @contextmanager
    def node(self) -> Iterator[Node]:
        options: dict[str, OptionValue] = {
            "min_layer_size": 1,
            "deadline": 5,
            "docker_config": str(self.config),
            "secrets": str(self.secrets),
        }
        config = NodeConfig(
            root=str(self.top / "root"),
            state=str(self.top / "state"),
            snapshotters=("fuse",),
            plugins={"fuse": options},
        )
        with Node.open(config) as node:
            yield node

    async def pull(self, node: Node, password: str = PASSWORD) -> SnapshotStatus:
        """Pull with a password given for the pull alone; return how the layer fares."""
        await node.pull(self.name, PullOptions(plain_http=True, credentials=("alice", password)))
        (report,) = node.images.status(self.name, Platform.local(), ("fuse",))
        assert report.status is not None
        return report.status

    def log_in(self, file: Path, password: str) -> None:
        """Write a docker config."""
        auth = base64.b64encode(f"alice:{password}".encode()).decode()
        document: Mapping[str, object] = {"auths": {self.host: {"auth": auth}}}
        file.write_text(json.dumps(document))
        file.chmod(0o600)


@pytest.fixture
def place(tmp_path: Path, census: None) -> Iterator[Place]:
    require_tools("skopeo", "docker-registry", "htpasswd")
    made = Place(tmp_path)
    yield made
    Daemon(made.places, Settings()).stop()
    assert mounts_below(str(tmp_path)) == ()


@pytest.mark.parametrize("where", ["docker_config", "secrets"])
async def test_later_reads_use_what_the_file_says_then(place: Place, where: str) -> None:
    file = place.config if where == "docker_config" else place.secrets
    with place.registry():
        place.log_in(file, PASSWORD)
        if where == "secrets":
            place.log_in(place.config, "an old one")
        with place.node() as node:
            status = await place.pull(node)
            assert (status.lazy, status.reason) == (True, "")
            with node.mounted(place.name) as root:
                assert Path(root, "first").read_bytes() == FILES[0].data
                # Hours later the password is another one, at the registry and in the file.
                place.log_in(file, "wrong")
                Daemon(place.places, Settings()).stop()
        with place.node() as node, node.mounted(place.name) as root:
            with pytest.raises(OSError, match="Permission denied"):
                Path(root, "second").read_bytes()
            place.log_in(file, PASSWORD)
            assert Path(root, "second").read_bytes() == FILES[1].data


async def test_credentials_of_a_pull_are_used_by_nobody_else(place: Place) -> None:
    with place.registry():
        with place.node() as node:
            status = await place.pull(node)
            assert not status.lazy
            assert "--creds" in status.reason
            assert "docker config" in status.reason
            with node.mounted(place.name) as root:
                assert Path(root, "second").read_bytes() == FILES[1].data
        assert not containing(place.top / "root", PASSWORD.encode())


def containing(directory: Path, secret: bytes) -> list[Path]:
    """Return the files below a directory that hold a secret, as it is or as a header has it."""
    forms = (secret, base64.b64encode(b"alice:" + secret))
    files = [path for path in directory.rglob("*") if path.is_file()]
    return [path for path in files if any(form in path.read_bytes() for form in forms)]
