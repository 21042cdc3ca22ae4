"""What is needed and what is garbage, why, and how the garbage goes.

Names are loaded on first use, since most verbs collect nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from snapcore.lazily import on_first_use

if TYPE_CHECKING:
    from snapcore.gc.activity import Activity as Activity
    from snapcore.gc.collector import Collector as Collector
    from snapcore.gc.explaining import Explanation as Explanation
    from snapcore.gc.explaining import Step as Step
    from snapcore.gc.explaining import explain as explain
    from snapcore.gc.explaining import find as find
    from snapcore.gc.graph import Edge as Edge
    from snapcore.gc.graph import Graph as Graph
    from snapcore.gc.graph import Thing as Thing
    from snapcore.gc.graph import ThingKind as ThingKind
    from snapcore.gc.scheduler import Schedule as Schedule
    from snapcore.gc.scheduler import Scheduler as Scheduler
    from snapcore.gc.sharing import Released as Released
    from snapcore.gc.sharing import Share as Share
    from snapcore.gc.sharing import released as released
    from snapcore.gc.sharing import shares as shares
    from snapcore.gc.values import Budget as Budget
    from snapcore.gc.values import Garbage as Garbage
    from snapcore.gc.values import Plan as Plan
    from snapcore.gc.values import Report as Report

__getattr__ = on_first_use(
    __name__,
    {
        "Activity": "activity",
        "Collector": "collector",
        "Explanation": "explaining",
        "Step": "explaining",
        "explain": "explaining",
        "find": "explaining",
        "Edge": "graph",
        "Graph": "graph",
        "Thing": "graph",
        "ThingKind": "graph",
        "Schedule": "scheduler",
        "Scheduler": "scheduler",
        "Released": "sharing",
        "Share": "sharing",
        "released": "sharing",
        "shares": "sharing",
        "Budget": "values",
        "Garbage": "values",
        "Plan": "values",
        "Report": "values",
    },
)
