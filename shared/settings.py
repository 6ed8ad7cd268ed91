"""Settings from the environment, prefix `AYB_`, checked before anything starts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, FilePath, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from shared.errors import SettingsError
from shared.redis_target import RedisTarget
from shared.redis_url import check_url, split_urls

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


def _split(value: object) -> object:
    if isinstance(value, str):
        return tuple(part for part in (piece.strip() for piece in value.split(",")) if part)
    return value


def _postgres_url(value: SecretStr) -> SecretStr:
    if not value.get_secret_value().startswith(("postgres://", "postgresql://")):
        raise ValueError("must begin with postgres:// or postgresql://")
    return value


def _split_urls(value: object) -> object:
    return split_urls(value) if isinstance(value, str) else value


def _redis_url(value: SecretStr) -> SecretStr:
    check_url(RedisTarget.of(value.get_secret_value()).url)
    return value


CommaList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
"""A comma-separated list; blanks around its members are dropped."""

PostgresUrl = Annotated[SecretStr, AfterValidator(_postgres_url)]
RedisUrl = Annotated[SecretStr, AfterValidator(_redis_url)]
RedisUrls = Annotated[
    tuple[RedisUrl, ...], NoDecode, BeforeValidator(_split_urls), Field(min_length=1)
]


class CommonSettings(BaseSettings):
    """What relay and gateway both read."""

    model_config = SettingsConfigDict(env_prefix="AYB_", extra="ignore", hide_input_in_errors=True)

    log_level: str = Field(default="info", pattern=r"(?i)^(debug|info|warning|error)$")
    log_format: str = Field(default="json", pattern="^(json|console)$")
    database_password_file: FilePath | None = None
    """Holds the password of `AYB_DATABASE_URL`'s login; read again at each connect."""

    read_database_password_file: FilePath | None = None
    """The same for `AYB_READ_DATABASE_URL`."""

    traces_ratio: float = Field(default=0, ge=0, le=1)
    """The share of batches that are traced by OpenTelemetry; 0 is off. See `shared.tracing`."""

    realtime_bus_key: SecretStr | None = Field(default=None, min_length=32)
    """Key of the signatures on bus messages; the same on relay and gateways."""

    realtime_channel_prefix: str | None = Field(
        default=None, min_length=1, max_length=100, pattern=r"^[!-~]+$"
    )
    """Begins the names of all Redis channels; the same on relay and gateways. By default it is made
    from the identity of the database, so that deployments may share a Redis server."""


S = TypeVar("S", bound=BaseSettings)


def load_settings(kind: type[S]) -> S:
    """Read and check the settings.

    Raises `SettingsError` with one line that names each wrong setting; never with a value, which
    may be a secret.
    """
    try:
        return kind()
    except ValidationError as error:
        faults = error.errors(include_input=False, include_url=False)
        raise SettingsError("; ".join(map(_described, faults))) from None


def _described(fault: ErrorDetails) -> str:
    where = "_".join(str(part) for part in fault["loc"] if isinstance(part, str))
    name = f"AYB_{where}".upper() if where else "settings"
    what = "is required" if fault["type"] == "missing" else fault["msg"]
    return f"{name}: {what.removeprefix('Value error, ')}"
