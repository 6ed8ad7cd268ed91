"""The Helm chart can set every setting of gateway and relay."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

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
