"""docs/settings.md says what is true."""

from __future__ import annotations

from pathlib import Path

from devstack.settings import DevSettings
from gateway.settings import GatewaySettings
from relay.settings import RelaySettings

DOCUMENT = Path(__file__).parents[2] / "docs/settings.md"
DERIVED = {
    "AYB_READ_DATABASE_URL",
    "AYB_AUTH_JWT_ALGORITHMS",
    "AYB_REALTIME_CHANNEL_PREFIX",
}
"""Their defaults are told in words."""


def documented() -> dict[str, str]:
    """The settings of the page, with the default that it says each has."""
    found: dict[str, str] = {}
    for line in DOCUMENT.read_text(encoding="utf-8").splitlines():
        if line.startswith("| `AYB_"):
            _, names, default, *_ = line.split("|")
            settings = [name.strip(" `") for name in names.split(",")]
            values = [value.strip() for value in default.split(",")]
            values += values * (len(settings) - len(values))
            found.update(zip(settings, values, strict=True))
    return found


def written(value: object) -> str:
    """A default as the page writes it."""
    if value is None or value == ():
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def test_every_setting_is_documented_with_its_default() -> None:
    """The page names exactly the settings that there are, and their defaults."""
    settings = {
        f"AYB_{name.upper()}": "" if field.is_required() else written(field.default)
        for kind in (GatewaySettings, RelaySettings)
        for name, field in kind.model_fields.items()
    } | {
        f"AYB_{name.upper()}": written(field.default)
        for name, field in DevSettings.model_fields.items()
        if name.startswith("dev_")
    }
    page = documented()
    assert page.keys() == settings.keys()
    for name in settings.keys() - DERIVED:
        assert (name, page[name]) == (name, settings[name])
