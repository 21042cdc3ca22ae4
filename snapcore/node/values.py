"""What goes into a node's verbs and what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from snapcore.config import Discard
from snapcore.oci import Descriptor

if TYPE_CHECKING:
    from snapcore.archive import Compression, WrittenLayer
    from snapcore.unpack import UnpackedManifest

Policy: TypeAlias = Literal["always", "missing", "never"]


@dataclass(frozen=True, slots=True)
class UnpackChoice:
    """Which part of an image is unpacked, and how.

    Attributes:
        platform: `os/arch[/variant]`, "" for this host's.
        all_platforms: fetch the manifests of all platforms, not only this one's.
        unpack_all: unpack those of all platforms too.
        snapshotters: names, () for those of the configuration.
        unpack: make snapshots of the layers.
        discard: `after-image` drops the references that keep the layer blobs once all is
            unpacked; `after-layer` deletes each blob once its layer is unpacked, unless
            something else needs it (as `after-image` with `unpack_all`); None as configured.
        snapshot_labels: more labels for every snapshot.
    """

    platform: str = ""
    all_platforms: bool = False
    unpack_all: bool = False
    snapshotters: tuple[str, ...] = ()
    unpack: bool = True
    discard: Discard | None = None
    snapshot_labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PullOptions:
    """How an image is pulled.

    Attributes:
        choice: what is unpacked.
        policy: `always` asks the registry what the tag means now, `missing` only if the image
            is not here whole, `never` uses what is here.
        plain_http: speak to this registry without TLS.
        skip_verify: do not check its certificate.
        credentials: user and password; None to use the configured ones.
    """

    choice: UnpackChoice = field(default_factory=UnpackChoice)
    policy: Policy = "always"
    plain_http: bool = False
    skip_verify: bool = False
    credentials: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class PushOptions:
    """How an image is pushed.

    Attributes:
        platform: of an image for several, `os/arch[/variant]`; "" for this host's.
        all_platforms: all of the image instead.
        plain_http: speak to this registry without TLS.
        skip_verify: do not check its certificate.
        credentials: user and password; None to use the configured ones.
    """

    platform: str = ""
    all_platforms: bool = False
    plain_http: bool = False
    skip_verify: bool = False
    credentials: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class PullResult:
    """What a pull, import or unpack did.

    Attributes:
        reference: the image's name on this node.
        descriptor: what it names: an index or a manifest.
        manifests: what became of each manifest that was looked at.
        peak_bytes: the most disk that blobs and snapshots made by it took at a time.
    """

    reference: str
    descriptor: Descriptor
    manifests: tuple[UnpackedManifest, ...] = ()
    peak_bytes: int = 0

    @property
    def unpacked(self) -> int:
        """How many manifests were unpacked."""
        return sum(1 for manifest in self.manifests if not manifest.reason)

    @property
    def chain_id(self) -> str:
        """Top chain ID of the first manifest that was unpacked, "" if there is none."""
        return next((m.chain_id for m in self.manifests if not m.reason), "")


@dataclass(frozen=True, slots=True)
class ImageCheck:
    """Whether an image is whole on this node.

    Attributes:
        reference: its name.
        descriptor: what it names.
        required: blobs that this platform needs.
        missing: those of them that are not here.
        discarded: those of the missing that were let go on purpose, once they were unpacked.
        snapshots: for each snapshotter of this node, whether it has the unpacked image.
    """

    reference: str
    descriptor: Descriptor
    required: tuple[Descriptor, ...]
    missing: tuple[Descriptor, ...]
    snapshots: Mapping[str, bool]
    discarded: tuple[Descriptor, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether all required blobs are here."""
        return not self.missing

    @property
    def status(self) -> str:
        """`complete`, `discarded` if nothing is missing but on purpose, or `incomplete`."""
        if self.complete:
            return "complete"
        return "discarded" if len(self.missing) == len(self.discarded) else "incomplete"

    @property
    def present_bytes(self) -> int:
        """Bytes of the required blobs that are here."""
        missing = {d.digest for d in self.missing}
        return sum(d.size for d in self.required if d.digest not in missing)

    @property
    def required_bytes(self) -> int:
        """Bytes of all required blobs."""
        return sum(d.size for d in self.required)


@dataclass(frozen=True, slots=True)
class ImageInspection:
    """The documents of one image, as their bytes are.

    Attributes:
        reference: its name.
        descriptor: what it names.
        manifest: descriptor of the manifest for the platform.
        manifest_bytes: its content.
        config: descriptor of its config.
        config_bytes: its content.
        chain_id: name of the unpacked image's snapshot, "" without layers.
    """

    reference: str
    descriptor: Descriptor
    manifest: Descriptor
    manifest_bytes: bytes
    config: Descriptor
    config_bytes: bytes
    chain_id: str


def _gzip() -> Compression:
    from snapcore.archive import Compression

    return Compression.GZIP


@dataclass(frozen=True, slots=True)
class CommitOptions:
    """How an image is made of a snapshot.

    Attributes:
        snapshotter: whose snapshot; the node's choice for "".
        base: the image that the snapshot stands on; found by itself for "".
        author: who made it.
        comment: free text.
        changes: instructions of a Dockerfile, see `snapcore.oci.runtime`.
        compression: of the new layer.
        epoch: seconds since 1970: the image's time, which no time in its layer is later than
            (SOURCE_DATE_EPOCH); None for now, and times as they are.
        unpack: make the snapshot of the new image too.
        force: take the name from another image.
    """

    snapshotter: str = ""
    base: str = ""
    author: str = ""
    comment: str = ""
    changes: tuple[str, ...] = ()
    compression: Compression = field(default_factory=_gzip)
    epoch: int | None = None
    unpack: bool = True
    force: bool = False


@dataclass(frozen=True, slots=True)
class CommittedImage:
    """An image that was made.

    Attributes:
        reference: its name.
        descriptor: of its manifest.
        config: of its config.
        layer: the new one, on top.
        chain_id: name of its snapshot.
        base: the manifest that it was made of; None for a first layer.
    """

    reference: str
    descriptor: Descriptor
    config: Descriptor
    layer: WrittenLayer
    chain_id: str
    base: Descriptor | None
