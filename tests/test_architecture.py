"""Who may import whom. Data goes down the rooms and nobody calls up."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

REPO: Final = Path(__file__).resolve().parents[1]
CORE: Final = REPO / "snapcore"
PLUGINS: Final = REPO / "plugins"

_LEAVES: Final = frozenset(
    {"errors", "faults", "labels", "lazily", "locks", "filters", "sqlite", "oci", "linux"}
)
# What each room may import besides itself. A room that is not named here fails the test.
MAY_IMPORT: Final[dict[str, frozenset[str]]] = {
    "errors": frozenset(),
    "faults": frozenset(),
    "lazily": frozenset(),
    "labels": frozenset({"errors"}),
    "filters": frozenset({"errors"}),
    "locks": frozenset({"errors", "linux"}),
    "sqlite": frozenset({"errors", "faults", "locks"}),
    "linux": frozenset({"errors", "faults"}),
    "page": frozenset(),
    "oci": frozenset({"errors"}),
    "mount": _LEAVES,
    "snapshots": _LEAVES | {"mount"},
    "archive": _LEAVES,
    "erofs": _LEAVES | {"archive"},
    "content": _LEAVES,
    "config": _LEAVES | {"archive", "snapshots", "registry", "unpack"},
    "metadata": _LEAVES | {"content"},
    "registry": _LEAVES | {"content", "archive"},
    "unpack": _LEAVES | {"content", "snapshots", "archive", "mount"},
    "gc": _LEAVES | {"content", "metadata", "snapshots", "page"},
    "scaffold": _LEAVES,
    "conformance": _LEAVES | {"snapshots", "mount", "archive", "page"},
    "service": _LEAVES | {"snapshots", "mount", "content"},
}
# These join the rooms; they may import any room, but nothing above themselves.
JOINERS: Final = ("node", "cli", "__main__")
PLUGINS_MAY_IMPORT: Final = _LEAVES - {"sqlite"} | {
    "snapshots", "mount", "archive", "content", "registry", "erofs",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Import:
    """One imported module, where it stands."""

    where: str
    module: str

    @property
    def room(self) -> str:
        """The second part of the module's name; "" for a bare package."""
        return self.module.split(".")[1] if "." in self.module else ""


@functools.cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_bytes(), filename=str(path))


def imports(path: Path) -> Iterator[Import]:
    """Yield every import of a file, those in functions and under TYPE_CHECKING too."""
    package = path.relative_to(REPO).with_suffix("").parts
    for node in ast.walk(_tree(path)):
        where = f"{path.relative_to(REPO)}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(where, alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: -node.level]) if node.level else ""
            module = ".".join(filter(None, (base, node.module or "")))
            yield Import(where, module)
            for alias in node.names:
                yield Import(where, f"{module}.{alias.name}")


def sources(top: Path) -> list[Path]:
    """Return the Python files below a directory, tests left out."""
    return sorted(p for p in top.rglob("*.py") if "tests" not in p.relative_to(top).parts)


def room_of(path: Path) -> str:
    """Return the room of a core file: a package, or a module beside the packages."""
    return path.relative_to(CORE).parts[0].removesuffix(".py")


def _ours(path: Path) -> Iterator[Import]:
    return (i for i in imports(path) if i.module.split(".")[0] == "snapcore" and i.room)


def _core_files() -> list[Path]:
    return [p for p in sources(CORE) if room_of(p) != "__init__"]


def _exists(room: str) -> bool:
    return (CORE / room).is_dir() or (CORE / f"{room}.py").is_file()


def test_every_room_is_in_the_table() -> None:
    rooms = {room_of(path) for path in _core_files()}
    assert rooms <= MAY_IMPORT.keys() | set(JOINERS)


def test_rooms_import_downwards_only() -> None:
    wrong = [
        f"{found.where}: {room_of(path)} imports {found.module}"
        for path in _core_files()
        if room_of(path) in MAY_IMPORT
        for found in _ours(path)
        if _exists(found.room) and found.room not in MAY_IMPORT[room_of(path)] | {room_of(path)}
    ]
    assert not wrong


def test_nobody_imports_the_cli_and_only_it_imports_the_node() -> None:
    wrong = [
        f"{found.where}: imports {found.module}"
        for path in _core_files()
        for found in _ours(path)
        if (found.room == "cli" and room_of(path) != "cli")
        or (found.room == "node" and room_of(path) not in JOINERS)
    ]
    assert not wrong


def test_plugins_import_the_public_rooms_only() -> None:
    wrong = [
        f"{found.where}: imports {found.module}"
        for path in sources(PLUGINS)
        for found in _ours(path)
        if _exists(found.room) and found.room not in PLUGINS_MAY_IMPORT
    ]
    assert not wrong


def test_core_imports_no_plugin_and_plugins_not_each_other() -> None:
    wrong = []
    for path in [*sources(CORE), *sources(PLUGINS)]:
        parts = path.relative_to(REPO).parts
        own = f"snapcore_{parts[1]}" if parts[0] == "plugins" else ""
        wrong += [
            f"{found.where}: imports {found.module}"
            for found in imports(path)
            if found.module.startswith("snapcore_") and found.module.split(".")[0] != own
        ]
    assert not wrong


@pytest.mark.parametrize(
    ("module", "allowed"),
    [
        pytest.param("tarfile", (), id="tarfile-nowhere"),
        pytest.param(
            "ctypes",
            ("snapcore/linux/", "plugins/fuse/snapcore_fuse/formats/spans/libz.py"),
            id="ctypes-in-linux-and-libz",
        ),
        pytest.param("sqlite3", (), id="sqlite3-nowhere"),
        pytest.param(
            "apsw",
            ("snapcore/sqlite.py", "snapcore/snapshots/", "snapcore/metadata/"),
            id="apsw-in-databases",
        ),
        pytest.param("click", ("snapcore/cli/",), id="click-in-cli"),
        pytest.param(
            "pytest",
            ("snapcore/conformance/suite.py", "snapcore/conformance/plugin.py"),
            id="pytest-in-the-suite",
        ),
        pytest.param(
            "hypothesis", ("snapcore/conformance/stateful.py",), id="hypothesis-in-one-module"
        ),
        pytest.param("grpc", ("snapcore/service/",), id="grpc-in-service"),
        pytest.param("google", ("snapcore/service/",), id="protobuf-in-service"),
        pytest.param("opentelemetry", ("snapcore/service/traces.py",), id="traces-in-one-module"),
        pytest.param("prometheus_client", ("snapcore/service/",), id="prometheus-in-service"),
        pytest.param("re2", ("snapcore/service/patterns.py",), id="re2-in-one-module"),
        pytest.param("rich", ("snapcore/cli/",), id="rich-in-cli"),
        pytest.param("urllib3", ("snapcore/registry/",), id="urllib3-in-registry"),
        pytest.param(
            "pyfuse3", ("plugins/fuse/snapcore_fuse/serve/pyfuse.py",), id="pyfuse3-in-one-module"
        ),
    ],
)
def test_a_module_stays_in_its_room(module: str, allowed: tuple[str, ...]) -> None:
    wrong = [
        f"{found.where}: imports {found.module}"
        for path in [*sources(CORE), *sources(PLUGINS)]
        if not str(path.relative_to(REPO)).startswith(allowed or ("-",))
        for found in imports(path)
        if found.module.split(".")[0] == module
    ]
    assert not wrong


def test_only_programs_read_the_environment() -> None:
    wrong = []
    for path in [*sources(CORE), *sources(PLUGINS)]:
        if path.is_relative_to(CORE / "cli") or path.name in ("__main__.py", "zygote.py"):
            continue
        for node in ast.walk(_tree(path)):
            name = node.attr if isinstance(node, ast.Attribute) else ""
            if name in ("environ", "environb", "getenv", "getenvb"):
                wrong.append(f"{path.relative_to(REPO)}:{getattr(node, 'lineno', 0)}: {name}")
    assert not wrong


def test_test_files_have_unique_names() -> None:
    names = [p.name for top in ("tests", "plugins") for p in (REPO / top).rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


def test_no_module_is_longer_than_500_lines() -> None:
    long = {
        str(path.relative_to(REPO)): lines
        for path in [*sources(CORE), *sources(PLUGINS)]
        if (lines := path.read_bytes().count(b"\n")) > 500
    }
    assert not long
