"""A program reads files of a lazy root filesystem while everything goes wrong that can.

It gets the right bytes, or an error in bounded time; and the right bytes once the trouble is over.
The daemon and its mount live through all of it, but where the daemon is what is killed.
"""

from __future__ import annotations

import json
import random
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pytest
import trio
from support.faults import (
    FakeRegistry,
    Fault,
    Reply,
    Seen,
    cut,
    error,
    redirect,
    stall,
    status,
    with_headers,
)
from support.images import File
from support.lazyimages import LazyPlace, estargz_layer, lazy_place
from support.nodes import until

from snapcore.linux import MountFlag, UnmountFlag, mount, umount
from snapcore.mount import mounts_below
from snapcore.node import Node, PullOptions
from snapcore.oci import Platform
from snapcore.snapshots import SnapshotStatus

pytestmark = pytest.mark.needs_root

DEADLINE: Final = 2
PATIENCE: Final = 5 * DEADLINE
"""Seconds within which a program that reads a file must have ended: the kernel tries twice."""
CONTENT: Final = random.Random(4).randbytes(100_000)
_PROGRAM: Final = 'cat shared >/dev/null && echo reading && read go && exec cat "$0"'


@dataclass(frozen=True, slots=True)
class Read:
    """How a program's read ended."""

    data: bytes
    error: str
    seconds: float


@contextmanager
def program(root: str, name: str) -> Iterator[Callable[[], Read]]:
    """Run a program in a root filesystem that has read one file, and reads another when told."""
    with subprocess.Popen(
        ["sh", "-c", _PROGRAM, name],
        cwd=root,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"reading\n"

        def go() -> Read:
            begun = time.monotonic()
            data, said = child.communicate(b"go\n", timeout=PATIENCE)
            return Read(data, said.decode().strip(), time.monotonic() - begun)

        try:
            yield go
        finally:
            child.kill()


def read_now(root: str, name: str) -> Read:
    with program(root, name) as go:
        return go()


def recovers(root: str, name: str) -> None:
    """Wait until a file can be read again."""
    until(lambda: read_now(root, name).data == CONTENT, f"{name} can be read")


def zeroed(_: Seen, reply: Reply) -> Reply:
    """Send other bytes, as many."""
    return replace(reply, body=bytes(len(reply.body)))


def larger(_: Seen, reply: Reply) -> Reply:
    """Say that the blob has another size than the manifest says."""
    claimed = f"{reply.headers['Content-Range']}0"
    return replace(reply, headers={**reply.headers, "Content-Range": claimed})


REFUSED, LATE, WRONG = "Permission denied", "Connection timed out", "Input/output error"
ONCE: Final[dict[str, Fault]] = {
    "429": status(429, {"Retry-After": "0"}),
    "500": status(500),
    "503": status(503),
    "cut": cut(700),
    "stall": stall(700),
    "wrong-body": zeroed,
    "wrong-range": with_headers({"Content-Range": "bytes 1-2/3"}),
}
ALWAYS: Final[dict[str, tuple[Fault, str]]] = {
    "401": (status(401), REFUSED),
    "403": (status(403), REFUSED),
    "404": (status(404), WRONG),
    "416": (status(416), LATE),
    "429": (status(429, {"Retry-After": "60"}), LATE),
    "503": (status(503), LATE),
    "cut": (cut(0), LATE),
    "stall": (stall(0), LATE),
    "wrong-body": (zeroed, WRONG),
    "other-blob": (larger, WRONG),
    "redirected-nowhere": (redirect("http://127.0.0.1:1/gone"), LATE),
}
SLOW: Final = ("503", "cut", "redirected-nowhere")
NAMES: Final = ("shared", *(f"once-{n}" for n in ONCE), *(f"always-{n}" for n in ALWAYS), "extra")


def files() -> Iterator[File]:
    """Yield the files in reverse: what is read ahead for one case is what came before it."""
    return (File(name, CONTENT) for name in reversed(NAMES))


@dataclass(frozen=True, slots=True)
class Lazy:
    """A mounted image of one lazy layer."""

    place: LazyPlace
    node: Node
    root: str
    blob: str

    def status(self) -> SnapshotStatus:
        (report,) = self.node.images.status(self.place.name, Platform.local(), ("fuse",))
        assert report.status is not None
        return report.status


@contextmanager
def in_thread(work: Callable[[], object]) -> Iterator[None]:
    """Do something beside the `with` block, and wait for its end."""
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        thread.join()


@contextmanager
def mounted(directory: Path, registry: FakeRegistry | None = None) -> Iterator[Lazy]:
    with ExitStack() as stack:
        place = stack.enter_context(lazy_place(directory, {"deadline": DEADLINE}, registry))
        layer = estargz_layer(place.builder, *files())
        place.publish(layer)
        node = stack.enter_context(place.node())
        trio.run(node.pull, place.name, PullOptions(plain_http=True))
        root = stack.enter_context(node.mounted(place.name))
        yield Lazy(place, node, root, f"/blobs/{layer.descriptor.digest}")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lazy]:
    directory = tmp_path_factory.mktemp("faults")
    with mounted(directory) as lazy:
        pid = lazy.place.daemon.ensure().pid
        yield lazy
        assert lazy.place.daemon.ensure().pid == pid
    assert mounts_below(str(directory)) == ()


@pytest.mark.parametrize("name", ONCE)
def test_one_bad_answer_costs_time_and_nothing_else(served: Lazy, name: str) -> None:
    with program(served.root, f"once-{name}") as go:
        served.place.registry.spoil(served.blob, ONCE[name])
        found = go()
    assert (found.data, found.error) == (CONTENT, "")
    assert served.place.registry.pending == 0


# Those that take the whole deadline, and differ little from `stall`, take their time elsewhere.
@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.long] if n in SLOW else []) for n in ALWAYS],
)
def test_trouble_that_stays_is_an_error_in_time_until_it_is_over(served: Lazy, name: str) -> None:
    fault, expected = ALWAYS[name]
    spoiling = served.place.registry.spoiling(served.blob, fault)
    with program(served.root, f"always-{name}") as go, spoiling:
        found = go()
        assert expected in found.error
        # Nothing wrong was seen before the error either.
        assert CONTENT.startswith(found.data)
        assert served.status().error
        assert read_now(served.root, "shared").data == CONTENT
    recovers(served.root, f"always-{name}")
    assert served.status().error == ""


class TokenRegistry(FakeRegistry):
    """Wants a token of its own token server, and can let all of them expire."""

    def __init__(self) -> None:
        super().__init__()
        self.given = 0
        self.generous = True
        self._good: set[str] = set()

    def expire(self) -> None:
        """Accept no token that was given so far."""
        self._good.clear()

    def _reply(self, request: Seen) -> Reply:
        if request.path.startswith("/token"):
            if not self.generous:
                return error(401, "UNAUTHORIZED")
            self.given += 1
            token = f"t{self.given}"
            self._good.add(f"Bearer {token}")
            return Reply(200, {}, json.dumps({"token": token, "expires_in": 3600}).encode())
        if request.headers.get("authorization", "") not in self._good:
            challenge = f'Bearer realm="{self.server.url}/token",service="test"'
            return error(401, "UNAUTHORIZED", {"WWW-Authenticate": challenge})
        return super()._reply(request)


def test_a_token_that_expires_is_renewed_or_the_read_refused(tmp_path: Path, census: None) -> None:
    registry = TokenRegistry()
    with mounted(tmp_path, registry) as lazy:
        with program(lazy.root, "once-429") as go:
            before = registry.given
            registry.expire()
            assert go().data == CONTENT
            assert registry.given == before + 1
        with program(lazy.root, "always-401") as go:
            registry.expire()
            registry.generous = False
            assert REFUSED in go().error
        registry.generous = True
        recovers(lazy.root, "always-401")


def test_a_registry_that_is_gone_for_good_and_then_is_not(tmp_path: Path, census: None) -> None:
    with mounted(tmp_path) as lazy:
        with program(lazy.root, "always-401") as go:
            lazy.place.registry.__exit__()
            found = go()
            assert (found.data, LATE in found.error) == (b"", True)
        # Whoever comes next is not kept waiting by what is known to be down.
        assert LATE in read_now(lazy.root, "always-403").error
        assert read_now(lazy.root, "extra").seconds < DEADLINE
        assert read_now(lazy.root, "shared").data == CONTENT
        with lazy.place.registry.twin():
            recovers(lazy.root, "extra")


def test_a_full_disk_makes_reads_slower_and_nothing_else(tmp_path: Path, census: None) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount("tmpfs", str(small), "tmpfs", MountFlag(0), "size=24m")
    try:
        with mounted(small) as lazy:
            with program(lazy.root, "extra") as go:
                fill(small / "filler")
                assert go().data == CONTENT
            for name in NAMES:
                assert read_now(lazy.root, name).data == CONTENT
            (small / "filler").unlink()
            before = lazy.status()
            assert read_now(lazy.root, "extra").data == CONTENT
            assert lazy.status().error == before.error == ""
    finally:
        umount(str(small), UnmountFlag.DETACH)


def fill(path: Path) -> None:
    with open(path, "wb", buffering=0) as file:
        block = bytes(1 << 16)
        while block:
            try:
                file.write(block)
            except OSError:
                block = block[: len(block) // 2]


def test_a_daemon_that_is_killed_ends_reads_at_once_and_is_replaced(tmp_path: Path) -> None:
    with mounted(tmp_path) as lazy:
        with program(lazy.root, "extra") as go, lazy.place.registry.spoiling(lazy.blob, stall(0)):
            found: list[Read] = []
            with in_thread(lambda: found.append(go())):
                asked = len(lazy.place.registry.requests(lazy.blob))
                registry = lazy.place.registry
                until(lambda: len(registry.requests(lazy.blob)) > asked, "the read is under way")
                lazy.place.kill_daemon()
        assert found[0].data == b""
        assert "connect" in found[0].error
        assert found[0].seconds < PATIENCE
        with lazy.place.node() as again, again.mounted(lazy.place.name) as root:
            assert read_now(root, "shared").data == CONTENT
            assert read_now(root, "extra").data == CONTENT
