from __future__ import annotations

from pathlib import Path

from gateway.settings import GatewaySettings
from relay.settings import RelaySettings

DOCUMENT = Path(__file__).parents[2] / "docs/settings.md"


def test_every_setting_is_documented_and_nothing_else() -> None:
    """docs/settings.md names exactly the settings that there are."""
    settings = {
        f"AYB_{name.upper()}"
        for kind in (GatewaySettings, RelaySettings)
        for name in kind.model_fields
    }
    text = DOCUMENT.read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `AYB_")]
    documented = {name.strip(" `") for row in rows for name in row.split(",")}
    assert documented == settings
