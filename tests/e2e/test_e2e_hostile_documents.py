"""Every hostile manifest, index and config, pulled on every backend: one verdict, no trace."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
from support.faults import FakeRegistry
from support.hostile import DOCUMENTS
from support.hostile.documents import EVIL_LABELS
from support.hostile.ground import Disk, Ground, ground, small_disk
from support.hostile.press import FOREIGN, HostileDocument, manifest

from snapcore.archive import EntryType
from snapcore.oci import Digest

pytestmark = [pytest.mark.needs_root, pytest.mark.xdist_group("hostile-documents")]
BACKENDS = ("native", "overlay", "fuse", "erofs")


@dataclass(frozen=True, slots=True)
class Place:
    """A disk, and a node of each backend on it."""

    disk: Disk
    grounds: Mapping[str, Ground]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    top = tmp_path_factory.mktemp("hostile")
    with ExitStack() as stack:
        disk = stack.enter_context(small_disk(top))
        grounds = {name: stack.enter_context(ground(top / name, name)) for name in BACKENDS}
        with FakeRegistry() as registry:
            HostileDocument("honest", "nothing", manifest()).pressed().publish(registry)
            for each in grounds.values():
                assert each.pull(f"{registry.host}/honest:latest").refusal is None
        yield Place(disk, grounds)


ALL = pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in DOCUMENTS])


@ALL
def test_a_hostile_document_has_one_verdict_before_any_layer_is_fetched(
    case: HostileDocument, place: Place
) -> None:
    check_verdict(case, place, "native")


@pytest.mark.long
@pytest.mark.parametrize("backend", ["overlay", "fuse"])
@ALL
def test_it_is_the_same_on_every_backend(case: HostileDocument, place: Place, backend: str) -> None:
    check_verdict(case, place, backend)


def check_verdict(case: HostileDocument, place: Place, backend: str) -> None:
    """Pull an image, and fail unless what comes of it is what the catalogue says."""
    pressed, ground = case.pressed(), place.grounds[backend]
    layer = Digest.of(pressed.layer)
    with FakeRegistry() as registry:
        pressed.publish(registry)
        outcome = ground.pull(f"{registry.host}/hostile/image:latest")
        assert outcome.refusal is case.verdict, outcome
        assert case.says in outcome.message
        if case.verdict is None:
            assert outcome.tree[(b"name",)][0] is EntryType.FILE
            assert outcome.tree[(b"name",)][4] == case.name.encode()
            check_labels(ground)
        elif not case.by_bytes:
            assert not registry.requests(f"/blobs/{layer}")
            assert not ground.node.content.exists(layer)
    place.disk.check_canary()


def check_labels(place: Ground) -> None:
    """Fail if an annotation has become a label, or steers where a label is the node's own."""
    labelled = [
        *(info.labels for info in place.node.content.walk()),
        *(info.labels for info in place.node.snapshotter(place.backend).walk()),
    ]
    for labels in labelled:
        assert not EVIL_LABELS & set(labels)
        assert not {"evil", str(FOREIGN)} & set(labels.values())


def test_the_catalogue_is_as_large_as_it_says() -> None:
    names = [case.name for case in DOCUMENTS]
    assert len(names) == len(set(names)) >= 60
    assert all(case.attacks and "\n" not in case.attacks for case in DOCUMENTS)
