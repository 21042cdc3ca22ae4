"""Mutants of valid archives: what our reader accepts, other readers read as the same entries.

We may refuse more than others, never read something else. Where another reader is known to be
wrong, the fault is written down in `KNOWN_FAULTS` with its reason.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Final

import pytest
from support.hostile.mutants import mutants, seeds
from support.hostile.oracles import Listing, Oracle, Refused, available, ours

from snapcore.errors import RefusedInput

FEW: Final = 500
MANY: Final = 20_000
Fault = Callable[[Listing, Listing], bool]


def _ends_early(found: Listing, theirs: Listing) -> bool:
    """CPython takes a header that it cannot read for the end, unless it is the first one."""
    return len(theirs) < len(found) and _alike(found[: len(theirs)], theirs)


def _old_directory(found: Listing, theirs: Listing) -> bool:
    """CPython makes a directory of an old header whose own name, which does not count, has a slash.

    The effective name comes from a PAX or GNU header; GNU tar and libarchive go by that.
    """
    return len(theirs) == len(found) and _alike(found, theirs)


def _gnu_prefix(found: Listing, theirs: Listing) -> bool:
    """CPython puts a GNU header's times, which lie where ustar has its prefix, before the name."""
    return len(theirs) == len(found) and all(
        replace(other, path=other.path[-len(one.path) :]) == one
        for one, other in zip(found, theirs, strict=True)
    )


def _no_own_target(found: Listing, theirs: Listing) -> bool:
    """libarchive forgets a long link target where the header of the link itself has none.

    Writers put the beginning of the target there; GNU tar and CPython go by the long one.
    """
    return len(theirs) == len(found) and all(
        one == other or (replace(one, link=b"") == other and other.kind == "symlink")
        for one, other in zip(found, theirs, strict=True)
    )


def _alike(found: Listing, theirs: Listing) -> bool:
    return all(
        one == other or (one.path == other.path and (one.kind, other.kind) == ("file", "directory"))
        for one, other in zip(found, theirs, strict=True)
    )


KNOWN_FAULTS: Final[Mapping[str, tuple[Fault, ...]]] = {
    "tarfile": (_ends_early, _old_directory, _gnu_prefix),
    "GNU tar": (),
    "libarchive": (_no_own_target,),
}


@pytest.fixture(scope="module")
def oracles() -> Mapping[str, Oracle]:
    found = available()
    assert "tarfile" in found
    return found


def disagreements(data: bytes, oracles: Mapping[str, Oracle]) -> dict[str, Listing] | None:
    """Return who reads something else than we do; None if we refuse the archive."""
    try:
        found = ours(data)
    except RefusedInput:
        return None
    wrong = {}
    for name, oracle in oracles.items():
        try:
            theirs = oracle(data)
        except Refused:
            continue
        if theirs != found and not any(fault(found, theirs) for fault in KNOWN_FAULTS[name]):
            wrong[name] = theirs
    return wrong


def check(seed: int, count: int, oracles: Mapping[str, Oracle]) -> Counter[str]:
    """Fail at the first mutant that another reader reads in another way; return what was seen."""
    seen: Counter[str] = Counter()
    # Threads, since most of the time goes to programs that are waited for.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        archives = list(mutants(seed, count))
        for data, wrong in zip(
            archives, pool.map(lambda each: disagreements(each, oracles), archives), strict=True
        ):
            seen["refused" if wrong is None else "accepted"] += 1
            assert not wrong, (wrong, ours(data), data)
    return seen


def test_all_readers_agree_on_what_is_valid(oracles: Mapping[str, Oracle]) -> None:
    for data in seeds():
        found = ours(data)
        assert found
        assert {name: oracle(data) for name, oracle in oracles.items()} == dict.fromkeys(
            oracles, found
        )


def test_mutants_are_the_same_for_a_seed() -> None:
    assert list(mutants(1, 20)) == list(mutants(1, 20)) != list(mutants(2, 20))


def test_what_we_accept_others_read_in_the_same_way(oracles: Mapping[str, Oracle]) -> None:
    seen = check(1, FEW, oracles)
    # Neither all nor nothing is accepted: there is something to compare, and something to refuse.
    assert min(seen["accepted"], seen["refused"]) > FEW // 5


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", [2, 3])
def test_what_we_accept_of_many_others_read_in_the_same_way(
    seed: int,
    oracles: Mapping[str, Oracle],
    record_property: Callable[[str, object], None],
) -> None:
    seen = check(seed, MANY // 2, oracles)
    record_property(
        "shown",
        f"tar mutants of seed {seed}: {seen['accepted']} accepted, {seen['refused']} refused;"
        f" compared with {', '.join(oracles)}",
    )
