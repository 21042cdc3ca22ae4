"""What is needed and what is garbage, why, and how the garbage goes."""

from snapcore.gc.activity import Activity as Activity
from snapcore.gc.collector import Collector as Collector
from snapcore.gc.explain import Explanation as Explanation
from snapcore.gc.explain import Step as Step
from snapcore.gc.explain import explain as explain
from snapcore.gc.explain import find as find
from snapcore.gc.graph import Edge as Edge
from snapcore.gc.graph import Graph as Graph
from snapcore.gc.graph import Thing as Thing
from snapcore.gc.graph import ThingKind as ThingKind
from snapcore.gc.scheduler import Schedule as Schedule
from snapcore.gc.scheduler import Scheduler as Scheduler
from snapcore.gc.shares import Released as Released
from snapcore.gc.shares import Share as Share
from snapcore.gc.shares import released as released
from snapcore.gc.shares import shares as shares
from snapcore.gc.values import Budget as Budget
from snapcore.gc.values import Garbage as Garbage
from snapcore.gc.values import Plan as Plan
from snapcore.gc.values import Report as Report
