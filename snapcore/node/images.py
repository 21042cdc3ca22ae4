"""Questions about images that are on the node already; nothing here asks a registry."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from snapcore.content import ContentStore
from snapcore.errors import AlreadyExists, FailedPrecondition, NotFound, SnapcoreError
from snapcore.gc import Activity
from snapcore.labels import GC_REF_CONTENT
from snapcore.metadata import Image, ImageStore
from snapcore.node.blobs import blobs_of
from snapcore.node.selection import Snapshotters
from snapcore.node.values import ImageCheck, ImageInspection, Policy
from snapcore.oci import (
    Descriptor,
    Manifest,
    Platform,
    Reference,
    chain_id,
    is_image_config,
    is_layer,
    is_manifest,
    parse_config,
)
from snapcore.oci.manifest import MAX_DOCUMENT_BYTES
from snapcore.snapshots import Snapshotter
from snapcore.unpack import (
    LayerReport,
    best_document,
    is_intact,
    layer_plans,
    layer_reports,
    read_document,
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LocatedManifest:
    """The manifest that an image has for a platform."""

    descriptor: Descriptor
    manifest: Manifest


class Images:
    """The images of one node."""

    def __init__(
        self,
        store: ContentStore,
        records: ImageStore,
        snapshotters: Snapshotters,
        activity: Activity,
    ) -> None:
        self._store = store
        self._activity = activity
        self._records = records
        self._snapshotters = snapshotters

    def get(self, reference: str) -> Image:
        """Return an image's record.

        Raises:
            InvalidArgument: not a reference.
            NotFound: no such image here.
        """
        name = str(Reference.parse(reference))
        try:
            return self._records.get(name)
        except NotFound as error:
            raise NotFound(f"no image {name!r} on this node; pull or import it first") from error

    def tag(self, source: str, target: str, *, force: bool = False) -> Image:
        """Give an image another name.

        Raises:
            NotFound: no such source.
            AlreadyExists: the target names another image, and `force` is not given.
        """
        image = self.get(source)
        name = str(Reference.parse(target))
        return self._put(name, image.target, image.labels, move=force)

    def remove(self, reference: str) -> Image:
        """Forget a name; blobs and snapshots stay until they are collected.

        Raises:
            NotFound: no such image.
        """
        image = self.get(reference)
        self._records.delete(image.name)
        self._activity.deleted()
        return image

    def put(self, name: str, target: Descriptor, *, move: bool = True) -> Image:
        """Record that a name means a descriptor; labels that it has stay.

        Raises:
            AlreadyExists: it means something else, and `move` is False.
        """
        try:
            given = self._records.get(name).labels
        except NotFound:
            given = {}
        return self._put(name, target, given, move=move)

    def list(self, filters: Sequence[str] = ()) -> tuple[Image, ...]:
        """Return the images, sorted by name.

        Raises:
            InvalidArgument: a filter does not parse.
        """
        return tuple(self._records.list(filters))

    def locate(self, image: Image, platform: Platform) -> LocatedManifest:
        """Return the manifest of an image for a platform.

        Raises:
            NotFound: a document is not in the content store, or nothing fits the platform.
        """
        descriptor = best_document(self._store, image.target, platform)
        document = read_document(self._store, descriptor)
        if not isinstance(document, Manifest):
            raise FailedPrecondition(
                f"image {image.name!r} is of media type {descriptor.media_type!r},"
                " which has no layers"
            )
        return LocatedManifest(descriptor, document)

    def chain_id(self, located: LocatedManifest) -> str:
        """Return the name of the snapshot that an unpacked image has, "" without layers.

        Raises:
            FailedPrecondition: the manifest is not a container image's.
            NotFound: its config is not in the content store.
        """
        config = located.manifest.config
        if not is_image_config(config.media_type):
            raise FailedPrecondition(
                f"manifest {located.descriptor.digest} is not a container image:"
                f" its config is of type {config.media_type!r}"
            )
        return chain_id(parse_config(self._store.read_blob(config, MAX_DOCUMENT_BYTES)).diff_ids)

    def check(self, reference: str, platform: Platform) -> ImageCheck:
        """Say which blobs of an image are missing and who has it unpacked.

        Raises:
            NotFound: no such image.
        """
        image = self.get(reference)
        required = blobs_of(self._store, image.target, platform)
        missing = tuple(d for d in required if not self._store.exists(d.digest))
        return ImageCheck(
            image.name,
            image.target,
            required,
            missing,
            self._unpacked(image, platform),
            self._discarded(required, missing),
        )

    def enough(
        self,
        reference: str,
        platform: Platform,
        policy: Policy,
        snapshotters: Sequence[Snapshotter],
    ) -> Descriptor | None:
        """Return what an image's name means here; None if its registry must be asked.

        Args:
            reference: the name.
            platform: whose manifest is wanted.
            policy: `never` to ask no registry, or `missing` to ask if it is not here whole.
            snapshotters: where the image shall be unpacked; there its blobs are not needed.

        Raises:
            NotFound: no such image, and no registry shall be asked.
        """
        try:
            check = self.check(reference, platform)
        except NotFound:
            if policy == "never":
                raise
            return None
        unpacked = bool(snapshotters) and all(
            check.snapshots.get(snapshotter.name, False) for snapshotter in snapshotters
        )
        whole = policy == "never" or check.complete or unpacked
        return check.descriptor if whole else None

    def status(
        self, reference: str, platform: Platform, snapshotters: Sequence[str] = ()
    ) -> tuple[LayerReport, ...]:
        """Say of each layer of an image whether its files are here, for each snapshotter.

        Args:
            reference: the image.
            platform: whose manifest.
            snapshotters: whom to ask; all that were used on this node if empty.

        Raises:
            NotFound: no such image, a document is missing, or no such snapshotter.
            FailedPrecondition: it is no container image, or a snapshotter does not work here.
        """
        image = self.get(reference)
        manifest = self.locate(image, platform).manifest
        config = parse_config(self._store.read_blob(manifest.config, MAX_DOCUMENT_BYTES))
        plans = layer_plans(config, manifest.layers, f"image {image.name!r}")
        names = snapshotters or self._snapshotters.known()
        return layer_reports(plans, [self._snapshotters.get(name) for name in names])

    def inspect(self, reference: str, platform: Platform) -> ImageInspection:
        """Return an image's documents.

        Raises:
            NotFound: no such image, or a document is missing.
        """
        image = self.get(reference)
        located = self.locate(image, platform)
        config = located.manifest.config
        return ImageInspection(
            image.name,
            image.target,
            located.descriptor,
            self._store.read_blob(located.descriptor, MAX_DOCUMENT_BYTES),
            config,
            self._store.read_blob(config, MAX_DOCUMENT_BYTES),
            self.chain_id(located) if is_image_config(config.media_type) else "",
        )

    def _put(
        self, name: str, target: Descriptor, labels: Mapping[str, str], *, move: bool
    ) -> Image:
        """Record a name; what it meant before may be needed by nobody now."""
        try:
            moved = self._records.get(name).target.digest != target.digest
        except NotFound:
            moved = False
        try:
            image = self._records.put(name, target, labels, move=move)
        except AlreadyExists as error:
            raise AlreadyExists(f"{error}; choose another name, or use --force") from error
        if moved:
            self._activity.deleted()
        return image

    def _discarded(
        self, required: Sequence[Descriptor], missing: Sequence[Descriptor]
    ) -> tuple[Descriptor, ...]:
        """Return the missing layers that no document of the image refers to any more."""
        layers = [blob for blob in missing if is_layer(blob.media_type)]
        if not layers:
            return ()
        named = {
            value
            for blob in required
            if is_manifest(blob.media_type) and self._store.exists(blob.digest)
            for key, value in self._store.info(blob.digest).labels.items()
            if key.startswith(GC_REF_CONTENT)
        }
        return tuple(layer for layer in layers if str(layer.digest) not in named)

    def _unpacked(self, image: Image, platform: Platform) -> dict[str, bool]:
        try:
            name = self.chain_id(self.locate(image, platform))
        except (NotFound, FailedPrecondition):
            return {}
        return {known: self._has(known, name) for known in self._snapshotters.known()}

    def _has(self, snapshotter: str, chain_id: str) -> bool:
        try:
            opened = self._snapshotters.get(snapshotter)
        except SnapcoreError as error:
            # Used here once, and uninstalled or broken since: that is no reason to answer nothing.
            _log.warning("cannot ask snapshotter %r: %s", snapshotter, error)
            return False
        return not chain_id or is_intact(opened, chain_id)
