"""The set-up script: it says what is missing, keeps services down, and knows when it is done."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Final

import pytest

REPO: Final = Path(__file__).resolve().parents[1]


@pytest.fixture
def setup(tmp_path: Path) -> ModuleType:
    """Return the script as a module, with a checkout of its own below `tmp_path`."""
    spec = importlib.util.spec_from_file_location("setup_script", REPO / "scripts/setup.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    (tmp_path / "plugins/mine").mkdir(parents=True)
    for name in ("pyproject.toml", "plugins/mine/pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_text('[project]\nname = "x"\n')
    values = {
        "REPO": tmp_path,
        "SYSTEM": tmp_path,
        "POLICY": tmp_path / "policy-rc.d",
        "SEARCH_PATH": str(tmp_path),
    }
    for name, value in values.items():
        setattr(module, name, value)
    return module


def test_it_names_each_missing_program_its_use_and_its_package(
    setup: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = setup.missing_tools()
    assert missing == list(setup.TOOLS)
    setup.report(missing)
    said = capsys.readouterr().err
    for tool in setup.TOOLS:
        assert tool.program in said
        assert tool.purpose in said
        assert tool.package in said.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "more"),
    [
        ((), set()),
        (("--bench",), {"containerd", "npm", "pigz"}),
        (
            ("--containerd",),
            {"containerd", "golang-github-containerd-containerd-dev", "protobuf-compiler"},
        ),
    ],
)
def test_what_few_need_is_installed_when_asked_for(
    setup: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    more: set[str],
) -> None:
    wanted: set[str] = set()
    monkeypatch.setattr(
        setup, "install_packages", lambda tools: wanted.update(tool.package for tool in tools)
    )
    monkeypatch.setattr(setup, "install_python", lambda: 0)
    monkeypatch.setattr(setup, "compile_packages", lambda: None)
    assert setup.main(arguments) == 0
    assert wanted == {tool.package for tool in setup.TOOLS} | more


def test_bytecode_is_written_even_where_python_may_not(
    setup: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "snapcore_it"
    package.mkdir()
    for name in ("__init__.py", "sound.py"):
        (package / name).write_text("VALUE = 1\n")
    (package / "broken.py").write_text("VALUE = \n")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setattr(setup, "projects", lambda: [tmp_path])
    monkeypatch.setattr(setup, "REPO", tmp_path)
    monkeypatch.setattr(setup, "VENV", Path(sys.prefix))
    setup.compile_packages()
    names = {path.name.partition(".")[0] for path in (package / "__pycache__").iterdir()}
    assert names == {"__init__", "sound"}


def test_it_finds_programs_that_no_package_manager_knows(setup: ModuleType, tmp_path: Path) -> None:
    program = tmp_path / "skopeo"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert "skopeo" not in [tool.program for tool in setup.missing_tools()]


def test_headers_count_as_missing_though_their_program_is_there(
    setup: ModuleType, tmp_path: Path
) -> None:
    program = tmp_path / "pkg-config"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert [t.package for t in setup.missing_tools() if t.program == "pkg-config"] == [
        "libfuse3-dev"
    ]
    (tmp_path / "usr/include/fuse3").mkdir(parents=True)
    (tmp_path / "usr/include/fuse3/fuse.h").touch()
    assert "libfuse3-dev" not in [tool.package for tool in setup.missing_tools()]


def test_what_cannot_be_built_is_left_out_and_said(
    setup: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert setup.can_build(("false",), tmp_path / "plugins/mine")
    assert not setup.can_build(("false",), tmp_path / "plugins/fuse")
    said = capsys.readouterr().err
    assert "plugins/fuse is left out" in said
    assert "libfuse3-dev" in said


def test_new_services_do_not_start_and_the_policy_goes_again(setup: ModuleType) -> None:
    with setup.services_kept_down(setup.TOOLS):
        assert (
            subprocess.run([setup.POLICY, "docker-registry", "start"], check=False).returncode
            == 101
        )
    assert not setup.POLICY.exists()


def test_the_administrators_policy_stays(setup: ModuleType) -> None:
    setup.POLICY.write_text("mine")
    with setup.services_kept_down(setup.TOOLS):
        assert setup.POLICY.read_text() == "mine"
    assert setup.POLICY.read_text() == "mine"


@pytest.mark.parametrize(
    "changed", ["pyproject.toml", "plugins/mine/pyproject.toml", "constraints.txt"]
)
def test_a_change_of_what_is_wanted_installs_again(
    setup: ModuleType, tmp_path: Path, changed: str
) -> None:
    before = setup.fingerprint()
    assert setup.fingerprint() == before
    (tmp_path / changed).write_text("[project]\n# something else\n")
    assert setup.fingerprint() != before


def test_all_extras_of_a_distribution_are_wanted(setup: ModuleType, tmp_path: Path) -> None:
    assert setup.extras(tmp_path) == ""
    extras = "[project.optional-dependencies]\nservice = []\ndev = []\n"
    (tmp_path / "pyproject.toml").write_text("[project]\n" + extras)
    assert setup.extras(tmp_path) == "[dev,service]"


def test_every_make_target_has_a_line_of_help() -> None:
    text = subprocess.run(["make", "-C", REPO, "help"], capture_output=True, text=True, check=True)
    targets = {line.split()[1] for line in text.stdout.splitlines() if line.startswith("make ")}
    assert {"setup", "test", "test-long", "lint", "demo", "bench", "clean", "help"} <= targets
