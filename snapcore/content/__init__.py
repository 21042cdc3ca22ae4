"""The content store: verified blobs, resumable writing, labels by way of the node database."""

from snapcore.content.ingest import Ingest as Ingest
from snapcore.content.quarantine import Quarantined as Quarantined
from snapcore.content.store import ContentStore as ContentStore
from snapcore.content.types import ContentInfo as ContentInfo
from snapcore.content.types import ContentUsage as ContentUsage
from snapcore.content.types import IngestStatus as IngestStatus
from snapcore.content.types import LabelRecord as LabelRecord
from snapcore.content.types import LabelStore as LabelStore
from snapcore.content.verify import VerifiedReader as VerifiedReader
