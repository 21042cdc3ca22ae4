"""Names of images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from snapcore.errors import AlreadyExists, DataLoss, InvalidArgument, NotFound
from snapcore.metadata import ImageStore, Metadata, open_metadata
from snapcore.oci import Descriptor, Digest, Platform

TARGET: Final = Descriptor(
    "application/vnd.oci.image.index.v1+json",
    Digest.of(b"index"),
    42,
    {"org.opencontainers.image.ref.name": "v1"},
    Platform.parse("linux/arm/v7"),
    ("https://example.invalid/blob",),
)
OTHER: Final = Descriptor("application/vnd.oci.image.manifest.v1+json", Digest.of(b"m"), 7)


@pytest.fixture
def metadata(tmp_path: Path, census: None) -> Iterator[Metadata]:
    opened = open_metadata(str(tmp_path))
    yield opened
    opened.close()


@pytest.fixture
def images(metadata: Metadata) -> ImageStore:
    return metadata.images


def test_what_is_put_is_got(images: ImageStore, metadata: Metadata, tmp_path: Path) -> None:
    put = images.put("host/a:1", TARGET, {"k": "v", "empty": ""})
    assert (put.name, put.target, put.labels) == ("host/a:1", TARGET, {"k": "v"})
    assert images.get("host/a:1") == put
    assert images.put("b", OTHER).target == images.get("b").target == OTHER
    metadata.close()
    again = open_metadata(str(tmp_path))
    assert again.images.get("host/a:1") == put
    again.close()


def test_put_replaces_but_keeps_created(images: ImageStore) -> None:
    first = images.put("a", TARGET, {"k": "v"})
    second = images.put("a", OTHER)
    assert (second.target, second.labels) == (OTHER, {})
    assert second.created == first.created == first.updated < second.updated
    assert images.list() == (second,)


def test_a_name_is_not_given_away_unasked(images: ImageStore) -> None:
    first = images.put("a", TARGET, move=False)
    assert images.put("a", TARGET, move=False).created == first.created
    with pytest.raises(AlreadyExists, match=f"'a' exists and is {TARGET.digest}"):
        images.put("a", OTHER, move=False)
    assert images.get("a").target == TARGET


def test_delete_forgets(images: ImageStore) -> None:
    images.put("a", TARGET)
    images.delete("a")
    for call in (images.get, images.delete):
        with pytest.raises(NotFound, match="no image 'a'"):
            call("a")


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ((), ["A", "a", "b", "ü"]),
        (("name~=^[ab]$",), ["a", "b"]),
        ((f"target.digest=={OTHER.digest}",), ["b"]),
        (("target.mediatype~=index",), ["A", "a", "ü"]),
        (("labels.k==v", "name==b"), ["a", "b"]),
        (('annotations."org.opencontainers.image.ref.name"==v1,name!=a',), ["A", "ü"]),
    ],
)
def test_list_is_sorted_and_filtered(
    images: ImageStore, filters: tuple[str, ...], names: list[str]
) -> None:
    for name in ("ü", "b", "a", "A"):
        images.put(name, OTHER if name == "b" else TARGET, {"k": "v"} if name == "a" else None)
    assert [image.name for image in images.list(filters)] == names


def test_bad_values_are_refused(images: ImageStore) -> None:
    for name in ("", "a\n", "a" * 4097, "\ud800"):
        with pytest.raises(InvalidArgument, match="image name"):
            images.put(name, TARGET)
    with pytest.raises(InvalidArgument, match="label"):
        images.put("a", TARGET, {"k": "v" * 5000})
    with pytest.raises(InvalidArgument, match="nosuch"):
        images.list(["nosuch==1"])
    assert images.list() == ()


@pytest.mark.parametrize(
    ("column", "value"),
    [("digest", "sha256:aa"), ("labels", "[]"), ("urls", "{}"), ("media_type", "x")],
)
def test_a_damaged_row_is_data_loss(
    images: ImageStore, metadata: Metadata, column: str, value: str
) -> None:
    images.put("a", TARGET)
    with metadata.database.write() as connection:
        connection.execute(f"UPDATE images SET {column} = ?", (value,))
    with pytest.raises(DataLoss, match="image 'a'"):
        images.get("a")
