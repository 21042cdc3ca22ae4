"""What `config show` and `doctor` say of the settings for registries."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.cli import Outcome, call


def snapcore(tmp_path: Path, text: str, *arguments: str) -> Outcome:
    config = tmp_path / "config.toml"
    config.write_text(text, encoding="utf-8")
    return call("--root", str(tmp_path / "root"), "--config", str(config), *arguments)


def shown(tmp_path: Path, text: str) -> dict[object, tuple[object, object]]:
    rows = snapcore(tmp_path, text, "config", "show", "--format", "json").records()
    return {row["key"]: (row["value"], row["origin"]) for row in rows}


def test_defaults_are_shown(tmp_path: Path) -> None:
    found = shown(tmp_path, "")
    assert found["registry.config_path"] == ("/etc/snapcore/certs.d", "default")
    assert found["registry.private_networks"] == ("same-as-registry", "default")


def test_settings_are_shown_with_their_file(tmp_path: Path) -> None:
    text = (
        f'[registry]\nconfig_path = "{tmp_path}/a:{tmp_path}/b"\nprivate_networks = "refuse"\n'
        'plain_http = ["h:1"]\n'
    )
    found = shown(tmp_path, text)
    for key, value in (
        ("config_path", f"{tmp_path}/a:{tmp_path}/b"),
        ("private_networks", "refuse"),
        ("plain_http", ["h:1"]),
    ):
        assert found[f"registry.{key}"][0] == value
        assert str(tmp_path / "config.toml") in str(found[f"registry.{key}"][1])


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ('private_networks = "deny"', "allow or same-as-registry or refuse"),
        ('config_pth = "/x"', "registry.config_path"),
        ("config_path = 1", "a string"),
        ("private_networks = true", "a string"),
        ("max_per_host = 0", "at least 1"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, line: str, named: str) -> None:
    refused = snapcore(tmp_path, f"[registry]\n{line}\n", "config", "show")
    assert (refused.code, refused.out) == (2, "")
    assert named in refused.err
    assert str(tmp_path / "config.toml") in refused.err
    assert refused.err.count("\n") == 1


def test_doctor_names_each_bad_directory(tmp_path: Path) -> None:
    for name, text in (
        ("good.example", 'server = "https://mirror.example"\n'),
        ("typo.example", 'servr = "https://mirror.example"\n'),
        ("ca.example", 'ca = "absent.crt"\n'),
        ("key.example", 'client = [["absent.cert", "absent.key"]]\n'),
    ):
        (tmp_path / "certs.d" / name).mkdir(parents=True)
        (tmp_path / "certs.d" / name / "hosts.toml").write_text(text)
    config = f'[registry]\nconfig_path = "{tmp_path}/none:{tmp_path}/certs.d"\n'
    report = snapcore(tmp_path, config, "doctor", "--format", "json").record()
    problems = report["hosts_problems"]
    assert isinstance(problems, list)
    assert [problem.split("certs.d/")[1].split("/")[0] for problem in problems] == [
        "ca.example",
        "key.example",
        "typo.example",
    ]
    assert "'server'" in problems[2]
    lines = snapcore(tmp_path, config, "doctor").out.splitlines()
    assert [line for line in lines if line.startswith("registry hosts: ")] == [
        f"registry hosts: {problem}" for problem in problems
    ]


def test_doctor_has_nothing_to_say_of_good_ones(tmp_path: Path) -> None:
    (tmp_path / "certs.d/_default").mkdir(parents=True)
    (tmp_path / "certs.d/_default/hosts.toml").write_text('[host."https://mirror.example"]\n')
    config = f'[registry]\nconfig_path = "{tmp_path}/certs.d"\n'
    assert snapcore(tmp_path, config, "doctor", "--format", "json").record()["hosts_problems"] == []
