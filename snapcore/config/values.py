"""The typed values that a node is opened with."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from snapcore.archive.types import Limits
from snapcore.snapshots.types import Durability, Options

Unprivileged: TypeAlias = Literal["refuse", "map"]
PrivateNetworks: TypeAlias = Literal["allow", "same-as-registry", "refuse"]
IndexWhen: TypeAlias = Literal["never", "pull"]
Discard: TypeAlias = Literal["never", "after-image", "after-layer"]


@dataclass(frozen=True, slots=True)
class RegistryConfig:
    """How registries are talked to.

    Attributes:
        plain_http: hosts (`name[:port]`) that are spoken to without TLS.
        insecure: hosts whose certificate is not verified.
        ca: path of a PEM file of authorities trusted besides the system's, "" for none.
        config_path: directories with a `hosts.toml` for each registry, the first one wins.
        private_networks: `allow`: registries may be, and send us, anywhere; `same-as-registry`:
            they may be anywhere, but send us only to public addresses and their own network;
            `refuse`: besides, one that no `hosts.toml` names must be at a public address.
        docker_config: path of a docker `config.json` with credentials, "" for none.
        max_per_host: most requests to one host at a time.
        connect_timeout: seconds to wait for a connection.
        read_timeout: seconds without a byte after which a transfer counts as stalled.
    """

    plain_http: tuple[str, ...] = ()
    insecure: tuple[str, ...] = ()
    ca: str = ""
    config_path: tuple[str, ...] = ("/etc/snapcore/certs.d",)
    private_networks: PrivateNetworks = "same-as-registry"
    docker_config: str = ""
    max_per_host: int = 4
    connect_timeout: float = 30.0
    read_timeout: float = 60.0


@dataclass(frozen=True, slots=True)
class UnpackConfig:
    """How images are unpacked.

    Attributes:
        downloads: most blobs fetched at a time.
        workers: most layers applied at a time.
        unprivileged: what to do, without root, with owners and devices that need it: refuse
            the layer, or map owners to the current user and leave devices out.
        discard: whether layer blobs may be collected once their image is unpacked, or go at once
            when their layer is.
        index: whether a pull makes indexes of the layers that a lazy snapshotter unpacked.
        limits: budgets of one layer.
    """

    downloads: int = 3
    workers: int = 2
    unprivileged: Unprivileged = "refuse"
    discard: Discard = "never"
    index: IndexWhen = "never"
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """Everything a node is opened with.

    Attributes:
        root: directory of all lasting state.
        state: directory of what need not survive a reboot.
        snapshotters: names, the first one is the default; () picks what works here.
        plugins: options of each snapshotter, as yet unchecked.
        wrappers: names of snapshotter wrappers, the outermost first.
        blocked: names of plugins that are never loaded.
        durability: when commits are put on disk.
        registry: see `RegistryConfig`.
        unpack: see `UnpackConfig`.
    """

    root: str
    state: str
    snapshotters: tuple[str, ...] = ()
    plugins: Mapping[str, Options] = field(default_factory=dict)
    wrappers: tuple[str, ...] = ()
    blocked: tuple[str, ...] = ()
    durability: Durability = Durability.FLUSH
    registry: RegistryConfig = field(default_factory=RegistryConfig)
    unpack: UnpackConfig = field(default_factory=UnpackConfig)

    @classmethod
    def at(cls, root: str) -> NodeConfig:
        """Return the default configuration of a node below `root`."""
        root = os.path.abspath(root)
        return cls(root, os.path.join(root, "state"))
