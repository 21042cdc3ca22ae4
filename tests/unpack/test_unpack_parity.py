"""Images made of histories, through the whole unpacker: every backend shows the tree that is meant.

Layers go two at a time where the backend can, and for more than half of the images all backends
are served in one pass. A failure names the image, its encoding, and the command that does it again.
"""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Final

import pytest
import trio
from support.parity import Failure, backends_of, parity_image, parity_node, unpack_and_compare

pytestmark = [pytest.mark.needs_root, pytest.mark.usefixtures("census")]
_ALL: Final = {"native", "overlay"}
"""What works wherever root mounts; other backends are added where they work."""


def check_images(first: int, count: int, place: Path) -> None:
    """Unpack so many images for every backend; fail with all that is not as it must be."""

    async def run() -> None:
        for number in range(first, first + count):
            failures.extend(await unpack_and_compare(node, parity_image(number), backends, place))
            shutil.rmtree(place / f"layout-{number}")

    failures: list[Failure] = []
    with parity_node(place / "root") as node:
        backends = backends_of(node)
        assert set(backends) >= _ALL
        trio.run(run)
    if failures:
        pytest.fail("\n".join(map(str, failures)), pytrace=False)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("first", range(0, 100, 25))
def test_every_backend_shows_the_tree_that_is_meant(
    first: int, tmp_path: Path, jobs: Counter[str]
) -> None:
    check_images(first, 25, tmp_path)
    # In order, apart from the layers below, and into several at a time: each way was taken.
    assert min(jobs["Layer"], jobs["Apart"], jobs["Settle"], jobs["Feed"]) > 0, jobs


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("first", range(0, 2000, 100))
def test_every_backend_shows_the_tree_that_is_meant_for_long(first: int, tmp_path: Path) -> None:
    check_images(first, 100, tmp_path)
