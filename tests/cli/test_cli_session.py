"""Flags and environment: where they may stand, which one wins, and what they become."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from support.cli import Outcome, spawn

from snapcore.cli.acquire import Wanted
from snapcore.cli.flags import Flag
from snapcore.cli.session import Session
from snapcore.errors import InvalidArgument


def session(
    flags: Mapping[str, Flag] | None = None,
    environment: Mapping[str, str] | None = None,
    user: int = 0,
) -> Session:
    return Session(flags or {}, environment or {}, user)


def settings(outcome: Outcome) -> dict[str, tuple[object, object]]:
    return {str(row["key"]): (row["value"], row["origin"]) for row in outcome.records()}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--root", "/r", "--format", "json", "config", "show"],
        ["config", "--root", "/r", "--format", "json", "show"],
        ["config", "show", "--root", "/r", "--format", "json"],
        ["--root", "/other", "--format", "table", "config", "show", "--root=/r", "--format=json"],
    ],
)
def test_global_flags_stand_anywhere(arguments: list[str]) -> None:
    shown = settings(spawn(*arguments))
    assert shown["root"] == ("/r", "flag --root")
    assert shown["state"] == ("/r/state", "flag --root")


def test_environment_is_weaker_than_a_flag(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("[unpack]\ndownloads = 9\n", encoding="utf-8")
    environment = {"SNAPCORE_ROOT": "/e", "SNAPCORE_CONFIG": str(path)}
    shown = settings(spawn("config", "show", "--format", "json", environment=environment))
    assert shown["root"] == ("/e", "env SNAPCORE_ROOT")
    assert shown["unpack.downloads"] == (9, str(path))
    for arguments in (
        ("config", "show", "--format", "json", "--root", "/f"),
        ("--root", "/f", "config", "show", "--format", "json"),
    ):
        shown = settings(spawn(*arguments, environment=environment))
        assert shown["root"] == ("/f", "flag --root")


def test_snapshotter_may_be_repeated() -> None:
    outcome = spawn("config", "show", "--format=json", "--snapshotter=a", "--snapshotter", "b")
    assert settings(outcome)["snapshotter"] == (["a", "b"], "flag --snapshotter")


def test_node_labels_choose_the_table(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(
        '[[node]]\nmatch.labels = {disk = "slow", zone = "a"}\nsnapshotter = "native"\n',
        encoding="utf-8",
    )
    show = ("config", "show", "--format", "json", "--config", str(path))
    environment = {"SNAPCORE_NODE_LABELS": "disk=slow,zone=b"}
    by_flag = spawn(*show, "--node-label", "zone=a", environment=environment)
    assert settings(by_flag)["snapshotter"] == (["native"], f"{path}:[[node]] 1")
    assert settings(spawn(*show, environment=environment))["snapshotter"][0] == ["auto"]


def test_wrong_node_label() -> None:
    outcome = spawn("config", "show", "--node-label", "zone")
    assert outcome.code == 2
    assert "'zone'" in outcome.err


def test_unknown_key_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("[unpack]\ndonwloads = 9\n", encoding="utf-8")
    outcome = spawn("--config", str(path), "images", "ls")
    assert (outcome.code, outcome.out) == (2, "")
    assert "'unpack.donwloads'" in outcome.err
    assert "'unpack.downloads'" in outcome.err


def test_a_user_gets_directories_of_his_own(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}
    loaded = session(environment=home, user=1000).load()
    assert loaded.config.root == f"{tmp_path}/.local/share/snapcore"
    assert loaded.config.state == f"{tmp_path}/.local/share/snapcore/state"
    xdg = home | {"XDG_DATA_HOME": "/d", "XDG_RUNTIME_DIR": "/run/user/7"}
    config = session(environment=xdg, user=1000).load().config
    assert (config.root, config.state) == ("/d/snapcore", "/run/user/7/snapcore")
    config = session({"root": Flag("/r", "flag --root")}, xdg, 1000).load().config
    assert (config.root, config.state) == ("/r", "/r/state")


def test_a_user_has_a_config_file_of_his_own(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path)}
    assert session(environment=environment, user=1000).config_path is None
    (tmp_path / ".config/snapcore").mkdir(parents=True)
    path = tmp_path / ".config/snapcore/config.toml"
    path.write_text('blocked = ["x"]', encoding="utf-8")
    mine = session(environment=environment, user=1000)
    assert mine.config_path == str(path)
    assert mine.load().config.blocked == ("x",)


def test_docker_config_is_found(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path)}
    assert session(environment=environment).load().config.registry.docker_config == ""
    (tmp_path / ".docker").mkdir()
    (tmp_path / ".docker/config.json").write_text("{}", encoding="utf-8")
    found = session(environment=environment).load().config.registry.docker_config
    assert found == f"{tmp_path}/.docker/config.json"
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text("{}", encoding="utf-8")
    environment["DOCKER_CONFIG"] = str(other)
    found = session(environment=environment).load().config.registry.docker_config
    assert found == f"{other}/config.json"


def test_shared_flags_become_a_choice_and_settings() -> None:
    wanted = Wanted("linux/arm64", labels=("x=1",), downloads=3, workers=5, discard="after-image")
    choice = wanted.choice(unpack=True)
    assert (choice.platform, choice.discard, choice.unpack) == (
        "linux/arm64",
        "after-image",
        True,
    )
    assert (choice.snapshotters, choice.snapshot_labels) == ((), {"x": "1"})
    config = session().load(wanted.settings()).config
    assert (config.unpack.downloads, config.unpack.workers) == (3, 5)
    with pytest.raises(InvalidArgument, match="--unpack-all"):
        replace(wanted, unpack_all=True).choice(unpack=True)


def test_empty_flag_value_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="snapshotter"):
        session({"snapshotter": Flag(("",), "flag --snapshotter")}).load()
