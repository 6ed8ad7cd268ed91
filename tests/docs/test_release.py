"""What a release consists of fits together."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

PROJECT = Path(__file__).parents[2]
WORKFLOWS = sorted((PROJECT / ".github/workflows").glob("*.yml"))


def text(name: str) -> str:
    """Read a file of the project."""
    return (PROJECT / name).read_text(encoding="utf-8")


def test_there_is_one_version() -> None:
    """Package, chart, image, client and examples have the same version."""
    version = tomllib.loads(text("pyproject.toml"))["project"]["version"]
    chart = yaml.safe_load(text("helm/Chart.yaml"))
    found = {
        "chart": chart["version"],
        "chart's appVersion": chart["appVersion"],
        "image": re.findall(r"^ARG VERSION=(.*)$", text("Dockerfile"), re.MULTILINE)[0],
        "example": yaml.safe_load(text("helm/examples/values-production.yaml"))["image"]["tag"],
    }
    for client in PROJECT.glob("clients/*/package.json"):
        found[client.parent.name] = json.loads(client.read_text(encoding="utf-8"))["version"]
    assert found == dict.fromkeys(found, version)


def steps(file: Path) -> list[dict[str, Any]]:
    """All steps of a workflow."""
    workflow: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return [step for job in workflow["jobs"].values() for step in job.get("steps", ())]


def test_the_workflow_calls_the_script() -> None:
    """GitHub runs what anybody can run, `.ci/run`, on a clone with all tags."""
    of_ci = steps(PROJECT / ".github/workflows/ci.yml")
    assert of_ci[-1]["run"] == ".ci/run"
    [checkout] = [step for step in of_ci if step.get("uses", "").startswith("actions/checkout@")]
    assert checkout["with"]["fetch-depth"] == 0


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_workflows_may_little(file: Path) -> None:
    """A workflow may read by default, and what it may more is said for its job."""
    workflow = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    for step in steps(file):
        assert ("run" in step) != ("uses" in step)
        # What somebody else names, such as a branch, never becomes part of a script.
        assert "${{" not in step.get("run", "")
