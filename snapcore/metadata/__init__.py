"""The node database: images, labels of blobs, mounts, and the backends that have state here."""

from snapcore.metadata.content_labels import ContentLabels as ContentLabels
from snapcore.metadata.database import Metadata as Metadata
from snapcore.metadata.database import open_metadata as open_metadata
from snapcore.metadata.images import Image as Image
from snapcore.metadata.images import ImageStore as ImageStore
from snapcore.metadata.mounts import MountRecord as MountRecord
from snapcore.metadata.mounts import MountStore as MountStore
from snapcore.metadata.mounts import Place as Place
from snapcore.metadata.snapshotters import SnapshotterRecord as SnapshotterRecord
from snapcore.metadata.snapshotters import SnapshotterStore as SnapshotterStore
