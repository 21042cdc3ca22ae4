"""What `plugins new` writes: a distribution that is clean and whose own tests pass."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from support.cli import call

from snapcore.errors import AlreadyExists, InvalidArgument, SnapcoreError
from snapcore.scaffold import Plugin, new_plugin

REPO: Final = Path(__file__).resolve().parents[2]


@pytest.fixture
def plugin(tmp_path: Path) -> Plugin:
    return new_plugin("two-words", str(tmp_path / "new"))


def _run(plugin: Plugin, *command: str, site: str = "") -> None:
    places = os.pathsep.join(filter(None, (site, plugin.directory, *sys.path)))
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=plugin.directory,
        env={**os.environ, "PYTHONPATH": places},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_names_are_derived_from_one(plugin: Plugin) -> None:
    assert (plugin.distribution, plugin.package) == ("snapcore-two-words", "snapcore_two_words")
    written = {
        str(path.relative_to(plugin.directory))
        for path in Path(plugin.directory).rglob("*")
        if path.is_file()
    }
    assert written == set(plugin.files)
    assert (
        "class TwoWordsSnapshotter:"
        in Path(plugin.directory, "snapcore_two_words", "snapshotter.py").read_text()
    )


def test_it_is_as_clean_as_the_rest(plugin: Plugin) -> None:
    config = str(REPO / "pyproject.toml")
    own = ("--config", "src=['.']", "--config", "lint.isort.known-first-party=['snapcore']")
    _run(plugin, "ruff", "check", "--no-cache", "--config", config, *own, ".")
    _run(plugin, "ruff", "format", "--no-cache", "--check", "--config", config, ".")


@pytest.mark.parametrize(
    "name", ["", "Upper", "1st", "under_score", "a--b", "a-", "a/b", "é", "a\n"]
)
def test_other_names_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="is no name for a snapshotter"):
        new_plugin(name, str(tmp_path / "new"))
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    with pytest.raises(AlreadyExists, match="is there already"):
        new_plugin("demo", str(tmp_path / "new"))
    assert list((tmp_path / "new").iterdir()) == []


def test_half_of_it_does_not_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = os.makedirs, 0

    def fail_later(*arguments: object, **options: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise OSError(28, "No space left on device")
        real(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "makedirs", fail_later)
    with pytest.raises(SnapcoreError, match="No space left"):
        new_plugin("demo", str(tmp_path / "new"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.needs_root
@pytest.mark.timeout(900)
@pytest.mark.xdist_group("packaging")
@pytest.mark.parametrize(
    "which",
    [
        pytest.param(("-k", "prepare or commit or expected"), id="some"),
        pytest.param(("-m", "not long"), id="all", marks=pytest.mark.long),
    ],
)
def test_its_own_tests_pass(plugin: Plugin, which: tuple[str, ...], tmp_path: Path) -> None:
    site = str(tmp_path / "site")
    offline = ("--no-deps", "--no-index", "--no-build-isolation", "--target", site)
    _run(plugin, "pip", "install", "--quiet", *offline, ".")
    own = ("-p", "no:cacheprovider", "--basetemp", str(tmp_path / "temporary"))
    _run(plugin, "pytest", "-q", *own, *which, "tests", site=site)


def test_the_command_line_writes_it_where_told(tmp_path: Path) -> None:
    target = tmp_path / "new"
    wanted = ("--format", "json", "plugins", "new", "demo", "--directory", str(target))
    assert call(*wanted).record()["directory"] == str(target)
    assert (target / "snapcore_demo" / "plugin.py").exists()
    again = call(*wanted)
    assert (again.code, str(target) in again.err) == (4, True)
    taken = call("plugins", "new", "overlay", "--directory", str(tmp_path / "other"))
    assert (taken.code, "installed already" in taken.err) == (4, True)
