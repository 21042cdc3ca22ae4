"""A state machine: any calls in any order, compared with the reference and a model of the files.

It needs hypothesis (extra `snapcore[conformance]`). `check_against_model` runs it; a failure
prints the shortest sequence of calls that was found to differ.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from typing import ClassVar, Final

import hypothesis
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from snapcore.conformance.clock import WallClock
from snapcore.conformance.harness import Harness, expect, expect_equal, read, write
from snapcore.conformance.history import Call, Hook
from snapcore.conformance.memory import open_memory
from snapcore.conformance.memory_state import MemoryState
from snapcore.conformance.peer import Peer
from snapcore.conformance.run import Subject, started
from snapcore.errors import SnapcoreError
from snapcore.linux import Cap, effective_capabilities
from snapcore.snapshots import Capability, Info, Kind, Labels, Snapshotter

_Files = dict[str, bytes]

# Few, so that calls meet.
_KEYS: Final = st.sampled_from(("a", "b", "é", "k/.."))
_PARENTS: Final = st.one_of(st.just(""), _KEYS)
_PATHS: Final = st.sampled_from(("file", "dir/one", "dir/two", "deep/er/file"))
_LABELS: Final = st.dictionaries(
    st.sampled_from(("t.a", "t.b/c")), st.sampled_from(("", "1", "ü, x")), max_size=2
)
_MASKS: Final = st.lists(
    st.sampled_from(("labels", "labels.t.a", "labels.t.b/c", "parent", "labels.")), max_size=2
)
_FILTERS: Final = st.lists(
    st.sampled_from(
        ("kind==active", "kind!=view,parent==a", 'labels."t.a"', "name~=[a-c]", "parent", "name==")
    ),
    max_size=2,
)


class SnapshotterMachine(RuleBasedStateMachine):
    """Makes the same calls to a snapshotter and to the reference.

    Attributes:
        subject: what is compared.
        place: an existing directory for its state roots.
        crashes: kill processes in the middle of calls too; the subject must be installed.
    """

    subject: ClassVar[Subject]
    place: ClassVar[str]
    crashes: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()
        self._files: dict[str, _Files] = {}
        self._mountable = False
        self._clock = WallClock()

    @initialize()
    def start(self) -> None:
        """Open both, with nothing in them."""
        directory = self._stack.enter_context(tempfile.TemporaryDirectory(dir=self.place))
        self._stack.enter_context(self._clock.installed())
        self.harness: Harness = self._stack.enter_context(started(self.subject, directory))
        self.model = self._stack.enter_context(open_memory(MemoryState(), directory))
        self._mountable = self.subject.mountable and Cap.SYS_ADMIN in effective_capabilities()

    def teardown(self) -> None:
        """Close both."""
        self._stack.close()

    @rule(key=_KEYS, parent=_PARENTS, labels=_LABELS)
    def prepare(self, key: str, parent: str, labels: Labels) -> None:
        """Prepare an Active."""
        if self._both(lambda s: bool(s.prepare(key, parent, labels=labels))):
            self._files[key] = dict(self._files.get(parent, {}))

    @rule(name=_KEYS, parent=_PARENTS)
    def layer(self, name: str, parent: str) -> None:
        """Make a committed snapshot at once, as images do."""
        if self._both(lambda s: bool(s.prepare("layer", parent))):
            self._files["layer"] = dict(self._files.get(parent, {}))
            self.commit(name, "layer", {})
            self.remove("layer")

    @rule(key=_KEYS, parent=_PARENTS, labels=_LABELS)
    def view(self, key: str, parent: str, labels: Labels) -> None:
        """Make a View."""
        if self._both(lambda s: bool(s.view(key, parent, labels=labels))):
            self._files[key] = dict(self._files.get(parent, {}))

    @rule(name=_KEYS, key=_KEYS, labels=_LABELS)
    def commit(self, name: str, key: str, labels: Labels) -> None:
        """Commit an Active."""
        if self._both(lambda s: _shown(s.commit(name, key, labels=labels))):
            self._files[name] = self._files.pop(key)

    @precondition(lambda self: Capability.REBASE in self.harness.snapshotter.capabilities)
    @rule(name=_KEYS, key=_KEYS, parent=_KEYS)
    def rebase(self, name: str, key: str, parent: str) -> None:
        """Commit an Active onto a parent."""
        above = self._parent(key) == ""
        if self._both(lambda s: _shown(s.commit(name, key, parent=parent))):
            files = self._files.pop(key)
            self._files[name] = {**self._files[parent], **files} if above else files

    @rule(key=_KEYS)
    def remove(self, key: str) -> None:
        """Remove a snapshot of any kind."""
        if self._both(lambda s: _shown(s.remove(key))):
            del self._files[key]

    @rule(key=_KEYS, labels=_LABELS, paths=_MASKS)
    def update(self, key: str, labels: Labels, paths: list[str]) -> None:
        """Change labels."""
        self._both(lambda s: _shown(s.update(Info(Kind.ACTIVE, key, labels=labels), paths)))

    @rule(key=_KEYS)
    def ask(self, key: str) -> None:
        """Ask everything that can be asked of one snapshot."""
        self._both(lambda s: _shown(s.stat(key)))
        self._both(lambda s: bool(s.mounts(key)))
        self._both(lambda s: s.usage(key) is not None)
        self._both(lambda s: s.status(key).lazy)
        self._both(lambda s: s.target(key) is not None)

    @rule(filters=_FILTERS, page=st.integers(1, 4))
    def walk(self, filters: list[str], page: int) -> None:
        """Walk with filters, in pages."""
        self._both(lambda s: [_shown(info) for info in s.walk(filters, page=page)])

    @rule()
    def clean(self) -> None:
        """Clean up and flush: nobody notices."""
        self.harness.snapshotter.cleanup()
        self.harness.snapshotter.flush()

    @rule()
    def reopen(self) -> None:
        """Close and open again: nobody notices."""
        self.harness.reopen()

    @rule(days=st.sampled_from((-1, 0, 2)))
    def step_clock(self, days: int) -> None:
        """Set the wall clock back, right, or ahead: nobody notices."""
        self._clock.days = days

    @precondition(lambda self: self._mountable)
    @rule(key=_KEYS, path=_PATHS, data=st.sampled_from((b"", b"1", b"22")))
    def write(self, key: str, path: str, data: bytes) -> None:
        """Write a file through the mounts of an Active."""
        if self._kind(key) is Kind.ACTIVE:
            with self.harness.mounted(self.harness.snapshotter.mounts(key)) as root:
                write(root, path, data)
            self._files[key][path] = data

    @precondition(lambda self: self._mountable)
    @rule(key=_KEYS, path=_PATHS)
    def unlink(self, key: str, path: str) -> None:
        """Delete a file through the mounts of an Active."""
        if self._kind(key) is Kind.ACTIVE and path in self._files[key]:
            with self.harness.mounted(self.harness.snapshotter.mounts(key)) as root:
                os.unlink(os.path.join(root, path))
            del self._files[key][path]

    @precondition(lambda self: self._mountable)
    @rule(key=_KEYS)
    def look(self, key: str) -> None:
        """Compare the files of an Active or View with the model."""
        if self._kind(key) in (Kind.ACTIVE, Kind.VIEW):
            with self.harness.mounted(self.harness.snapshotter.mounts(key)) as root:
                expect_equal(_files(root), self._files[key], f"files of {key!r}")

    @precondition(lambda self: self.crashes)
    @rule(
        hook=st.sampled_from(("prepare", "commit", "remove")),
        key=_KEYS,
        name=_KEYS,
        parent=_PARENTS,
        point=st.integers(1, 12),
    )
    def crash(self, hook: Hook, key: str, name: str, parent: str, point: int) -> None:
        """Kill a process in the middle of a call: it happened, or it did not."""
        call = Call(hook, key, name, "" if hook == "commit" else parent)
        points = os.path.join(self.harness.work, "points")
        with Peer(self.harness.snapshotter) as peer:
            peer.wait_until_open()
            peer.begin(call, points=points, die_at=point)
            ended = peer.end()
        os.unlink(points)
        now = {info.name for info in self.harness.snapshotter.walk()}
        if now == {info.name for info in self.model.walk()}:
            return
        expect(ended is None or not ended.outcome, f"a refused call changed something: {ended}")
        match hook:
            case "prepare":
                self.model.prepare(key, parent)
                self._files[key] = dict(self._files.get(parent, {}))
            case "commit":
                self.model.commit(name, key)
                self._files[name] = self._files.pop(key)
            case _:
                self.model.remove(key)
                del self._files[key]

    @invariant()
    def same_names(self) -> None:
        """Both know the same snapshots."""
        if hasattr(self, "model"):
            self._both(lambda s: [_shown(info) for info in s.walk()])

    def _both(self, call: Callable[[Snapshotter], object]) -> bool:
        """Make a call to both, compare how it ends, and tell whether it succeeded."""
        wanted, found = _ended(call, self.model), _ended(call, self.harness.snapshotter)
        expect_equal(found, wanted, "how a call ended, and how it should have")
        return not isinstance(wanted, type)

    def _kind(self, key: str) -> Kind | None:
        return self.model.stat(key).kind if key in self._files else None

    def _parent(self, key: str) -> str | None:
        return self.model.stat(key).parent if key in self._files else None


def check_against_model(
    subject: Subject,
    place: str,
    *,
    crashes: bool = False,
    settings: hypothesis.settings | None = None,
) -> None:
    """Compare a snapshotter with the reference, over sequences of calls that hypothesis makes up.

    Args:
        subject: what is compared.
        place: an existing directory for its state roots.
        crashes: kill processes in the middle of calls too; the subject must be installed.
        settings: how many sequences, and how long; hypothesis' own defaults if None.

    Raises:
        CheckFailed: they differ; hypothesis prints the calls.
    """
    machine = type(
        "Machine",
        (SnapshotterMachine,),
        {"subject": subject, "place": place, "crashes": crashes},
    )
    run_state_machine_as_test(machine, settings=settings)


def _ended(call: Callable[[Snapshotter], object], snapshotter: Snapshotter) -> object:
    """Return what a call answers, or the class of what it raises."""
    try:
        return call(snapshotter)
    except SnapcoreError as error:
        return type(error)


def _shown(info: Info) -> tuple[Kind, str, str, dict[str, str], bool]:
    """Return what of an info is the same everywhere: no times, no labels that backends make up."""
    labels = {key: value for key, value in info.labels.items() if key.startswith("t.")}
    return info.kind, info.name, info.parent, labels, info.created == info.updated


def _files(root: str) -> _Files:
    return {
        os.path.relpath(os.path.join(directory, name), root): read(directory, name)
        for directory, _, names in os.walk(root)
        for name in names
    }
