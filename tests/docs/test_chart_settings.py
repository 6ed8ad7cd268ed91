"""The Helm chart can set every setting of gateway and relay."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.settings import GatewaySettings
from relay.settings import RelaySettings

CHART = Path(__file__).parents[2] / "helm"
SETTING = re.compile(r"\bAYB_[A-Z_]+\b")
NOT_FOR_PODS = {
    "gateway": {
        "AYB_DATABASE_URL": "AYB_READ_DATABASE_URL takes its place",
        "AYB_DATABASE_PASSWORD_FILE": "AYB_READ_DATABASE_PASSWORD_FILE takes its place",
        "AYB_CONSOLE_DEMO_URL": "only `make dev` has the demo",
    },
    "relay": {
        "AYB_READ_DATABASE_URL": "only the doctor looks at it, and a relay needs no second login",
        "AYB_READ_DATABASE_PASSWORD_FILE": "only the doctor looks at it",
    },
}


@pytest.mark.parametrize(("part", "kind"), [("gateway", GatewaySettings), ("relay", RelaySettings)])
def test_every_setting_can_be_given(part: str, kind: type[GatewaySettings | RelaySettings]) -> None:
    """Each setting is set by a value, or named in the schema's `settings` of its part; not both."""
    templates = CHART / "templates"
    helpers = (templates / "_helpers.tpl").read_text(encoding="utf-8")
    text = (templates / f"{part}-deployment.yaml").read_text(encoding="utf-8")
    by_value = set(SETTING.findall(helpers + text))
    schema: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    of_part = schema["properties"][part]["properties"]
    by_name = set(of_part["settings"]["properties"])
    wanted = {f"AYB_{name.upper()}" for name in kind.model_fields} - NOT_FOR_PODS[part].keys()
    assert wanted - by_value - by_name == set(), (
        f"add them to {part}.settings in helm/values.schema.json, or give them a value"
    )
    assert by_name <= wanted
    assert by_name & by_value == set()


def test_every_value_has_a_comment() -> None:
    """Each value of the chart, or one that holds it, says on its line what it is for."""
    spec = importlib.util.spec_from_file_location("make_readme", CHART / "make_readme.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = (CHART / "values.yaml").read_text(encoding="utf-8")
    explained = {path for path, _, _ in module.rows(text)}

    def unexplained(values: dict[str, Any], above: str = "") -> list[str]:
        found = []
        for name, value in values.items():
            path = f"{above}{name}"
            if path in explained:
                continue
            if isinstance(value, dict) and value:
                found += unexplained(value, f"{path}.")
            else:
                found.append(path)
        return found

    assert unexplained(yaml.safe_load(text)) == []
