"""What a check needs: an opened snapshotter, a place to mount, and words to fail with.

Checks are plain functions without any test framework, so that a pytest class, a command line
and an author's own script can all run them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from snapcore.errors import SnapcoreError
from snapcore.linux import Cap, effective_capabilities, has_owners_up_to
from snapcore.mount import temporary_mount
from snapcore.snapshots import Capability, Info, Labels, Mounts, Snapshotter

EMPTY: Final[Labels] = MappingProxyType({})
_LAST_OWNER: Final = 65_534


class CheckFailed(AssertionError):
    """A snapshotter does not do what the contract says; its author is at fault."""


class LeftOut(Exception):
    """What a check is about is not there, as it has found out; the message says what."""


@dataclass(slots=True)
class Harness:
    """One opened snapshotter with nothing in it, for one check.

    Attributes:
        snapshotter: the one to check.
        work: an empty directory of the check's own.
        open: opens one more instance on the same state.
        mountable: whether its mounts are such as a kernel knows.
        installed: whether another process can open the same by the plugin's name, the root and
            the options.
        local: whether it works in this process, below the state root that it was given; not one
            behind a socket.
        supply: labels, `containerd.io/snapshot.ref` among them, for which a remote backend makes
            a layer available by itself; empty if there is none to ask for.
    """

    snapshotter: Snapshotter
    work: str
    open: Callable[[], Snapshotter]
    mountable: bool = True
    installed: bool = False
    local: bool = True
    supply: Labels = field(default_factory=dict)

    def reopen(self) -> Snapshotter:
        """Close the snapshotter and open the same state again."""
        self.snapshotter.close()
        self.snapshotter = self.open()
        return self.snapshotter

    @contextmanager
    def mounted(self, mounts: Mounts) -> Iterator[str]:
        """Mount a list for the duration of a `with` block and yield where."""
        with temporary_mount(mounts, self.work) as target:
            yield target

    def layer(
        self,
        name: str,
        parent: str = "",
        fill: Callable[[str], object] | None = None,
        labels: Labels = EMPTY,
    ) -> Info:
        """Prepare on `parent`, let `fill` write into the mounted tree, and commit as `name`."""
        key = f"layer for {name}"
        mounts = self.snapshotter.prepare(key, parent)
        if fill is not None:
            with self.mounted(mounts) as root:
                fill(root)
        return self.snapshotter.commit(name, key, labels=labels)

    @contextmanager
    def seen(self, name: str) -> Iterator[str]:
        """Mount a view of a committed snapshot for the duration of a `with` block."""
        key = f"view of {name}"
        mounts = self.snapshotter.view(key, name)
        try:
            with self.mounted(mounts) as root:
                yield root
        finally:
            self.snapshotter.remove(key)


@dataclass(frozen=True, slots=True)
class Check:
    """One check and what it presumes.

    Attributes:
        name: unique, stable, for reports and lists of expected failures.
        function: raises `CheckFailed` or whatever else goes wrong.
        needs: capabilities without which the check is left out.
        mounts: mounts something: needs root, also that of a user namespace.
        owners: needs files of other owners, up to 65,534.
        privileged: needs real root: any owner there is, devices.
        peers: needs other processes on the same state.
        local: looks into the state root, or changes what this process has.
        supply: needs a layer that a remote backend makes available by itself.
        long: takes many seconds.
    """

    name: str
    function: Callable[[Harness], None]
    needs: frozenset[Capability] = frozenset()
    mounts: bool = True
    owners: bool = False
    privileged: bool = False
    peers: bool = False
    local: bool = False
    supply: bool = False
    long: bool = False

    def missing(self, harness: Harness) -> str:
        """Return why this check is left out, "" if it is not."""
        name = harness.snapshotter.name
        lacking = sorted(self.needs - harness.snapshotter.capabilities)
        if lacking:
            return f"{name} does not claim {', '.join(lacking)}"
        if self.mounts and not harness.mountable:
            return f"mounts of {name} are for no kernel"
        if self.peers and not harness.installed:
            return f"no other process can open this {name}"
        if self.local and not harness.local:
            return f"{name} works in another process, which this check would have to look into"
        if self.supply and not harness.supply:
            return f"no layer is given that {name} would make available by itself"
        return self._forbidden()

    def _forbidden(self) -> str:
        capabilities = effective_capabilities()
        if self.mounts and Cap.SYS_ADMIN not in capabilities:
            return "needs the privilege to mount"
        if self.owners and not (Cap.CHOWN in capabilities and has_owners_up_to(_LAST_OWNER)):
            return "needs root, or a user namespace with ids up to 65534"
        if self.privileged and not (Cap.CHOWN in capabilities and has_owners_up_to()):
            return "needs root outside of any user namespace"
        return ""


def checks(
    *functions: Callable[[Harness], None],
    needs: Iterable[Capability] = (),
    mounts: bool = True,
    owners: bool = False,
    privileged: bool = False,
    peers: bool = False,
    local: bool = False,
    supply: bool = False,
    long: bool = False,
) -> tuple[Check, ...]:
    """Make checks of functions that presume the same; `check_` is left off their names."""
    return tuple(
        Check(
            function.__name__.removeprefix("check_"),
            function,
            needs=frozenset(needs),
            mounts=mounts,
            owners=owners,
            privileged=privileged,
            peers=peers,
            local=local,
            supply=supply,
            long=long,
        )
        for function in functions
    )


def expect(condition: bool, message: str) -> None:
    """Fail the check with `message` unless `condition` holds.

    Raises:
        CheckFailed: it does not.
    """
    if not condition:
        raise CheckFailed(message)


def expect_equal(found: object, wanted: object, what: str) -> None:
    """Fail the check unless both are equal.

    Raises:
        CheckFailed: they are not; the message shows both.
    """
    if found != wanted:
        raise CheckFailed(f"{what}: found {found!r}, wanted {wanted!r}")


@contextmanager
def expect_error(kind: type[SnapcoreError], what: str) -> Iterator[None]:
    """Fail the check unless the `with` block raises exactly this class of error.

    Raises:
        CheckFailed: nothing or another error of the tree was raised.
    """
    try:
        yield
    except SnapcoreError as error:
        if not isinstance(error, kind):
            raise CheckFailed(
                f"{what}: raised {type(error).__name__} ({error}), wanted {kind.__name__}"
            ) from error
    else:
        raise CheckFailed(f"{what}: raised nothing, wanted {kind.__name__}")


def write(root: str, path: str, data: bytes = b"", mode: int = 0o644) -> str:
    """Write a file below `root` (replacing what it held), make it `mode`, return its path."""
    place = os.path.join(root, path)
    os.makedirs(os.path.dirname(place), exist_ok=True)
    with open(place, "wb") as stream:
        stream.write(data)
    os.chmod(place, mode)
    return place


def read(root: str, path: str) -> bytes:
    """Return the contents of a file below `root`."""
    with open(os.path.join(root, path), "rb") as stream:
        return stream.read()


def entries(root: str) -> int:
    """Count what lies in the directories of a state root; the root's own files come and go."""
    return sum(
        len(names) + len(files)
        for top in os.scandir(root)
        if top.is_dir(follow_symlinks=False)
        for _, names, files in os.walk(top.path)
    )
