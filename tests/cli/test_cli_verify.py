"""`snapshots verify` on a real root with a real image."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from support.cli import Outcome, call
from support.images import tiny_layout

from snapcore.errors import DataLoss, NotFound
from snapcore.node import Integrity
from snapcore.snapshots import Checkpoint, Snapshotter

pytestmark = pytest.mark.usefixtures("census")


class Cli:
    """`snapcore` on a root that has an image for the native snapshotter."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "root"
        tiny_layout(directory / "layout")
        done = self("images", "import", str(directory / "layout"))
        assert done.code == 0, done.err
        self.names = [
            str(row["name"]) for row in self("--format", "json", "snapshots", "tree").records()
        ]

    def __call__(self, *arguments: str) -> Outcome:
        return call("--root", str(self.root), "--snapshotter", "native", *arguments)

    def files(self) -> list[Path]:
        """Return regular files of the base layer's snapshot."""
        snapshots = self.root / "snapshotters/native/snapshots"
        base = min(snapshots.iterdir(), key=lambda path: int(path.name)) / "fs"
        return sorted(path for path in base.rglob("*") if path.is_file() and not path.is_symlink())


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path)


def test_what_is_whole_is_said_to_be(cli: Cli) -> None:
    done = cli("snapshots", "verify", "--all")
    assert done.code == 0
    assert done.out.count("intact") == len(cli.names)
    assert f"verifying 1 of {len(cli.names)}: {cli.names[0]} of native" in done.err
    (one,) = cli(
        "--format", "json", "--progress", "none", "snapshots", "verify", cli.names[0]
    ).records()
    assert (one["result"], one["damage"], one["name"]) == ("intact", [], cli.names[0])


def test_damage_is_named_and_repaired(cli: Cli) -> None:
    victim = cli.files()[0]
    victim.chmod(0o600)
    os.truncate(victim, victim.stat().st_size + 3)
    done = cli("snapshots", "verify", "--all")
    assert done.code == 1
    lines = [line for line in done.out.splitlines() if "damaged" in line]
    assert any(f" {victim.name}" in line or f"/{victim.name}" in line for line in lines)
    assert any(" size " in line for line in lines)
    found = cli("--format", "json", "snapshots", "verify", cli.names[0])
    assert found.code == 1
    (one,) = json.loads(found.out)
    assert {"size", "mode"} & {damage["kind"] for damage in one["damage"]}
    # The layer is here: an import is made again without any registry.
    done = cli("snapshots", "verify", "--all", "--repair")
    assert done.code == 0, done.out
    assert "repaired" in done.out
    assert cli("snapshots", "verify", "--all").code == 0


def test_what_was_not_recorded_can_be(cli: Cli) -> None:
    for path in (cli.root / "inventories/native").iterdir():
        path.unlink()
    done = cli("snapshots", "verify", cli.names[0])
    assert done.code == 0
    assert "unrecorded" in done.out
    assert "intact" in cli("snapshots", "verify", "--all", "--record").out
    assert "unrecorded" not in cli("snapshots", "verify", "--all").out


@pytest.mark.parametrize(
    ("arguments", "code"), [((), 2), (("--all", "key"), 2), (("no-such-key",), 3)]
)
def test_what_to_verify_must_be_said(cli: Cli, arguments: tuple[str, ...], code: int) -> None:
    assert cli("snapshots", "verify", *arguments).code == code


def test_what_goes_or_fails_does_not_keep_the_rest_from_being_verified(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, unreadable, *rest = cli.names
    verify = Integrity.verify

    def fail(
        self: Integrity, snapshotter: Snapshotter, name: str, checkpoint: Checkpoint
    ) -> object:
        if name == gone:
            raise NotFound("it was removed")
        if name == unreadable:
            raise DataLoss("the medium is bad")
        return verify(self, snapshotter, name, checkpoint)

    monkeypatch.setattr(Integrity, "verify", fail)
    done = cli("--format", "json", "snapshots", "verify", "--all")
    found = [(check["name"], check["result"]) for check in json.loads(done.out)]
    assert found == [(unreadable, "unreadable"), *((name, "intact") for name in rest)]
    assert done.code == 1
    assert cli("snapshots", "verify", gone).code == 3
