"""`images` and `content` on an image that was imported and not unpacked: no privilege needed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.archives import layout_tar
from support.cli import Outcome, call, child_environment
from support.images import tiny_layout

from snapcore.locks import held
from snapcore.oci import Digest

Snapcore = Callable[..., Outcome]
NAME = "localhost/tiny:latest"


@pytest.fixture
def snapcore(tmp_path: Path) -> Snapcore:
    """Call `snapcore` on a root that has the tiny image."""
    tiny_layout(tmp_path / "layout")

    def run(*arguments: str) -> Outcome:
        return call("--root", str(tmp_path / "root"), *arguments)

    imported = run(
        "images", "import", str(tmp_path / "layout"), "--name", "localhost/tiny", "--no-unpack"
    )
    assert imported.code == 0, imported.err
    return run


def image(snapcore: Snapcore) -> dict[str, object]:
    (found,) = snapcore("images", "ls", "--format", "json").records()
    return found


def test_import_says_what_it_did(tmp_path: Path) -> None:
    tiny_layout(tmp_path / "layout")
    outcome = call(
        *("--root", str(tmp_path / "root"), "--format", "json", "images", "import"),
        *(str(tmp_path / "layout"), "--no-unpack"),
    )
    (done,) = outcome.records()
    assert done["name"] == "localhost/layout:latest"
    assert (done["unpacked"], done["manifests"]) == (0, [])
    assert "downloaded" in outcome.err


def test_quiet_import_says_nothing(tmp_path: Path) -> None:
    tiny_layout(tmp_path / "layout")
    outcome = call(
        *("--root", str(tmp_path / "root"), "images", "import", str(tmp_path / "layout")),
        *("--no-unpack", "-q"),
    )
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")


def test_list(snapcore: Snapcore) -> None:
    assert image(snapcore)["name"] == NAME
    assert snapcore("images", "ls", "-q").out == f"{NAME}\n"
    assert snapcore("images", "ls", "name~=other", "-q").out == ""
    assert NAME in snapcore("images", "ls").out


def test_tag_and_remove(snapcore: Snapcore) -> None:
    tagged = snapcore("images", "tag", NAME, "localhost/other:1", "--format", "json").record()
    assert tagged["name"] == "localhost/other:1"
    assert tagged["digest"] == image_digest(snapcore, NAME)
    assert snapcore("images", "rm", NAME, "-q").out == f"{NAME}\n"
    assert snapcore("images", "ls", "-q").out == "localhost/other:1\n"
    assert snapcore("content", "ls", "-q").out.count("\n") == 4


def image_digest(snapcore: Snapcore, name: str) -> object:
    rows = snapcore("images", "ls", "--format", "json").records()
    return next(row["digest"] for row in rows if row["name"] == name)


def test_check(snapcore: Snapcore) -> None:
    (whole,) = snapcore("images", "check", "--format", "json").records()
    assert (whole["status"], whole["missing"], whole["unpacked_for"]) == ("complete", [], [])
    assert whole["present_bytes"] == whole["required_bytes"]
    layer = next(
        str(row["digest"])
        for row in snapcore("content", "ls", "--format", "json").records()
        if row["labels"] == {}
    )
    assert snapcore("content", "rm", layer).out == f"{layer}\n"
    broken = snapcore("images", "check", NAME)
    assert broken.code == 1
    assert "incomplete" in broken.out


def test_inspect(snapcore: Snapcore) -> None:
    shown = snapcore("images", "inspect", NAME, "--format", "json").record()
    assert shown["name"] == NAME
    assert shown["digest"] == image(snapcore)["digest"]
    manifest, config = shown["manifest"], shown["config"]
    assert isinstance(manifest, dict)
    assert isinstance(config, dict)
    assert manifest["config"]["digest"] == shown["config_digest"]
    assert len(config["rootfs"]["diff_ids"]) == 2
    raw = snapcore("images", "inspect", NAME, "--raw-manifest").out.encode()
    assert str(Digest.of(raw)) == shown["manifest_digest"]
    raw = snapcore("images", "inspect", NAME, "--raw-config").out.encode()
    assert str(Digest.of(raw)) == shown["config_digest"]
    assert str(shown["chain_id"]) in snapcore("images", "inspect", NAME).out


def test_content(snapcore: Snapcore) -> None:
    digest = str(image(snapcore)["digest"])
    data = snapcore("content", "get", digest).out.encode()
    assert str(Digest.of(data)) == digest
    info = snapcore("content", "info", digest, "--format", "json").record()
    assert (info["digest"], info["size"]) == (digest, len(data))
    labelled = snapcore("content", "label", digest, "my/key=v", "--format", "json").record()
    assert isinstance(labelled["labels"], dict)
    assert labelled["labels"]["my/key"] == "v"
    assert snapcore("content", "ls", 'labels."my/key"==v', "-q").out == f"{digest}\n"
    assert len(snapcore("content", "ls").out.splitlines()) == 5


def test_a_damaged_blob_is_named_and_set_aside(snapcore: Snapcore, tmp_path: Path) -> None:
    digest = Digest.parse(str(image(snapcore)["digest"]))
    assert snapcore("content", "verify", "--format", "json").json() == []
    path = tmp_path / "root/content/blobs/sha256" / digest.hex
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    text = snapcore("content", "verify", str(digest))
    assert text.code == 1
    assert str(path) in text.out
    assert snapcore("images", "ls").out.split("\n")[1].split()[2] == "damaged"
    repaired = snapcore("content", "verify", "--repair", "--format", "json")
    assert repaired.code == 1
    (found,) = json.loads(repaired.out)
    assert (found["digest"], found["repaired"]) == (str(digest), False)
    assert "no registry is recorded" in found["trouble"]
    assert Path(found["path"]).parent == tmp_path / "root/content/quarantine"
    assert snapcore("content", "verify", str(digest)).code == 3


def test_nothing_is_mounted(snapcore: Snapcore) -> None:
    assert snapcore("images", "mount", "--format", "json").json() == []


ABSENT = f"sha256:{'0' * 64}"


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (["images", "rm", "localhost/none"], 3, "localhost/none:latest"),
        (["images", "rm", "Not A Reference"], 2, "Not A Reference"),
        (["images", "tag", NAME, "UPPER/a b"], 2, "a b"),
        (["images", "inspect", NAME, "--platform", "linux/s390x/v1/x"], 2, "linux/s390x/v1/x"),
        (["images", "mount", NAME], 2, "DIRECTORY"),
        (["images", "mount", NAME, "/nonexistent"], 3, "/nonexistent"),
        (["images", "unmount", "/nonexistent"], 3, "/nonexistent"),
        (["images", "unpack", "localhost/none"], 3, "localhost/none:latest"),
        (["images", "unpack", NAME, "--snapshotter", "none"], 3, "'none'"),
        (["images", "import", "/nonexistent"], 2, "/nonexistent"),
        (["images", "import", "/tmp", "--no-unpack"], 3, "/tmp"),
        (["content", "get", ABSENT], 3, ABSENT),
        (["content", "info", "sha256:12"], 2, "sha256:12"),
        (["content", "rm", ABSENT], 3, ABSENT),
        (["content", "label", ABSENT, "a=b"], 3, ABSENT),
        (["pull", "localhost/none", "--policy", "never", "--no-unpack"], 3, "localhost/none"),
        (["pull", "a", "--creds", "secretpassword"], 2, "USER:PASSWORD"),
        (["pull", "a", "--creds", "u:p", "--creds-stdin"], 2, "--creds-stdin"),
        (["pull", "a", "--policy", "sometimes"], 2, "sometimes"),
        (["pull", "a", "--snapshotter-label", "x"], 2, "'x'"),
        (["pull", "a", "--max-concurrent-downloads", "0"], 2, "--max-concurrent-downloads"),
        pytest.param(
            *(["pull", "127.0.0.1:1/a", "--plain-http", "--no-unpack"], 6, "127.0.0.1:1"),
            marks=pytest.mark.long,  # it tries several times, with pauses
        ),
    ],
)
def test_one_sentence(snapcore: Snapcore, arguments: list[str], code: int, named: str) -> None:
    outcome = snapcore(*arguments)
    assert (outcome.code, outcome.out) == (code, "")
    assert outcome.err.startswith("snapcore: ")
    assert outcome.err.count("\n") == 1
    assert named in outcome.err
    assert "secretpassword" not in outcome.err


def test_what_another_process_holds(snapcore: Snapcore, tmp_path: Path) -> None:
    digest = str(image(snapcore)["digest"])
    lock = tmp_path / "root/lock" / f"blob-{digest.replace(':', '-')}"
    with held(str(lock), lambda: None):
        outcome = snapcore("content", "rm", digest)
    assert outcome.code == 6
    assert digest in outcome.err


def test_moving_a_name_needs_force(snapcore: Snapcore, tmp_path: Path) -> None:
    other = tmp_path / "other"
    builder = tiny_layout(other, docker=True)
    assert builder.directory == other
    assert snapcore("images", "import", str(other), "--no-unpack").code == 0
    refused = snapcore("images", "tag", "localhost/other", NAME)
    assert refused.code == 4
    assert "--force" in refused.err
    assert snapcore("images", "tag", "localhost/other", NAME, "--force").code == 0


def test_import_from_stdin(tmp_path: Path) -> None:
    archive = layout_tar(tiny_layout(tmp_path / "layout").directory)
    command = (
        *(sys.executable, "-m", "snapcore.cli", "--root", str(tmp_path / "root"), "images"),
        *("import", "-", "--no-unpack", "--name", "localhost/piped", "--format", "json"),
    )
    done = subprocess.run(
        command, input=archive, capture_output=True, check=False, env=child_environment()
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["name"] == "localhost/piped:latest"
    assert b"downloaded" in done.stderr


def test_import_of_no_archive(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(b"no tar" * 1000)
    outcome = call("--root", str(tmp_path / "root"), "images", "import", str(path))
    assert (outcome.code, outcome.out) == (5, "")
    assert outcome.err.startswith("snapcore: image archive ")
    assert outcome.err.count("\n") == 1


def test_export(snapcore: Snapcore, tmp_path: Path) -> None:
    out = tmp_path / "out.tar"
    done = snapcore("images", "export", NAME, str(out), "--as", "docker", "--format", "json")
    record = done.record()
    assert (record["path"], record["kind"], record["names"]) == (str(out), "docker", [NAME])
    assert "written" in done.err
    assert snapcore("images", "export", NAME, f"{tmp_path}/dir/", "-q").out == ""
    assert (tmp_path / "dir/oci-layout").exists()
    command = (sys.executable, "-m", "snapcore.cli", "--root", str(tmp_path / "root"), "images")
    piped = subprocess.run(
        (*command, "export", NAME, "-", "--as", "docker"),
        capture_output=True, check=False, env=child_environment(),
    )  # fmt: skip
    assert (piped.returncode, piped.stdout) == (0, out.read_bytes())


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (("localhost/none", "OUT"), 3, "localhost/none:latest"),
        ((NAME, "/nonexistent/x.tar"), 3, "/nonexistent/x.tar"),
        ((NAME, "/etc/"), 4, "/etc/"),
        ((NAME, "OUT", "--platform", "linux/s390x", "--all-platforms"), 2, "--all-platforms"),
        ((NAME,), 2, "REFERENCES"),
    ],
)
def test_export_in_one_sentence(
    snapcore: Snapcore, tmp_path: Path, arguments: tuple[str, ...], code: int, named: str
) -> None:
    places = [str(tmp_path / "x.tar") if word == "OUT" else word for word in arguments]
    outcome = snapcore("images", "export", *places)
    assert (outcome.code, outcome.out) == (code, "")
    assert outcome.err.count("\n") == 1
    assert named in outcome.err


def test_damaged_layout(tmp_path: Path) -> None:
    builder = tiny_layout(tmp_path / "layout")
    blob = max(
        (path for path in (builder.directory / "blobs/sha256").iterdir()),
        key=lambda path: path.stat().st_size,
    )
    blob.write_bytes(bytes(blob.stat().st_size))
    outcome = call("--root", str(tmp_path / "root"), "images", "import", str(builder.directory))
    assert (outcome.code, outcome.out) == (5, "")
    assert blob.name in outcome.err.splitlines()[-1]
