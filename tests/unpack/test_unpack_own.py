"""A snapshotter that applies layers by itself is fed by a pipe, beside one that does not."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
import trio
from support.distributions import THIRD_PARTY, install, installed
from support.layout import File, LayoutBuilder, tar_of

from snapcore.config import NodeConfig
from snapcore.errors import ContractError, DigestMismatch, SnapcoreError
from snapcore.node import Node, UnpackChoice
from snapcore.oci import Digest
from snapcore.snapshots import open_snapshotter

pytestmark = pytest.mark.needs_root
LAYER: Final = tar_of(File("./"), File("etc/"), File("etc/a", b"one" * 500_000))
PLUGIN: Final = """
import os
import shutil

from acme_snapcore.plugin import Acme
from snapcore.snapshots import ApplyResult, Capability, Probe, hookimpl

@hookimpl
def snapcore_probe(root, options):
    return Probe(True, capabilities=frozenset({Capability.OWN_APPLY}))

@hookimpl
def snapcore_open(root, options):
    return Acme(root)
"""
APPLY: Final = """
@hookimpl
def snapcore_apply(target, stream_fd, options):
    with open(os.path.join(target, "layer.tar"), "xb") as file:
        with open(stream_fd, "rb", closefd=False) as stream:
            shutil.copyfileobj(stream, file)
        return ApplyResult(1, file.tell())
"""
FAILING: Final = """
@hookimpl
def snapcore_apply(target, stream_fd, options):
    raise RuntimeError("not today")
"""


def load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, apply: str, *, diff_id: Digest | None = None
) -> Path:
    """Import one layer with the plugin and native; return the plugin's directory of it."""
    site = tmp_path / "site"
    entry = {"snapcore.snapshotters": {"keeper": "keeper_plugin"}}
    install(site, "keeper", {"keeper_plugin": PLUGIN + apply}, entry)
    before = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", f"{site}:{THIRD_PARTY}:{before}")
    builder = LayoutBuilder(tmp_path / "layout")
    layer = builder.add_layer(LAYER)
    if diff_id is not None:
        layer = replace(layer, diff_id=diff_id)
    builder.add_image("latest", [layer])
    with (
        installed(site, THIRD_PARTY),
        Node.open(NodeConfig.at(str(tmp_path / "root"))) as node,
    ):
        choice = UnpackChoice(snapshotters=("keeper", "native"))
        try:
            trio.run(
                lambda: node.import_(str(builder.directory), name="example/app", choice=choice)
            )
        except SnapcoreError:
            assert list(node.snapshotter("keeper").walk()) == []
            raise
        (info,) = node.snapshotter("keeper").walk()
        view = node.snapshotter("keeper").view("v", info.name)
        # The plugin keeps its directories beside each other.
        return Path(view[0].source).parent


def test_it_gets_the_uncompressed_tar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = list(load(tmp_path, monkeypatch, APPLY).rglob("layer.tar"))
    assert [path.read_bytes() for path in kept] == [LAYER]


def test_unverified_bytes_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DigestMismatch):
        load(tmp_path, monkeypatch, APPLY, diff_id=Digest.of(b"another"))


def test_its_failure_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ContractError, match=r"keeper.*not today"):
        load(tmp_path, monkeypatch, FAILING)


def test_a_claim_without_the_hook_is_refused(tmp_path: Path) -> None:
    site = tmp_path / "site"
    entry = {"snapcore.snapshotters": {"keeper": "keeper_plugin"}}
    install(site, "keeper", {"keeper_plugin": PLUGIN}, entry)
    with (
        installed(site, THIRD_PARTY),
        pytest.raises(ContractError, match="own_apply"),
    ):
        open_snapshotter("keeper", str(tmp_path / "root"))
