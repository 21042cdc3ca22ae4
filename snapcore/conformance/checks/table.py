"""All checks in one table."""

from __future__ import annotations

from typing import Final

from snapcore.conformance.checks import (
    broken,
    cancelling,
    contents,
    crashes,
    fidelity,
    histories,
    labels,
    layers,
    leaks,
    lifecycle,
    races,
    rebase,
    refusals,
    remap,
    remote,
    usage,
    views,
    whiteouts,
)
from snapcore.conformance.harness import Check

ALL_CHECKS: Final[tuple[Check, ...]] = (
    *lifecycle.CHECKS,
    *refusals.CHECKS,
    *labels.CHECKS,
    *views.CHECKS,
    *layers.CHECKS,
    *fidelity.CHECKS,
    *contents.CHECKS,
    *usage.CHECKS,
    *broken.CHECKS,
    *rebase.CHECKS,
    *races.CHECKS,
    *remap.CHECKS,
    *cancelling.CHECKS,
    *remote.CHECKS,
    *whiteouts.CHECKS,
    *histories.CHECKS,
    *crashes.CHECKS,
    *leaks.CHECKS,
)
"""Every check; names are unique and stable."""
