"""The conformance checks over `erofs`, as every author of a plugin runs them."""

from __future__ import annotations

import pytest

from snapcore.conformance.suite import SnapshotterConformance

pytestmark = pytest.mark.usefixtures("census")


class TestErofs(SnapshotterConformance):
    snapshotter = "erofs"
