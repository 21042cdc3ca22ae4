"""A real Debian image, from a real registry to a running program, through every backend."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from support.cli import spawn
from support.images import (
    debian_layout,
    docker_layout,
    require_tools,
    run_tool,
    skopeo_copy,
    umoci_layout,
)
from support.registry import docker_registry

from snapcore import labels

# A pull syncs its filesystem, and so waits for whatever others have written there.
pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.xdist_group("e2e-debian"),
    pytest.mark.timeout(300),
]

BACKENDS: Final = ("overlay", "native")


@dataclass(frozen=True, slots=True)
class Place:
    """A node's root and a registry that has images.

    Attributes:
        host: of the registry.
        root: state root; images are pulled into it by the tests.
        work: for mount points and bundles.
    """

    host: str
    root: Path
    work: Path

    def snapcore(self, *arguments: str) -> str:
        """Run the command line on this root; it must succeed."""
        done = spawn("--root", str(self.root), "--format", "json", *arguments)
        assert done.code == 0, f"{arguments!r}: {done.err}"
        return done.out

    def pull(self, name: str, backend: str) -> str:
        """Pull an image into a backend and return its reference."""
        reference = f"{self.host}/{name}:latest"
        self.snapcore("--snapshotter", backend, "pull", "--plain-http", reference)
        return reference

    @contextmanager
    def mounted(self, reference: str, backend: str) -> Iterator[Path]:
        """Mount a pulled image for the duration of a `with` block."""
        target = self.work / f"mnt-{backend}"
        target.mkdir(exist_ok=True)
        self.snapcore("--snapshotter", backend, "images", "mount", reference, str(target))
        try:
            yield target
        finally:
            self.snapcore("images", "unmount", str(target))

    def digest(self, directory: Path) -> str:
        """Return the canonical digest of a tree."""
        return str(json.loads(self.snapcore("digest", str(directory)))["digest"])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Run a registry with the images in it, beside an empty root."""
    work = tmp_path_factory.mktemp("e2e")
    with docker_registry(work / "storage", work) as host:
        yield Place(host, work / "root", work)


def _push(layout: Path, place: Place, name: str, *flags: str) -> None:
    skopeo_copy(f"oci:{layout}:latest", f"docker://{place.host}/{name}:latest", *flags)


def _umoci(layout: Path, place: Place) -> Path:
    require_tools("umoci")
    bundle = place.work / f"bundle-{layout.parent.name}-{layout.name}"
    run_tool("umoci", "unpack", "--image", f"{layout}:latest", str(bundle))
    return bundle / "rootfs"


@pytest.fixture(scope="module")
def ours(place: Place, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Pull the image that our builder made into every backend; return the digests."""
    _push(debian_layout(tmp_path_factory), place, "ours")
    digests = {}
    for backend in BACKENDS:
        with place.mounted(place.pull("ours", backend), backend) as root:
            digests[backend] = place.digest(root)
    return digests


def test_every_backend_shows_the_tree_that_umoci_unpacks(
    place: Place, ours: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    rootfs = _umoci(debian_layout(tmp_path_factory), place)
    # umoci stamps directories that it makes, or writes in, on the way through a symlink with
    # the time of day; everything else must be the same to the nanosecond.
    with place.mounted(f"{place.host}/ours:latest", BACKENDS[0]) as root:
        for implied in ("usr/lib/snapcore-test", "usr/lib"):
            time = (root / implied).stat().st_mtime_ns
            os.utime(rootfs / implied, ns=(time, time))
    assert ours == dict.fromkeys(BACKENDS, place.digest(rootfs))


def test_an_image_that_umoci_made_is_the_same_everywhere(
    place: Place, tmp_path_factory: pytest.TempPathFactory
) -> None:
    layout = umoci_layout(tmp_path_factory)
    _push(layout, place, "umocis")
    expected = place.digest(_umoci(layout, place))
    for backend in BACKENDS:
        with place.mounted(place.pull("umocis", backend), backend) as root:
            assert place.digest(root) == expected, backend


def test_docker_types_give_the_same_tree(
    place: Place, ours: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    source = f"oci:{debian_layout(tmp_path_factory)}:latest"
    skopeo_copy(source, f"docker://{place.host}/converted:latest", "--format=v2s2")
    with place.mounted(place.pull("converted", "overlay"), "overlay") as root:
        assert place.digest(root) == ours["overlay"]


def test_a_layout_with_docker_types_is_imported(
    place: Place, ours: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    name = "localhost/imported:latest"
    layout = docker_layout(tmp_path_factory)
    place.snapcore("--snapshotter", "overlay", "images", "import", str(layout), "--name", name)
    with place.mounted(name, "overlay") as root:
        assert place.digest(root) == ours["overlay"]


def test_programs_of_the_image_run(place: Place, ours: dict[str, str]) -> None:
    with place.mounted(f"{place.host}/ours:latest", "overlay") as root:
        assert run_tool("chroot", str(root), "/bin/hello") == "hello from the image\n"
        assert run_tool("chroot", str(root), "/usr/local/bin/same-bash", "-c", "echo $((6*7))") == (
            "42\n"
        )


@pytest.mark.parametrize("backend", BACKENDS)
def test_runc_runs_a_program_in_the_mounted_image(
    place: Place, ours: dict[str, str], backend: str
) -> None:
    require_tools("runc")
    bundle = place.work / f"runc-{backend}"
    bundle.mkdir()
    run_tool("runc", "spec", "--bundle", str(bundle))
    spec = json.loads((bundle / "config.json").read_bytes())
    with place.mounted(f"{place.host}/ours:latest", backend) as root:
        spec["root"] = {"path": str(root), "readonly": True}
        spec["process"] |= {"terminal": False, "args": ["/bin/hello"]}
        (bundle / "config.json").write_text(json.dumps(spec))
        container = f"snapcore-{backend}-{place.work.name}"
        done = subprocess.run(
            ["runc", "--root", str(bundle / "state"), "run", "--bundle", str(bundle), container],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stdout) == (0, "hello from the image\n"), done.stderr


def test_the_config_keeps_the_snapshots_of_both_backends(
    place: Place, ours: dict[str, str]
) -> None:
    inspected = json.loads(place.snapcore("images", "inspect", f"{place.host}/ours:latest"))
    info = json.loads(place.snapcore("content", "info", inspected["config_digest"]))
    for backend in BACKENDS:
        assert info["labels"][labels.gc_ref_snapshot(backend)] == inspected["chain_id"]
        snapshot = json.loads(
            place.snapcore("--snapshotter", backend, "snapshots", "info", inspected["chain_id"])
        )
        assert snapshot["kind"] == "committed"
