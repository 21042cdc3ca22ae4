"""containerd's configuration in deploy/ is what `snapcore config containerd` prints."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Final

import pytest

from snapcore.service.snippet import Offer, Release, containerd_config, to_toml
from snapcore.snapshots import Capability

DEPLOY: Final = Path(__file__).resolve().parents[2] / "deploy/containerd"
OFFERS: Final = (
    Offer(
        "overlay",
        "/var/lib/snapcore/snapshotters/overlay",
        frozenset({Capability.REBASE, Capability.REMAP_IDS}),
    ),
    Offer("fuse", "/var/lib/snapcore/snapshotters/fuse", frozenset({Capability.REMOTE})),
)


@pytest.mark.parametrize(
    ("name", "release"), [("config-v2.toml", Release(1, 7)), ("config-v3.toml", Release(2, 0))]
)
def test_the_file_is_what_is_printed(name: str, release: Release) -> None:
    config = containerd_config(OFFERS, "/run/snapcore/service/socket", release, "classes")
    assert tomllib.loads((DEPLOY / name).read_text()) == tomllib.loads(to_toml(config))


def test_what_was_not_run_is_said() -> None:
    assert "Not run against 2.x" in (DEPLOY / "config-v3.toml").read_text()
