"""The messages: what is committed is what the `.proto` files say, and what containerd speaks."""

from __future__ import annotations

import gzip
import re
import subprocess
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from support.images import require_tools

from snapcore.service.proto import (
    content_pb2,
    descriptor_pb2,
    health_pb2,
    images_pb2,
    introspection_pb2,
    leases_pb2,
    mount_pb2,
    snapshots_pb2,
)

REPO = Path(__file__).resolve().parents[2]
API = Path("/usr/share/gocode/src/github.com/containerd/containerd/api")
PACKAGE = "golang-github-containerd-containerd-dev"
_GZIP = re.compile(r"var fileDescriptor_\w+ = \[\]byte\{(.*?)\n\}", re.DOTALL)

MODULES = {
    "content": content_pb2,
    "descriptor": descriptor_pb2,
    "health": health_pb2,
    "images": images_pb2,
    "introspection": introspection_pb2,
    "leases": leases_pb2,
    "mount": mount_pb2,
    "snapshots": snapshots_pb2,
}
PARTS = ("content", "images", "introspection", "leases")
"""Of these we have what we ask; of the others everything."""


def committed(name: str) -> FileDescriptorProto:
    found = FileDescriptorProto()
    MODULES[name].DESCRIPTOR.CopyToProto(found)
    return found


def facts(file: FileDescriptorProto) -> set[str]:
    """Return what goes over the wire, one line each; names of types without their package."""
    found = {f"package {file.package}"}
    for message in file.message_type:
        for field in message.field:
            kind = field.type_name.rpartition(".")[2] or str(field.type)
            repeated = field.label == field.LABEL_REPEATED
            found.add(f"{message.name}.{field.name} = {field.number}: {kind} {repeated}")
    for enum in file.enum_type:
        found |= {f"{enum.name}.{value.name} = {value.number}" for value in enum.value}
    for service in file.service:
        for method in service.method:
            types = (method.input_type, method.output_type)
            found.add(f"{service.name}.{method.name}: {types} {method.server_streaming}")
    return found


@pytest.mark.parametrize("name", MODULES)
def test_the_modules_are_made_of_their_proto_files(name: str, tmp_path: Path) -> None:
    require_tools("protoc")
    out = tmp_path / "set"
    source = f"snapcore/service/proto/{name}.proto"
    subprocess.run(["protoc", "-I.", f"--descriptor_set_out={out}", source], cwd=REPO, check=True)
    (fresh,) = FileDescriptorSet.FromString(out.read_bytes()).file
    assert _bare(committed(name)) == _bare(fresh), "run `make stubs`"


def _bare(file: FileDescriptorProto) -> FileDescriptorProto:
    """Leave out what one compiler writes down and another one lets follow from the name."""
    pending = list(file.message_type)
    while pending:
        message = pending.pop()
        pending += message.nested_type
        for field in message.field:
            field.ClearField("json_name")
    return file


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("snapshots", "services/snapshots/v1/snapshots.pb.go"),
        ("mount", "types/mount.pb.go"),
        ("content", "services/content/v1/content.pb.go"),
        ("descriptor", "types/descriptor.pb.go"),
        ("images", "services/images/v1/images.pb.go"),
        ("introspection", "services/introspection/v1/introspection.pb.go"),
        ("leases", "services/leases/v1/leases.pb.go"),
    ],
)
def test_the_interface_is_containerds(name: str, source: str) -> None:
    if not (API / source).exists():
        pytest.skip(f"not installed: {PACKAGE} (`make setup` as root installs it)")
    match = _GZIP.search((API / source).read_text())
    assert match, "containerd's Go code keeps its descriptor in another way"
    packed = bytes(int(word, 16) for word in re.findall(r"0x([0-9a-f]{2})", match[1]))
    theirs = facts(FileDescriptorProto.FromString(gzip.decompress(packed)))
    ours = facts(committed(name))
    # Containerd has it since 2.2; what does not know it skips it.
    newer = {"CommitSnapshotRequest.parent = 5: 9 False"} if name == "snapshots" else set()
    assert ours - theirs == newer
    assert name in PARTS or theirs <= ours
