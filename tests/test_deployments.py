"""What `compose.yaml`, the Dockerfile and the pages on deploying name exists: settings, options, versions, ports."""

from __future__ import annotations

import importlib.util
import re
from typing import Any

import pytest
import yaml

from recall_server.config.settings import Settings
from tests.docs.pages import ROOT

FILES = ["compose.yaml", "Dockerfile", "SECURITY.md", *(f"docs/{name}.md" for name in ("deploying", "kubernetes"))]
OF_TRAINER = {"RECALL_DATA"}
SETTINGS = {f"RECALL_{name.upper()}" for name in Settings.model_fields}


def text(name: str) -> str:
    return (ROOT / name).read_text()


def manifests() -> dict[str, dict[str, Any]]:
    """The manifests of docs/kubernetes.md, by kind and name."""
    found = map(yaml.safe_load, re.findall(r"```yaml\n(.*?)```", text("docs/kubernetes.md"), re.DOTALL))
    return {f"{each['kind']} {each['metadata']['name']}": each for each in found}


@pytest.mark.parametrize("name", FILES)
def test_every_setting_that_is_named_exists(name: str) -> None:
    assert set(re.findall(r"\bRECALL_[A-Z_]*[A-Z]", text(name))) <= SETTINGS | OF_TRAINER


@pytest.mark.parametrize("name", FILES)
def test_every_option_of_the_server_that_is_named_exists(name: str) -> None:
    asked = {option for line in re.findall(r"recall-server serve (.*)", text(name)) for option in options(line)}
    assert asked <= {f"--{field.replace('_', '-')}" for field in Settings.model_fields}


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="no Ray: pip install 'memory-recall[ray]'")
def test_every_option_of_ray_that_is_named_exists() -> None:
    from ray.scripts.scripts import start

    known = {option for each in start.params for option in each.opts}
    for name in FILES:
        commands = re.findall(r"ray start ((?:[^;`#]|\n)*?)(?:;|`|#|\n\n|\n\w|$)", text(name))
        assert {option for command in commands for option in options(command)} <= known, name
    cluster = manifests()["RayCluster recall-ray"]["spec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert {f"--{option}" for option in group["rayStartParams"]} <= known


def options(command: str) -> set[str]:
    return set(re.findall(r"(?<!\S)--[a-z][a-z-]*", command))


def test_the_cluster_has_the_version_of_ray_that_the_image_installs() -> None:
    version = manifests()["RayCluster recall-ray"]["spec"]["rayVersion"]
    assert f"\nray=={version}\n" in text("constraints.txt")


def test_no_service_sets_a_setting() -> None:
    """Kubernetes gives pods a variable RECALL_PORT=tcp://... for a service that is called recall."""
    pod = manifests()["Deployment recall"]["spec"]["template"]["spec"]
    assert manifests()["Service recall"] and pod.get("enableServiceLinks") is False


def test_ports_and_probes_lead_to_what_listens() -> None:
    (server,) = manifests()["Deployment recall"]["spec"]["template"]["spec"]["containers"]
    (port,) = server["ports"]
    assert port["containerPort"] == Settings.model_fields["port"].default
    assert manifests()["Service recall"]["spec"]["ports"][0]["targetPort"] == port["name"]
    probes = {name: server[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {probe["path"] for probe in probes.values()} == {"/health/live", "/health/ready"}
    assert all(probe["port"] == port["name"] for probe in probes.values())
    assert f"EXPOSE {port['containerPort']}\n" in text("Dockerfile")
