"""Conformance: what every snapshotter must do, as checks that need no test framework.

Names are loaded on first use: the pytest plugin is in this room, and every run of pytest
imports it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from snapcore.lazily import on_first_use

if TYPE_CHECKING:
    from snapcore.conformance.checks import ALL_CHECKS as ALL_CHECKS
    from snapcore.conformance.harness import Check as Check
    from snapcore.conformance.harness import CheckFailed as CheckFailed
    from snapcore.conformance.harness import Harness as Harness
    from snapcore.conformance.memory import MemorySnapshotter as MemorySnapshotter
    from snapcore.conformance.memory import open_memory as open_memory
    from snapcore.conformance.memory_state import MemoryState as MemoryState
    from snapcore.conformance.report import Graded as Graded
    from snapcore.conformance.report import Report as Report
    from snapcore.conformance.report import decode as decode
    from snapcore.conformance.report import graded as graded
    from snapcore.conformance.report import joined as joined
    from snapcore.conformance.report_html import html_report as html_report
    from snapcore.conformance.run import OpenRoot as OpenRoot
    from snapcore.conformance.run import Outcome as Outcome
    from snapcore.conformance.run import Result as Result
    from snapcore.conformance.run import Subject as Subject
    from snapcore.conformance.run import run_checks as run_checks
    from snapcore.conformance.run import started as started
    from snapcore.conformance.version import SUITE_VERSION as SUITE_VERSION
    from snapcore.conformance.xfails import parse_xfails as parse_xfails

__getattr__ = on_first_use(
    __name__,
    {
        "ALL_CHECKS": "checks",
        "Check": "harness",
        "CheckFailed": "harness",
        "Graded": "report",
        "Harness": "harness",
        "MemorySnapshotter": "memory",
        "MemoryState": "memory_state",
        "OpenRoot": "run",
        "Outcome": "run",
        "Report": "report",
        "Result": "run",
        "SUITE_VERSION": "version",
        "Subject": "run",
        "decode": "report",
        "graded": "report",
        "joined": "report",
        "open_memory": "memory",
        "parse_xfails": "xfails",
        "html_report": "report_html",
        "run_checks": "run",
        "started": "run",
    },
)
