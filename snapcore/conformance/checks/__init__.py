"""The checks, by room; `ALL_CHECKS` is all of them in the order in which they are reported."""

from snapcore.conformance.checks.table import ALL_CHECKS as ALL_CHECKS
