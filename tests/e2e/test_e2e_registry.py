"""Real registries as they are met: logins, mirrors that fail, own certificates, and pushes."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pytest
from support.cli import Outcome, call, spawn
from support.faults import HttpServer, Reply, error
from support.images import run_tool, skopeo_copy
from support.layout import File, LayoutBuilder, tar_of
from support.registry import Identity, TokenServer, docker_registry, made_directory
from support.relays import Relay, TcpServer

from snapcore.oci import Digest

pytestmark = pytest.mark.xdist_group("e2e-registry")

IMAGE: Final = "app/tiny:latest"
NOWHERE: Final = "registry.invalid"
"""A registry that exists only by its mirrors."""


@dataclass(frozen=True, slots=True)
class Stock:
    """A registry that has the image.

    Attributes:
        storage: its directory; other registries may serve it too.
        host: where it is served to everybody, without TLS.
        digest: the image's.
    """

    storage: Path
    host: str
    digest: str


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stock]:
    work = tmp_path_factory.mktemp("stock")
    builder = LayoutBuilder(work / "layout")
    files = (File("etc/motd", b"hello\n"), File("etc/other", b"above\n"))
    image = builder.add_image("latest", [builder.add_layer(tar_of(file)) for file in files])
    with docker_registry(work / "storage", work) as host:
        skopeo_copy(f"oci:{builder.directory}:latest", f"docker://{host}/{IMAGE}")
        yield Stock(work / "storage", host, str(image.digest))


@dataclass(frozen=True, slots=True)
class Place:
    """A node whose configuration is all below one directory.

    Attributes:
        top: the directory.
        patience: seconds to wait for a server that says nothing.
    """

    top: Path
    patience: float = 30

    def snapcore(self, *arguments: str) -> Outcome:
        """Run the command line in this process."""
        config = self.top / "config.toml"
        if not config.exists():
            self.configure("")
        globals_ = ("--root", str(self.top / "root"), "--config", str(config))
        return call(*globals_, "--progress", "none", *arguments)

    def pull(self, reference: str, *flags: str) -> Outcome:
        """Pull without unpacking."""
        return self.snapcore("pull", "--no-unpack", "--format", "json", reference, *flags)

    def configure(self, registry: str) -> None:
        """Write the config file."""
        (self.top / "config.toml").write_text(
            f"[registry]\nread_timeout = {self.patience}\n"
            f'config_path = "{self.top}/certs.d"\n{registry}'
        )

    def hosts(self, text: str, registry: str = NOWHERE) -> None:
        """Write a registry's hosts.toml."""
        (made_directory(self.top / "certs.d" / registry) / "hosts.toml").write_text(text)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    return Place(tmp_path)


def digest_of(done: Outcome) -> object:
    (record,) = done.records()
    return record["digest"]


def assert_refused(done: Outcome, code: int, *named: str) -> None:
    assert (done.code, done.out) == (code, ""), done.err
    assert done.err.splitlines()[-1].startswith("snapcore: ")
    assert all(text in done.err.splitlines()[-1] for text in named), done.err
    assert "Traceback" not in done.err


# Logins: who asks, and how the credentials came.

USERS: Final = {"alice": "s3cret:word"}


@contextmanager
def guarded(kind: str, stock: Stock, work: Path) -> Iterator[str]:
    made_directory(work)
    with (
        TokenServer(USERS) as tokens,
        docker_registry(
            stock.storage,
            work,
            users=USERS if kind == "htpasswd" else None,
            tokens=tokens if kind == "token" else None,
        ) as host,
    ):
        yield host


def log_in(place: Place, how: str, host: str, password: str) -> tuple[str, ...]:
    """Make credentials known; return the flags that do it."""
    directory = made_directory(place.top / "docker")
    if how == "flag":
        return ("--creds", f"alice:{password}")
    if how == "file":
        auth = base64.b64encode(f"alice:{password}".encode()).decode()
        document: dict[str, object] = {"auths": {host: {"auth": auth}}}
    else:
        program = made_directory(place.top / "bin") / "docker-credential-tests"
        answer = json.dumps({"Username": "alice", "Secret": password})
        program.write_text(
            "#!/bin/sh\nread -r server || :\n"
            f"[ \"$1 $server\" = 'get {host}' ] && echo '{answer}'\n"
        )
        program.chmod(0o755)
        document = {"credHelpers": {host: "tests"}}
    (directory / "config.json").write_text(json.dumps(document))
    return ()


@pytest.mark.parametrize("how", ["flag", "file", "helper"])
@pytest.mark.parametrize("kind", ["htpasswd", "token"])
def test_logins(
    place: Place, stock: Stock, monkeypatch: pytest.MonkeyPatch, kind: str, how: str
) -> None:
    monkeypatch.setenv("PATH", f"{place.top}/bin:/usr/bin:/bin:/usr/sbin")
    with guarded(kind, stock, place.top / "registry") as host:
        reference = f"{host}/{IMAGE}"
        assert_refused(place.pull(reference, "--plain-http"), 1, host)
        wrong = log_in(place, how, host, "wr0ng")
        refused = place.pull(reference, "--plain-http", *wrong)
        assert_refused(refused, 1, host)
        assert "wr0ng" not in refused.err
        right = log_in(place, how, host, USERS["alice"])
        assert digest_of(place.pull(reference, "--plain-http", *right)) == stock.digest
    for path in (place.top / "root").rglob("*"):
        assert not path.is_file() or b"s3cret" not in path.read_bytes(), path


def test_anonymous_tokens(place: Place, stock: Stock) -> None:
    work = made_directory(place.top / "registry")
    with TokenServer() as tokens, docker_registry(stock.storage, work, tokens=tokens) as host:
        assert digest_of(place.pull(f"{host}/{IMAGE}", "--plain-http")) == stock.digest
        assert tokens.server.seen


def test_past_a_mirror_to_snapshots_in_a_process_of_its_own(place: Place, stock: Stock) -> None:
    place.hosts(hosts_file(f"http://{stock.host}", "http://127.0.0.1:1"))
    place.configure("")
    done = spawn(
        *("--root", str(place.top / "root"), "--config", str(place.top / "config.toml")),
        *("--snapshotter", "native", "--format", "json", "pull", f"{NOWHERE}/{IMAGE}"),
        environment={"HOME": str(place.top)},
    )
    assert digest_of(done) == stock.digest
    assert done.records()[0]["unpacked"] == 1
    (warning,) = [line for line in done.err.splitlines() if line.startswith("WARNING")]
    assert "http://127.0.0.1:1: " in warning
    assert "unpacked for native" in done.err


def test_without_being_told_there_is_no_plain_http(place: Place, stock: Stock) -> None:
    assert_refused(place.pull(f"{stock.host}/{IMAGE}"), 6, stock.host, "does not speak TLS")


# Mirrors that fail, each in its way.

Mirror = Callable[[Path], AbstractContextManager[str]]


@contextmanager
def down(work: Path) -> Iterator[str]:
    with HttpServer(lambda _: Reply()) as server:
        pass
    yield server.url


@contextmanager
def untrusted(work: Path) -> Iterator[str]:
    with docker_registry(work / "storage", work, tls=Identity.make()) as host:
        yield f"https://{host}"


@contextmanager
def silent(work: Path) -> Iterator[str]:
    def say_nothing(_: object) -> None:
        server.closing.wait()

    with TcpServer(say_nothing) as server:
        yield f"http://{server.host}"


@contextmanager
def failing(work: Path) -> Iterator[str]:
    with HttpServer(lambda _: error(502, "UNAVAILABLE")) as server:
        yield server.url


@contextmanager
def lacking(work: Path) -> Iterator[str]:
    with docker_registry(work / "empty", work) as host:
        yield f"http://{host}"


def hosts_file(server: str, *mirrors: str, more: str = "") -> str:
    return "\n".join([f'server = "{server}"', *(f'[host."{url}"]\n{more}' for url in mirrors)])


def test_the_first_mirror_serves(place: Place, stock: Stock) -> None:
    with Relay(stock.host) as first, Relay(stock.host) as second:
        place.hosts(
            hosts_file("http://127.0.0.1:1", *(f"http://{r.host}" for r in (first, second)))
        )
        done = place.pull(f"{NOWHERE}/{IMAGE}")
        assert (digest_of(done), done.err) == (stock.digest, "")
        assert first.requests("GET")
        assert second.sent == []


@pytest.mark.parametrize(
    ("mirror", "reason"),
    [
        (down, "Connection refused"),
        (untrusted, "not trusted"),
        (silent, "did not answer in time"),
        (failing, "HTTP 502"),
        (lacking, "HTTP 404"),
    ],
    ids=["down", "untrusted", "silent", "5xx", "404"],
)
@pytest.mark.parametrize("then", ["a mirror", "the registry"])
def test_the_next_one_serves(
    place: Place,
    stock: Stock,
    caplog: pytest.LogCaptureFixture,
    mirror: Mirror,
    reason: str,
    then: str,
) -> None:
    good = f"http://{stock.host}"
    caplog.set_level("INFO")
    if mirror is silent:
        place = replace(place, patience=1)
    with mirror(made_directory(place.top / "mirror")) as url:
        if then == "a mirror":
            place.hosts(hosts_file("http://127.0.0.1:1", url, good))
        else:
            place.hosts(hosts_file(good, url))
        assert digest_of(place.pull(f"{NOWHERE}/{IMAGE}")) == stock.digest
    told = [each for each in caplog.records if "trying the next" in each.getMessage()]
    assert url in told[0].getMessage()
    assert reason in told[0].getMessage()
    # That a mirror lacks something is its everyday; the rest is said unasked, and once.
    unasked = [each for each in told if each.levelname == "WARNING"]
    assert unasked == ([] if mirror is lacking else told[:1])


def test_all_of_them_fail(place: Place) -> None:
    with failing(place.top) as first, lacking(made_directory(place.top / "empty")) as second:
        place.hosts(hosts_file(second, first))
        refused = place.pull(f"{NOWHERE}/{IMAGE}")
    assert_refused(refused, 3, f"{first}: ", "HTTP 502", f"{second}: ", "HTTP 404")


# What a hosts.toml may say of a host.


def test_a_mirror_that_may_not_say_what_a_tag_is(place: Place, stock: Stock) -> None:
    with Relay(stock.host) as mirror, Relay(stock.host) as server:
        text = hosts_file(
            f"http://{server.host}", f"http://{mirror.host}", more='capabilities = ["pull"]'
        )
        place.hosts(text)
        assert digest_of(place.pull(f"{NOWHERE}/{IMAGE}")) == stock.digest
        assert len(server.requests("HEAD")) == 1
        assert server.requests("GET") == []
        assert mirror.requests("HEAD") == []
        assert len(mirror.requests("GET")) == 4


@pytest.mark.parametrize("override", [False, True])
def test_an_api_that_begins_elsewhere(place: Place, stock: Stock, override: bool) -> None:
    work = made_directory(place.top / "registry")
    with docker_registry(stock.storage, work, prefix="/team/a/") as host:
        url = f"http://{host}/team/a{'/v2' if override else ''}"
        place.hosts(f'server = "{url}"\noverride_path = {str(override).lower()}\n')
        assert digest_of(place.pull(f"{NOWHERE}/{IMAGE}")) == stock.digest
        place.hosts(f'server = "http://{host}/team/a"\noverride_path = true\n')
        assert_refused(place.pull(f"{NOWHERE}/{IMAGE}"), 3, IMAGE)


def test_the_default_is_for_whoever_has_nothing_of_its_own(place: Place, stock: Stock) -> None:
    place.hosts(f'[host."http://{stock.host}"]\n', "_default")
    place.hosts('capabilities = ["push"]\n', "own.invalid")
    assert digest_of(place.pull(f"{NOWHERE}/{IMAGE}")) == stock.digest
    assert_refused(place.pull(f"own.invalid/{IMAGE}"), 1, "own.invalid", "pull, resolve")


def test_headers(place: Place, stock: Stock) -> None:
    with Relay(stock.host) as first, Relay(stock.host) as second:
        place.hosts(
            f'server = "http://{second.host}"\n'
            f'[host."http://{first.host}"]\ncapabilities = ["pull"]\n'
            f'[host."http://{first.host}".header]\nx-team = ["one", "two"]\n'
        )
        assert digest_of(place.pull(f"{NOWHERE}/{IMAGE}")) == stock.digest
        assert set(first.headers("x-team")) == {"one", "two"}
        assert second.headers("x-team") == []


@pytest.fixture(scope="module")
def identities(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Identity, Path, Path]]:
    made = {}
    for name in ("registry", "client"):
        identity = Identity.make()
        made[name] = (identity, *identity.write(tmp_path_factory.mktemp(name)))
    return made


def test_own_authorities_and_certificates(
    place: Place, stock: Stock, identities: dict[str, tuple[Identity, Path, Path]]
) -> None:
    """A registry that shows a certificate of its own authority, and wants one of ours."""
    identity, authority, _ = identities["registry"]
    _, certificate, key = identities["client"]
    work = made_directory(place.top / "registry")
    with docker_registry(stock.storage, work, tls=identity, clients=certificate) as host:
        reference = f"{host}/{IMAGE}"
        assert_refused(place.pull(reference), 6, host, "not trusted")
        place.hosts(f'ca = "{authority}"\n', host)
        assert_refused(place.pull(reference), 6, host)
        place.hosts(f'ca = "{authority}"\nclient = [["{certificate}", "{key}"]]\n', host)
        assert digest_of(place.pull(reference)) == stock.digest
        place.hosts(f'skip_verify = true\nclient = [["{certificate}", "{key}"]]\n', host)
        assert digest_of(place.pull(reference)) == stock.digest
        # Docker's form says the same.
        directory = place.top / "certs.d" / host
        (directory / "hosts.toml").unlink()
        for name, path in (("ca.crt", authority), ("me.cert", certificate), ("me.key", key)):
            (directory / name).write_bytes(path.read_bytes())
        assert digest_of(place.pull(reference)) == stock.digest


@pytest.mark.parametrize("how", ["flag", "config", "hosts"])
def test_certificates_that_are_not_looked_at(
    place: Place, stock: Stock, identities: dict[str, tuple[Identity, Path, Path]], how: str
) -> None:
    work = made_directory(place.top / "registry")
    with docker_registry(stock.storage, work, tls=identities["registry"][0]) as host:
        if how == "config":
            place.configure(f'insecure = ["{host}"]\n')
        if how == "hosts":
            place.hosts("skip_verify = true\n", host)
        flags = ["-k"] if how == "flag" else []
        assert digest_of(place.pull(f"{host}/{IMAGE}", *flags)) == stock.digest


def test_a_token_server_that_must_not_be_asked(place: Place) -> None:
    challenge = 'Bearer realm="http://169.254.169.254/token"'
    with HttpServer(lambda _: Reply(401, {"WWW-Authenticate": challenge})) as server:
        refused = place.pull(f"{server.host}/{IMAGE}", "--plain-http")
    assert_refused(refused, 6, "169.254.169.254", "link-local", "registry.private_networks")


def test_registries_inside_must_be_named_if_private_networks_are_refused(
    place: Place, stock: Stock
) -> None:
    place.configure('private_networks = "refuse"\n')
    reference = f"{stock.host}/{IMAGE}"
    refused = place.pull(reference, "--plain-http")
    assert_refused(refused, 6, "127.0.0.1", "loopback", "registry.private_networks")
    place.hosts(f'server = "http://{stock.host}"\n', stock.host)
    assert digest_of(place.pull(reference)) == stock.digest


# Pushes.


def test_push(place: Place, stock: Stock, tmp_path: Path) -> None:
    """Named, mounted and there already; told on stderr, the result on stdout."""
    work = made_directory(tmp_path / "registry")
    source = f"{stock.host}/{IMAGE}"
    assert place.pull(source, "--plain-http").code == 0
    with docker_registry(tmp_path / "target", work) as host, Relay(host) as relay:
        sent = []
        for name in ("one/app:1", "two/app:1", "two/app:2"):
            done = place.snapcore(
                *("push", "--plain-http", source, f"{relay.host}/{name}"),
                *("--format", "json", "--progress", "plain"),
            )
            record = done.record()
            assert (record["name"], record["digest"]) == (f"{relay.host}/{name}", stock.digest)
            raw = run_tool(
                "skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{host}/{name}"
            )
            assert str(Digest.of(raw.encode())) == stock.digest
            sent.append((done.err, len(relay.requests("PUT")), len(relay.requests("POST"))))
    first, second, third = sent
    assert first[0].count(": uploaded ") == 2
    # Two layers, the config and the manifest; then the manifest only; then it under another tag.
    assert (first[1], first[2]) == (4, 3)
    assert second[0].count(": taken from another repository ") == 2
    assert (second[1] - first[1], second[2] - first[2]) == (1, 3)
    assert third[0].count(": there already ") == 2
    assert (third[1] - second[1], third[2] - second[2]) == (1, 0)


@pytest.mark.parametrize("kind", ["htpasswd", "token"])
def test_push_with_a_login(place: Place, stock: Stock, tmp_path: Path, kind: str) -> None:
    source = f"{stock.host}/{IMAGE}"
    assert place.pull(source, "--plain-http").code == 0
    target = Stock(tmp_path / "target", "", "")
    with guarded(kind, target, tmp_path / "registry") as host:
        arguments = ("push", "-q", "--plain-http", source, f"{host}/app:1")
        refused = place.snapcore(*arguments, "--creds", "alice:wr0ng")
        assert_refused(refused, 1, host)
        assert "wr0ng" not in refused.err
        done = place.snapcore(*arguments, "--creds", f"alice:{USERS['alice']}")
        assert (done.code, done.out, done.err) == (0, f"{stock.digest}\n", "")


def test_push_goes_to_who_takes_pushes(place: Place, stock: Stock, tmp_path: Path) -> None:
    assert place.pull(f"{stock.host}/{IMAGE}", "--plain-http").code == 0
    work = made_directory(tmp_path / "registry")
    with docker_registry(tmp_path / "target", work) as host:
        place.hosts(
            f'server = "http://127.0.0.1:1"\n'
            f'[host."http://127.0.0.1:2"]\ncapabilities = ["pull", "resolve"]\n'
            f'[host."http://{host}"]\ncapabilities = ["push"]\n'
        )
        pushed = place.snapcore("push", f"{stock.host}/{IMAGE}", f"{NOWHERE}/app:1")
        assert pushed.code == 0, pushed.err
        run_tool("skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{host}/app:1")
        place.hosts('capabilities = ["pull"]\n')
        refused = place.snapcore("push", f"{stock.host}/{IMAGE}", f"{NOWHERE}/app:1")
        assert_refused(refused, 1, NOWHERE, "push", "hosts.toml")
