"""`snapshots diff` and `images commit` over the native backend, which needs no privilege."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest
from support.cli import Outcome, call
from support.diffs import read_tar, unzstd
from support.layout import File, LayoutBuilder, tar_of

from snapcore.oci import Digest

Snapcore = Callable[..., Outcome]
BASE = "localhost/base:latest"


@pytest.fixture
def snapcore(tmp_path: Path) -> Snapcore:
    """Call `snapcore` on a root that has an image, and its changed snapshot `work`."""
    builder = LayoutBuilder(tmp_path / "layout")
    layer = builder.add_layer(tar_of(File("etc/", mode=0o755), File("etc/motd", b"hello\n")))
    builder.add_image("latest", [layer])

    def run(*arguments: str) -> Outcome:
        place = ("--root", str(tmp_path / "root"), "--state", str(tmp_path / "state"))
        return call(*place, "--snapshotter", "native", "--progress", "none", *arguments)

    assert run("images", "import", str(builder.directory), "--name", "localhost/base").code == 0
    assert run("snapshots", "prepare", "work", str(layer.diff_id)).code == 0
    (mount,) = run("snapshots", "mounts", "work", "--format", "json").records()
    (Path(str(mount["source"])) / "etc/motd").write_bytes(b"changed\n")
    return run


@pytest.fixture
def epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")


def raw(outcome: Outcome) -> bytes:
    assert outcome.code == 0, outcome.err
    return outcome.out.encode("utf-8", "surrogateescape")


def test_a_layer_goes_to_stdout_and_its_names_to_stderr(snapcore: Snapcore) -> None:
    done = snapcore("snapshots", "diff", "work", "--compression", "none")
    entries = read_tar(raw(done))
    assert entries[-1][0].path == (b"etc", b"motd")
    assert entries[-1][1] == b"changed\n"
    assert f"diff_id: {Digest.of(raw(done))}" in done.err.splitlines()


@pytest.mark.parametrize(
    ("compression", "inflate"), [("gzip", gzip.decompress), ("zstd", unzstd), ("none", bytes)]
)
def test_a_layer_goes_to_a_file(
    snapcore: Snapcore, tmp_path: Path, compression: str, inflate: Callable[[bytes], bytes]
) -> None:
    out = tmp_path / "layer"
    flags = ("-o", str(out), "--compression", compression)
    made = snapcore("--format", "json", "snapshots", "diff", "work", *flags).record()
    data = out.read_bytes()
    assert made["path"] == str(out)
    assert (made["digest"], made["size"]) == (str(Digest.of(data)), len(data))
    plain = inflate(data)
    assert (made["diff_id"], made["uncompressed_size"]) == (str(Digest.of(plain)), len(plain))
    assert (made["entries"], made["skipped"]) == (len(read_tar(plain)), {})
    suffix = "" if compression == "none" else f"+{compression}"
    assert str(made["media_type"]).endswith(f".tar{suffix}")


def test_a_file_is_replaced_on_demand_only(snapcore: Snapcore, tmp_path: Path) -> None:
    out = tmp_path / "layer"
    out.write_bytes(b"mine")
    refused = snapcore("snapshots", "diff", "work", "-o", str(out))
    assert (refused.code, out.read_bytes()) == (4, b"mine")
    assert snapcore("snapshots", "diff", "work", "-o", str(out), "--force").code == 0
    assert gzip.decompress(out.read_bytes())


def test_what_fails_leaves_no_file(snapcore: Snapcore, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    assert snapcore("snapshots", "diff", "nobody", "-o", str(out / "layer")).code == 3
    assert list(out.iterdir()) == []


@pytest.mark.usefixtures("epoch")
def test_no_time_is_later_than_the_epoch(snapcore: Snapcore) -> None:
    entries = read_tar(raw(snapcore("snapshots", "diff", "work", "--compression", "none")))
    assert entries[-1][0].mtime == 1_700_000_000 * 10**9


@pytest.mark.parametrize("text", ["-1", "1e9", "99999999999999", "253402300800"])
def test_a_malformed_epoch_is_refused(
    snapcore: Snapcore, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", text)
    for verb in (("snapshots", "diff", "work"), ("images", "commit", "work", "x")):
        refused = snapcore(*verb)
        assert (refused.code, "SOURCE_DATE_EPOCH" in refused.err) == (2, True)


@pytest.mark.usefixtures("epoch")
def test_commit_says_what_it_made(snapcore: Snapcore) -> None:
    arguments = ("images", "commit", "work", "localhost/new", "--author", "me", "--message", "m")
    made = snapcore("--format", "json", *arguments, "--change", "USER 7").record()
    assert made["name"] == "localhost/new:latest"
    layer = made["layer"]
    assert isinstance(layer, dict)
    assert (layer["skipped"], made["base"] is None) == ({}, False)
    shown = snapcore("--format", "json", "images", "inspect", "localhost/new").record()
    assert (shown["digest"], shown["chain_id"]) == (made["digest"], made["chain_id"])
    config = shown["config"]
    assert isinstance(config, dict)
    assert config["config"]["User"] == "7"
    assert config["history"][-1]["comment"] == "m"
    assert snapcore("images", "check", "localhost/new").code == 0
    again = snapcore("images", "commit", "work", "localhost/new", "-q")
    assert (again.code, again.out) == (4, "")
    quiet = snapcore("images", "commit", "work", "localhost/new", "-q", "--force")
    assert quiet.out.startswith("sha256:")


def test_commit_without_a_snapshot_of_its_own(snapcore: Snapcore) -> None:
    assert snapcore("images", "commit", "work", "new", "--no-unpack", "--base", BASE).code == 0
    rows = snapcore("--format", "json", "images", "ls").records()
    unpacked = {str(row["name"]): row["unpacked_for"] for row in rows}
    assert unpacked == {"docker.io/library/new:latest": [], BASE: ["native"]}


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("work", "Not A Name"), 2),
        (("nobody", "new"), 3),
        (("work", "new", "--change", "RUN x"), 2),
        (("work", "new", "--base", "localhost/no"), 3),
    ],
)
def test_commit_refuses(snapcore: Snapcore, arguments: tuple[str, ...], code: int) -> None:
    assert snapcore("images", "commit", *arguments).code == code
    assert len(snapcore("--format", "json", "images", "ls").records()) == 1
