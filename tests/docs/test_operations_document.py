"""docs/operations.md names series that there are."""

from __future__ import annotations

import json
import re
from pathlib import Path

from prometheus_client import generate_latest

from gateway.metrics import GatewayMetrics
from relay.metrics import RelayMetrics

DOCUMENT = Path(__file__).parents[2] / "docs/operations.md"
DASHBOARD = Path(__file__).parents[2] / "helm/files/dashboard.json"


def test_every_series_exists() -> None:
    """Whatever the page says to watch can be watched."""
    pages = RelayMetrics().page() + generate_latest(GatewayMetrics().registry)
    series = set(re.findall(r"^# HELP (\S+)", pages.decode(), re.MULTILINE))
    named = set(re.findall(r"\bayb_[a-z_]+", DOCUMENT.read_text(encoding="utf-8")))
    assert len(named) > 10
    assert named - {"ayb_realtime", "ayb_relay", "ayb_gateway"} <= series


def test_the_dashboard_is_explained() -> None:
    """Every series on a panel is named on the page, and the questions are panels."""
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    shown = {
        name.removesuffix("_bucket")
        for panel in panels
        for target in panel["targets"]
        for name in re.findall(r"\bayb_[a-z_]+", target["expr"])
    }
    text = DOCUMENT.read_text(encoding="utf-8")
    _, _, section = text.partition("## The dashboard")
    section, _, _ = section.partition("\n## ")
    assert set(re.findall(r"\bayb_[a-z_]+", section)) == shown
    titles = [panel["title"] for panel in panels]
    assert {"Is it fast?", "Is it behind?", "What is slow?", "What is looped?"} <= set(titles)
