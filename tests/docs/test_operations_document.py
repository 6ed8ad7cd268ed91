"""docs/operations.md names series that there are."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client import generate_latest

from gateway.metrics import GatewayMetrics
from relay.metrics import RelayMetrics

DOCUMENT = Path(__file__).parents[2] / "docs/operations.md"


def test_every_series_exists() -> None:
    """Whatever the page says to watch can be watched."""
    pages = RelayMetrics().page() + generate_latest(GatewayMetrics().registry)
    series = set(re.findall(r"^# HELP (\S+)", pages.decode(), re.MULTILINE))
    named = set(re.findall(r"\bayb_[a-z_]+", DOCUMENT.read_text(encoding="utf-8")))
    assert len(named) > 10
    assert named - {"ayb_realtime", "ayb_relay", "ayb_gateway"} <= series
