"""docker's config.json and its helpers."""

from __future__ import annotations

import base64
import json
import os
import select
from pathlib import Path

import pytest

from snapcore.errors import InvalidArgument, PermissionDenied
from snapcore.registry import Credentials, DockerConfig, GivenCredentials
from snapcore.registry.helpers import run_helper

ENVIRONMENT = {"PATH": "/usr/bin:/bin"}


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def config(document: object, environment: dict[str, str] = ENVIRONMENT) -> DockerConfig:
    return DockerConfig.parse(json.dumps(document).encode(), environment)


def helper(directory: Path, script: str, name: str = "test") -> dict[str, str]:
    """Write a helper program; return the environment it is found in."""
    program = directory / f"docker-credential-{name}"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return {"PATH": f"{directory}:{ENVIRONMENT['PATH']}"}


@pytest.mark.parametrize(
    ("key", "host"),
    [
        ("registry.example", "registry.example"),
        ("https://registry.example/v1/", "registry.example"),
        ("http://registry.example:5000", "registry.example:5000"),
        ("https://index.docker.io/v1/", "docker.io"),
        ("docker.io", "docker.io"),
    ],
)
def test_hosts_in_every_spelling(key: str, host: str) -> None:
    found = config({"auths": {key: {"auth": encoded("alice:a:b")}}})
    assert found(host) == Credentials("alice", "a:b")
    assert found("other.example") is None


def test_other_members_of_an_entry() -> None:
    found = config(
        {
            "auths": {
                "token.example": {"auth": encoded("alice:"), "identitytoken": "r3fresh"},
                "plain.example": {"username": "bob", "password": "pw"},
                "padded.example": {"auth": encoded("carol:pw\0\0")},
                "empty.example": {},
            },
            "HttpHeaders": {"X": "y"},
        }
    )
    assert found("token.example") == Credentials("alice", "", "r3fresh")
    assert found("plain.example") == Credentials("bob", "pw")
    assert found("padded.example") == Credentials("carol", "pw")
    assert found("empty.example") is None


@pytest.mark.parametrize(
    "data",
    [b"{", b"[]", b'{"auths": 1}', b'{"auths":{"h":{"auth":"s3cret!"}}}', b"[" * 100_000],
    ids=["cut", "list", "type", "base64", "deep"],
)
def test_malformed_files_are_refused_without_showing_them(data: bytes) -> None:
    with pytest.raises(InvalidArgument) as refused:
        DockerConfig.parse(data, ENVIRONMENT)
    assert "s3cret" not in str(refused.value)


def test_a_huge_file_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="larger"):
        DockerConfig.parse(b" " * 1_048_577, ENVIRONMENT)


def test_nothing_secret_is_shown() -> None:
    secret = Credentials("alice", "s3cret", "r3fresh")
    shown = repr([secret, GivenCredentials("h", secret), DockerConfig({"h": secret})])
    assert "s3cret" not in shown
    assert "r3fresh" not in shown


def test_a_hosts_own_helper_wins_over_the_store_and_the_file(tmp_path: Path) -> None:
    answer = 'echo "{\\"Username\\":\\"$(cat)\\",\\"Secret\\":\\"NAME\\"}"'
    helper(tmp_path, answer.replace("NAME", "own"), "own")
    environment = helper(tmp_path, answer.replace("NAME", "store"), "store")
    found = config(
        {
            "auths": {"a.example": {"auth": encoded("file:file")}},
            "credHelpers": {"a.example": "own"},
            "credsStore": "store",
        },
        environment,
    )
    assert found("a.example") == Credentials("a.example", "own")
    assert found("b.example") == Credentials("b.example", "store")
    assert found("docker.io") == Credentials("https://index.docker.io/v1/", "store")


def test_the_file_serves_what_the_store_does_not_know(tmp_path: Path) -> None:
    environment = helper(tmp_path, "echo 'credentials not found in native keychain'; exit 1")
    document = {"auths": {"a.example": {"auth": encoded("u:p")}}, "credsStore": "test"}
    assert config(document, environment)("a.example") == Credentials("u", "p")
    assert config(document, environment)("b.example") is None


def test_a_helper_may_give_an_identity_token(tmp_path: Path) -> None:
    environment = helper(tmp_path, """echo '{"Username":"<token>","Secret":"r3fresh"}'""")
    found = config({"credsStore": "test"}, environment)
    assert found("a.example") == Credentials(identity_token="r3fresh")


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo s3cret; exit 3", "status 3"),
        ("echo s3cret", "malformed"),
        ("""echo '{"Username":1,"Secret":"s3cret"}'""", "malformed"),
        ("yes s3cret", "answers too much"),
        ("exec cat /dev/zero", "answers too much"),
    ],
)
def test_a_broken_helper_is_named_and_not_quoted(
    tmp_path: Path, script: str, message: str, census: None
) -> None:
    environment = helper(tmp_path, script)
    with pytest.raises(PermissionDenied, match=message) as refused:
        run_helper("test", "a.example", environment)
    assert "'test'" in str(refused.value)
    chain = str(refused.value) + str(refused.value.__cause__)
    assert "s3cret" not in chain


def test_a_hanging_helper_is_killed_with_its_children(tmp_path: Path, census: None) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    environment = helper(tmp_path, f"exec 3>{pipe}; echo started >&3; sleep 1000 & wait")
    try:
        with pytest.raises(PermissionDenied, match="does not answer"):
            run_helper("test", "a.example", environment, seconds=0.5)
        # The pipe ends when the last process that holds it does.
        os.set_blocking(reading, True)
        assert os.read(reading, 100) == b"started\n"
        ended, _, _ = select.select([reading], [], [], 10)
        assert ended
        assert os.read(reading, 100) == b""
    finally:
        os.close(reading)


@pytest.mark.parametrize("name", ["../evil", "a/b", "", ".hidden", "x" * 65])
def test_a_helpers_name_is_no_path(name: str) -> None:
    with pytest.raises(PermissionDenied, match="not a credential helper's name"):
        run_helper(name, "a.example", ENVIRONMENT)


def test_helpers_are_not_looked_for_in_relative_directories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper(tmp_path, """echo '{"Username":"u","Secret":"p"}'""")
    monkeypatch.chdir(tmp_path)
    for path in (".", "", ":", "relative:."):
        with pytest.raises(PermissionDenied, match="not on the PATH"):
            run_helper("test", "a.example", {"PATH": path})


def test_a_helper_gets_only_the_environment_it_is_given(tmp_path: Path) -> None:
    environment = helper(
        tmp_path, """echo "{\\"Username\\":\\"u\\",\\"Secret\\":\\"$KEY-$HOME\\"}" """
    )
    assert run_helper("test", "h", {**environment, "KEY": "v"}) == ("u", "v-")


@pytest.mark.parametrize("text", ["s3cret", ":s3cret", ""])
def test_malformed_explicit_credentials_are_refused_without_showing_them(text: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        Credentials.parse(text)
    assert "s3cret" not in str(refused.value)


def test_explicit_credentials() -> None:
    found = Credentials.parse("alice:a:b")
    assert found == Credentials("alice", "a:b")
    assert found.basic() == f"Basic {encoded('alice:a:b')}"
    assert GivenCredentials("h", found)("other") is None
