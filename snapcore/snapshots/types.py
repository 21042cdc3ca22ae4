"""The values of the snapshotter contract."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from snapcore.mount import Mount
from snapcore.oci.whiteout import WhiteoutStyle

CONTRACT_VERSION = 1
"""The contract this core speaks; it also serves plugins of the version before."""

Labels: TypeAlias = Mapping[str, str]
Mounts: TypeAlias = tuple[Mount, ...]


class Kind(StrEnum):
    """What a snapshot is (containerd, core/snapshots)."""

    VIEW = "view"
    ACTIVE = "active"
    COMMITTED = "committed"


class State(StrEnum):
    """How far a committed snapshot can be relied upon after a power cut."""

    DURABLE = "durable"
    PENDING = "pending"
    BROKEN = "broken"


class Durability(StrEnum):
    """When commits are put on disk, so that they survive a power cut."""

    FLUSH = "flush"
    """Before anything relies on them: once at the end of a pull."""
    STRICT = "strict"
    """Each one, before it is acknowledged."""
    NONE = "none"
    """Only when `flush` is called."""


class Capability(StrEnum):
    """What a backend can do beyond the minimum. Core branches on these, never on a name."""

    REBASE = "rebase"
    REMAP_IDS = "remap_ids"
    HARDLINKS = "hardlinks"
    READONLY_VIEW = "readonly_view"
    RENAME_DIR = "rename_dir"
    USERXATTR = "userxattr"
    REMOTE = "remote"
    OWN_APPLY = "own_apply"
    QUOTA = "quota"


@dataclass(frozen=True, slots=True)
class Info:
    """What is known of one snapshot.

    Attributes:
        kind: view, active or committed.
        name: its key (active, view) or name (committed).
        parent: name of the committed snapshot below, "" for none.
        labels: as given; a backend may add labels that it makes up on every answer.
        created: nanoseconds since the epoch.
        updated: nanoseconds since the epoch; equals `created` until the first update.
        state: only `durable` survives a power cut for certain.
    """

    kind: Kind
    name: str
    parent: str = ""
    labels: Labels = field(default_factory=dict)
    created: int = 0
    updated: int = 0
    state: State = State.DURABLE


@dataclass(frozen=True, slots=True)
class Usage:
    """What removal of one snapshot would free, without its parents.

    Attributes:
        inodes: unique inodes.
        size: bytes on disk (blocks x 512), each inode once.
        delta: bytes that differ from the parent, where a full-copy backend knows them.
    """

    inodes: int = 0
    size: int = 0
    delta: int | None = None


@dataclass(frozen=True, slots=True)
class SnapshotStatus:
    """Whether the content of a snapshot's own layer is here, and what it takes to have it so.

    Counts are of the layer, and since it is served: several snapshots may share them.

    Attributes:
        lazy: whether its files are fetched when they are read.
        reason: why not, if it might have been; "" otherwise.
        format: what its files are found by, "" unless lazy.
        size: bytes of its blob, 0 unless lazy.
        fetched: bytes that came over the network, indexes left out.
        served: bytes that readers were given.
        wasted: bytes fetched that nobody has read.
        requests: requests that were sent.
        hits: reads that were served without the network.
        misses: reads that waited for it.
        complete: whether everything is here, so that the network is needed no more.
        error: the last thing that went wrong, "" for nothing.
    """

    lazy: bool = False
    reason: str = ""
    format: str = ""
    size: int = 0
    fetched: int = 0
    served: int = 0
    wasted: int = 0
    requests: int = 0
    hits: int = 0
    misses: int = 0
    complete: bool = True
    error: str = ""


@dataclass(frozen=True, slots=True)
class LayerTarget:
    """Where a layer is applied.

    Attributes:
        directory: absolute path to write into; "" if `mounts` must be mounted first.
        lowers: absolute paths of the directories below, the nearest first; none for `apply`.
        whiteouts: how deletions are written.
        mounts: what core mounts at a private directory to get the target, and unmounts before
            commit; empty if `directory` can be written into as it is.
    """

    directory: str
    lowers: tuple[str, ...] = ()
    whiteouts: WhiteoutStyle = WhiteoutStyle.APPLY
    mounts: Mounts = ()


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a walk, sorted by the bytes of the names. Only an empty page ends a walk."""

    infos: tuple[Info, ...] = ()


@dataclass(frozen=True, slots=True)
class Probe:
    """What a backend says about itself on this host and root.

    Attributes:
        usable: whether `snapcore_open` can work here.
        reason: why not, in one sentence; "" if usable.
        capabilities: what it can do here, tried out rather than guessed.
        contract: contract version it was written for.
        details: facts worth printing (`kernel`, `d_type`, `reflink`, …).
        findings: what the backend itself wants to know again in `snapcore_open`, so that it need
            not try twice; core hands it over and never looks at it.
    """

    usable: bool
    reason: str = ""
    capabilities: frozenset[Capability] = frozenset()
    contract: int = CONTRACT_VERSION
    details: Labels = field(default_factory=dict)
    findings: object = None


@dataclass(frozen=True, slots=True)
class FlushReport:
    """What a flush did.

    Attributes:
        synced: file systems synced.
        made_durable: snapshots that were pending before.
    """

    synced: int = 0
    made_durable: int = 0


@dataclass(frozen=True, slots=True)
class Reclaimed:
    """What a cleanup removed.

    Attributes:
        directories: how many leftover directories.
        reservations: how many records of dead owners.
        size: bytes freed, as far as counted.
    """

    directories: int = 0
    reservations: int = 0
    size: int = 0


@dataclass(frozen=True, slots=True)
class LayerLimits:
    """Budgets of one layer, which an `own_apply` backend keeps to as core does.

    Attributes:
        size: most uncompressed bytes.
        entries: most tar entries.
        depth: most components of a path.
        pax: most bytes of one PAX or long-name record block.
    """

    size: int
    entries: int
    depth: int
    pax: int


@dataclass(frozen=True, slots=True)
class ApplyResult:
    """What an `own_apply` backend reports after reading one layer's tar.

    Attributes:
        entries: tar entries read.
        size: bytes of file data written.
    """

    entries: int = 0
    size: int = 0


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a backend, as `[plugins.<name>]` in the config takes it.

    Attributes:
        kind: the TOML type: bool, int, str, or list (of str).
        default: what applies if it is not given.
        help: one sentence.
        choices: the only values allowed; empty for any.
    """

    kind: type[bool | int | str | list[str]]
    default: bool | int | str | tuple[str, ...]
    help: str
    choices: tuple[str, ...] = ()


OptionValue: TypeAlias = bool | int | str | tuple[str, ...]
Options: TypeAlias = Mapping[str, OptionValue]


@dataclass(frozen=True, slots=True)
class IndexBlob:
    """An index of one layer, by which a backend can fetch its files when they are read.

    Attributes:
        artifact_type: media type of the artifact that it is published in.
        media_type: of the index.
        annotations: of the index in that artifact; they name the layer.
        data: the index.
    """

    artifact_type: str
    media_type: str
    annotations: Labels
    data: bytes
