"""Loading: layering, origins, and an error for every mistake that names the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from snapcore.archive.types import Limits
from snapcore.config import HostFacts, NodeConfig, Setting, load
from snapcore.errors import InvalidArgument, NotFound, SnapcoreError


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "config.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def refusal(tmp_path: Path, text: str) -> str:
    with pytest.raises(InvalidArgument) as caught:
        load(write(tmp_path, text))
    return str(caught.value)


def test_defaults() -> None:
    loaded = load(None)
    assert loaded.config == NodeConfig("/var/lib/snapcore", "/run/snapcore")
    assert {setting.origin for setting in loaded.settings} == {"default"}
    assert [s.key for s in loaded.settings] == sorted(s.key for s in loaded.settings)


def test_every_key(tmp_path: Path) -> None:
    text = """
    version = 1
    root = "/r"
    state = "/s"
    snapshotter = ["overlay", "native"]
    wrappers = ["quota"]
    blocked = ["bad"]
    [plugins.overlay]
    sync_remove = true
    mount_options = ["index=off"]
    [plugins."my.own"]
    level = 3
    [registry]
    plain_http = ["a:1"]
    insecure = ["b"]
    ca = "/ca"
    docker_config = "/d"
    max_per_host = 9
    connect_timeout = 2
    read_timeout = 1.5
    [unpack]
    downloads = 7
    unprivileged = "map"
    discard = "after-image"
    max_size = 10
    max_entries = 11
    max_ratio = 12
    """
    config = load(write(tmp_path, text)).config
    assert (config.root, config.state) == ("/r", "/s")
    assert config.snapshotters == ("overlay", "native")
    assert config.wrappers == ("quota",)
    assert config.blocked == ("bad",)
    assert config.plugins == {
        "overlay": {"sync_remove": True, "mount_options": ("index=off",)},
        "my.own": {"level": 3},
    }
    assert config.registry.plain_http == ("a:1",)
    assert config.registry.insecure == ("b",)
    assert config.registry.ca == "/ca"
    assert config.registry.docker_config == "/d"
    assert config.registry.max_per_host == 9
    assert config.registry.connect_timeout == 2.0
    assert config.registry.read_timeout == 1.5
    assert config.unpack.downloads == 7
    assert config.unpack.unprivileged == "map"
    assert config.unpack.discard == "after-image"
    assert config.unpack.limits == Limits(size=10, entries=11, ratio=12)


@pytest.mark.parametrize(
    ("text", "names"),
    [('"auto"', ()), ('"overlay"', ("overlay",)), ('["auto"]', ()), ('["a", "b"]', ("a", "b"))],
)
def test_snapshotter_forms(tmp_path: Path, text: str, names: tuple[str, ...]) -> None:
    assert load(write(tmp_path, f"snapshotter = {text}")).config.snapshotters == names


def test_overrides_win_and_are_named(tmp_path: Path) -> None:
    path = write(tmp_path, "[unpack]\ndownloads = 7")
    loaded = load(path, [Setting("unpack.downloads", 1, "flag --max-concurrent-downloads")])
    assert loaded.config.unpack.downloads == 1
    assert loaded.origin("unpack.downloads") == "flag --max-concurrent-downloads"
    assert loaded.origin("unpack.discard") == "default"
    assert loaded.origin("unpack.nothing") == ""


def test_override_is_checked() -> None:
    with pytest.raises(InvalidArgument, match=r"env X: 'unpack\.downloads' must be an integer"):
        load(None, [Setting("unpack.downloads", "3", "env X")])


def test_state_follows_the_root_that_was_given(tmp_path: Path) -> None:
    assert load(write(tmp_path, 'root = "/r"')).config.state == "/r/state"
    path = write(tmp_path, 'root = "/r"\nstate = "/s"')
    assert load(path).config.state == "/s"
    loaded = load(path, [Setting("root", "/other", "flag --root")])
    assert loaded.config.state == "/other/state"
    assert loaded.origin("state") == "flag --root"
    both = [Setting("root", "/other", "flag --root"), Setting("state", "/mine", "flag --state")]
    assert load(path, both).config.state == "/mine"


def test_defaults_of_a_user(tmp_path: Path) -> None:
    mine = [Setting("root", "/home/u/data", "user"), Setting("state", "/run/user/1", "user")]
    config = load(None, (), None, mine).config
    assert (config.root, config.state) == ("/home/u/data", "/run/user/1")
    config = load(write(tmp_path, 'state = "/s"'), (), None, mine).config
    assert (config.root, config.state) == ("/home/u/data", "/s")


def test_relative_root_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = load(None, [Setting("root", "r", "flag --root")]).config
    assert (config.root, config.state) == (f"{tmp_path}/r", f"{tmp_path}/r/state")


def test_at_puts_state_below_root() -> None:
    assert NodeConfig.at("/x/y").state == "/x/y/state"


NODES = """
snapshotter = "native"
[unpack]
downloads = 2
discard = "after-image"
[[node]]
match.hostname = "gpu-*"
snapshotter = "overlay"
[node.unpack]
downloads = 8
[[node]]
match.labels = {disk = "slow"}
snapshotter = ["a", "b"]
[[node]]
match.kernel = ">=6.7"
wrappers = ["timing"]
"""


def test_first_matching_node_table_wins(tmp_path: Path) -> None:
    path = write(tmp_path, NODES)
    facts = HostFacts("gpu-17", "6.8.1", {"disk": "slow"})
    loaded = load(path, (), facts)
    assert loaded.config.snapshotters == ("overlay",)
    assert loaded.config.wrappers == ()
    assert loaded.config.unpack.downloads == 8
    assert loaded.config.unpack.discard == "after-image"
    assert loaded.origin("unpack.downloads") == f"{path}:[[node]] 1"
    assert loaded.origin("unpack.discard") == path


@pytest.mark.parametrize(
    ("facts", "names", "wrappers"),
    [
        (HostFacts("cpu", "6.1", {"disk": "slow"}), ("a", "b"), ()),
        (HostFacts("cpu", "6.10.2-amd64", {}), ("native",), ("timing",)),
        (HostFacts("cpu", "6.1.0-18-amd64", {}), ("native",), ()),
    ],
)
def test_other_node_tables(
    tmp_path: Path, facts: HostFacts, names: tuple[str, ...], wrappers: tuple[str, ...]
) -> None:
    config = load(write(tmp_path, NODES), (), facts).config
    assert (config.snapshotters, config.wrappers) == (names, wrappers)


def test_plugin_options_merge_one_by_one(tmp_path: Path) -> None:
    text = """
    [plugins.overlay]
    a = 1
    b = 2
    [[node]]
    [node.plugins.overlay]
    b = 3
    """
    assert load(write(tmp_path, text)).config.plugins == {"overlay": {"a": 1, "b": 3}}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[unpack]\ndonwloads = 3", ("'unpack.donwloads'", "'unpack.downloads'")),
        ("[unpack]\nxyzzy = 3", ("'unpack.xyzzy'", "known:", "unpack.downloads")),
        ("[gc]\ninterval = 3", ("unknown key 'gc'",)),
        ('durabilty = "none"', ("unknown key 'durabilty'", "'durability'")),
        ('durability = "fast"', ("'durability' is 'fast'", "flush or strict or none")),
        ('snapshoter = "x"', ("'snapshoter'", "'snapshotter'")),
        ("[unpack.downloads]\nx = 1", ("'unpack.downloads' must be an integer, not a table",)),
        ("unpack = 3", ("'unpack' must be a table, not an integer",)),
        ("plugins = 3", ("'plugins' must be tables", "[plugins.<name>]")),
        ("[plugins]\noverlay = 3", ("'plugins.overlay' must be a table",)),
        ("[plugins.overlay]\na = 1.5", ("'plugins.overlay.a' must be a boolean",)),
        ("[plugins.overlay]\na = [1]", ("'plugins.overlay.a'", "not a list")),
        ("[plugins.overlay]\na = 1979-05-27", ("'plugins.overlay.a'", "not a date")),
        ('"plugins.x" = 1', ("'plugins.x'", "quotes")),
        ("root = 3", ("'root' must be a string, not an integer",)),
        ('wrappers = "x"', ("'wrappers' must be a list of strings, not a string",)),
        ("blocked = [1]", ("'blocked' must be a list of strings",)),
        ("snapshotter = 1", ("'snapshotter' must be a list of strings",)),
        ("snapshotter = []", ("'snapshotter' must be auto, a name",)),
        ('snapshotter = ["auto", "native"]', ("'snapshotter' must be auto",)),
        ("[unpack]\ndownloads = true", ("'unpack.downloads' must be an integer, not a boolean",)),
        ("[unpack]\ndownloads = 0", ("'unpack.downloads' must be at least 1, not 0",)),
        (
            '[unpack]\ndiscard = "x"',
            ("'unpack.discard' is 'x'; want never or after-image or after-layer",),
        ),
        ("[registry]\nread_timeout = nan", ("'registry.read_timeout' must be at least",)),
        ("[registry]\nread_timeout = inf", ("'registry.read_timeout'",)),
        ("version = 2", ("version 2 is not supported",)),
        ("version = true", ("version True is not supported",)),
        ("node = 3", ("'node' must be tables", "[[node]]")),
        ("[[node]]\n[[node]]\nmatch = 3", ("[[node]] 2", "'match' must be a table")),
        ("[[node]]\nversion = 1", ("[[node]] 1", "unknown key 'version'")),
        ("[[node]]\nmatch.hostnam = 'x'", ("[[node]] 1", "'match.hostnam'", "'hostname'")),
        ("[[node]]\nmatch.hostname = 3", ("'match.hostname' must be a string",)),
        ("[[node]]\nmatch.labels = 3", ("'match.labels' must be a table",)),
        ("[[node]]\nmatch.labels.a = 3", ("'match.labels.a' must be a string",)),
        ("[[node]]\nmatch.kernel = 'new'", ("'match.kernel' is 'new'", ">=6.7")),
        ("[[node]]\nmatch.kernel = '>=6,'", ("'match.kernel'",)),
        ("a = \n", ("not TOML", "line 1")),
        ("a = 1\na = 2\n", ("not TOML", "line 2")),
    ],
)
def test_mistakes_name_the_key(tmp_path: Path, text: str, parts: tuple[str, ...]) -> None:
    message = refusal(tmp_path, text)
    assert "config.toml" in message
    for part in parts:
        assert part in message


def test_not_text(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(b'root = "\xff"')
    with pytest.raises(InvalidArgument, match="not TOML"):
        load(str(path))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"none\.toml"):
        load(str(tmp_path / "none.toml"))


def test_directory_instead_of_file(tmp_path: Path) -> None:
    with pytest.raises(SnapcoreError, match="config file"):
        load(str(tmp_path))
