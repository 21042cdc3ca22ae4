"""Calls to `snapcore serve` beside the same calls to containerd's own snapshotters."""
