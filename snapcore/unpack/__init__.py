"""From fetched layers to committed snapshots.

Names are loaded on first use: the worker processes import parts of this room and must not pay
for the rest of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from snapcore.lazily import on_first_use

if TYPE_CHECKING:
    from snapcore.unpack.discards import drop_references as drop_references
    from snapcore.unpack.events import ArchiveRead as ArchiveRead
    from snapcore.unpack.events import BlobDiscarded as BlobDiscarded
    from snapcore.unpack.events import Event as Event
    from snapcore.unpack.events import Events as Events
    from snapcore.unpack.events import FetchDone as FetchDone
    from snapcore.unpack.events import FetchProgress as FetchProgress
    from snapcore.unpack.events import FetchStarted as FetchStarted
    from snapcore.unpack.events import ImageUnpacked as ImageUnpacked
    from snapcore.unpack.events import LayerDone as LayerDone
    from snapcore.unpack.events import LayerPlanned as LayerPlanned
    from snapcore.unpack.events import Resolved as Resolved
    from snapcore.unpack.events import SendDone as SendDone
    from snapcore.unpack.events import SendProgress as SendProgress
    from snapcore.unpack.events import SendStarted as SendStarted
    from snapcore.unpack.events import UnpackProgress as UnpackProgress
    from snapcore.unpack.events import UnpackStarted as UnpackStarted
    from snapcore.unpack.events import no_events as no_events
    from snapcore.unpack.groups import single_error as single_error
    from snapcore.unpack.handlers import Handler as Handler
    from snapcore.unpack.handlers import SkipDescriptor as SkipDescriptor
    from snapcore.unpack.handlers import best_document as best_document
    from snapcore.unpack.handlers import child_labels as child_labels
    from snapcore.unpack.handlers import children_of as children_of
    from snapcore.unpack.handlers import choose as choose
    from snapcore.unpack.handlers import dispatch as dispatch
    from snapcore.unpack.handlers import for_platform as for_platform
    from snapcore.unpack.handlers import label_children as label_children
    from snapcore.unpack.handlers import read_document as read_document
    from snapcore.unpack.handlers import remember_choice as remember_choice
    from snapcore.unpack.holding import HOLD_NOTHING as HOLD_NOTHING
    from snapcore.unpack.holding import Hold as Hold
    from snapcore.unpack.leftovers import is_in_progress as is_in_progress
    from snapcore.unpack.leftovers import reclaim as reclaim
    from snapcore.unpack.leftovers import remove_leftovers as remove_leftovers
    from snapcore.unpack.plan import LayerPlan as LayerPlan
    from snapcore.unpack.plan import is_committed as is_committed
    from snapcore.unpack.plan import is_intact as is_intact
    from snapcore.unpack.plan import layer_plans as layer_plans
    from snapcore.unpack.pool import WorkerPool as WorkerPool
    from snapcore.unpack.report import LayerReport as LayerReport
    from snapcore.unpack.report import layer_reports as layer_reports
    from snapcore.unpack.unpacker import UnpackedManifest as UnpackedManifest
    from snapcore.unpack.unpacker import Unpacker as Unpacker
    from snapcore.unpack.unpacker import UnpackOptions as UnpackOptions
    from snapcore.unpack.workplace import Workplace as Workplace

__getattr__ = on_first_use(
    __name__,
    {
        "ArchiveRead": "events",
        "BlobDiscarded": "events",
        "Event": "events",
        "Events": "events",
        "FetchDone": "events",
        "FetchProgress": "events",
        "FetchStarted": "events",
        "drop_references": "discards",
        "HOLD_NOTHING": "holding",
        "Handler": "handlers",
        "Hold": "holding",
        "ImageUnpacked": "events",
        "LayerDone": "events",
        "LayerPlanned": "events",
        "Resolved": "events",
        "SendDone": "events",
        "SendProgress": "events",
        "SendStarted": "events",
        "SkipDescriptor": "handlers",
        "UnpackOptions": "unpacker",
        "UnpackProgress": "events",
        "UnpackStarted": "events",
        "UnpackedManifest": "unpacker",
        "Unpacker": "unpacker",
        "WorkerPool": "pool",
        "Workplace": "workplace",
        "best_document": "handlers",
        "child_labels": "handlers",
        "children_of": "handlers",
        "choose": "handlers",
        "dispatch": "handlers",
        "for_platform": "handlers",
        "LayerPlan": "plan",
        "LayerReport": "report",
        "layer_reports": "report",
        "is_committed": "plan",
        "is_intact": "plan",
        "is_in_progress": "leftovers",
        "layer_plans": "plan",
        "label_children": "handlers",
        "no_events": "events",
        "read_document": "handlers",
        "reclaim": "leftovers",
        "remember_choice": "handlers",
        "remove_leftovers": "leftovers",
        "single_error": "groups",
    },
)
