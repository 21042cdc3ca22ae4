"""Snapshotters that are broken only where several processes use them, and are caught there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.distributions import install, installed

from snapcore.conformance import ALL_CHECKS, Subject, started
from snapcore.conformance.harness import CheckFailed
from snapcore.snapshots import open_snapshotter

CHECKS = {check.name: check for check in ALL_CHECKS}

_PLUGIN = """
import os
from snapcore.errors import AlreadyExists
from snapcore.snapshots import Probe, hookimpl
from snapcore_native import NativeSnapshotter

@hookimpl
def snapcore_probe(root):
    return Probe(usable=True)

@hookimpl
def snapcore_open(root):
    return Broken(root)
"""

_TRUSTS_ITS_MEMORY = '''
class Broken(NativeSnapshotter):
    """What it has seen to be there is there until it removes it itself."""

    _seen = set()

    @hookimpl
    def prepare(self, key, parent, labels, checkpoint):
        if key in self._seen:
            raise AlreadyExists(key)
        mounts = super().prepare(key, parent, labels, checkpoint)
        self._seen.add(key)
        return mounts

    @hookimpl
    def commit(self, name, key, labels, parent, checkpoint):
        info = super().commit(name, key, labels, parent, checkpoint)
        self._seen.discard(key)
        return info

    @hookimpl
    def remove(self, key, checkpoint):
        info = super().remove(key, checkpoint)
        self._seen.discard(key)
        return info
'''

_LEAVES_A_TRACE = '''
class Broken(NativeSnapshotter):
    """Notes down what it is about to do where no cleanup looks."""

    @hookimpl
    def prepare(self, key, parent, labels, checkpoint):
        directory = os.path.join(self._disk.root, "notes")
        os.makedirs(directory, exist_ok=True)
        note = os.path.join(directory, "note")
        open(note, "w").close()
        mounts = super().prepare(key, parent, labels, checkpoint)
        os.unlink(note)
        return mounts
'''


@pytest.mark.parametrize(
    ("source", "name"),
    [
        pytest.param(_TRUSTS_ITS_MEMORY, "processes_are_linearizable", id="trusts-its-memory"),
        pytest.param(_LEAVES_A_TRACE, "killed_in_the_middle", id="leaves-a-trace"),
    ],
)
def test_what_is_broken_between_processes_is_caught(
    source: str, name: str, tmp_path: Path, census: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    entry_points = {"snapcore.snapshotters": {"broken": "broken_plugin"}}
    install(site, "broken", {"broken_plugin": _PLUGIN + source}, entry_points)
    places = os.pathsep.join((str(site), os.environ.get("PYTHONPATH", "")))
    monkeypatch.setenv("PYTHONPATH", places)
    (tmp_path / "place").mkdir()
    with installed(site):
        subject = Subject(lambda root: open_snapshotter("broken", root))
        with started(subject, str(tmp_path / "place")) as harness, pytest.raises(CheckFailed):
            CHECKS[name].function(harness)
