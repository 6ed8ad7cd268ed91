"""The stack's settings from the environment."""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from devstack.postgres import is_open_to_postgres
from shared.errors import OperatorError
from shared.settings import PostgresUrl, RedisUrl


class DevSettings(BaseSettings):
    """Read from the environment, prefix `AYB_`."""

    model_config = SettingsConfigDict(env_prefix="AYB_", extra="ignore", hide_input_in_errors=True)

    dev_dir: Path = Path(".devstack")
    """Where the embedded servers keep their data."""

    dev_postgres_port: int = Field(default=54_329, ge=1, le=65_535)
    dev_valkey_port: int = Field(default=63_799, ge=1, le=65_535)
    server_port: int = Field(default=8090, ge=1, le=65_535)
    relay_port: int | None = Field(default=None, ge=1, le=65_535)

    dev_demo: bool = False
    """Whether the demo may be put into the database of `AYB_DATABASE_URL`."""

    database_url: PostgresUrl | None = None
    """A Postgres to be used instead of the embedded one, as a superuser or the tables' owner."""

    redis_url: RedisUrl | None = None
    """A Redis or Valkey to be used instead of the embedded one."""

    auth_jwt_secret: SecretStr | None = None
    """By default one that is created once and kept beside the data."""


def open_data_dir(settings: DevSettings) -> Path:
    """Find or create the data folder.

    Root runs Postgres as another user, who may be unable to reach the folder (under /root, for
    example). It is then under /var/tmp.
    """
    folder = settings.dev_dir.absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if settings.database_url is None and not is_open_to_postgres(folder):
            mark = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
            elsewhere = Path("/var/tmp") / f"ayb-devstack-{mark}"  # noqa: S108 (checked below)
            elsewhere.mkdir(exist_ok=True, mode=0o755)
            if not (link := folder / "data").is_symlink():
                link.symlink_to(elsewhere)  # by which `make clean` finds it
            folder = elsewhere
        if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
            raise OperatorError(f"{folder} belongs to another user: remove it, or set AYB_DEV_DIR")
    except OSError as error:
        raise OperatorError(f"{folder} cannot be used: {error.strerror}") from None
    return folder


def jwt_secret(settings: DevSettings, folder: Path) -> str:
    """Return the key of the tokens, which is kept so that tokens survive a restart."""
    if settings.auth_jwt_secret is not None:
        return settings.auth_jwt_secret.get_secret_value()
    file = folder / "jwt-secret"
    if not file.is_file():
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
            out.write(secrets.token_urlsafe(48))
    return file.read_text(encoding="ascii")
