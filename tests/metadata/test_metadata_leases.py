"""Leases and condemned rows: who comes first, and clocks that jump."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from snapcore.errors import AlreadyExists, InvalidArgument, NotFound
from snapcore.labels import GC_ROOT
from snapcore.locks import Owner
from snapcore.metadata import Metadata, Moment, Resource, open_metadata, snapshot
from snapcore.oci import Digest

SECOND: Final = 10**9
DAY: Final = 24 * 3600 * SECOND
BLOB: Final = Resource("content", "sha256:" + "a" * 64)


class Hand:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.wall = 1_000 * DAY
        self.running = 10 * SECOND
        self.boot = "first"

    def __call__(self) -> Moment:
        return Moment(self.wall, self.running, self.boot)

    def pass_by(self, nanoseconds: int) -> None:
        self.wall += nanoseconds
        self.running += nanoseconds

    def reboot(self, off: int = 0) -> None:
        self.wall += off
        self.running = 0
        self.boot += "+"


@pytest.fixture
def clock() -> Hand:
    return Hand()


@pytest.fixture
def metadata(tmp_path: Path, clock: Hand, census: None) -> Iterator[Metadata]:
    opened = open_metadata(str(tmp_path), clock=clock)
    yield opened
    opened.close()


def test_a_lease_holds_things_until_it_is_deleted(metadata: Metadata) -> None:
    leases = metadata.leases
    lease = leases.create("mine", labels={"a": "b", "empty": ""})
    assert lease.labels == {"a": "b"}
    assert leases.get("mine") == lease
    assert leases.hold("mine", [BLOB, snapshot("overlay", "x"), BLOB]) == ()
    assert leases.resources("mine") == (BLOB, Resource("snapshots/overlay", "x"))
    leases.let_go("mine", [BLOB, BLOB])
    assert leases.resources("mine") == (Resource("snapshots/overlay", "x"),)
    leases.delete("mine")
    assert leases.list() == ()
    assert leases.live() == ()


def test_mistakes_are_named(metadata: Metadata) -> None:
    leases = metadata.leases
    leases.create("mine")
    with pytest.raises(AlreadyExists, match="'mine'"):
        leases.create("mine")
    for bad in ("a\nb", "x" * 257):
        with pytest.raises(InvalidArgument, match="not a lease id"):
            leases.create(bad)
    with pytest.raises(InvalidArgument, match="lifetime"):
        leases.create("short", lifetime=0)
    for call in (leases.get, leases.delete, leases.renew, leases.resources):
        with pytest.raises(NotFound, match="'other'"):
            call("other")
    with pytest.raises(NotFound, match="'other'"):
        leases.hold("other", [BLOB])


@pytest.mark.parametrize("text", ["content", "content=", "blob=x", "snapshots/=x", "snapshots=x"])
def test_what_is_no_resource(text: str) -> None:
    with pytest.raises(InvalidArgument, match="not a resource"):
        Resource.parse(text)


def test_resources_are_parsed() -> None:
    assert Resource.parse("snapshots/overlay=a=b") == Resource("snapshots/overlay", "a=b")
    assert Resource.parse(f"content={BLOB.id}") == BLOB


@pytest.mark.parametrize("jump", [-DAY, 2 * DAY])
def test_the_wall_clock_neither_ends_nor_prolongs_a_lease(
    metadata: Metadata, clock: Hand, jump: int
) -> None:
    metadata.leases.create("mine", lifetime=3600 * SECOND)
    clock.wall += jump
    assert metadata.leases.expire() == ()
    clock.pass_by(3599 * SECOND)
    assert metadata.leases.expire() == ()
    clock.pass_by(2 * SECOND)
    assert [lease.id for lease in metadata.leases.expire()] == ["mine"]


def test_a_renewed_lease_begins_anew(metadata: Metadata, clock: Hand) -> None:
    metadata.leases.create("mine", lifetime=10 * SECOND)
    clock.pass_by(9 * SECOND)
    metadata.leases.renew("mine")
    clock.pass_by(9 * SECOND)
    assert metadata.leases.expire() == ()
    assert len(metadata.leases.live()) == 1
    clock.pass_by(2 * SECOND)
    assert metadata.leases.live() == ()
    assert len(metadata.leases.expire()) == 1


def test_time_goes_on_while_the_machine_is_off(metadata: Metadata, clock: Hand) -> None:
    metadata.leases.create("mine", lifetime=DAY)
    clock.reboot(off=DAY + SECOND)
    assert len(metadata.leases.expire()) == 1


@pytest.mark.parametrize("later", [0, 2 * DAY])
def test_a_clock_set_back_over_a_reboot_prolongs_a_lease_once(
    metadata: Metadata, clock: Hand, later: int
) -> None:
    metadata.leases.create("mine", lifetime=DAY)
    clock.reboot(off=-10 * DAY)
    assert metadata.leases.expire() == ()
    # From now on this boot's clock counts, whatever happens to the other one.
    clock.wall += later
    clock.running += DAY - SECOND
    assert metadata.leases.expire() == ()
    clock.running += 2 * SECOND
    assert len(metadata.leases.expire()) == 1


def test_a_living_owner_keeps_its_lease(metadata: Metadata, clock: Hand, tmp_path: Path) -> None:
    owner = Owner(str(tmp_path))
    metadata.leases.create("mine", lifetime=SECOND, owner=owner.id)
    clock.pass_by(DAY)
    assert metadata.leases.expire() == ()
    owner.close()
    assert len(metadata.leases.expire()) == 1


def test_what_is_leased_cannot_be_condemned(metadata: Metadata) -> None:
    metadata.leases.create("mine")
    metadata.leases.hold("mine", [BLOB])
    assert metadata.condemned.condemn([BLOB], "collector") == ()
    assert metadata.condemned.list() == ()


def test_what_is_leased_by_a_lease_that_is_over_can(metadata: Metadata, clock: Hand) -> None:
    metadata.leases.create("mine", lifetime=SECOND)
    metadata.leases.hold("mine", [BLOB])
    clock.pass_by(2 * SECOND)
    assert metadata.condemned.condemn([BLOB], "collector") == (BLOB,)


def test_what_is_condemned_must_be_waited_for(metadata: Metadata, tmp_path: Path) -> None:
    owner = Owner(str(tmp_path))
    other = snapshot("overlay", "x")
    assert metadata.condemned.condemn([BLOB, other], owner.id) == (BLOB, other)
    assert metadata.condemned.condemn([BLOB], "second") == ()
    metadata.leases.create("mine")
    assert metadata.leases.hold("mine", [BLOB]) == (BLOB,)
    waited = []

    def checkpoint() -> None:
        waited.append(1)
        metadata.condemned.release([BLOB])

    metadata.condemned.wait([BLOB], checkpoint)
    assert waited == [1]
    assert metadata.condemned.list() == ((other, owner.id),)
    owner.close()


def test_nobody_waits_for_a_dead_collector(metadata: Metadata, tmp_path: Path) -> None:
    Owner(str(tmp_path)).close()
    metadata.condemned.condemn([BLOB], "dead")

    def checkpoint() -> None:
        raise AssertionError("waited")

    metadata.condemned.wait([BLOB], checkpoint)
    metadata.condemned.condemn([BLOB], "dead")
    assert metadata.condemned.forget_dead() == 1
    assert metadata.condemned.list() == ()


def test_a_blob_that_has_become_a_root_is_not_condemned(metadata: Metadata) -> None:
    digest, other = Digest.of(b"root"), Digest.of(b"other")
    metadata.labels.create(digest, 4, {GC_ROOT: "now"})
    metadata.labels.create(other, 5, {"a": GC_ROOT})
    blobs = [Resource("content", str(d)) for d in (digest, other)]
    assert metadata.condemned.condemn(blobs, "c") == (blobs[1],)
