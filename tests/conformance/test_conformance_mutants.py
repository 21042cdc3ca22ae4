"""The count of mutants: what is known is of mutants that there are, and others are caught."""

from __future__ import annotations

import subprocess
import sys

import pytest

from scripts.mutants import REPO, Mutant, every, mutate
from scripts.mutants_known import KNOWN


def test_what_is_known_is_of_mutants_that_there_are() -> None:
    assert KNOWN.keys() <= {mutate(mutant)[1] for mutant in every()}
    assert all(known.why for known in KNOWN.values())


@pytest.mark.needs_root
def test_a_mutant_is_run_in_a_process_of_its_own_and_caught() -> None:
    what = "attributes.copy_attributes: _copy_xattrs(source, target, status) -> None"
    (mutant,) = (each for each in every() if mutate(each)[1] == what)
    done = _run(mutant, "xattrs")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith("xattrs: xattrs of 'dir': found []")


def _run(mutant: Mutant, *first: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scripts.mutants", mutant.module, str(mutant.number), *first]
    isolated = ["unshare", "--mount"]
    return subprocess.run(
        [*isolated, *command], cwd=REPO, capture_output=True, text=True, check=False
    )
