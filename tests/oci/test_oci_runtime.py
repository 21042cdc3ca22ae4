"""Instructions of a Dockerfile, applied to how a container is run."""

from __future__ import annotations

import pytest

from snapcore.errors import InvalidArgument
from snapcore.oci.runtime import RuntimeConfig, change


def changed(config: RuntimeConfig, *instructions: str) -> RuntimeConfig:
    change(config, instructions)
    return config


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('CMD ["sh", "-c", "a b"]', RuntimeConfig(cmd=["sh", "-c", "a b"])),
        ("cmd echo $HOME", RuntimeConfig(cmd=["/bin/sh", "-c", "echo $HOME"])),
        ('ENTRYPOINT ["/init"]', RuntimeConfig(entrypoint=["/init"])),
        ("ENV A=1 B='two words'", RuntimeConfig(env=["A=1", "B=two words"])),
        ("ENV OLD the  rest", RuntimeConfig(env=["OLD=the  rest"])),
        ("ENV A=", RuntimeConfig(env=["A="])),
        ('LABEL a.b="c d" e=f', RuntimeConfig(labels={"a.b": "c d", "e": "f"})),
        ("USER 1000:100", RuntimeConfig(user="1000:100")),
        ("WORKDIR srv/../data", RuntimeConfig(working_dir="/data")),
        ("EXPOSE 80 53/udp", RuntimeConfig(exposed_ports={"80/tcp": {}, "53/udp": {}})),
        ("VOLUME /a /b", RuntimeConfig(volumes={"/a": {}, "/b": {}})),
        ('VOLUME ["/a b"]', RuntimeConfig(volumes={"/a b": {}})),
        ("STOPSIGNAL SIGINT", RuntimeConfig(stop_signal="SIGINT")),
    ],
)
def test_an_instruction_says(text: str, expected: RuntimeConfig) -> None:
    assert changed(RuntimeConfig(), text) == expected


def test_later_ones_go_on_from_earlier_ones() -> None:
    config = RuntimeConfig(env=["A=1", "B=2"], working_dir="/srv", labels={"k": "v"})
    changed(config, "ENV B=3 C=4", "WORKDIR sub", "LABEL x=y", "WORKDIR deeper")
    assert config.env == ["A=1", "B=3", "C=4"]
    assert config.working_dir == "/srv/sub/deeper"
    assert config.labels == {"k": "v", "x": "y"}


def test_another_entrypoint_forgets_the_arguments_of_the_old_one() -> None:
    assert changed(RuntimeConfig(cmd=["old"]), 'ENTRYPOINT ["/new"]').cmd is None
    kept = changed(RuntimeConfig(cmd=["old"]), 'CMD ["x"]', 'ENTRYPOINT ["/new"]')
    assert (kept.cmd, kept.entrypoint) == (["x"], ["/new"])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("RUN true", "not an instruction"),
        ("", "not an instruction"),
        ("CMD", "says nothing"),
        ("USER   ", "says nothing"),
        ('CMD ["sh"', "array of strings"),
        ("ENTRYPOINT [1]", "array of strings"),
        ("ENV A=1 B", "NAME=VALUE"),
        ("ENV =x", "NAME=VALUE"),
        ("LABEL a='b", "quotes"),
        ("EXPOSE http", "not a port"),
        ("EXPOSE 65536", "not a port"),
    ],
)
def test_a_malformed_one_is_refused(text: str, says: str) -> None:
    with pytest.raises(InvalidArgument, match=says):
        changed(RuntimeConfig(), text)
