"""The overlay probe: what is tried, what is refused and why."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from support.kernel import OLD_KERNELS, pretend

from snapcore.errors import FailedPrecondition, InvalidArgument
from snapcore.mount import Mount, temporary_mount
from snapcore.snapshots import Capability, find_overlay_form
from snapcore_overlay import OverlaySnapshotter, probe

pytestmark = pytest.mark.needs_root


def test_probe_finds_the_privileged_form_and_leaves_nothing(tmp_path: Path, census: None) -> None:
    found = probe(str(tmp_path / "not" / "there"))
    assert found.usable, found.reason
    assert Capability.REBASE in found.capabilities
    assert Capability.READONLY_VIEW in found.capabilities
    assert Capability.USERXATTR not in found.capabilities
    assert "redirect_dir=nofollow" in found.details["options"]
    assert os.listdir(tmp_path) == []


def test_overlay_on_overlay_is_refused(tmp_path: Path, census: None) -> None:
    for name in ("lower", "upper", "work"):
        (tmp_path / name).mkdir()
    options = tuple(
        f"{option}={tmp_path / name}"
        for option, name in (("lowerdir", "lower"), ("upperdir", "upper"), ("workdir", "work"))
    )
    with temporary_mount((Mount("overlay", "overlay", options=options),)) as root:
        found = probe(os.path.join(root, "state"))
        assert not found.usable
        assert "is on overlayfs" in found.reason
        with pytest.raises(FailedPrecondition, match="another filesystem"):
            OverlaySnapshotter(os.path.join(root, "state"))


@pytest.mark.parametrize("name", ["with,comma", "with:colon", "with\\backslash", "new\nline"])
def test_roots_that_options_cannot_carry_are_refused(tmp_path: Path, name: str) -> None:
    found = probe(str(tmp_path / name))
    assert not found.usable
    assert "choose another" in found.reason


@pytest.mark.parametrize(
    "option", ["lowerdir=/", "upperdir=/x", "redirect_dir=on", "metacopy=on", "userxattr"]
)
def test_options_that_are_ours_are_refused(tmp_path: Path, option: str) -> None:
    with pytest.raises(InvalidArgument, match="set by the snapshotter itself"):
        find_overlay_form(str(tmp_path), (option,))


@pytest.mark.parametrize("option", ["volatile", "fsync=volatile", "a,b", ""])
def test_options_that_break_promises_or_the_list_are_refused(tmp_path: Path, option: str) -> None:
    with pytest.raises(InvalidArgument, match="mount_options"):
        find_overlay_form(str(tmp_path), (option,))


def test_an_option_that_the_kernel_refuses_makes_it_unusable(tmp_path: Path, census: None) -> None:
    found = probe(str(tmp_path), ("no_such_option=1",))
    assert not found.usable
    assert "no_such_option" in found.reason or "Invalid argument" in found.reason


@pytest.mark.parametrize("option", ['context="a:b:c"', "fscontext=a:b:c:s0:c1,c2"])
def test_selinux_labels_have_an_option_of_their_own(tmp_path: Path, option: str) -> None:
    with pytest.raises(InvalidArgument, match="use that"):
        find_overlay_form(str(tmp_path), (option,))


@pytest.mark.parametrize(
    "label", ["nonsense", "a:b", "a:b:c d", 'a:b:c"', "a:b:c,volatile=1", "a:b:c:", "a:b:\u00e9:s0"]
)
def test_what_is_no_selinux_label_is_refused(tmp_path: Path, label: str) -> None:
    with pytest.raises(InvalidArgument, match="is no SELinux label"):
        find_overlay_form(str(tmp_path), (), label)


_LABEL = "system_u:object_r:container_file_t:s0:c1,c2"


@pytest.mark.skipif(os.path.exists("/sys/fs/selinux"), reason="this kernel has SELinux")
def test_without_selinux_its_label_makes_overlay_unusable(
    tmp_path: Path, census: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = probe(str(tmp_path), (), _LABEL)
    assert not found.usable
    assert "this kernel runs without SELinux; remove the option" in found.reason
    # And if the kernel itself is asked, it says what it does not know.
    monkeypatch.setattr(
        import_module("snapcore.snapshots.overlayform"),
        "kernel_filesystems",
        lambda: frozenset({"selinuxfs"}),
    )
    found = probe(str(tmp_path), (), _LABEL)
    assert not found.usable
    assert "Unknown parameter 'context'" in found.reason


@pytest.mark.parametrize("kernel", OLD_KERNELS)
def test_older_kernels_do_not_take_layers_one_by_one(
    tmp_path: Path, census: None, monkeypatch: pytest.MonkeyPatch, kernel: str
) -> None:
    assert find_overlay_form(str(tmp_path)).one_by_one
    pretend(monkeypatch, kernel)
    form = find_overlay_form(str(tmp_path))
    assert not form.one_by_one
    assert form.remap_ids


def test_a_root_with_a_long_name_does_not_take_them_either(tmp_path: Path, census: None) -> None:
    top = tmp_path / ("x" * 200) / ("y" * 100)
    top.mkdir(parents=True)
    assert not find_overlay_form(str(top)).one_by_one


def test_without_the_right_to_mount_it_says_so(tmp_path: Path) -> None:
    os.chmod(tmp_path, 0o777)
    child = """
import os, sys
from snapcore_overlay import probe
from snapcore.linux import keep_capabilities
keep_capabilities(())
found = probe(sys.argv[1])
print(found.usable, found.reason)
"""
    command = [sys.executable, "-c", child, str(tmp_path)]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    assert run.stdout.startswith("False overlay does not work here:"), run.stdout
    assert "mounting needs root or a user namespace" in run.stdout
