"""The images of the parity tests: what they mean, that they have what they say, and the digest."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, TypeAlias

import pytest
from support.cli import child_environment
from support.features import Feature
from support.layers import Native
from support.parity import (
    ParityImage,
    check_model,
    difference,
    model_listing,
    numbers_of,
    parity_image,
)
from support.tree_model import Refused, Tree, describe, empty_tree, model_apply

from snapcore.archive import Entry, EntryType, tree_listing

DEVICES: Final = (EntryType.CHARACTER, EntryType.BLOCK, EntryType.FIFO)
Found: TypeAlias = Callable[[ParityImage], bool]


def entries(image: ParityImage) -> Iterator[tuple[Tree, Tree, Entry]]:
    """Yield every entry with the trees before and after its layer."""
    trees = image.history.trees
    for before, after, layer in zip(trees[:-1], trees[1:], image.layers, strict=True):
        yield from ((before, after, item) for item, _ in layer)


def some(found: Callable[[Entry], bool]) -> Found:
    return lambda image: any(found(item) for _, _, item in entries(image))


def edited(verb: str) -> Found:
    return lambda image: any(word.startswith(verb) for each in image.history.edits for word in each)


def encoded(text: str) -> Found:
    return lambda image: any(text in str(encoding) for encoding in image.encodings)


def base_name(item: Entry) -> bytes:
    return item.path[-1] if item.path else b""


def is_whiteout(item: Entry) -> bool:
    return base_name(item).startswith(b".wh.")


def deletes_nothing(image: ParityImage) -> bool:
    return any(
        is_whiteout(item) and (*item.path[:-1], base_name(item)[4:]) not in before
        for before, _, item in entries(image)
    )


def is_late(image: ParityImage) -> bool:
    return any(
        is_whiteout(item) and not all(is_whiteout(other) for other, _ in layer[:number])
        for layer in image.layers
        for number, (item, _) in enumerate(layer)
    )


def is_shuffled(image: ParityImage) -> bool:
    plain = ([item.path for item, _ in layer if not is_whiteout(item)] for layer in image.layers)
    return any(paths != sorted(paths) for paths in plain)


def has_twice(image: ParityImage) -> bool:
    paths = ([item.path for item, _ in layer] for layer in image.layers)
    return any(len(set(each)) < len(each) for each in paths)


def goes_through(image: ParityImage) -> bool:
    return any(
        (node := before.get(item.path[:end])) and node.kind is EntryType.SYMLINK
        for before, _, item in entries(image)
        for end in range(1, len(item.path))
    )


def lacks_a_parent(image: ParityImage) -> bool:
    said = [{item.path for item, _ in layer} for layer in image.layers]
    return any(path[:-1] not in paths for paths in said for path in paths if len(path) > 1)


def says_again(image: ParityImage) -> bool:
    return any(
        item.type is EntryType.FILE and item.path in after and before.get(item.path) is node
        for before, after, item in entries(image)
        if (node := after.get(item.path))
    )


FEATURES: Final[Mapping[Feature, Found]] = {
    Feature.REMOVED: edited("remove"),
    Feature.REPLACED: edited("replace"),
    Feature.RECREATED: edited("recreate"),
    Feature.EMPTIED: edited("empty"),
    Feature.RENAMED: edited("rename"),
    Feature.LINKED: some(lambda item: item.type is EntryType.HARDLINK),
    Feature.STALE: some(lambda item: item.type is EntryType.HARDLINK and item.uid == 9),
    Feature.ATTRIBUTES: edited("attributes"),
    Feature.XATTRS: some(lambda item: bool(item.xattrs)),
    Feature.ROOT: some(lambda item: not item.path),
    Feature.NAMES: some(lambda item: len(base_name(item)) > 100),
    Feature.SPECIAL: some(lambda item: item.type in DEVICES),
    Feature.TIMES: some(lambda item: item.mtime < 0),
    Feature.IDS: some(lambda item: item.uid > 2**21),
    Feature.SHUFFLED: is_shuffled,
    Feature.TWICE: has_twice,
    Feature.IMPLIED: lacks_a_parent,
    Feature.LATE: is_late,
    Feature.OPAQUE: some(lambda item: base_name(item) == b".wh..wh..opq"),
    Feature.SPARE: deletes_nothing,
    Feature.THROUGH: goes_through,
    Feature.UNCHANGED: says_again,
    Feature.LEFTOVERS: some(lambda item: base_name(item) == b".wh..wh.plnk"),
    Feature.GNU: encoded("gnu"),
    Feature.USTAR: encoded("v7"),
    Feature.PAX: encoded("all-pax"),
    Feature.PREFIXES: encoded("./"),
    Feature.ENDS: encoded("end 0"),
    Feature.MEMBERS: encoded("gzip in 4"),
    Feature.ZSTD: encoded("zstd in 3"),
    Feature.PLAIN: encoded("plain"),
}


@pytest.mark.parametrize("first", range(0, 600, 200))
def test_the_layers_mean_the_tree_of_the_edits(first: int) -> None:
    for number in range(first, first + 200):
        check_model(parity_image(number))


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_layers_mean_the_tree_of_the_edits_for_long() -> None:
    for number in range(20_000):
        check_model(parity_image(number))


@pytest.mark.parametrize("feature", Feature)
def test_images_of_a_feature_have_it(feature: Feature) -> None:
    alone = [parity_image(number) for number in numbers_of(feature, 16)]
    assert {image.kind for image in alone} == {feature.value}
    assert any(map(FEATURES[feature], alone))


def test_an_image_follows_from_its_number_in_any_process(tmp_path: Path) -> None:
    program = (
        "from pathlib import Path; from support.parity import parity_image;"
        f"print(parity_image(77).write(Path({str(tmp_path / 'there')!r})))"
    )
    # Sets of bytes have another order there.
    environment = child_environment({"PYTHONHASHSEED": "1", "PYTHONPATH": ":".join(sys.path)})
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, check=True, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == str(parity_image(77).write(tmp_path / "here"))


def test_the_encoding_is_another_thing_than_the_history() -> None:
    images = [parity_image(number) for number in range(1, 200, 2)]
    assert len({encoding for image in images for encoding in image.encodings}) > 50


@pytest.mark.parametrize("lost", [is_whiteout, lambda item: item.type is EntryType.HARDLINK])
def test_a_lost_entry_is_seen(lost: Callable[[Entry], bool]) -> None:
    images = [parity_image(number) for number in range(1, 60, 2)]
    assert sum(not means_the_same_without(lost, image) for image in images) > 5


def means_the_same_without(lost: Callable[[Entry], bool], image: ParityImage) -> bool:
    tree = empty_tree()
    try:
        for layer in image.layers:
            tree = model_apply(tree, [part for part in layer if not lost(part[0])])
    except Refused:
        return False
    return describe(tree) == describe(image.tree)


@pytest.mark.needs_root
def test_the_listing_of_a_model_is_that_of_a_directory(tmp_path: Path) -> None:
    for number in (0, 5, 9, 33):
        image = parity_image(number)
        (place := tmp_path / str(number)).mkdir()
        native = Native(str(place), whiteouts_first=True)
        for layer in image.layers:
            native.apply(layer)
        with native.mounted() as root:
            assert list(tree_listing(root)) == list(model_listing(image.tree))
            assert difference(root, image.tree) == ""
            (Path(root) / "more").write_bytes(b"")
            assert "+more file" in difference(root, image.tree)
