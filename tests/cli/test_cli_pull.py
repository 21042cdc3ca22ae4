"""`pull` and what follows it, as a user does it: from a registry to a mounted root filesystem."""

from __future__ import annotations

import base64
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.cli import Outcome, call, child_environment, spawn
from support.faults import FakeRegistry, Reply, Seen, error, stall, with_body
from support.images import tiny_layout
from support.layout import LayoutBuilder
from support.nodes import serve

from snapcore.labels import SNAPSHOT_REF, distribution_source, gc_ref_snapshot
from snapcore.oci import Digest

Snapcore = Callable[..., Outcome]


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[FakeRegistry]:
    """Serve the tiny image as `latest`."""
    with FakeRegistry() as registry:
        serve(registry, tiny_layout(tmp_path / "layout"))
        yield registry


@pytest.fixture
def snapcore(tmp_path: Path) -> Snapcore:
    """Run `snapcore` on a root of its own, with the native backend."""

    def run(*arguments: str) -> Outcome:
        globals_ = ("--root", str(tmp_path / "root"), "--snapshotter", "native")
        # What takes signals or forks workers runs as for users; questions are asked right here.
        if "pull" in arguments or "unpack" in arguments:
            return spawn(*globals_, *arguments, environment={"HOME": str(tmp_path)})
        return call(*globals_, *arguments)

    return run


def pull(snapcore: Snapcore, registry: FakeRegistry, *flags: str) -> Outcome:
    return snapcore("pull", "--plain-http", f"{registry.host}/tiny", *flags)


def only_manifest(done: dict[str, object]) -> dict[str, object]:
    manifests = done["manifests"]
    assert isinstance(manifests, list)
    (manifest,) = manifests
    assert isinstance(manifest, dict)
    return manifest


def content_labels(snapcore: Snapcore, digest: object) -> dict[str, str]:
    found = snapcore("content", "info", str(digest), "--format", "json").record()["labels"]
    assert isinstance(found, dict)
    return found


def test_pull_unpacks_and_says_so(snapcore: Snapcore, registry: FakeRegistry) -> None:
    outcome = pull(snapcore, registry, "--format", "json")
    (done,) = outcome.records()
    name = f"{registry.host}/tiny:latest"
    assert (done["name"], done["unpacked"]) == (name, 1)
    manifest = only_manifest(done)
    assert manifest["snapshotters"] == ["native"]
    assert manifest["chain_id"] == done["chain_id"]
    info = snapcore("snapshots", "info", str(done["chain_id"]), "--format", "json").record()
    assert info["kind"] == "committed"
    labels = info["labels"]
    assert isinstance(labels, dict)
    assert labels[SNAPSHOT_REF] == done["chain_id"]
    config = content_labels(snapcore, manifest["config"])
    assert config[gc_ref_snapshot("native")] == done["chain_id"]
    assert config[distribution_source(registry.host)] == "tiny"
    (check,) = snapcore("images", "check", "--format", "json").records()
    assert (check["status"], check["unpacked_for"]) == ("complete", ["native"])
    assert "unpacked for native" in outcome.err


def test_pull_for_people(snapcore: Snapcore, registry: FakeRegistry) -> None:
    out = pull(snapcore, registry).out
    assert f"{registry.host}/tiny:latest" in out
    assert "native" in out
    assert out.count("sha256:") == 2


def test_quiet_pull_prints_the_chain_id(snapcore: Snapcore, registry: FakeRegistry) -> None:
    outcome = pull(snapcore, registry, "-q")
    assert (outcome.code, outcome.err) == (0, "")
    chain_id = str(Digest.parse(outcome.out.strip()))
    assert snapcore("snapshots", "info", chain_id).code == 0


def test_no_unpack_fetches_only(snapcore: Snapcore, registry: FakeRegistry) -> None:
    outcome = pull(snapcore, registry, "--no-unpack")
    assert outcome.code == 0
    assert "snapshotter" not in outcome.out
    assert snapcore("snapshots", "ls", "-q").out == ""
    unpacked = snapcore("images", "unpack", f"{registry.host}/tiny", "-q")
    assert snapcore("snapshots", "info", unpacked.out.strip()).code == 0


@pytest.mark.needs_root
def test_another_backend_is_added_later(snapcore: Snapcore, registry: FakeRegistry) -> None:
    (done,) = pull(snapcore, registry, "--format", "json").records()
    name = f"{registry.host}/tiny"
    added = snapcore("images", "unpack", name, "--snapshotter", "overlay", "--format", "json")
    (manifest,) = (only_manifest(record) for record in added.records())
    assert manifest["snapshotters"] == ["overlay"]
    config = content_labels(snapcore, manifest["config"])
    refs = {config[gc_ref_snapshot(each)] for each in ("native", "overlay")}
    assert refs == {done["chain_id"]}


def test_labels_for_snapshots(snapcore: Snapcore, registry: FakeRegistry) -> None:
    assert pull(snapcore, registry, "--snapshotter-label", "team=a", "-q").code == 0
    rows = snapcore("snapshots", "ls", "--format", "json").records()
    assert len(rows) == 2
    assert all(row["labels"]["team"] == "a" for row in rows)  # type: ignore[index]


def test_discarded_content_is_no_longer_referred_to(
    snapcore: Snapcore, registry: FakeRegistry
) -> None:
    (done,) = pull(snapcore, registry, "--discard-content", "--format", "json").records()
    labels = content_labels(snapcore, done["digest"])
    assert not [key for key in labels if ".l." in key]
    assert [key for key in labels if key.endswith(".config")]


def test_policies(snapcore: Snapcore, registry: FakeRegistry) -> None:
    assert pull(snapcore, registry, "--policy", "never").code == 3
    assert pull(snapcore, registry, "--policy", "missing").code == 0
    asked = len(registry.server.seen)
    assert asked > 0
    for policy in ("missing", "never"):
        assert pull(snapcore, registry, "--policy", policy).code == 0
    assert len(registry.server.seen) == asked
    assert pull(snapcore, registry).code == 0
    assert len(registry.server.seen) > asked


def test_unknown_tag(snapcore: Snapcore, registry: FakeRegistry) -> None:
    outcome = snapcore("pull", "--plain-http", f"{registry.host}/tiny:none")
    assert_one_sentence(outcome, 3, "tiny:none")
    assert snapcore("images", "ls", "-q").out == ""


def test_unknown_platform(snapcore: Snapcore, registry: FakeRegistry, tmp_path: Path) -> None:
    builder = LayoutBuilder(tmp_path / "index")
    image = builder.add_image(None, [])
    builder.add_index("multi", [image])
    serve(registry, builder)
    reference = f"{registry.host}/tiny:multi"
    outcome = snapcore("pull", "--plain-http", reference, "--platform", "plan9/mips")
    assert_one_sentence(outcome, 3, "plan9/mips")


@pytest.mark.parametrize(
    ("where", "body", "code"),
    [("GET /v2/tiny/blobs/", b"x", 5), ("GET /v2/tiny/manifests/", b"{}", 5)],
)
def test_wrong_bytes_are_refused(
    snapcore: Snapcore, registry: FakeRegistry, where: str, body: bytes, code: int
) -> None:
    registry.spoil(where, *[lambda seen, reply: _same_length(body, seen, reply)] * 20)
    outcome = pull(snapcore, registry, "--progress", "none")
    assert_one_sentence(outcome, code, "sha256:")
    assert snapcore("images", "ls", "-q").out == ""
    assert snapcore("snapshots", "ls", "-q").out == ""


def _same_length(body: bytes, seen: Seen, reply: Reply) -> Reply:
    return with_body(body.ljust(len(reply.body)))(seen, reply)


def test_hostile_layer_is_refused(
    snapcore: Snapcore, registry: FakeRegistry, tmp_path: Path
) -> None:
    builder = LayoutBuilder(tmp_path / "bad")
    layer = builder.add_layer(b"this is no tar archive".ljust(1024, b"\xff"))
    builder.add_image("bad", [layer])
    serve(registry, builder)
    outcome = snapcore("pull", "--plain-http", f"{registry.host}/tiny:bad", "--progress", "none")
    assert_one_sentence(outcome, 5, "")
    assert snapcore("snapshots", "ls", "-q").out == ""
    assert snapcore("images", "ls", "-q").out == ""


def test_schema_1_is_refused(snapcore: Snapcore, registry: FakeRegistry) -> None:
    media_type = "application/vnd.docker.distribution.manifest.v1+json"
    registry.add_manifest(b'{"schemaVersion": 1}', media_type, "old")
    outcome = snapcore("pull", "--plain-http", f"{registry.host}/tiny:old")
    assert_one_sentence(outcome, 5, "schema 1")


def test_credentials(snapcore: Snapcore, registry: FakeRegistry, tmp_path: Path) -> None:
    wanted = "Basic " + base64.b64encode(b"me:secret:word").decode()

    def guarded(seen: Seen, reply: Reply) -> Reply:
        if seen.headers.get("authorization") == wanted:
            return reply
        return error(401, "UNAUTHORIZED", {"WWW-Authenticate": 'Basic realm="r"'})

    registry.spoil("/v2/", *[guarded] * 200)
    refused = pull(snapcore, registry, "--creds", "me:wrongword")
    assert_one_sentence(refused, 1, registry.host)
    assert "wrongword" not in refused.err
    assert pull(snapcore, registry).code == 1
    assert pull(snapcore, registry, "--creds", "me:secret:word").code == 0
    stdin = subprocess.run(
        [
            *(sys.executable, "-m", "snapcore.cli", "--root", str(tmp_path / "other")),
            *("--snapshotter", "native", "pull", "--plain-http", f"{registry.host}/tiny"),
            "--creds-stdin",
        ],
        env=child_environment(),
        input=b"me:secret:word\n",
        capture_output=True,
        check=False,
    )
    assert stdin.returncode == 0, stdin.stderr


def test_configuration_alone_chooses(registry: FakeRegistry, tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text(
        f'root = "{tmp_path}/root"\nsnapshotter = "native"\n'
        f'[registry]\nplain_http = ["{registry.host}"]\n'
        f'docker_config = "{tmp_path}/absent.json"\n',
        encoding="utf-8",
    )
    outcome = spawn("--config", str(config), "pull", f"{registry.host}/tiny", "--format", "json")
    (done,) = outcome.records()
    manifest = only_manifest(done)
    assert manifest["snapshotters"] == ["native"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_download_cleans_up(
    snapcore: Snapcore, registry: FakeRegistry, tmp_path: Path, number: signal.Signals
) -> None:
    reached = threading.Event()

    def silence(seen: Seen, reply: Reply) -> Reply:
        reached.set()
        return stall(3)(seen, reply)

    registry.spoil("GET /v2/tiny/blobs/", silence)
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "snapcore.cli", "--root", str(tmp_path / "root")),
            *("--snapshotter", "native", "pull", "--plain-http", f"{registry.host}/tiny"),
        ],
        env=child_environment({"HOME": str(tmp_path)}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        assert reached.wait(30)
        child.send_signal(number)
        out, err = child.communicate(timeout=30)
    assert (child.returncode, out) == (128 + number, "")
    assert "Traceback" not in err
    assert snapcore("snapshots", "ls", "-q").out == ""
    assert snapcore("images", "ls", "-q").out == ""
    assert list((tmp_path / "root/state").iterdir()) == []
    assert list((tmp_path / "root/owner").iterdir()) == []
    again = pull(snapcore, registry, "-q")
    assert again.code == 0, again.err


@pytest.mark.needs_root
def test_mount_and_unmount(snapcore: Snapcore, registry: FakeRegistry, tmp_path: Path) -> None:
    assert pull(snapcore, registry, "-q").code == 0
    reference, place = f"{registry.host}/tiny", tmp_path / "mnt"
    place.mkdir()
    # Each process has mounts of its own, so the mount must be looked at where it was made.
    shown = _in_shell(
        tmp_path,
        f"{sys.executable} -m snapcore.cli images mount {reference} {place} --format json"
        f" && cat {place}/etc/motd && test ! -e {place}/etc/gone && ! touch {place}/x"
        f" && {sys.executable} -m snapcore.cli images mount --format json"
        f" && {sys.executable} -m snapcore.cli images unmount {place} && ls {place}",
    )
    assert "hello" in shown
    assert shown.count(f'"target": "{place}"') == 2
    assert snapcore("snapshots", "ls", "kind==view", "-q").out == ""


@pytest.mark.needs_root
def test_writable_mount_stays_until_removed(
    snapcore: Snapcore, registry: FakeRegistry, tmp_path: Path
) -> None:
    assert pull(snapcore, registry, "-q").code == 0
    reference, place = f"{registry.host}/tiny", tmp_path / "mnt"
    place.mkdir()
    cli = f"{sys.executable} -m snapcore.cli"
    mount = f"{cli} images mount --rw {reference} {place} && touch {place}/x"
    _in_shell(tmp_path, f"{mount} && {cli} images unmount {place}")
    assert snapcore("snapshots", "ls", "kind==active", "-q").out.count("\n") == 1
    _in_shell(tmp_path, f"{mount} && {cli} images unmount --rm {place}")
    assert snapcore("snapshots", "ls", "kind==active", "-q").out.count("\n") == 1


@pytest.mark.needs_root
def test_two_snapshotters_give_one_tree(
    snapcore: Snapcore, registry: FakeRegistry, tmp_path: Path
) -> None:
    outcome = pull(snapcore, registry, "--snapshotter", "native", "--snapshotter", "overlay")
    assert outcome.code == 0, outcome.err
    place = tmp_path / "mnt"
    place.mkdir()
    cli = f"{sys.executable} -m snapcore.cli"
    digests = [
        _in_shell(
            tmp_path,
            f"{cli} --snapshotter {name} images mount {registry.host}/tiny {place} >/dev/null"
            f" && {cli} digest {place} && {cli} images unmount {place} >/dev/null",
        )
        for name in ("native", "overlay")
    ]
    assert digests[0] == digests[1]
    assert digests[0]


def _in_shell(tmp_path: Path, script: str) -> str:
    done = subprocess.run(
        ["sh", "-c", script],
        env=child_environment(
            {
                "HOME": str(tmp_path),
                "SNAPCORE_ROOT": str(tmp_path / "root"),
                "SNAPCORE_CONFIG": str(_native(tmp_path)),
            }
        ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _native(tmp_path: Path) -> Path:
    config = tmp_path / "native.toml"
    config.write_text('snapshotter = "native"\n', encoding="utf-8")
    return config


def assert_one_sentence(outcome: Outcome, code: int, named: str) -> None:
    last = outcome.err.splitlines()[-1]
    assert (outcome.code, outcome.out) == (code, ""), outcome.err
    assert last.startswith("snapcore: ")
    assert named in last
    assert "Traceback" not in outcome.err
