"""What users install: wheels of every distribution, and a stranger's plugin beside them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Final

import pytest
from support.images import run_tool, session_directory, tiny_layout

REPO: Final = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.xdist_group("packaging")

EXAMPLES: Final = tuple(sorted(p.parent for p in REPO.glob("examples/*/pyproject.toml")))
PROJECTS: Final = (
    REPO,
    *sorted(p.parent for p in REPO.glob("plugins/*/pyproject.toml")),
    *EXAMPLES,
)
STRANGER: Final = {
    "pyproject.toml": """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "strangers-snapshotter"
version = "1.2.3"
dependencies = ["snapcore>=0.1,<0.2", "snapcore-native", "pluggy>=1.7"]

[project.entry-points."snapcore.snapshotters"]
strange = "strange_snapshotter"

[tool.hatch.build.targets.wheel]
include = ["strange_snapshotter.py"]
""",
    "strange_snapshotter.py": '''
"""A snapshotter of somebody else: plain copies, under another name."""

from snapcore.snapshots import Probe, hookimpl
from snapcore_native.plugin import snapcore_open, snapcore_options


@hookimpl
def snapcore_probe(root, options):
    return Probe(usable=True)
''',
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with the wheels of everything, and the stranger's, installed."""
    work = session_directory(tmp_path_factory) / f"packaging-{os.getpid()}"
    stranger, wheels, target = work / "stranger", work / "wheels", work / "site"
    stranger.mkdir(parents=True)
    for name, text in STRANGER.items():
        (stranger / name).write_text(text)
    sources = [*map(str, PROJECTS), str(stranger)]
    _pip("wheel", "--no-build-isolation", "--wheel-dir", str(wheels), *sources)
    _pip("install", "--target", str(target), *map(str, sorted(wheels.iterdir())))
    return work


def _pip(*arguments: str) -> None:
    command, *rest = arguments
    run_tool(sys.executable, "-m", "pip", command, "--quiet", "--no-deps", "--no-index", *rest)


def _snapcore(installed: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "snapcore.cli", *arguments],
        env={**os.environ, "PYTHONPATH": str(installed / "site"), "SNAPCORE_CONFIG": ""},
        cwd=installed,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_wheels_have_our_packages_and_nothing_else(installed: Path) -> None:
    tops: dict[str, set[str]] = {}
    for wheel in sorted((installed / "wheels").iterdir()):
        names = zipfile.ZipFile(wheel).namelist()
        own = {name.partition("/")[0] for name in names if ".dist-info/" not in name}
        tops[wheel.name.partition("-")[0]] = own
    assert tops.pop("strangers_snapshotter") == {"strange_snapshotter.py"}
    assert tops == {name: {name} for name in tops}
    assert len(tops) == len(PROJECTS)


def test_wheels_carry_their_type_marker_and_licence(installed: Path) -> None:
    for wheel in sorted((installed / "wheels").glob("snapcore*")):
        names = zipfile.ZipFile(wheel).namelist()
        assert f"{wheel.name.partition('-')[0]}/py.typed" in names
    core = zipfile.ZipFile(next((installed / "wheels").glob("snapcore-*"))).namelist()
    assert any(name.endswith("/licenses/LICENSE") for name in core)


def test_the_installed_command_line_runs(installed: Path) -> None:
    assert _snapcore(installed, "--version").startswith("snapcore 0.")
    where = run_tool(
        "env", f"PYTHONPATH={installed / 'site'}", sys.executable, "-P", "-c",
        "import snapcore; print(snapcore.__file__)",
    )  # fmt: skip
    assert where.startswith(str(installed / "site"))


def test_a_strangers_plugin_is_listed_with_its_distribution(installed: Path) -> None:
    rows = json.loads(
        _snapcore(installed, "--root", str(installed / "r"), "--format", "json", "plugins", "ls")
    )
    row = next(row for row in rows if row["name"] == "strange")
    assert "strangers-snapshotter" in json.dumps(row)


def _run_examples_tests(installed: Path, example: str, which: str, work: Path) -> None:
    shutil.copytree(REPO / "examples" / example / "tests", work / "tests")
    # A place of its own: others leave trees that are too deep for a pytest without our conftest.
    own = ("-q", "-p", "no:cacheprovider", "--basetemp", str(work / "temporary"))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *own, "-m", "not long", "-k", which, "tests"],
        env={**os.environ, "PYTHONPATH": str(installed / "site")},
        cwd=work,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


@pytest.mark.needs_root
@pytest.mark.parametrize("example", [example.name for example in EXAMPLES])
def test_an_examples_own_tests_pass_outside_of_the_workspace(
    installed: Path, example: str, tmp_path: Path
) -> None:
    _run_examples_tests(installed, example, "not test_conforms", tmp_path)


@pytest.mark.needs_root
@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_example_of_a_snapshotter_conforms(installed: Path, tmp_path: Path) -> None:
    _run_examples_tests(installed, "btrfs", "test_conforms", tmp_path)


@pytest.mark.needs_root
def test_a_strangers_plugin_serves_an_import_by_config_alone(installed: Path) -> None:
    tiny_layout(installed / "layout")
    config = installed / "config.toml"
    config.write_text(f'version = 1\nroot = "{installed / "root"}"\nsnapshotter = "strange"\n')
    common = ("--config", str(config), "--format", "json")
    _snapcore(installed, *common, "images", "import", str(installed / "layout"))
    snapshots = json.loads(_snapcore(installed, *common, "snapshots", "ls"))
    assert [s["kind"] for s in snapshots] == ["committed", "committed"]
    assert (installed / "root").exists()
