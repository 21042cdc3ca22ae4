"""Numbered images of which the tree is known, and whether it is what a backend shows.

An image is made of its number alone: a history, layers that say it, and an encoding of each.
Even numbers have one feature each in turn, or none; odd ones have many at a time.
"""

from __future__ import annotations

import difflib
import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from snapcore.archive import EntryType, tree_digest, tree_listing
from snapcore.archive.digest import VERSION_LINE
from snapcore.config import NodeConfig
from snapcore.errors import SnapcoreError
from snapcore.node import Node, UnpackChoice
from snapcore.oci import Digest
from snapcore.snapshots import Durability
from support.encodings import Encoding, add_encoded, choose_encoding, describe_encodings
from support.features import Feature
from support.histories import SECOND, History, make_history
from support.history_layers import lay
from support.layers import Layer
from support.layers import Path as TreePath
from support.layout import LayoutBuilder
from support.tree_model import Node as TreeNode
from support.tree_model import Tree, describe, empty_tree, model_apply

AGAIN: Final = "python -m benchmarks.parity --number {} --only {}"
"""The command that does one image again."""
_NEEDS: Final[Mapping[Feature, tuple[Feature, ...]]] = {
    Feature.STALE: (Feature.LINKED,),
    Feature.LATE: (Feature.REMOVED, Feature.RECREATED),
    Feature.OPAQUE: (Feature.EMPTIED,),
    Feature.SPARE: (Feature.REMOVED,),
}
"""What must be in an image that a feature may show."""
_CLASSES: Final[Sequence[Feature | None]] = (None, *Feature)
MIXED: Final = "many at a time"
_SHOWN: Final = 12


@dataclass(frozen=True, slots=True)
class ParityImage:
    """An image with a number.

    Attributes:
        number: all else follows from it.
        kind: the class it belongs to, in words.
        features: what it may have.
        history: what it means.
        layers: that say so.
        encodings: of the layers.
    """

    number: int
    kind: str
    features: tuple[Feature, ...]
    history: History
    layers: tuple[Layer, ...]
    encodings: tuple[Encoding, ...]

    @property
    def tree(self) -> Tree:
        """Return what it must show."""
        return self.history.trees[-1]

    def write(self, directory: Path) -> Digest:
        """Write it as an OCI layout, tagged `latest`; return the digest of its manifest."""
        rng = random.Random(f"encoding of image {self.number}")
        builder = LayoutBuilder(directory)
        stored = [
            add_encoded(builder, layer, encoding, rng)
            for layer, encoding in zip(self.layers, self.encodings, strict=True)
        ]
        return builder.add_image("latest", stored).digest

    def __str__(self) -> str:
        features = " | ".join(self.features) or "no feature"
        edits = "; ".join(" + ".join(each) or "nothing" for each in self.history.edits[1:])
        return (
            f"image {self.number} ({features})\n  {describe_encodings(self.encodings)}"
            f"\n  edits above the base: {edits}"
        )


def parity_image(number: int) -> ParityImage:
    """Return the image of a number, always the same."""
    rng = random.Random(f"image {number}")
    kind, features = _features_of(number, rng)
    history = make_history(rng, features)
    steps = zip(history.trees[:-1], history.trees[1:], strict=True)
    layers = tuple(lay(before, after, rng, features) for before, after in steps)
    encodings = tuple(choose_encoding(rng, features) for _ in layers)
    return ParityImage(number, kind, features, history, layers, encodings)


def _features_of(number: int, rng: random.Random) -> tuple[str, tuple[Feature, ...]]:
    if number % 2:
        share = rng.choice((0.2, 0.5, 1.0))
        return MIXED, tuple(feature for feature in Feature if rng.random() < share)
    feature = _CLASSES[number // 2 % len(_CLASSES)]
    if feature is None:
        return "added and changed files alone", ()
    return feature.value, (feature, *_NEEDS.get(feature, ()))


def numbers_of(feature: Feature, count: int) -> range:
    """Return the first numbers of the images of one feature."""
    first, step = 2 * _CLASSES.index(feature), 2 * len(_CLASSES)
    return range(first, first + step * count, step)


def check_model(image: ParityImage) -> None:
    """Check that the layers mean the trees of the edits, by the model."""
    tree = empty_tree()
    for layer, meant in zip(image.layers, image.history.trees[1:], strict=True):
        tree = model_apply(tree, layer)
        assert describe(tree) == describe(meant), str(image)


def model_listing(tree: Tree) -> Iterator[str]:
    """Yield the lines of a model tree's canonical listing (format: `snapcore.archive.digest`)."""
    yield VERSION_LINE
    first: dict[int, TreePath] = {}
    for path, node in sorted(tree.items(), key=lambda item: item[0]):
        seen = first.setdefault(id(node), path)
        words = [_escaped(b"/".join(path)) if path else ".", *_attributes(node)]
        if seen != path:
            words.append(f"same={_escaped(b'/'.join(seen))}")
        yield " ".join(words)


def _attributes(node: TreeNode) -> Iterator[str]:
    seconds, fraction = divmod(node.mtime, SECOND)
    yield node.kind.value
    yield f"{0o777 if node.kind is EntryType.SYMLINK else node.mode:04o}"
    yield f"{node.ids[0]}:{node.ids[1]}"
    yield f"{seconds}.{fraction:09d}"
    if node.kind is EntryType.FILE:
        yield f"size={len(node.content)}"
        yield f"sha256={hashlib.sha256(node.content).hexdigest()}"
    elif node.kind is EntryType.SYMLINK:
        yield f"target={_escaped(node.content)}"
    elif node.kind in (EntryType.CHARACTER, EntryType.BLOCK):
        yield f"device={node.device[0]}:{node.device[1]}"
    for name, value in sorted(node.xattrs.items()):
        yield f"xattr.{_escaped(name)}={value.hex()}"


def _escaped(raw: bytes) -> str:
    return "".join(chr(b) if 0x21 <= b <= 0x7E and b != 0x5C else f"\\x{b:02x}" for b in raw)


def model_digest(tree: Tree) -> Digest:
    """Return the canonical digest of a model tree; no disk has seen it."""
    return Digest.of("".join(f"{line}\n" for line in model_listing(tree)).encode())


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong with one image.

    Attributes:
        image: which.
        backends: for which it was unpacked in this pass.
        backend: the one that is wrong; "" if the pass failed.
        what: the error, or how the tree differs.
    """

    image: ParityImage
    backends: tuple[str, ...]
    backend: str
    what: str

    def __str__(self) -> str:
        where = f"{self.backend or 'all'}, unpacked for {' and '.join(self.backends)}"
        again = AGAIN.format(self.image.number, ",".join(f"snapcore-{n}" for n in self.backends))
        return f"{self.image}\n  on {where}: {self.what}\n  again: {again}"


def parity_node(root: Path) -> Node:
    """Open a node for such images: two layers at a time, nothing synced."""
    config = NodeConfig.at(str(root))
    return Node.open(
        replace(config, durability=Durability.NONE, unpack=replace(config.unpack, workers=2))
    )


def backends_of(node: Node) -> tuple[str, ...]:
    """Return the installed snapshotters that work here."""
    return tuple(name for name, probe in node.snapshotters.probe_all().items() if probe.usable)


def passes(image: ParityImage, backends: Sequence[str]) -> list[tuple[str, ...]]:
    """Return how an image is unpacked: for all in one pass, or for each in one of its own."""
    if random.Random(f"pass of image {image.number}").random() < 0.6:
        return [tuple(backends)]
    return [(backend,) for backend in backends]


async def unpack_and_compare(
    node: Node, image: ParityImage, backends: Sequence[str], directory: Path
) -> list[Failure]:
    """Import an image into a node for these backends; return what is not as it must be."""
    layout = directory / f"layout-{image.number}"
    image.write(layout)
    name = f"example/parity-{image.number}"
    failures: list[Failure] = []
    for together in passes(image, backends):
        try:
            await node.import_(str(layout), name=name, choice=UnpackChoice(snapshotters=together))
        except SnapcoreError as error:
            failures.append(Failure(image, together, "", f"{type(error).__name__}: {error}"))
            continue
        for backend in together:
            with node.mounted(name, snapshotter=backend) as root:
                different = difference(root, image.tree)
            if different:
                failures.append(Failure(image, together, backend, different))
    return failures


def difference(root: str, tree: Tree) -> str:
    """Return how a directory differs from a model tree; "" if it does not."""
    if tree_digest(root).digest == model_digest(tree):
        return ""
    lines = difflib.unified_diff(
        list(model_listing(tree)), list(tree_listing(root)), "model", "found", n=0, lineterm=""
    )
    return "the tree differs\n    " + "\n    ".join(list(lines)[:_SHOWN])
