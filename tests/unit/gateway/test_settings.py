from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from gateway.auth.public_key import PUBLIC_KEY_ALGORITHMS
from gateway.settings import GatewaySettings
from shared.errors import SettingsError
from shared.settings import load_settings
from tests.support.tokens import key_set, rsa_signer

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "0123456789abcdef0123456789abcdef"
PEM = "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A\n-----END PUBLIC KEY-----"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the machine's own settings, and the least that a gateway needs."""
    for name in os.environ:
        if name.startswith("AYB_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AYB_DATABASE_URL", "postgres://primary/app")
    monkeypatch.setenv("AYB_REDIS_URL", "redis://redis")
    monkeypatch.setenv("AYB_AUTH_JWT_SECRET", SECRET)


def test_the_defaults_are_those_of_the_protocol() -> None:
    """With nothing but the two servers and a secret, the protocol's defaults hold."""
    settings = load_settings(GatewaySettings)
    assert settings.read_database.url == "postgres://primary/app"
    assert settings.algorithms == {"HS256"}
    assert settings.auth_enabled
    assert not settings.auth_login_enabled
    assert settings.auth_role == "ayb_authenticated"
    assert settings.auth_anon_role is None
    assert settings.server_port == 8090
    assert settings.cors_origins == ("*",)
    assert settings.forwarded_allow_ips == "127.0.0.1"
    assert settings.realtime_deletes == "all"
    assert settings.realtime_heartbeat_seconds == 25
    assert settings.realtime_max_connections_per_user == 100
    assert settings.realtime_max_record_bytes == 1024 * 1024


def test_the_read_pool_goes_to_the_replica_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """READ_DATABASE_URL wins over DATABASE_URL, and is enough by itself."""
    monkeypatch.setenv("AYB_READ_DATABASE_URL", "postgresql://replica/app")
    assert load_settings(GatewaySettings).read_database.url == "postgresql://replica/app"
    monkeypatch.delenv("AYB_DATABASE_URL")
    assert load_settings(GatewaySettings).read_database.url == "postgresql://replica/app"


def test_a_key_set_is_enough_without_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a JWKS no secret is needed, and HS256 is not accepted."""
    monkeypatch.delenv("AYB_AUTH_JWT_SECRET")
    monkeypatch.setenv("AYB_AUTH_JWKS_URL", "https://id/jwks.json")
    assert load_settings(GatewaySettings).algorithms == set(PUBLIC_KEY_ALGORITHMS)
    monkeypatch.setenv("AYB_AUTH_JWT_ALGORITHMS", "ES256")
    assert load_settings(GatewaySettings).algorithms == {"ES256"}


def test_without_authentication_no_key_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """AUTH_ENABLED=false needs neither secret nor key set."""
    monkeypatch.delenv("AYB_AUTH_JWT_SECRET")
    monkeypatch.setenv("AYB_AUTH_ENABLED", "false")
    assert load_settings(GatewaySettings).algorithms == set()


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"AUTH_JWT_SECRET": None}, "AYB_AUTH_JWT_SECRET: is required while AYB_AUTH_ENABLED"),
        ({"AUTH_JWT_SECRET": ""}, "AYB_AUTH_JWT_SECRET: must have at least 32 characters"),
        ({"AUTH_JWT_SECRET": SECRET[1:]}, "AYB_AUTH_JWT_SECRET: must have at least 32"),
        ({"AUTH_JWT_SECRET": PEM}, "AYB_AUTH_JWT_SECRET: is a key or certificate"),
        ({"AUTH_ENABLED": "perhaps"}, "AYB_AUTH_ENABLED: "),
        ({"AUTH_JWKS_URL": "ftp://id/jwks"}, "AYB_AUTH_JWKS_URL: "),
        ({"AUTH_JWKS_FILE": "/nowhere/jwks.json"}, "AYB_AUTH_JWKS_FILE: "),
        ({"AUTH_JWT_ALGORITHMS": "HS256,none"}, "AYB_AUTH_JWT_ALGORITHMS: none is not one of"),
        ({"AUTH_JWT_ALGORITHMS": "HS512"}, "AYB_AUTH_JWT_ALGORITHMS: HS512 is not one of"),
        ({"AUTH_JWT_ALGORITHMS": "HS256,RS256"}, "AYB_AUTH_JWT_ALGORITHMS: RS256 needs AYB_AUTH_J"),
        (
            {
                "AUTH_JWT_SECRET": None,
                "AUTH_JWKS_URL": "https://i/",
                "AUTH_JWT_ALGORITHMS": "HS256",
            },
            "AYB_AUTH_JWT_ALGORITHMS: HS256 needs AYB_AUTH_JWT_SECRET",
        ),
        ({"AUTH_ROLE": "none"}, "AYB_AUTH_ROLE: none is not a role"),
        ({"AUTH_ROLE": ""}, "AYB_AUTH_ROLE: a role's name has"),
        ({"AUTH_ANON_ROLE": "none"}, "AYB_AUTH_ANON_ROLE: none is not a role"),
        ({"AUTH_ROLE_CLAIM": "role"}, "AYB_AUTH_ROLES: is required with AYB_AUTH_ROLE_CLAIM"),
        (
            {"AUTH_ROLE_CLAIM": "role", "AUTH_ROLES": "editor,none"},
            "AYB_AUTH_ROLES: none is not a role",
        ),
        (
            {"AUTH_LOGIN_ENABLED": "true", "AUTH_ENABLED": "false"},
            "AYB_AUTH_LOGIN_ENABLED: needs AYB_AUTH_ENABLED",
        ),
        (
            {
                "AUTH_LOGIN_ENABLED": "true",
                "AUTH_JWT_SECRET": None,
                "AUTH_JWKS_URL": "https://i/",
            },
            "AYB_AUTH_LOGIN_ENABLED: needs AYB_AUTH_JWT_SECRET",
        ),
        (
            {
                "AUTH_LOGIN_ENABLED": "true",
                "AUTH_JWKS_URL": "https://i/",
                "AUTH_JWT_ALGORITHMS": "RS256",
            },
            "AYB_AUTH_LOGIN_ENABLED: needs HS256",
        ),
        ({"DATABASE_URL": None}, "AYB_READ_DATABASE_URL: is required"),
        ({"DATABASE_URL": "mysql://x"}, "AYB_DATABASE_URL: must begin with postgres://"),
        ({"REDIS_URL": None}, "AYB_REDIS_URL: is required"),
        ({"REDIS_URL": "redis://a,redis://b"}, "AYB_REDIS_URL: must be one URL"),
        ({"CORS_ORIGINS": "*,example.com"}, "AYB_CORS_ORIGINS: example.com is not an origin"),
        ({"CORS_ORIGINS": "https://example.com/"}, "AYB_CORS_ORIGINS: https://example.com/ is not"),
        ({"SERVER_PORT": "65536"}, "AYB_SERVER_PORT: "),
        ({"REALTIME_DELETES": "some"}, "AYB_REALTIME_DELETES: "),
        ({"REALTIME_VERIFY": "1.5"}, "AYB_REALTIME_VERIFY: "),
        ({"REALTIME_HEARTBEAT_SECONDS": "0"}, "AYB_REALTIME_HEARTBEAT_SECONDS: "),
        ({"REALTIME_MAX_CONNECTIONS": "x"}, "AYB_REALTIME_MAX_CONNECTIONS: "),
    ],
)
def test_a_wrong_setting_is_named_in_one_line(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, str | None], line: str
) -> None:
    """A wrong or missing setting gives one line that begins with its name and holds no secret."""
    for name, value in changes.items():
        if value is None:
            monkeypatch.delenv(f"AYB_{name}")
        else:
            monkeypatch.setenv(f"AYB_{name}", value)
    with pytest.raises(SettingsError) as caught:
        load_settings(GatewaySettings)
    text = str(caught.value)
    assert text.startswith(line)
    assert "\n" not in text
    assert "more)" not in text
    assert SECRET[1:] not in text
    assert "MIIB" not in text


def test_one_source_of_keys_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """JWKS_URL and JWKS_FILE together are refused."""
    file = tmp_path / "jwks.json"
    file.write_bytes(key_set(rsa_signer("r")))
    monkeypatch.setenv("AYB_AUTH_JWKS_URL", "https://id/jwks.json")
    monkeypatch.setenv("AYB_AUTH_JWKS_FILE", str(file))
    with pytest.raises(SettingsError, match=r"^AYB_AUTH_JWKS_FILE: cannot be set together with"):
        load_settings(GatewaySettings)


@pytest.mark.parametrize("text", ["{}", "<html>", '{"keys":[]}', '{"keys":[{"kty":"oct"}]}', " "])
def test_a_file_that_is_no_key_set_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str
) -> None:
    """A JWKS_FILE without a key for us gives one line that names the setting."""
    file = tmp_path / "jwks.json"
    file.write_text(text)
    monkeypatch.setenv("AYB_AUTH_JWKS_FILE", str(file))
    with pytest.raises(SettingsError, match=r"^AYB_AUTH_JWKS_FILE: (not a JSON|no public key)"):
        load_settings(GatewaySettings)
