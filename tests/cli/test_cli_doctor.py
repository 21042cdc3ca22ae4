"""`doctor` and `plugins ls`: what works, why not the rest, whose fault a broken plugin is."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.cli import call

import snapcore
from snapcore.snapshots import Probe


def test_doctor_tells_of_host_and_backends(tmp_path: Path) -> None:
    report = call("--root", str(tmp_path / "root"), "--format", "json", "doctor").record()
    assert report["root"] == str(tmp_path / "root")
    assert (report["durability"], report["not_durable"]) == ("flush", 0)
    assert str(report["sqlite"]).startswith("3.")
    assert report["problem"] == ""
    assert isinstance(report["free_bytes"], int)
    found = report["snapshotters"]
    assert isinstance(found, list)
    by_name = {probe["name"]: probe for probe in found}
    assert {"native", "overlay"} <= set(by_name)
    assert by_name["native"]["usable"] is True
    assert by_name[str(report["default_snapshotter"])]["usable"] is True


def test_doctor_for_people(tmp_path: Path) -> None:
    outcome = call("--root", str(tmp_path / "root"), "doctor")
    assert outcome.code == 0
    assert "snapshotter native: usable" in outcome.out
    assert f"version              {snapcore.__version__}" in outcome.out


def test_doctor_of_a_root_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    outcome = call("--root", str(tmp_path / "file/root"), "doctor")
    assert outcome.code == 1
    assert str(tmp_path / "file/root") in outcome.out
    assert outcome.err == ""


def test_doctor_fails_if_nothing_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import snapcore.node

    def no_probes(_self: object) -> dict[str, Probe]:
        return {"odd": Probe(usable=False, reason="the moon is wrong")}

    monkeypatch.setattr(snapcore.node.Snapshotters, "probe_all", no_probes)
    outcome = call("--root", str(tmp_path / "root"), "doctor")
    assert outcome.code == 1
    assert "not usable: the moon is wrong" in outcome.out


def test_plugins(tmp_path: Path) -> None:
    rows = call("--root", str(tmp_path / "root"), "plugins", "ls", "--format", "json").records()
    by_name = {row["name"]: row for row in rows}
    native = by_name["native"]
    assert (native["kind"], native["distribution"]) == ("snapshotter", "snapcore-native")
    assert (native["usable"], native["blocked"]) == (True, False)
    assert "overlay" in call("--root", str(tmp_path / "root"), "plugins", "ls").out


def test_blocked_plugin(tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text('blocked = ["native"]\n', encoding="utf-8")
    root = ("--root", str(tmp_path / "root"), "--config", str(config))
    rows = call(*root, "plugins", "ls", "--format", "json").records()
    (native,) = [row for row in rows if row["name"] == "native"]
    assert (native["usable"], native["blocked"]) == (False, True)
    assert "blocked" in str(native["reason"])
    outcome = call(*root, "--snapshotter", "native", "snapshots", "ls")
    assert outcome.code == 1
    assert "'native' is blocked" in outcome.err


def test_wrong_option_of_a_plugin(tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text("[plugins.native]\nsink_remove = true\n", encoding="utf-8")
    outcome = call(
        *("--root", str(tmp_path / "root"), "--config", str(config)),
        *("--snapshotter", "native", "snapshots", "ls"),
    )
    assert outcome.code == 2
    assert "sink_remove" in outcome.err
    assert "[plugins.native]" in outcome.err


def test_version_of_the_package_and_the_program() -> None:
    assert call("--version").out == f"snapcore {snapcore.__version__}\n"
