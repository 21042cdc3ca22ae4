"""The probe of the lazy backend: real mounts, and the reason where it cannot work."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from snapcore.errors import FailedPrecondition
from snapcore.snapshots import Capability
from snapcore_fuse import probe as probe_module
from snapcore_fuse import trial
from snapcore_fuse.probe import find_form, probe


@pytest.mark.needs_root
def test_probe_tries_overlay_over_fuse_and_leaves_nothing(tmp_path: Path, census: None) -> None:
    found = probe(str(tmp_path / "not" / "there"))
    assert found.usable, found.reason
    assert {Capability.REMOTE, Capability.REBASE} <= found.capabilities
    assert Capability.REMAP_IDS not in found.capabilities
    assert found.details["mode"] == "tree"
    assert os.listdir(tmp_path) == []


@pytest.mark.needs_root
def test_without_the_device_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, census: None
) -> None:
    monkeypatch.setattr(probe_module, "_DEVICE", str(tmp_path / "no-fuse"))
    found = probe(str(tmp_path / "root"))
    assert not found.usable
    assert "no-fuse" in found.reason


def test_without_pyfuse3_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe_module, "find_spec", lambda name: None)
    assert "libfuse3-dev" in probe(str(tmp_path)).reason


@pytest.mark.needs_root
def test_a_server_that_dies_is_an_answer_and_no_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, census: None
) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("import os, sys; os.read(int(sys.argv[1]), 1 << 20)\n")
    monkeypatch.setattr(trial, "__file__", str(broken))
    with pytest.raises(FailedPrecondition, match="does not work here"):
        find_form(str(tmp_path))


_IN_NAMESPACE = """
import sys
from snapcore_fuse.probe import probe
found = probe(sys.argv[1])
print(found.usable, found.reason, sorted(found.capabilities))
"""


def test_it_works_in_a_user_namespace(tmp_path: Path) -> None:
    command = ["unshare", "--user", "--map-root-user", "--mount", sys.executable]
    run = subprocess.run(
        [*command, "-c", _IN_NAMESPACE, str(tmp_path / "root")],
        check=False,
        capture_output=True,
        text=True,
    )
    if "unshare failed" in run.stderr:
        pytest.skip(f"no user namespaces here: {run.stderr.strip()}")
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("True"), run.stdout
    assert "userxattr" in run.stdout


def test_opening_the_backend_imports_nothing_that_only_its_daemon_needs() -> None:
    program = (
        "import sys\n"
        "import snapcore_fuse.plugin\n"
        "print([n for n in ('trio', 'pyfuse3', 'zstandard', 'snapcore_fuse.formats',"
        " 'snapcore.registry') if n in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
