"""Which boot and which mount namespace this is."""

from __future__ import annotations

import os
import uuid

import pytest
from support.kernel import in_child

from snapcore.linux import boot_id, mount_namespace


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
