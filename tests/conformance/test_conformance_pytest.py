"""The pytest class and plugin, in a pytest run of an author's own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_MINE = """
import os
import pytest
from snapcore.conformance import MemoryState, open_memory
from snapcore.conformance.suite import SnapshotterConformance

class TestMine(SnapshotterConformance):
    mountable = installed = False
    {more}

    @pytest.fixture
    def open_root(self):
        state = MemoryState()
        def open_one(root):
            os.makedirs(root, exist_ok=True)
            return open_memory(state, root)
        return open_one
"""


def _pytest(directory: Path, source: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    (directory / "test_mine.py").write_text(source)
    return subprocess.run(
        [
            sys.executable,
            *("-m", "pytest", "-p", "snapcore.conformance.plugin", "-p", "no:cacheprovider"),
            *("--basetemp", str(directory / "temporary")),
            *("--strict-markers", "-W", "error", "-q", "test_mine.py", *arguments),
        ],
        cwd=directory,
        env={**os.environ, "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def test_one_class_and_one_fixture_are_a_suite(tmp_path: Path) -> None:
    done = _pytest(tmp_path, _MINE.format(more=""))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "failed" not in done.stdout
    assert "skipped" in done.stdout


def test_expected_failures_that_pass_fail(tmp_path: Path) -> None:
    more = 'xfails = {"stat": "bug 1", "nothing": "bug 2"}'
    done = _pytest(tmp_path, _MINE.format(more=more), "-k", "stat or expected")
    assert done.returncode == 1
    assert "[XPASS(strict)] bug 1" in done.stdout
    assert "test_expected_failures_are_checks" in done.stdout


def test_without_the_fixture_it_says_what_to_do(tmp_path: Path) -> None:
    source = _MINE.format(more="").partition("    @pytest.fixture")[0]
    done = _pytest(tmp_path, source, "-k", "conforms and stat")
    assert done.returncode == 1
    assert "TestMine names no `snapshotter` and has no `open_root`" in done.stdout


def test_the_plugin_is_silent_and_imports_nothing_of_ours(tmp_path: Path) -> None:
    source = (
        "import sys\ndef test_it():\n    assert 'snapcore.conformance.suite' not in sys.modules"
    )
    done = _pytest(tmp_path, source + "\n    assert 'snapcore.snapshots' not in sys.modules\n")
    assert done.returncode == 0, done.stdout
    assert "snapcore" not in done.stdout


def test_what_a_check_leaves_out_by_itself_is_skipped_and_no_expected_failure(
    tmp_path: Path,
) -> None:
    own = """
def _find_out(harness):
    raise LeftOut("there is nothing to see")

class TestOther(TestMine):
    {more}

    def test_conforms(self, open_root, tmp_path, request):
        check, = checks(_find_out, mounts=False)
        super().test_conforms(check, open_root, tmp_path, request)
"""
    source = _MINE.format(more="") + "from snapcore.conformance.harness import LeftOut, checks\n"
    done = _pytest(tmp_path, source + own.format(more=""), "-k", "Other and conforms", "-rs")
    assert done.returncode == 0, done.stdout
    assert "there is nothing to see" in done.stdout
    more = 'xfails = {"_find_out": "bug 3"}'
    done = _pytest(tmp_path, source + own.format(more=more), "-k", "Other and conforms")
    assert done.returncode == 1
    assert "expected to fail (bug 3), and left out: there is nothing to see" in done.stdout
