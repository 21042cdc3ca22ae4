"""The demonstration: `make demo`, or `python -m examples.demo`."""

import sys
from pathlib import Path

# The image builder is the tests' own; it is no part of any distribution.
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
