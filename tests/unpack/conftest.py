"""What tests of the unpacker share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager

import pytest

from snapcore.unpack import WorkerPool
from snapcore.unpack.pool import Running
from snapcore.unpack.protocol import Job


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count the jobs that workers get, by their class."""
    counts: Counter[str] = Counter()
    original = WorkerPool.begin

    def counted(
        pool: WorkerPool, job: Job, descriptors: Sequence[int]
    ) -> AbstractContextManager[Running]:
        counts[type(job).__name__] += 1
        return original(pool, job, descriptors)

    monkeypatch.setattr(WorkerPool, "begin", counted)
    return counts
