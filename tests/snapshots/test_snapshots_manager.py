"""Opening third parties' snapshotters: what is refused, what is filled in, what is left alone."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest
from support.distributions import THIRD_PARTY, install, installed

from snapcore.errors import ContractError, FailedPrecondition, InvalidArgument, NotFound
from snapcore.mount import Mount
from snapcore.oci import WhiteoutStyle
from snapcore.snapshots import (
    FlushReport,
    Kind,
    LayerTarget,
    Reclaimed,
    hookspecs,
    list_plugins,
    open_snapshotter,
    probe_snapshotter,
    snapshotter_options,
)

Install: TypeAlias = Callable[[str], None]

# A backend in memory; each test changes one line of it.
PLUGIN = """
from snapcore.mount import Mount
from snapcore.snapshots import (
    FlushReport, Info, Kind, LayerTarget, Page, Probe, Usage, hookimpl)

class Memory:
    closed = 0
    @hookimpl
    def stat(self, key): return Info(Kind.ACTIVE, key)
    @hookimpl
    def update(self, info, fieldpaths): return info
    @hookimpl
    def usage(self, key): return Usage()
    @hookimpl
    def mounts(self, key): return (
        Mount("overlay", "overlay", options=("upperdir=/u", "lowerdir=/l")),)
    @hookimpl
    def prepare(self, key): return ()
    @hookimpl
    def view(self, key): return ()
    @hookimpl
    def commit(self, name, parent): return Info(Kind.COMMITTED, name, parent)
    @hookimpl
    def remove(self, key): return Info(Kind.ACTIVE, key)
    @hookimpl
    def walk(self, after): return Page()
    @hookimpl
    def close(self):
        Memory.closed += 1
        return True

@hookimpl
def snapcore_probe(root): return Probe(True)

@hookimpl
def snapcore_open(root): return Memory()
"""


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[Install]:
    site = tmp_path / "site"
    site.mkdir()

    def write(source: str) -> None:
        install(
            site,
            "memory-plugin",
            {"memory_plugin": source},
            {hookspecs.ENTRY_POINTS: {"memory": "memory_plugin"}},
            version="3.1",
        )

    with installed(site):
        yield write


def changed(old: str, new: str) -> str:
    assert PLUGIN.count(old) == 1
    return PLUGIN.replace(old, new)


def closed() -> int:
    return int(sys.modules["memory_plugin"].Memory.closed)


def test_a_complete_plugin_opens(plugin: Install) -> None:
    plugin(PLUGIN)
    with open_snapshotter("memory", "/root") as snapshotter:
        assert (snapshotter.name, snapshotter.root) == ("memory", "/root")
        assert snapshotter.commit("n", "k", parent="p").parent == "p"
        assert closed() == 0
    assert closed() == 1


def test_optional_hooks_are_filled_in(plugin: Install, tmp_path: Path) -> None:
    plugin(PLUGIN)
    snapshotter = open_snapshotter("memory", str(tmp_path))
    assert snapshotter.target("k") == LayerTarget("/u", ("/l",), WhiteoutStyle.OVERLAY)
    assert snapshotter.flush() == FlushReport(synced=1)
    assert snapshotter.cleanup() == Reclaimed()


def test_the_default_target_takes_only_active_snapshots(plugin: Install) -> None:
    plugin(
        changed(
            "Info(Kind.ACTIVE, key)\n    @hookimpl\n    def update",
            "Info(Kind.VIEW, key)\n    @hookimpl\n    def update",
        )
    )
    with pytest.raises(FailedPrecondition, match="'k' is view"):
        open_snapshotter("memory", "/root").target("k")


def test_a_plugins_own_optional_hook_is_not_filled_in(plugin: Install) -> None:
    plugin(
        changed("    closed = 0", "    closed = 0\n    @hookimpl\n    def target(self, key): pass")
    )
    with pytest.raises(ContractError, match="target returned nothing"):
        open_snapshotter("memory", "/root").target("k")


@pytest.mark.parametrize("hook", hookspecs.REQUIRED_HOOKS)
def test_a_missing_hook(plugin: Install, hook: str) -> None:
    plugin(
        changed(
            f"    @hookimpl\n    def {hook}(",
            f"    @hookimpl(optionalhook=True)\n    def no_{hook}(",
        )
    )
    with pytest.raises(
        ContractError, match=rf"'memory' \(distribution memory-plugin 3.1\).* {hook}$"
    ):
        open_snapshotter("memory", "/root")
    assert closed() == 1


@pytest.mark.parametrize("hook", hookspecs.REQUIRED_HOOKS)
def test_an_override_that_lost_its_mark(plugin: Install, hook: str) -> None:
    plugin(
        PLUGIN.replace("return Memory()", "return Child()")
        + f"\nclass Child(Memory):\n    def {hook}(self): pass\n"
    )
    with pytest.raises(ContractError, match=f"{hook}.*not marked"):
        open_snapshotter("memory", "/root")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("def prepare(self, key)", "def prepare(self, kye)", "kye"),
        ("    closed = 0", "    closed = 0\n    @hookimpl\n    def clone(self): pass", "clone"),
        ("    closed = 0", "    closed = 0\n    def flush(self): pass", "flush.*not marked"),
        ("    @hookimpl\n    def stat", "    @hookimpl\n    async def stat", "stat is async"),
        ("return Probe(True)", "return True", "returned True, not a Probe"),
        ("return Probe(True)", "return None", "returned None, not a Probe"),
        ("return Probe(True)", "return Probe(True, contract=99)", "version 99.*serves 0 and 1"),
        ("return Probe(True)", "return 1 / 0", "snapcore_probe raised ZeroDivisionError"),
        ("return Memory()", "return None", "snapcore_open returned None"),
        ("return Memory()", "raise KeyError('x')", "snapcore_open raised KeyError: 'x'"),
        ("def snapcore_open", "def other", "snapcore_open|other"),
        ("@hookimpl\ndef snapcore_open", "def snapcore_open", "not implement snapcore_open"),
        ("@hookimpl\ndef snapcore_probe(root", "@hookimpl\ndef snapcore_probe(path", "path"),
    ],
)
def test_a_plugin_that_breaks_the_contract(
    plugin: Install, old: str, new: str, message: str
) -> None:
    plugin(changed(old, new))
    with pytest.raises(ContractError, match=message) as caught:
        open_snapshotter("memory", "/root")
    assert "memory-plugin 3.1" in str(caught.value)


def test_the_contract_version_before_is_served(plugin: Install) -> None:
    plugin(changed("Probe(True)", "Probe(True, contract=0)"))
    assert probe_snapshotter("memory", "/root").contract == 0
    open_snapshotter("memory", "/root").close()


def test_a_backend_that_cannot_work_here(plugin: Install) -> None:
    plugin(changed("Probe(True)", "Probe(False, 'no such kernel')"))
    assert probe_snapshotter("memory", "/root").reason == "no such kernel"
    with pytest.raises(FailedPrecondition, match="'memory' cannot work at '/root': no such kernel"):
        open_snapshotter("memory", "/root")
    assert closed() == 0


def test_opening_probes_once_and_hands_the_findings_over(plugin: Install) -> None:
    source = changed("return Probe(True)", "tried.append(root); return Probe(True, findings=tried)")
    source = source.replace("def snapcore_open(root)", "def snapcore_open(root, probe)")
    source = source.replace("return Memory()", "assert probe.findings is tried; return Memory()")
    plugin("tried = []\n" + source)
    open_snapshotter("memory", "/root").close()
    known = probe_snapshotter("memory", "/root")
    open_snapshotter("memory", "/root", probe=known).close()
    assert known.findings == ["/root", "/root"]


def test_system_errors_of_opening_are_mapped(plugin: Install) -> None:
    plugin(changed("return Memory()", "open('/nowhere/at/all')"))
    with pytest.raises(NotFound, match="memory-plugin"):
        open_snapshotter("memory", "/root")


@pytest.fixture
def acme() -> Iterator[None]:
    with installed(THIRD_PARTY):
        yield


@pytest.mark.usefixtures("acme")
def test_options_are_checked_and_passed_on(tmp_path: Path) -> None:
    assert set(snapshotter_options("acme")) == {"speed", "level", "careful", "extra"}
    root = str(tmp_path / "acme")
    assert probe_snapshotter("acme", root, {"speed": "slow"}).details == {"speed": "slow"}
    assert probe_snapshotter("acme", root).details == {"speed": "fast"}
    with pytest.raises(InvalidArgument, match=r"\[plugins.acme\] seed'; known options: careful"):
        open_snapshotter("acme", root, options={"seed": 1})
    with pytest.raises(FailedPrecondition, match="level 0 is below the ground"):
        open_snapshotter("acme", root, options={"level": 0})
    assert not (tmp_path / "acme").exists()


@pytest.mark.usefixtures("acme")
def test_a_strangers_backend_serves(tmp_path: Path, census: None) -> None:
    assert "acme" in [plugin.name for plugin in list_plugins()]
    root = str(tmp_path / "acme")
    with open_snapshotter("acme", root) as snapshotter:
        (mount,) = snapshotter.prepare("key", labels={"a": "1"})
        assert mount == Mount("bind", f"{root}/snapshots/1", options=("rbind", "rw"))
        assert snapshotter.target("key") == LayerTarget(mount.source)
        assert snapshotter.usage("key").inodes == 1
        assert snapshotter.commit("name", "key").kind is Kind.COMMITTED
        assert [info.name for info in snapshotter.walk(["kind==committed"])] == ["name"]
        assert snapshotter.remove("name").name == "name"


@pytest.mark.usefixtures("acme")
def test_blocked_names() -> None:
    with pytest.raises(FailedPrecondition, match="blocked"):
        open_snapshotter("acme", "/root", blocked=("acme",))
    with pytest.raises(FailedPrecondition, match="blocked"):
        open_snapshotter("acme", "/root", wrappers=("acme-quota",), blocked=("acme-quota",))
