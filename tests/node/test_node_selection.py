"""Choosing a snapshotter: by trying each of them, once."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from snapcore.config import NodeConfig
from snapcore.node import Node
from snapcore.snapshots import OverlayForm, find_overlay_form


@pytest.mark.needs_root
def test_auto_tries_a_backend_once_until_it_is_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, census: None
) -> None:
    tried: list[str] = []

    def counted(root: str, mount_options: tuple[str, ...], selinux_context: str) -> OverlayForm:
        tried.append(root)
        return find_overlay_form(root, mount_options, selinux_context)

    for module in ("probe", "overlay"):
        monkeypatch.setattr(
            import_module(f"snapcore_overlay.{module}"), "find_overlay_form", counted
        )
    config = NodeConfig(root=str(tmp_path / "root"), state=str(tmp_path / "state"))
    with Node.open(config) as node:
        assert node.snapshotter().name == "overlay"
        assert node.snapshotter() is node.snapshotter("overlay")
    assert tried == [str(tmp_path / "root/snapshotters/overlay")]
