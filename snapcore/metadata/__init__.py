"""The node database: images, labels of blobs, mounts, and the backends that have state here."""

from snapcore.metadata.clock import Clock as Clock
from snapcore.metadata.clock import Moment as Moment
from snapcore.metadata.clock import system_clock as system_clock
from snapcore.metadata.condemned import CondemnedStore as CondemnedStore
from snapcore.metadata.content_labels import ContentLabels as ContentLabels
from snapcore.metadata.database import Metadata as Metadata
from snapcore.metadata.database import open_metadata as open_metadata
from snapcore.metadata.images import Image as Image
from snapcore.metadata.images import ImageStore as ImageStore
from snapcore.metadata.leases import CONTENT as CONTENT
from snapcore.metadata.leases import IMAGES as IMAGES
from snapcore.metadata.leases import INGESTS as INGESTS
from snapcore.metadata.leases import SNAPSHOTS as SNAPSHOTS
from snapcore.metadata.leases import Lease as Lease
from snapcore.metadata.leases import LeaseStore as LeaseStore
from snapcore.metadata.leases import Resource as Resource
from snapcore.metadata.leases import snapshot as snapshot
from snapcore.metadata.mounts import MountRecord as MountRecord
from snapcore.metadata.mounts import MountStore as MountStore
from snapcore.metadata.mounts import Place as Place
from snapcore.metadata.snapshotters import SnapshotterRecord as SnapshotterRecord
from snapcore.metadata.snapshotters import SnapshotterStore as SnapshotterStore
