from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.distributions import THIRD_PARTY, install, installed

from snapcore.errors import FailedPrecondition, NotFound
from snapcore.snapshots.entrypoints import PluginInfo, list_plugins, load_plugin
from snapcore.snapshots.hookspecs import ENTRY_POINTS, WRAPPER_ENTRY_POINTS


@pytest.fixture
def sites(tmp_path: Path) -> Iterator[None]:
    install(
        tmp_path / "one",
        "broken-plugin",
        {
            "broken_plugin": "import does_not_exist_anywhere",
            "raising_plugin": "raise RuntimeError('boom')",
        },
        {ENTRY_POINTS: {"broken": "broken_plugin", "raising": "raising_plugin"}},
        version="0.9",
    )
    install(tmp_path / "one", "left", {"left": ""}, {ENTRY_POINTS: {"twin": "left"}})
    install(
        tmp_path / "two",
        "right",
        {"right": ""},
        {ENTRY_POINTS: {"twin": "right", "gone": "right:nothing"}},
        version="2.0",
    )
    with installed(tmp_path / "one", tmp_path / "two", THIRD_PARTY):
        yield


@pytest.mark.usefixtures("sites")
def test_listing_imports_nothing() -> None:
    before = set(sys.modules)
    plugins = {plugin.name: plugin for plugin in list_plugins() if not plugin.rivals}
    assert plugins["acme"] == PluginInfo("acme", "acme_snapcore.plugin", "acme-snapcore", "1.2.3")
    assert plugins["broken"].distribution == "broken-plugin"
    wrappers = [plugin.name for plugin in list_plugins(WRAPPER_ENTRY_POINTS)]
    assert wrappers == ["acme-faults", "acme-quota"]
    assert not {name for name in set(sys.modules) - before if "plugin" in name}


@pytest.mark.usefixtures("sites")
def test_listing_shows_rivals_and_blocked_names() -> None:
    twins = [plugin for plugin in list_plugins(blocked=("acme",)) if plugin.name == "twin"]
    assert [(each.distribution, each.rivals) for each in twins] == [
        ("left", ("right",)),
        ("right", ("left",)),
    ]
    assert [p.name for p in list_plugins(blocked=("acme",)) if p.blocked] == ["acme"]


@pytest.mark.usefixtures("sites")
def test_loading_imports_only_that_one() -> None:
    plugin, module = load_plugin(ENTRY_POINTS, "acme")
    assert plugin.version == "1.2.3"
    assert module is sys.modules["acme_snapcore.plugin"]
    assert "broken_plugin" not in sys.modules


@pytest.mark.usefixtures("sites")
@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("missing", NotFound, r"no snapshotter 'missing' is installed; there are: acme, broken"),
        ("blocked", NotFound, "no snapshotter 'blocked'"),
        ("twin", FailedPrecondition, r"'twin' is claimed by .* left 1\.0 and right 2\.0"),
        ("broken", FailedPrecondition, r"broken-plugin 0\.9.*ModuleNotFoundError.*does_not_exist"),
        ("raising", FailedPrecondition, r"broken-plugin 0\.9.*RuntimeError: boom"),
        ("gone", FailedPrecondition, r"right 2\.0.*AttributeError"),
    ],
)
def test_what_cannot_be_loaded(name: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        load_plugin(ENTRY_POINTS, name, blocked=("blocked",))


@pytest.mark.usefixtures("sites")
def test_blocked_plugins_are_not_imported() -> None:
    for name in ("acme", "raising"):
        with pytest.raises(FailedPrecondition, match=f"{name!r} is blocked"):
            load_plugin(ENTRY_POINTS, name, blocked=(name,))
    assert "acme_snapcore" not in sys.modules
    with pytest.raises(NotFound, match="no wrapper 'quota'"):
        load_plugin(WRAPPER_ENTRY_POINTS, "quota")
