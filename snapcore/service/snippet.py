"""containerd's configuration that makes snapshotters of ours its own.

Which keys there are: containerd, docs/cri/config.md and docs/PLUGINS.md; of 2.x besides
cmd/containerd/server/config/config.go (exports, capabilities), plugins/transfer/plugin.go
(unpack_config) and internal/cri/config/config.go (runtime_platforms).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Self, TypeAlias

from snapcore.errors import InvalidArgument
from snapcore.service.names import capability_word, plugin_name
from snapcore.snapshots import Capability

Value: TypeAlias = "str | bool | int | Sequence[str] | Sequence[Table] | Table"
Table: TypeAlias = Mapping[str, Value]
Cri: TypeAlias = Literal["none", "classes", "default"]
"""What Kubernetes uses: nothing of ours; what a pod's class names; or the first for others too."""

_RELEASE: Final = re.compile(r"v?(\d+)(?:\.(\d+))?(?:[.\-+~].*)?\Z")
_BARE: Final = re.compile(r"[A-Za-z0-9_-]+\Z")
_OLDEST: Final = (1, 6)
_RUNTIME: Final = "io.containerd.runc.v2"
_DEFAULT_RUNTIME: Final = "runc"
_CRI_1: Final = "io.containerd.grpc.v1.cri"
_CRI_IMAGES: Final = "io.containerd.cri.v1.images"
_CRI_RUNTIME: Final = "io.containerd.cri.v1.runtime"
_TRANSFER: Final = "io.containerd.transfer.v1.local"
_DECLARED: Final = frozenset({Capability.REMAP_IDS})
"""Not `rebase`: where layers are applied apart, containerd has overlayfs's whiteouts written for
its own `overlayfs` only (core/unpack/unpacker.go, bindToOverlay), and others lose deletions."""


@dataclass(frozen=True, slots=True)
class Release:
    """A release of containerd, as far as its configuration depends on it."""

    major: int
    minor: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `1.6`, `1.7.24`, `2`, `v2.1.0-rc.1` or `1.6.20~ds1`.

        Raises:
            InvalidArgument: it is no release, or one before 1.6.
        """
        found = _RELEASE.match(text)
        if found is None:
            raise InvalidArgument(f"not a release of containerd: {text!r}; want one such as 1.7")
        release = cls(int(found[1]), int(found[2] or 0))
        if (release.major, release.minor) < _OLDEST:
            raise InvalidArgument(f"containerd {text} is too old; 1.6 is the first that will do")
        return release

    @property
    def config_version(self) -> int:
        """Version of the format that its configuration has."""
        return 3 if self.major >= 2 else 2

    @property
    def has_runtime_snapshotters(self) -> bool:
        """Whether a runtime of CRI's may have a snapshotter of its own."""
        return (self.major, self.minor) >= (1, 7)


@dataclass(frozen=True, slots=True)
class Offer:
    """A snapshotter that is served.

    Attributes:
        name: ours.
        root: directory of its state.
        capabilities: as its probe found them.
    """

    name: str
    root: str
    capabilities: frozenset[Capability]

    @property
    def plugin(self) -> str:
        """What containerd calls it."""
        return plugin_name(self.name)

    @property
    def remote(self) -> bool:
        """Whether it must be told which image a layer is of."""
        return Capability.REMOTE in self.capabilities


def containerd_config(offers: Sequence[Offer], address: str, release: Release, cri: Cri) -> Table:
    """Return the tables to add to containerd's configuration.

    Args:
        offers: what is served, the default first.
        address: path of the socket.
        release: of containerd.
        cri: what Kubernetes uses.
    """
    declares = release.config_version >= 3
    proxies = {offer.plugin: _proxy(offer, address, declares=declares) for offer in offers}
    plugins: dict[str, Value] = {}
    if declares:
        # Given a list, containerd leaves out its default, which would be its own.
        names = ["overlayfs", *proxies]
        plugins[_TRANSFER] = {
            "unpack_config": [{"platform": "linux", "snapshotter": name} for name in names]
        }
    if cri != "none":
        default = cri == "default"
        plugins |= _cri_3(offers, default) if declares else _cri_2(offers, release, default)
    config: dict[str, Value] = {"version": release.config_version, "proxy_plugins": proxies}
    if plugins:
        config["plugins"] = plugins
    return config


def containerd_notes(offers: Sequence[Offer], release: Release, cri: Cri) -> tuple[str, ...]:
    """Return what one should know of the tables of `containerd_config`."""
    notes = []
    if release.config_version >= 3:
        notes.append("not run against containerd 2.x")
        if any(Capability.REBASE in offer.capabilities for offer in offers):
            notes.append("capability rebase is left out: containerd would lose deletions of files")
    elif any(offer.remote for offer in offers) and cri == "none":
        notes.append("ctr 1.x gives no labels of images: lazy layers come by CRI or nerdctl")
    if cri != "none" and not release.has_runtime_snapshotters:
        notes.append("no runtime classes: they have snapshotters since containerd 1.7")
    elif cri != "none":
        notes.append(f"leave out the table of runtime {_DEFAULT_RUNTIME!r} where the file has it")
    return tuple(notes)


def to_toml(table: Table) -> str:
    """Return a table as a TOML document."""
    return "\n\n".join(_tables(table, "")) + "\n"


def _proxy(offer: Offer, address: str, *, declares: bool) -> Table:
    proxy: dict[str, Value] = {"type": "snapshot", "address": address}
    if declares:
        words = sorted(map(capability_word, offer.capabilities & _DECLARED))
        proxy |= {"capabilities": words} if words else {}
        exports = {"root": offer.root}
        if offer.remote:
            exports["enable_remote_snapshot_annotations"] = "true"
        proxy["exports"] = exports
    return proxy


def _cri_2(offers: Sequence[Offer], release: Release, default: bool) -> Table:
    containerd: dict[str, Value] = {"snapshotter": offers[0].plugin} if default else {}
    if any(offer.remote for offer in offers):
        containerd["disable_snapshot_annotations"] = False
    if release.has_runtime_snapshotters:
        containerd["runtimes"] = _runtimes(offers)
    return {_CRI_1: {"containerd": containerd}}


def _cri_3(offers: Sequence[Offer], default: bool) -> Table:
    images: dict[str, Value] = {"snapshotter": offers[0].plugin} if default else {}
    if any(offer.remote for offer in offers):
        images["disable_snapshot_annotations"] = False
    images["runtime_platforms"] = {
        offer.plugin: {"platform": "", "snapshotter": offer.plugin} for offer in offers
    }
    return {_CRI_IMAGES: images, _CRI_RUNTIME: {"containerd": {"runtimes": _runtimes(offers)}}}


def _runtimes(offers: Sequence[Offer]) -> Table:
    # Given any, containerd has no others, and CRI does not start without its default.
    runtimes: dict[str, Value] = {_DEFAULT_RUNTIME: {"runtime_type": _RUNTIME}}
    for offer in offers:
        runtimes[offer.plugin] = {"runtime_type": _RUNTIME, "snapshotter": offer.plugin}
    return runtimes


def _tables(table: Table, name: str, header: str = "[{}]") -> list[str]:
    lines, below = [], []
    for key, value in table.items():
        dotted = f"{name}.{_key(key)}" if name else _key(key)
        if isinstance(value, Mapping):
            below += _tables(value, dotted)
        elif isinstance(value, str | bool | int):
            lines.append(f"{_key(key)} = {json.dumps(value, ensure_ascii=False)}")
        else:
            texts = [
                json.dumps(each, ensure_ascii=False) for each in value if isinstance(each, str)
            ]
            if len(texts) == len(value):
                lines.append(f"{_key(key)} = [{', '.join(texts)}]")
            for each in value:
                below += _tables(each, dotted, "[[{}]]") if isinstance(each, Mapping) else []
    own = ["\n".join([header.format(name), *lines] if name else lines)] if lines else []
    return own + below


def _key(key: str) -> str:
    return key if _BARE.match(key) else json.dumps(key, ensure_ascii=False)
