"""What libraries may say on stderr."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.cli import spawn
from support.faults import FakeRegistry, status
from support.images import tiny_layout
from support.nodes import serve


@pytest.mark.parametrize("level", ["warning", "debug"])
def test_retries_are_told_by_ourselves_only(tmp_path: Path, level: str) -> None:
    with FakeRegistry() as registry:
        serve(registry, tiny_layout(tmp_path / "layout"))
        registry.spoil("/manifests/", status(429, {"Retry-After": "0"}))
        done = spawn(
            *("--root", str(tmp_path / "root"), "--log-level", level, "--progress", "none"),
            *("pull", "--plain-http", "--no-unpack", "-q", f"{registry.host}/tiny"),
            environment={"HOME": str(tmp_path)},
        )
        assert len(registry.requests("HEAD")) == 2
    assert done.code == 0, done.err
    assert "stamina" not in done.err
    assert ("limits our rate" in done.err) == (level == "debug")
