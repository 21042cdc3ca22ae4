"""The manifests: Kubernetes' own schemas, what one says of another, what nodes get."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any, Final

import kubernetes_validate
import pytest
import yaml

from snapcore.config import HostFacts, NodeConfig, load
from snapcore.service.names import plugin_name

DEPLOY: Final = Path(__file__).resolve().parents[2] / "deploy/kubernetes"
VERSIONS: Final = ("1.28", "1.37")
Manifest = dict[str, Any]


def manifests() -> list[Manifest]:
    return [
        document
        for path in sorted(DEPLOY.glob("*.yaml"))
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))
    ]


def name_of(manifest: Manifest) -> str:
    return f"{manifest['kind']}-{manifest['metadata']['name']}"


def only(kind: str) -> Manifest:
    (found,) = (each for each in manifests() if each["kind"] == kind)
    return found


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("manifest", manifests(), ids=name_of)
def test_the_schema_takes_it(manifest: Manifest, version: str) -> None:
    kubernetes_validate.validate(manifest, version, strict=True)


def test_the_schema_refuses_what_is_not_in_it() -> None:
    wrong = copy.deepcopy(only("DaemonSet"))
    wrong["spec"]["template"]["spec"]["containers"][0]["mountPropagation"] = "Bidirectional"
    with pytest.raises(kubernetes_validate.ValidationError, match="mountPropagation"):
        kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


def test_parts_of_the_daemon_set_fit_each_other() -> None:
    spec = only("DaemonSet")["spec"]
    labels = spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"].items() <= labels.items()
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    assert volumes.keys() == mounts.keys()
    assert volumes["config"]["configMap"]["name"] == only("ConfigMap")["metadata"]["name"]
    for name, path in (("root", config_of().root), ("state", config_of().state)):
        assert mounts[name]["mountPath"] == volumes[name]["hostPath"]["path"] == path
        assert mounts[name]["mountPropagation"] == "Bidirectional"
    # Otherwise the API server refuses the propagation.
    assert container["securityContext"]["privileged"] is True
    socket = container["args"][-1]
    assert socket.startswith(f"{config_of().state}/")
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        command = container[probe]["exec"]["command"]
        assert command == ["python", "-m", "snapcore.service.check", socket]
        assert container[probe]["timeoutSeconds"] > 5
    assert pod["terminationGracePeriodSeconds"] > 5
    environment = {each["name"]: each for each in container["env"]}
    assert environment["SNAPCORE_NODE_LABELS"]["value"] == "node=$(NODE_NAME)"


def test_everything_is_in_the_namespace() -> None:
    namespace = only("Namespace")["metadata"]["name"]
    for kind in ("ConfigMap", "DaemonSet"):
        assert only(kind)["metadata"]["namespace"] == namespace


@pytest.mark.parametrize("name", ["overlay", "native", "fuse"])
def test_each_snapshotter_has_a_class(name: str) -> None:
    classes = {
        each["metadata"]["name"]: each for each in manifests() if each["kind"] == "RuntimeClass"
    }
    assert classes[plugin_name(name)]["handler"] == plugin_name(name)
    selector = classes[plugin_name(name)]["scheduling"]["nodeSelector"]
    assert selector == {f"snapcore.io/{name}": "true"}


def config_of(facts: HostFacts | None = None) -> NodeConfig:
    """Load the configuration as on a node."""
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(only("ConfigMap")["data"]["config.toml"])
        file.flush()
        return load(file.name, (), facts).config


@pytest.mark.parametrize(
    ("hostname", "kernel", "labels", "chosen"),
    [
        pytest.param("worker-1", "6.1.0-18-amd64", {}, ("overlay", "native"), id="any"),
        pytest.param("gpu-7", "6.1.0", {}, ("fuse", "overlay"), id="large-images"),
        pytest.param("gpu-7", "5.4.0-generic", {}, ("native",), id="old"),
        pytest.param("host-1", "6.1.0", {"node": "storage-1"}, ("native",), id="label"),
    ],
)
def test_each_node_gets_what_the_comments_say(
    hostname: str, kernel: str, labels: dict[str, str], chosen: tuple[str, ...]
) -> None:
    config = config_of(HostFacts(hostname, kernel, labels))
    assert config.snapshotters == chosen
    assert config.plugins["overlay"] == {"classic_mounts": True}
