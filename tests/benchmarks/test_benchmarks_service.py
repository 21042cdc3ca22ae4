"""The table of calls."""

from __future__ import annotations

from benchmarks.service.__main__ import Times, table
from benchmarks.service.sides import REFERENCE


def test_medians_and_ratios() -> None:
    reference = Times([(0.001, 0.002, 0.003, 0.004)] * 5, processor=0.05)
    slow, stuck = (0.002, 0.004, 0.006, 0.008), (1.0, 1.0, 1.0, 1.0)
    slower = Times([slow, slow, stuck, slow, slow], processor=0.1)
    rows = table({REFERENCE: reference, "slower": slower}).splitlines()[2:]
    assert rows[0] == f"| {REFERENCE} | 1.00 | 2.00 | 3.00 | 4.00 | 10.00 | 10.00 | 1.00 | 10.00 |"
    assert rows[1].startswith("| slower | 2.00 | 4.00 | 6.00 | 8.00 | 20.00 | ")
    assert rows[1].endswith(" | 2.00 | 20.00 |")
