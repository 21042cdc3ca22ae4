"""The checks as a pytest class, for the tests of a snapshotter (extra `snapcore[conformance]`).

    class TestMine(SnapshotterConformance):
        snapshotter = "mine"

or, for anything but an installed plugin with its defaults:

    class TestMine(SnapshotterConformance):
        @pytest.fixture
        def open_root(self) -> OpenRoot:
            return lambda root: open_snapshotter("mine", root, options={"flavour": "ext4"})
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import pytest

from snapcore.conformance.checks import ALL_CHECKS
from snapcore.conformance.harness import Check, LeftOut
from snapcore.conformance.run import OpenRoot, Subject, started
from snapcore.conformance.xfails import SOMETIMES
from snapcore.snapshots import Labels, open_snapshotter


class SnapshotterConformance:
    """All checks over one snapshotter; a subclass names it, or gives the fixture `open_root`.

    Attributes:
        snapshotter: name of an installed plugin.
        xfails: why a check may fail, by its name. One that does not fail is an error, unless a `?`
            after its name says that it fails sometimes.
        supply: labels, `containerd.io/snapshot.ref` among them, for which a remote snapshotter
            makes a layer available by itself.
        mountable: False if the mounts are such as no kernel knows.
        installed: False if other processes cannot open the same by the plugin's name, the state
            root and the options.
        local: False if it works in another process, behind a socket; see `Subject.local`.
    """

    snapshotter: ClassVar[str] = ""
    xfails: ClassVar[Mapping[str, str]] = {}
    supply: ClassVar[Labels] = {}
    mountable: ClassVar[bool] = True
    installed: ClassVar[bool] = True
    local: ClassVar[bool] = True

    @pytest.fixture
    def open_root(self) -> OpenRoot:
        """Return what opens the snapshotter on a state root that may not exist yet."""
        if not self.snapshotter:
            pytest.fail(f"{type(self).__name__} names no `snapshotter` and has no `open_root`")
        return lambda root: open_snapshotter(self.snapshotter, root)

    @pytest.mark.parametrize(
        "check",
        [pytest.param(c, id=c.name, marks=[pytest.mark.long] * c.long) for c in ALL_CHECKS],
    )
    def test_conforms(
        self, check: Check, open_root: OpenRoot, tmp_path: Path, request: pytest.FixtureRequest
    ) -> None:
        """Run one check on a fresh state root."""
        subject = Subject(
            open_root,
            mountable=self.mountable,
            installed=self.installed,
            local=self.local,
            supply=self.supply,
        )
        sometimes = self.xfails.get(check.name + SOMETIMES, "")
        expected = self.xfails.get(check.name, sometimes)
        place = tmp_path / "conformance"
        place.mkdir()
        with started(subject, str(place)) as harness:
            reason = check.missing(harness)
            if not reason and expected:
                marker = pytest.mark.xfail(reason=expected, strict=not sometimes, raises=Exception)
                request.applymarker(marker)
            try:
                if not reason:
                    check.function(harness)
            except LeftOut as left_out:
                reason = str(left_out)
        if reason and expected:
            pytest.fail(f"expected to fail ({expected}), and left out: {reason}")
        if reason:
            pytest.skip(reason)

    def test_expected_failures_are_checks(self) -> None:
        """Each name in `xfails` is that of a check."""
        names = {name.removesuffix(SOMETIMES) for name in self.xfails}
        assert names <= {check.name for check in ALL_CHECKS}
