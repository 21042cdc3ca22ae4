"""Conformance: what every snapshotter must do, as checks that need no test framework."""

from snapcore.conformance.checks import ALL_CHECKS as ALL_CHECKS
from snapcore.conformance.harness import Check as Check
from snapcore.conformance.harness import CheckFailed as CheckFailed
from snapcore.conformance.harness import Harness as Harness
