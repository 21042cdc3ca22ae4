"""Which boot and which namespaces this is."""

from __future__ import annotations

import os
import uuid

import pytest
from support.kernel import MANY_IDS, ONE_ID, in_child, in_user_namespace

from snapcore.linux import boot_id, has_owner, has_owners_up_to, mount_namespace


def test_the_boot_has_one_id() -> None:
    assert str(uuid.UUID(boot_id())) == boot_id()


def test_threads_and_children_share_a_mount_namespace() -> None:
    assert in_child("print(mount_namespace())").stdout == f"{mount_namespace()}\n"
    assert os.readlink("/proc/self/ns/mnt") == f"mnt:[{mount_namespace()}]"


@pytest.mark.needs_root
def test_a_new_mount_namespace_has_another_number() -> None:
    done = in_child(
        "before = mount_namespace(); unshare(Namespace.MOUNT); print(before, mount_namespace())"
    )
    before, after = map(int, done.stdout.split())
    assert before == mount_namespace() != after


_OWNERS = """
from snapcore.linux import has_owner, has_owners_up_to
pairs = [(0, 0), (0, 65535), (65535, 0), (65536, 0), (0, 2**32 - 2)]
print([has_owner(*pair) for pair in pairs], [has_owners_up_to(n) for n in (0, 65535, 65536)])
print(has_owners_up_to())
"""


@pytest.mark.needs_root
@pytest.mark.parametrize(
    ("ids", "owners", "up_to"),
    [
        (ONE_ID, [True, False, False, False, False], [True, False, False]),
        (MANY_IDS, [True, True, True, False, False], [True, True, False]),
        ("0 0 10\n65535 65535 1\n", [True, True, True, False, False], [True, False, False]),
    ],
)
def test_a_user_namespace_has_the_ids_of_its_maps(
    ids: str, owners: list[bool], up_to: list[bool]
) -> None:
    assert in_user_namespace(ids, _OWNERS) == f"{owners} {up_to}\nFalse\n"


def test_outside_of_user_namespaces_there_are_all_ids() -> None:
    with open("/proc/self/uid_map", encoding="ascii") as lines:
        initial = lines.read().split() == ["0", "0", str(2**32 - 1)]
    assert has_owners_up_to() is initial
    assert has_owner(2**32 - 2, 2**32 - 2) is initial
    assert not has_owner(2**32 - 1, 0)
