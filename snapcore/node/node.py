"""The node: the one place that joins the rooms, and the embedding API."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Self

from snapcore.config import NodeConfig
from snapcore.errors import InvalidArgument, PermissionDenied
from snapcore.metadata import Image, MountRecord
from snapcore.node.holding import LeasedWork, leased
from snapcore.node.mounting import MountRequest, mounted
from snapcore.node.parts import OnUse, open_parts
from snapcore.node.values import (
    CommitOptions,
    CommittedImage,
    PullOptions,
    PullResult,
    PushOptions,
    UnpackChoice,
)
from snapcore.oci import Platform, Reference
from snapcore.snapshots import Checkpoint, HookTrace, Probe, Snapshotter, no_checkpoint
from snapcore.unpack import Events, Resolved, Workplace, no_events, reclaim, single_error

# What speaks to registries, or reads and writes layers, is imported by the verbs that do.
if TYPE_CHECKING:
    from snapcore.archive import DiffOptions, WrittenLayer
    from snapcore.node.transfer import Offer
    from snapcore.registry import Outgoing


class Node(OnUse):
    """Everything below one root. Open it with `Node.open` or `open_node`; use it in one thread.

    Attributes:
        config: what it was opened with.
        content: the content store.
        images: the images and questions about them.
        snapshotters: the backends, opened on first use.
        leases: what somebody is about to use.
    """

    def __init__(
        self,
        config: NodeConfig,
        *,
        environment: Mapping[str, str],
        trace: Callable[[HookTrace], None] | None,
        freeing: bool,
    ) -> None:
        self.config = config
        self._environment = environment
        self._resources = ExitStack()
        with self._resources:
            parts = open_parts(config, environment, trace, self._resources, freeing=freeing)
            self._place, self._metadata = parts.ground.place, parts.ground.metadata
            self._activity, self._mounter = parts.activity, parts.mounter
            self.content, self.images = parts.ground.content, parts.images
            self.snapshotters, self.leases = parts.snapshotters, parts.leases
            self._parts = parts
            self._resources = self._resources.pop_all()

    @classmethod
    def open(
        cls,
        config: NodeConfig,
        *,
        environment: Mapping[str, str] | None = None,
        trace: Callable[[HookTrace], None] | None = None,
        freeing: bool = False,
    ) -> Self:
        """Open a node; directories that are missing are made (mode 0700).

        A root that is there but cannot be written is opened for reading only.

        Args:
            config: root, snapshotters and the rest.
            environment: where proxies and credential helpers are looked up; none by default.
            trace: told every hook call of a snapshotter.
            freeing: it is opened to remove things, and on a full disk may have the space that is
                kept for that.

        Raises:
            PermissionDenied: the root cannot be made, or not even be read.
            NotFound: it cannot be written, and there is no node in it.
            FailedPrecondition: the root was written by a newer snapcore.
            ResourceExhausted: there is no space for a lock file.
        """
        return cls(config, environment=environment or {}, trace=trace, freeing=freeing)

    @property
    def read_only(self) -> bool:
        """Whether the root cannot be written: what would write raises PermissionDenied."""
        return self._place is None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(flush=error is None)

    def close(self, *, flush: bool = True) -> None:
        """Close everything; mounts and snapshots stay. Idempotent.

        Args:
            flush: put on disk what was committed and is not there yet; else a power cut may
                still take it away.

        Raises:
            DataLoss: that failed; everything is closed all the same.
        """
        with self._resources:
            if flush:
                self.snapshotters.flush()

    def snapshotter(self, name: str = "") -> Snapshotter:
        """Return an opened snapshotter, the configured one for "".

        Raises:
            NotFound: no such plugin.
            FailedPrecondition: it does not work on this host.
        """
        return self.snapshotters.get(name)

    def probe_all(self) -> dict[str, Probe]:
        """Say of every installed snapshotter what it can do here."""
        return self.snapshotters.probe_all()

    async def pull(
        self,
        reference: str,
        options: PullOptions | None = None,
        *,
        events: Events = no_events,
    ) -> PullResult:
        """Bring an image from its registry to this node and unpack it.

        Args:
            reference: `[host/]repository[:tag][@digest]`.
            options: see `PullOptions`.
            events: told what happens, partly from worker threads.

        Raises:
            InvalidArgument: a malformed reference, platform or label.
            NotFound: no such image, or nothing for the platform.
            Unavailable: the registry cannot be reached or is overloaded.
            PermissionDenied: the registry wants other credentials.
            RefusedInput, DigestMismatch: what it sent is not acceptable.
            ResourceExhausted: no space.
        """
        options = options or PullOptions()
        name = Reference.parse(reference)
        place = self._writable("pulling an image")
        # Opened before the first request: a backend that cannot work should cost no download.
        snapshotters = self._chosen(options.choice)
        with single_error():
            result = await self._parts.arrivals.pull(place, name, options, snapshotters, events)
        if self.config.unpack.index == "pull":
            from snapcore.node.indexing import index_pulled

            await index_pulled(self, result, options.choice.platform)
        return result

    async def import_(
        self,
        source: str | int | Offer,
        *,
        name: str = "",
        choice: UnpackChoice | None = None,
        events: Events = no_events,
    ) -> tuple[PullResult, ...]:
        """Bring the images of a layout directory or an image archive to this node; unpack them.

        Without `name` they get the names that their author gave them, and those that have
        none are called `localhost/<directory or archive>:<tag>`.

        Args:
            source: path of an OCI layout directory, or of an archive: an OCI layout in a tar, or
                what `docker save` writes, plain, gzip or zstd; an open pipe of one; `ServedImages`.
            name: repository, with a tag only if there is one image.
            choice: what is unpacked.
            events: told what happens, partly from worker threads.

        Raises:
            NotFound: nothing there, or a blob is missing.
            InvalidArgument: the name does not fit.
            RefusedInput, DigestMismatch: the content is not acceptable.
        """
        from snapcore.node.transfer import find_images

        choice = choice or UnpackChoice()
        place = self._writable("importing an image")
        if name:
            Reference.parse(name)
        snapshotters = self._chosen(choice)
        results = []
        with single_error():
            found = await find_images(source, self.content, self.config.unpack.limits, events)
            for reference, target in found.named(name):
                events(Resolved(reference, target))
                results.append(
                    await self._parts.arrivals.acquire(
                        place, reference, target, found.source, choice, snapshotters, found.events
                    )
                )
        return tuple(results)

    async def unpack(
        self, reference: str, choice: UnpackChoice | None = None, *, events: Events = no_events
    ) -> PullResult:
        """Unpack an image of this node; what was discarded is fetched again from its registry.

        Raises:
            NotFound: no such image, or no registry is recorded that has a missing blob.
            Unavailable, PermissionDenied: the registry that is recorded for one.
        """
        choice = choice or UnpackChoice()
        place = self._writable("unpacking an image")
        image = self.images.get(reference)
        snapshotters = self._chosen(replace(choice, unpack=True))
        with single_error():
            async with self.recovery.source(image.target) as source:
                return await self._parts.arrivals.acquire(
                    place, image.name, image.target, source, choice, snapshotters, events
                )

    async def export(
        self,
        references: Sequence[str],
        target: str | int,
        *,
        kind: str = "oci",
        platform: str = "",
        all_platforms: bool = False,
        force: bool = False,
        events: Events = no_events,
    ) -> tuple[Outgoing, ...]:
        """Write images to a layout directory or an archive, whole or not at all.

        Manifests and configs stay as they are, bit for bit, and the same images give the same
        bytes always.

        Args:
            references: the images.
            target: a path, or an open file or pipe for an archive.
            kind: `directory` or `oci` (a layout, in a tar), or `docker` (docker archive).
            platform: of an image for several; this host's for "".
            all_platforms: all of each image instead.
            force: replace an archive of that name.
            events: told what happens, from a worker thread.

        Raises:
            NotFound: no such image, a blob is missing, or nothing fits the platform.
            AlreadyExists: something is at `target` already.
            InvalidArgument: a malformed reference or platform, an unknown kind, or all platforms
                in a docker archive.
            FailedPrecondition: a docker archive of what is no container image.
            DigestMismatch: a blob is damaged.
            ResourceExhausted, PermissionDenied: the file system's.
        """
        from snapcore.node.outgoing import export_images
        from snapcore.registry import ArchiveKind

        wanted = None if all_platforms else Platform.or_local(platform)
        if kind not in tuple(ArchiveKind):
            raise InvalidArgument(f"unknown kind of archive: {kind!r}")
        images = [self.images.get(reference) for reference in references]
        with single_error():
            async with self.recovery.whole(images, wanted, events):
                return await export_images(
                    self.content, images, target, ArchiveKind(kind), wanted, force, events
                )

    async def push(
        self,
        reference: str,
        destination: str = "",
        options: PushOptions | None = None,
        *,
        events: Events = no_events,
    ) -> Outgoing:
        """Push an image of this node to a registry.

        What the registry has is not sent again, and what another of its repositories has is
        taken from there. The tag comes last, once all that it needs is there.

        Args:
            reference: the image.
            destination: what it shall be called; `reference` for "".
            options: see `PushOptions`.
            events: told what happens, partly from worker threads.

        Raises:
            InvalidArgument: a malformed reference or platform.
            NotFound: no such image, a blob is missing, or nothing fits the platform.
            PermissionDenied: the registry wants other credentials.
            Unavailable: the registry cannot be reached, is overloaded, or takes no pushes.
            DigestMismatch: the registry has something else after all.
        """
        from snapcore.node.connection import registry_client
        from snapcore.node.pushing import push_image

        options = options or PushOptions()
        name = Reference.parse(destination or reference)
        platform = None if options.all_platforms else Platform.or_local(options.platform)
        image = self.images.get(reference)
        client = registry_client(
            self.content, self.config.registry, name.host, options, self._environment
        )
        with single_error(), closing(client):
            async with self.recovery.whole([image], platform, events):
                return await push_image(client, self.content, image, name, platform, events)

    def mount(
        self,
        reference: str,
        target: str,
        *,
        rw: bool = False,
        snapshotter: str = "",
        platform: str = "",
    ) -> MountRecord:
        """Mount an image's root file system at a directory, until `unmount`.

        Args:
            reference: the image.
            target: an existing directory.
            rw: mount a writable snapshot instead of a view.
            snapshotter: whose snapshot; the node's choice for "".
            platform: this host's for "".

        Raises:
            NotFound: no such image or directory.
            AlreadyExists: something is mounted there.
            FailedPrecondition: the image is not unpacked.
            PermissionDenied: this process may not mount.
        """
        with self._working("mounting an image") as work:
            request = self._request(reference, rw, snapshotter, platform)
            record = self._mounter.mount(request, target, work)
        self._metadata.images.touch(request.image)
        return record

    def unmount(self, target: str, *, remove: bool = False) -> MountRecord:
        """Undo `mount`. A view's snapshot is removed; a writable one only on demand.

        Args:
            target: the directory.
            remove: remove a writable snapshot too, with what was written.

        Raises:
            NotFound: this node has mounted nothing there.
            FailedPrecondition: the mount is in use.
        """
        self._writable("unmounting an image")
        record = self._mounter.unmount(target)
        if remove or not record.rw:
            snapshotter = self.snapshotter(record.snapshotter)
            snapshotter.remove(record.key)
            reclaim(snapshotter)
        self._activity.deleted()
        return record

    def mounts(self) -> tuple[MountRecord, ...]:
        """Return what this node has mounted."""
        return self._mounter.list()

    @contextmanager
    def mounted(
        self, reference: str, *, rw: bool = False, snapshotter: str = "", platform: str = ""
    ) -> Iterator[str]:
        """Mount an image at a private directory for the duration of a `with` block.

        Yields:
            The root directory.

        Raises:
            NotFound, FailedPrecondition, PermissionDenied: as `mount`.
        """
        state = self._writable("mounting an image").state
        with self._working("mounting an image") as work:
            request = self._request(reference, rw, snapshotter, platform)
            with mounted(request, state, work) as directory:
                yield directory

    def diff(
        self,
        key: str,
        write: Callable[[bytes], object],
        options: DiffOptions | None = None,
        *,
        snapshotter: str = "",
    ) -> WrittenLayer:
        """Write what a snapshot has changed of its parent, as a layer; blocks.

        Args:
            key: an Active snapshot, in which nobody should write meanwhile; or a Committed one.
            write: takes all of the bytes that it is given.
            options: see `DiffOptions`.
            snapshotter: whose snapshot; the node's choice for "".

        Raises:
            NotFound: no such snapshot.
            FailedPrecondition: it is a View, or something changed while it was read.
            RefusedInput: something in it can be in no layer.
            PermissionDenied: this process may not mount what is compared.
        """
        from snapcore.archive import DiffOptions
        from snapcore.node.diffing import diff_snapshot

        options, what = options or DiffOptions(), "comparing snapshots"
        state = self._writable(what).state
        with self._working(what, options.checkpoint) as work:
            return diff_snapshot(self.snapshotter(snapshotter), key, write, options, state, work)

    async def commit(
        self,
        key: str,
        name: str,
        options: CommitOptions | None = None,
        *,
        events: Events = no_events,
    ) -> CommittedImage:
        """Make an image of a changed snapshot, which stays as it is.

        Args:
            key: an Active snapshot of an image's, or of nothing.
            name: of the new image.
            options: see `CommitOptions`.
            events: told what happens, partly from worker threads.

        Raises:
            AlreadyExists: the name is taken, and `force` is not given.
            NotFound: no such snapshot, or no image that it stands on.
            InvalidArgument: a malformed name or change, or several such images.
            SnapcoreError: as `diff`, and as unpacking the image.
        """
        from snapcore.node.committing import Committer

        options = options or CommitOptions()
        place = self._writable("making an image")
        committer = Committer(
            place, self._metadata, self.images, self.recovery, self._parts.arrivals
        )
        snapshotter = self.snapshotter(options.snapshotter)
        with single_error():
            return await committer.commit(
                snapshotter, key, str(Reference.parse(name)), options, events
            )

    def tag(self, source: str, target: str, *, force: bool = False) -> Image:
        """Give an image another name.

        Raises:
            NotFound: no such source.
            AlreadyExists: the target names another image, and `force` is not given.
        """
        with self._working("naming an image") as work:
            work.tree(self.content, self.images.get(source).target.digest)
            return self.images.tag(source, target, force=force)

    @contextmanager
    def _working(self, what: str, checkpoint: Checkpoint = no_checkpoint) -> Iterator[LeasedWork]:
        owner = self._writable(what).owner
        with self._activity.work(), leased(self._metadata, owner, checkpoint) as work:
            yield work

    def _writable(self, what: str) -> Workplace:
        if self._place is None:
            raise PermissionDenied(
                f"{what} writes, and root {self.config.root!r} is read-only for this process"
            )
        return self._place

    def _request(self, reference: str, rw: bool, snapshotter: str, platform: str) -> MountRequest:
        image = self.images.get(reference)
        located = self.images.locate(image, Platform.or_local(platform))
        return MountRequest(
            image.name, self.images.chain_id(located), self.snapshotter(snapshotter), rw
        )

    def _chosen(self, choice: UnpackChoice) -> tuple[Snapshotter, ...]:
        Platform.or_local(choice.platform)
        if not choice.unpack:
            return ()
        names = choice.snapshotters or self.snapshotters.default_names()
        return tuple(self.snapshotter(name) for name in dict.fromkeys(names))
