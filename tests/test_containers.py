"""The manifests of the page about containers run what exists, and ask what is answered."""

from __future__ import annotations

import copy
import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from django.core.management import get_commands, load_command_class

from tests.conftest import ROOT
from tests.walkthrough import docker_instructions

PAGE = (ROOT / "docs/howto/containers.md").read_text()
DOCUMENTS = [yaml.safe_load(one) for one in re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.M | re.S)]
COMPOSE, DEPLOYMENT, CRON_JOB = DOCUMENTS
(DOCKERFILE,) = re.findall(r"^```dockerfile\n(.*?)^```$", PAGE, re.M | re.S)


def container(manifest: Any) -> Any:
    """Return the one container of a pod, or of what makes pods."""
    spec = manifest["spec"]
    spec = spec.get("jobTemplate", {}).get("spec", spec)["template"]["spec"]
    (found,) = spec["containers"]
    return found


def commands() -> Iterator[list[str]]:
    for service in COMPOSE["services"].values():
        if "command" in service:
            yield shlex.split(service["command"])
    for manifest in (DEPLOYMENT, CRON_JOB):
        yield container(manifest)["command"]
    yield docker_instructions(DOCKERFILE)["CMD"]


@pytest.mark.parametrize("command", list(commands()), ids=" ".join)
def test_what_they_run_exists(command: list[str]) -> None:
    python, manage, name, *arguments = command
    assert (python, manage) == ("python", "manage.py")
    if name in ("runserver", "migrate"):
        return
    parser = load_command_class(get_commands()[name], name).create_parser("manage.py", name)
    parser.parse_args(arguments)


@pytest.mark.parametrize("version", ["1.30", "1.36"])
@pytest.mark.parametrize("manifest", [DEPLOYMENT, CRON_JOB], ids=lambda one: one["kind"])
def test_kubernetes_knows_each_field(manifest: Any, version: str) -> None:
    validator = pytest.importorskip("kubernetes_validate")
    validator.validate(manifest, version, strict=True)
    container(broken := copy.deepcopy(manifest))["imagePullPolice"] = "Always"
    with pytest.raises(validator.ValidationError, match="imagePullPolice"):
        validator.validate(broken, version, strict=True)


def test_the_probes_ask_what_is_answered() -> None:
    one = container(DEPLOYMENT)
    port = int(one["command"][one["command"].index("--health-port") + 1])
    paths = {
        probe: one[probe]["httpGet"]
        for probe in ("startupProbe", "livenessProbe", "readinessProbe")
    }
    assert {asked["port"] for asked in paths.values()} == {port}
    assert {probe: asked["path"] for probe, asked in paths.items()} == {
        "startupProbe": "/livez",
        "livenessProbe": "/livez",
        "readinessProbe": "/readyz",
    }
    assert "0.0.0.0" in one["command"]  # the probes come from outside
    pod = DEPLOYMENT["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > 30  # as long as a message may take to finish


def test_pods_are_selected_by_their_labels() -> None:
    spec = DEPLOYMENT["spec"]
    assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"]


def test_services_wait_for_services_that_exist() -> None:
    services = COMPOSE["services"]
    for service in services.values():
        assert set(service.get("depends_on", ())) <= set(services)
    (check,) = services["listen"]["healthcheck"]["test"][3:]
    compile(check, "healthcheck", "exec")
    assert ":8080/livez" in check
    assert "--health-port 8080" in services["listen"]["command"]
