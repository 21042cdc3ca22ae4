"""`hosts.toml`, where it lies, and docker's older form."""

from __future__ import annotations

from pathlib import Path

import pytest

from snapcore.errors import InvalidArgument
from snapcore.registry import Capability, ClientCertificate, DefaultHosts, HostsDirectories
from snapcore.registry.hosts import ALL_CAPABILITIES
from snapcore.registry.hostsdir import directory_names
from snapcore.registry.hostsfile import HostEntry, parse_hosts_file
from snapcore.registry.network import PUBLIC_ONLY

FULL = """
server = "https://upstream.example"
[host."https://z.example:5000/team"]
  capabilities = ["pull", "Resolve"]
  ca = ["a.crt", "/abs/b.crt"]
  client = [["c.cert", "c.key"], ["both.pem", ""]]
  skip_verify = false
  dial_timeout = "1m1.5s"
  proxy = "http://proxy.example:3128"
  [host."https://z.example:5000/team".header]
    x-one = "1"
    x-two = ["2", "3"]
[host."http://a.example/odd"]
  override_path = true
  client = "one.pem"
[host."b.example"]
"""


def test_all_of_a_file(tmp_path: Path) -> None:
    found = parse_hosts_file(FULL.encode(), str(tmp_path / "hosts.toml"))
    assert found.server == HostEntry("https", "upstream.example")
    first, second, third = found.mirrors
    assert first == HostEntry(
        "https",
        "z.example:5000",
        "/team/v2",
        frozenset({Capability.PULL, Capability.RESOLVE}),
        (str(tmp_path / "a.crt"), "/abs/b.crt"),
        (
            ClientCertificate(str(tmp_path / "c.cert"), str(tmp_path / "c.key")),
            ClientCertificate(str(tmp_path / "both.pem")),
        ),
        False,
        (("x-one", "1"), ("x-two", "2"), ("x-two", "3")),
        61.5,
        "http://proxy.example:3128",
    )
    clients = (ClientCertificate(str(tmp_path / "one.pem")),)
    assert second == HostEntry("http", "a.example", "/odd", clients=clients)
    assert third == HostEntry("", "b.example")
    assert third.capabilities == ALL_CAPABILITIES


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = ", "not TOML"),
        ("skip_verfy = true", "'skip_verfy'.*'skip_verify'"),
        ('[host."a"]\nservr = 1', r"host.'a'.servr"),
        ('[host."a"]\n[host."a".host."b"]', r"host.'a'.host"),
        ("host = 1", "'host' must be a table"),
        ('capabilities = ["pul"]', "pull, resolve, push"),
        ("skip_verify = 1", "true or false"),
        ("ca = 1", "a list of strings"),
        ('client = [["a", "b", "c"]]', "'client'"),
        ("client = [[]]", "'client'"),
        ('server = "ftp://h"', "URL of a host"),
        ('server = "https://u:s3cret@h"', "URL of a host"),
        ('server = "https://h?q"', "URL of a host"),
        ('dial_timeout = "fast"', "dial_timeout"),
        ('dial_timeout = "0s"', "dial_timeout"),
        ('proxy = "socks5://h:1"', "proxy"),
        ('[header]\nhost = "x"', "not a header"),
        ('[header]\nx = "a\\nb"', "header.x"),
    ],
)
def test_mistakes_are_named_with_their_file(text: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message) as refused:
        parse_hosts_file(text.encode(), "/d/hosts.toml")
    assert "/d/hosts.toml" in str(refused.value)
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    ("host", "names"),
    [
        ("r.example:5000", ("r.example_5000_", "r.example:5000", "_default")),
        ("r.example", ("r.example", "_default")),
        ("[::1]:5000", ("[::1]_5000_", "[::1]:5000", "_default")),
        ("..", ("_default",)),
    ],
)
def test_names_of_the_directory(host: str, names: tuple[str, ...]) -> None:
    assert directory_names(host) == names


def put(directory: Path, text: str) -> None:
    directory.mkdir(parents=True)
    (directory / "hosts.toml").write_text(text)


def test_the_first_directory_with_something_wins(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    put(two / "r.example", 'server = "https://two.example"')
    hosts = HostsDirectories((str(one), str(two)), DefaultHosts(reach=PUBLIC_ONLY).endpoint)
    assert [host.base_url for host in hosts("r.example")] == ["https://two.example"]
    put(one / "_default", '[host."https://m.example"]')
    mirror, server = hosts("r.example")
    assert (mirror.name, mirror.namespace) == ("m.example", "r.example")
    assert (server.name, server.namespace, server.api_url) == (
        "r.example",
        "",
        "https://r.example/v2",
    )
    # `_default` names no registry, so it lets none onto the private network.
    assert server.reach == PUBLIC_ONLY
    assert Capability.PUSH in server.capabilities
    (other,) = HostsDirectories((str(tmp_path / "none"),), hosts.base)("r.example")
    assert other == hosts.base("r.example")


def test_docker_hub_is_itself_under_each_of_its_names(tmp_path: Path) -> None:
    put(
        tmp_path / "docker.io",
        'server = "https://docker.io"\n[host."https://registry-1.docker.io"]',
    )
    hosts = HostsDirectories((str(tmp_path),), DefaultHosts().endpoint)
    for host in hosts("docker.io"):
        assert (host.name, host.namespace) == ("docker.io", "")
        assert host.api_url == "https://registry-1.docker.io/v2"


def test_certificates_in_dockers_form(tmp_path: Path) -> None:
    directory = tmp_path / "r.example:5000"
    directory.mkdir()
    for name in ("ca.crt", "me.cert", "me.key", "alone.cert", "notes.txt"):
        (directory / name).write_text("")
    (host,) = HostsDirectories((str(tmp_path),), DefaultHosts().endpoint)("r.example:5000")
    assert host.tls.ca_files == (str(directory / "ca.crt"),)
    assert host.tls.clients == (
        ClientCertificate(str(directory / "alone.cert")),
        ClientCertificate(str(directory / "me.cert"), str(directory / "me.key")),
    )


def test_problems_name_each_directory(tmp_path: Path) -> None:
    put(tmp_path / "good.example", "")
    put(tmp_path / "typo.example", "x = 1")
    put(tmp_path / "ca.example", 'ca = "absent.crt"')
    found = list(HostsDirectories((str(tmp_path),), DefaultHosts().endpoint).problems())
    assert len(found) == 2
    assert "ca.example/absent.crt" in found[0]
    assert "typo.example/hosts.toml" in found[1]
