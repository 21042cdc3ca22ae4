"""`config containerd`: what is printed for each release of containerd, as values."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Final

import pytest
from support.cli import call

from snapcore.service.snippet import (
    Cri,
    Offer,
    Release,
    containerd_config,
    containerd_notes,
    to_toml,
)
from snapcore.snapshots import Capability

SOCKET: Final = "/run/snapcore/service/socket"
PLAIN: Final = Offer("overlay", "/r/overlay", frozenset({Capability.REBASE, Capability.REMAP_IDS}))
LAZY: Final = Offer("fuse", "/r/fuse", frozenset({Capability.REMOTE, Capability.REBASE}))


def tables(release: str, *offers: Offer, cri: Cri = "none") -> dict[str, Any]:
    config = containerd_config(offers, SOCKET, Release.parse(release), cri)
    return tomllib.loads(to_toml(config))


@pytest.mark.parametrize("release", ["1.6", "1.7.24"])
def test_a_proxy_of_1(release: str) -> None:
    """1.x knows type and address, and nothing of capabilities and exports."""
    assert tables(release, PLAIN) == {
        "version": 2,
        "proxy_plugins": {"snapcore-overlay": {"type": "snapshot", "address": SOCKET}},
    }


def test_a_proxy_of_2() -> None:
    assert tables("2", PLAIN, LAZY) == {
        "version": 3,
        "proxy_plugins": {
            "snapcore-overlay": {
                "type": "snapshot",
                "address": SOCKET,
                "capabilities": ["remap-ids"],
                "exports": {"root": "/r/overlay"},
            },
            "snapcore-fuse": {
                "type": "snapshot",
                "address": SOCKET,
                "exports": {"root": "/r/fuse", "enable_remote_snapshot_annotations": "true"},
            },
        },
        "plugins": {
            "io.containerd.transfer.v1.local": {
                "unpack_config": [
                    {"platform": "linux", "snapshotter": name}
                    for name in ("overlayfs", "snapcore-overlay", "snapcore-fuse")
                ]
            }
        },
    }


def test_kubernetes_on_1_6_has_a_default_alone() -> None:
    plugins = tables("1.6", PLAIN, cri="default")["plugins"]
    assert plugins == {
        "io.containerd.grpc.v1.cri": {"containerd": {"snapshotter": "snapcore-overlay"}}
    }


def test_kubernetes_on_1_7_has_runtimes() -> None:
    cri = tables("1.7", PLAIN, LAZY, cri="default")["plugins"]["io.containerd.grpc.v1.cri"]
    assert cri["containerd"] == {
        "snapshotter": "snapcore-overlay",
        "disable_snapshot_annotations": False,
        "runtimes": {"runc": {"runtime_type": "io.containerd.runc.v2"}}
        | {
            name: {"runtime_type": "io.containerd.runc.v2", "snapshotter": name}
            for name in ("snapcore-overlay", "snapcore-fuse")
        },
    }


@pytest.mark.parametrize("release", ["1.7", "2"])
def test_classes_alone_leave_the_default(release: str) -> None:
    plugins = tables(release, PLAIN, cri="classes")["plugins"]
    plugins.pop("io.containerd.transfer.v1.local", None)
    text = str(plugins)
    assert "runtimes" in text
    default = tables(release, PLAIN, cri="default")["plugins"]
    default.pop("io.containerd.transfer.v1.local", None)
    with_default = str(default)
    assert with_default.count("'snapshotter'") == text.count("'snapshotter'") + 1


def test_kubernetes_on_2() -> None:
    plugins = tables("2.1", LAZY, cri="default")["plugins"]
    assert plugins["io.containerd.cri.v1.images"] == {
        "snapshotter": "snapcore-fuse",
        "disable_snapshot_annotations": False,
        "runtime_platforms": {"snapcore-fuse": {"platform": "", "snapshotter": "snapcore-fuse"}},
    }
    runtimes = plugins["io.containerd.cri.v1.runtime"]["containerd"]["runtimes"]
    assert runtimes["snapcore-fuse"]["snapshotter"] == "snapcore-fuse"


@pytest.mark.parametrize(
    ("release", "offer", "cri", "said"),
    [
        pytest.param("1.6", PLAIN, "none", [], id="nothing"),
        pytest.param("1.6", LAZY, "none", ["ctr 1.x gives no labels"], id="lazy-ctr"),
        pytest.param("1.6", PLAIN, "default", ["no runtime classes"], id="old-cri"),
        pytest.param("2", PLAIN, "default", ["not run against", "rebase", "'runc'"], id="2"),
    ],
)
def test_notes(release: str, offer: Offer, cri: Cri, said: list[str]) -> None:
    notes = containerd_notes([offer], Release.parse(release), cri)
    assert len(notes) == len(said)
    assert all(part in note for part, note in zip(said, notes, strict=True))


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("1.6", (1, 6)),
        ("v2.1.0-rc.1", (2, 1)),
        ("1.6.20~ds1", (1, 6)),
        ("1.7.24+k3s1", (1, 7)),
        ("2", (2, 0)),
    ],
)
def test_releases(text: str, parsed: tuple[int, int]) -> None:
    release = Release.parse(text)
    assert (release.major, release.minor) == parsed


def test_the_command_tells_what_it_assumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    root = ("--root", str(tmp_path / "root"), "--snapshotter", "native")
    outcome = call(*root, "config", "containerd")
    assert outcome.code == 0, outcome.err
    assert "# containerd was not found here; this is for 2.x" in outcome.out
    socket = tmp_path / "root/state/service/socket"
    assert f"--snapshotter native serve --address {socket}" in outcome.out
    proxy = tomllib.loads(outcome.out)["proxy_plugins"]["snapcore-native"]
    assert proxy["address"] == str(socket)
    assert proxy["exports"] == {"root": str(tmp_path / "root/snapshotters/native")}
    record = call(*root, "--format", "json", "config", "containerd").record()
    assert record["containerd"] == ""
    assert record["config"] == tomllib.loads(outcome.out)


def test_the_release_that_is_installed_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "containerd"
    program.write_text("#!/bin/sh\necho containerd github.com/containerd/containerd 1.7.2 abc\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    root = ("--root", str(tmp_path / "root"), "--snapshotter", "native", "--format", "json")
    record = call(*root, "config", "containerd", "--address", f"unix://{SOCKET}").record()
    assert record["containerd"] == "1.7.2"
    config = record["config"]
    assert isinstance(config, dict)
    assert config["version"] == 2
    assert config["proxy_plugins"]["snapcore-native"]["address"] == SOCKET


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        pytest.param(("--containerd-version", "1.5"), 2, "too old", id="old"),
        pytest.param(("--containerd-version", "new"), 2, "not a release", id="word"),
        pytest.param(("--address", "tcp://h:1"), 2, "unix socket", id="address"),
        pytest.param(("--snapshotter", "nothing"), 1, "'nothing' does not work here", id="unknown"),
    ],
)
def test_refused(tmp_path: Path, arguments: tuple[str, ...], code: int, said: str) -> None:
    outcome = call("--root", str(tmp_path / "root"), "config", "containerd", *arguments)
    assert (outcome.code, outcome.out) == (code, "")
    assert said in outcome.err
