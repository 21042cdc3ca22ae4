"""`gc` and `leases` on a real root with real images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.cli import call
from support.images import tiny_layout

from snapcore.cli.units import parse_duration, parse_size

pytestmark = [pytest.mark.needs_root, pytest.mark.usefixtures("census")]


def answer(root: Path, *arguments: str) -> Any:  # noqa: ANN401  JSON
    """Run a verb and return what it prints as JSON."""
    done = call("--root", str(root), "--format", "json", *arguments)
    assert done.code == 0, done.err
    return json.loads(done.out)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a root with one image for two snapshotters."""
    tiny_layout(tmp_path / "layout")
    both = ("--snapshotter", "native", "--snapshotter", "overlay")
    answer(tmp_path / "root", *both, "images", "import", str(tmp_path / "layout"))
    return tmp_path / "root"


def test_an_image_is_kept_and_every_part_of_it_says_why(root: Path) -> None:
    (image,) = answer(root, "images", "ls")
    plan = answer(root, "gc", "--dry-run")
    assert (plan["garbage"], plan["size"]) == ([], 0)
    top = answer(root, "--snapshotter", "native", "snapshots", "ls")[0]["name"]
    found = answer(root, "gc", "--why", top)
    assert {one["snapshotter"] for one in found} == {"native", "overlay"}
    for one in found:
        assert one["kept"]
        assert one["steps"][0] == {
            "kind": "image", "id": image["name"], "snapshotter": "", "because": "image",
        }  # fmt: skip
    text = call("--root", str(root), "gc", "--why", image["digest"][:20]).out
    assert image["name"] in text
    assert "target" in text


def test_nothing_is_left_of_a_removed_image(root: Path) -> None:
    (image,) = answer(root, "images", "ls")
    answer_ = call("--root", str(root), "images", "rm", image["name"])
    assert answer_.code == 0
    plan = answer(root, "gc", "--dry-run")
    assert {item["kind"] for item in plan["garbage"]} == {"content", "snapshot"}
    why = answer(root, "gc", "--why", image["digest"])
    assert not why[0]["kept"]
    report = answer(root, "gc")
    assert report["removed"] == plan["garbage"]
    assert (report["failed"], report["spared"]) == ([], [])
    assert [p for p in (root / "content").rglob("*") if p.is_file()] == []
    for name in ("native", "overlay"):
        assert list((root / "snapshotters" / name / "snapshots").iterdir()) == []
    assert answer(root, "gc")["removed"] == []


def test_images_say_how_much_they_keep_alone_and_with_others(root: Path) -> None:
    (alone,) = answer(root, "images", "ls")
    assert (alone["status"], alone["unpacked_for"]) == ("complete", ["native", "overlay"])
    assert alone["unique_bytes"] == alone["kept_bytes"] > 0 == alone["shared_bytes"]
    answer(root, "images", "tag", alone["name"], "localhost/other:1")
    for shared in answer(root, "images", "ls"):
        assert (shared["unique_bytes"], shared["shared_bytes"]) == (0, alone["kept_bytes"])
    table = call("--root", str(root), "images", "ls").out
    assert "UNIQUE" in table.splitlines()[0]
    one = answer(root, "images", "rm", alone["name"], "--sync")
    assert (one["garbage"], one["removed"], one["freed"]) == ([], [], 0)
    assert [(by["id"], by["size"]) for by in one["shared"]] == [
        ("localhost/other:1", alone["kept_bytes"])
    ]
    text = call("--root", str(root), "images", "rm", "localhost/other:1").out
    assert text.splitlines()[0] == "localhost/other:1"
    plan = answer(root, "gc", "--dry-run")
    assert plan["size"] == alone["kept_bytes"]
    assert f"({len(plan['garbage'])} things)" in text


def test_a_removal_collects_at_once_if_asked(root: Path) -> None:
    (image,) = answer(root, "images", "ls")
    done = answer(root, "images", "rm", image["name"], "--sync")
    assert done["freed"] == done["size"] == image["kept_bytes"]
    assert sorted(map(str, done["removed"])) == sorted(map(str, done["garbage"]))
    assert answer(root, "content", "ls") == []
    assert call("--root", str(root), "images", "rm", image["name"]).code == 3


def test_a_lease_keeps_what_it_holds_until_it_is_removed(root: Path) -> None:
    (image,) = answer(root, "images", "ls")
    held = f"content={image['digest']}"
    lease = answer(root, "leases", "create", "mine", "--expire", "1h", "--hold", held)
    assert (lease["id"], lease["lifetime"]) == ("mine", 3600)
    call("--root", str(root), "images", "rm", image["name"])
    assert answer(root, "gc")["removed"] == []
    assert answer(root, "gc", "--why", image["digest"])[0]["steps"][0]["kind"] == "lease"
    (listed,) = answer(root, "leases", "ls")
    assert listed["resources"] == [{"kind": "content", "id": image["digest"]}]
    assert call("--root", str(root), "leases", "hold", "mine", held, "--let-go").code == 0
    assert len(answer(root, "gc", "--dry-run")["garbage"]) > 3
    assert call("--root", str(root), "leases", "hold", "mine", held).code == 0
    assert call("--root", str(root), "leases", "rm", "mine", "--sync").code == 0
    assert answer(root, "content", "ls") == []


def test_a_mounted_image_survives_every_budget(root: Path, tmp_path: Path) -> None:
    (image,) = answer(root, "images", "ls")
    target = tmp_path / "mnt"
    target.mkdir()
    answer(root, "--snapshotter", "overlay", "images", "mount", image["name"], str(target))
    try:
        assert answer(root, "gc", "--keep-bytes", "0")["images"] == []
        call("--root", str(root), "images", "rm", image["name"])
        assert (target / "bin").exists() or any(target.iterdir())
        answer(root, "gc")
        assert any(target.iterdir())
    finally:
        call("--root", str(root), "images", "unmount", str(target))
    answer(root, "gc")
    assert answer(root, "--snapshotter", "overlay", "snapshots", "ls") == []


def test_the_budget_takes_images(root: Path) -> None:
    (image,) = answer(root, "images", "ls")
    assert answer(root, "gc", "--dry-run", "--keep-bytes", "1T")["images"] == []
    assert answer(root, "gc", "--unused-for", "1h")["images"] == []
    assert answer(root, "gc", "--keep-bytes", "0")["images"] == [image["name"]]
    assert answer(root, "images", "ls") == []
    assert answer(root, "content", "ls") == []


@pytest.mark.parametrize("form", ["html", "svg", "dot", "json"])
def test_the_graph_is_drawn(root: Path, tmp_path: Path, form: str) -> None:
    (image,) = answer(root, "images", "ls")
    path = tmp_path / f"graph.{form}"
    assert call("--root", str(root), "gc", "--graph", str(path)).out == f"{path}\n"
    text = path.read_text()
    assert image["name"] in text
    assert "snapshots of native" in text or form == "json"
    if form == "json":
        roles = {thing["role"] for thing in json.loads(text)["things"]}
        assert roles == {"image", "manifest", "config", "layer", "snapshot"}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("gc", "--why", "nothing"), 3, "'nothing'"),
        (("gc", "--why", "x", "--dry-run"), 2, "--why"),
        (("gc", "--graph", "x.png"), 2, ".html"),
        (("gc", "--graph", "x.svg", "--dry-run"), 2, "--graph"),
        (("gc", "--graph", "/nowhere/x.svg"), 3, "/nowhere/x.svg"),
        (("gc", "--keep-bytes", "many"), 2, "'many'"),
        (("gc", "--unused-for", "7"), 2, "'7'"),
        (("leases", "rm", "other"), 3, "'other'"),
        (("leases", "create", "x", "--hold", "blob=1"), 2, "'blob=1'"),
        (("leases", "hold", "other", "content=x"), 3, "'other'"),
    ],
)
def test_mistakes_are_one_sentence(
    tmp_path: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    done = call("--root", str(tmp_path / "root"), *arguments)
    assert done.code == code
    assert words in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("1000", 1000), ("20G", 20 << 30), ("1.5GiB", 3 << 29), ("2 kb", 2048)],
)
def test_sizes(text: str, value: int) -> None:
    assert parse_size(text) == value


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("12h", 43200), ("1.5d", 129600)])
def test_durations(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds * 10**9
