"""The gateway's settings."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Final, Literal

from jose import jwk
from jose.exceptions import JWKError
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    FilePath,
    SecretStr,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import NoDecode

from gateway.auth.claim_path import parse_claim_path
from gateway.auth.claim_settings import ClaimSetting, names_of, parse_claim_settings
from gateway.auth.jwks import parse_key_set
from gateway.auth.jwks_source import KeyFile, KeySetError
from gateway.auth.public_key import PUBLIC_KEY_ALGORITHMS
from gateway.auth.verifier import TokenOptions
from shared.outbox import MAX_RECORD_BYTES
from shared.postgres import DatabaseAddress
from shared.settings import CommaList, CommonSettings, PostgresUrl, RedisUrl

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

ALGORITHMS: Final = ("HS256", *PUBLIC_KEY_ALGORITHMS)

_SECRET_CHARACTERS: Final = 32
_FEWEST_CONNECTIONS_TO_SPARE: Final = 6
_MIB: Final = 1024 * 1024
_SERVER_URL: Final = r"(?i)^https?://[^/?#@\s]+(/[^?#\s]*)?$"
_ORIGIN = re.compile(r"https?://[^/?#\s]+|null")


def _role(name: str) -> str:
    if name == "none":
        # SET ROLE none goes back to the login, whose rights are not those of a client.
        raise ValueError("none is not a role that clients may have")
    if not 0 < len(name.encode()) < 64 or "\x00" in name:
        raise ValueError("a role's name has 1 to 63 bytes")
    return name


def _path(text: str) -> str:
    return parse_claim_path(text).text


def _claim_settings(value: object) -> object:
    return parse_claim_settings(value) if isinstance(value, str) else value


Role = Annotated[str, AfterValidator(_role)]
ClaimSettings = Annotated[tuple[ClaimSetting, ...], NoDecode, BeforeValidator(_claim_settings)]


class GatewaySettings(CommonSettings):
    """Read from the environment, prefix `AYB_`.

    A check that concerns several settings stands at the last of them.
    """

    database_url: PostgresUrl | None = None
    read_database_url: PostgresUrl | None = None
    """Where the gateway asks: a read replica, or the primary."""

    redis_url: RedisUrl
    """The Redis of this gateway's region."""

    region: str = Field(default="", pattern=r"^[\w.-]{0,63}$")
    """Named in readiness and metrics."""

    server_host: str = "0.0.0.0"  # noqa: S104 (it serves)
    server_port: int = Field(default=8090, ge=0, le=65_535)
    management_port: int | None = Field(default=None, ge=1, le=65_535)
    """Where `/metrics` and `/openapi.json` are; None is the public port."""

    cors_origins: CommaList = ("*",)
    forwarded_allow_ips: str = "127.0.0.1"
    """Comma-separated addresses of proxies whose `X-Forwarded-For` is believed; `*` is all."""

    auth_enabled: bool = True
    auth_jwks_url: str | None = Field(default=None, pattern=r"(?i)^https?://\S+$")
    auth_jwks_file: FilePath | None = None
    auth_jwt_secret: SecretStr | None = None
    auth_jwt_algorithms: CommaList = ()
    """What is accepted; by default all that there is a key for."""

    auth_jwt_issuer: str | None = Field(default=None, min_length=1)
    auth_jwt_audience: str | None = Field(default=None, min_length=1)
    auth_role: Role = "ayb_authenticated"
    auth_role_claim: Annotated[str, AfterValidator(_path)] | None = None
    auth_roles: CommaList = ()
    """The roles that the role claim may name, beside `auth_role`; of a list, the first of these."""

    auth_claim_settings: ClaimSettings = ()
    """Which claims become further settings that policies read: `setting=claim,...`."""

    auth_anon_role: Role | None = None
    auth_login_enabled: bool = False
    server_url: str | None = Field(default=None, pattern=_SERVER_URL)
    """Where AYB's own server is, to which `?oauth=true` is passed on."""

    auth_redis_url: RedisUrl | None = None
    """The Redis in which log-outs are recorded; None is that of `redis_url`."""

    auth_api_keys: bool = False
    """Whether AYB's API keys are accepted as tokens."""

    explain_secret: SecretStr | None = Field(default=None, min_length=32)
    """Opens `POST /api/admin/explain`; without it there is none."""

    console_enabled: bool = False
    """Whether `/console` is served."""

    console_demo_url: str | None = Field(default=None, pattern=r"^http://localhost:[0-9]{1,5}$")
    """Where the console's buttons write rows of the demo; `make dev` sets it."""

    realtime_deletes: Literal["all", "visible"] = "all"
    realtime_heartbeat_seconds: float = Field(default=25, gt=0)
    realtime_max_connections: int = Field(default=20_000, ge=1)
    realtime_max_connections_per_user: int = Field(default=100, ge=1)
    realtime_max_connections_per_address: int | None = Field(default=None, ge=1)
    """None is no bound: behind a proxy that is not believed, all clients have one address."""

    realtime_max_record_bytes: int = Field(default=MAX_RECORD_BYTES, ge=64)
    realtime_max_pending_bytes: int = Field(default=_MIB, ge=1_024)
    realtime_ring_bytes: int = Field(default=64 * _MIB, ge=0)
    realtime_max_lag_seconds: float = Field(default=2, ge=0)
    """How old the read database's newest sign of life may be, and how long events may be held,
    before readiness names it."""

    realtime_drain_delay_seconds: float = Field(default=3, ge=0)
    realtime_drain_seconds: float = Field(default=20, ge=0)
    realtime_verify: float = Field(default=0, ge=0, le=1)
    """The share of answers that are compared with a real SELECT under RLS."""

    realtime_trusted_functions: CommaList = ()
    """Functions (`schema.name`) that depend on nothing but their arguments and settings."""

    realtime_pool_connections: int = Field(default=8, ge=2)
    realtime_statement_seconds: float = Field(default=5, gt=0)

    @property
    def spare_sessions(self) -> int:
        """How many sessions of the pool are for half of the users of a table, side by side."""
        return 1 if self.realtime_pool_connections >= _FEWEST_CONNECTIONS_TO_SPARE else 0

    @property
    def read_database(self) -> DatabaseAddress:
        """The database and login that the gateway asks with."""
        if self.read_database_url is not None:
            return DatabaseAddress(
                self.read_database_url.get_secret_value(), self.read_database_password_file
            )
        return self.primary

    @property
    def primary(self) -> DatabaseAddress:
        """What `AYB_DATABASE_URL` names."""
        assert self.database_url is not None  # noqa: S101 (checked below)
        return DatabaseAddress(self.database_url.get_secret_value(), self.database_password_file)

    @property
    def client_roles(self) -> tuple[str, ...]:
        """The roles without which nobody, or no client without a token, gets a stream."""
        if not self.auth_enabled:
            return ()
        anonymous = () if self.auth_anon_role is None else (self.auth_anon_role,)
        return tuple(dict.fromkeys((self.auth_role, *anonymous)))

    @property
    def claimed_roles(self) -> tuple[str, ...]:
        """The further roles that tokens may name."""
        if not self.auth_enabled or self.auth_role_claim is None:
            return ()
        return tuple(role for role in self.auth_roles if role not in self.client_roles)

    @property
    def algorithms(self) -> AbstractSet[str]:
        """The accepted algorithms; each has a key."""
        usable = _with_a_key(self.auth_jwt_secret, self.auth_jwks_url or self.auth_jwks_file)
        if not self.auth_jwt_algorithms:
            return usable
        return {name for name in usable if name in self.auth_jwt_algorithms}

    @property
    def session_redis_url(self) -> SecretStr:
        """The URL of the Redis in which log-outs are recorded."""
        return self.redis_url if self.auth_redis_url is None else self.auth_redis_url

    @property
    def setting_names(self) -> tuple[str, ...]:
        """The Postgres settings that every client has, in the order of their values."""
        return names_of(self.auth_claim_settings)

    @property
    def token_options(self) -> TokenOptions:
        """Which tokens the gateway accepts."""
        secret = self.auth_jwt_secret
        return TokenOptions(
            algorithms=frozenset(self.algorithms),
            default_role=self.auth_role,
            secret=None if secret is None else secret.get_secret_value(),
            jwks_file=self.auth_jwks_file,
            jwks_url=self.auth_jwks_url,
            issuer=self.auth_jwt_issuer,
            audience=self.auth_jwt_audience,
            role_claim=None
            if self.auth_role_claim is None
            else parse_claim_path(self.auth_role_claim),
            roles=tuple(dict.fromkeys((*self.auth_roles, self.auth_role))),
            claim_settings=self.auth_claim_settings,
        )

    @field_validator("read_database_url")
    @classmethod
    def _one_database(cls, url: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if url is None and info.data.get("database_url", "wrong") is None:
            raise ValueError("is required, or else AYB_DATABASE_URL")
        return url

    @field_validator("management_port")
    @classmethod
    def _another_port(cls, port: int | None, info: ValidationInfo) -> int | None:
        if port is not None and port == info.data.get("server_port"):
            raise ValueError("must differ from AYB_SERVER_PORT")
        return port

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin} is not an origin (scheme://host[:port]) and not *")
        return origins

    @field_validator("auth_jwks_file")
    @classmethod
    def _key_set(cls, file: FilePath | None, info: ValidationInfo) -> FilePath | None:
        if file is None:
            return None
        if info.data.get("auth_jwks_url") is not None:
            raise ValueError("cannot be set together with AYB_AUTH_JWKS_URL")
        try:
            parse_key_set(KeyFile(file).read_now())
        except KeySetError as error:
            raise ValueError(str(error)) from None
        return file

    @field_validator("auth_jwt_secret")
    @classmethod
    def _secret(cls, secret: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if secret is None:
            needed = info.data.get("auth_enabled") and {
                info.data.get("auth_jwks_url", "wrong"),
                info.data.get("auth_jwks_file", "wrong"),
            } == {None}
            if needed:
                raise ValueError(
                    "is required while AYB_AUTH_ENABLED is true, or else AYB_AUTH_JWKS_URL or _FILE"
                )
            return None
        text = secret.get_secret_value()
        if len(text) < _SECRET_CHARACTERS:
            raise ValueError(f"must have at least {_SECRET_CHARACTERS} characters")
        try:
            jwk.construct(text, "HS256")
        except JWKError:
            raise ValueError("is a key or certificate, not a secret") from None
        return secret

    @field_validator("auth_jwt_algorithms")
    @classmethod
    def _algorithms(cls, names: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        usable = _with_a_key(
            info.data.get("auth_jwt_secret"),
            info.data.get("auth_jwks_url") or info.data.get("auth_jwks_file"),
        )
        for name in names:
            if name not in ALGORITHMS:
                raise ValueError(f"{name} is not one of {', '.join(ALGORITHMS)}")
            if info.data.get("auth_enabled") and name not in usable:
                key = "AYB_AUTH_JWT_SECRET" if name == "HS256" else "AYB_AUTH_JWKS_URL or _FILE"
                raise ValueError(f"{name} needs {key}")
        return names

    @field_validator("auth_roles")
    @classmethod
    def _roles(cls, roles: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if not roles and info.data.get("auth_role_claim") is not None:
            raise ValueError("is required with AYB_AUTH_ROLE_CLAIM")
        return tuple(_role(role) for role in roles)

    @field_validator("auth_api_keys")
    @classmethod
    def _api_keys(cls, accepted: bool, info: ValidationInfo) -> bool:
        if accepted and not info.data.get("auth_enabled", True):
            raise ValueError("needs AYB_AUTH_ENABLED")
        return accepted

    @field_validator("auth_login_enabled")
    @classmethod
    def _login(cls, enabled: bool, info: ValidationInfo) -> bool:
        if not enabled:
            return False
        if not info.data.get("auth_enabled", True):
            raise ValueError("needs AYB_AUTH_ENABLED")
        if info.data.get("auth_jwt_secret", "wrong") is None:
            raise ValueError("needs AYB_AUTH_JWT_SECRET to sign tokens with")
        if "HS256" not in (info.data.get("auth_jwt_algorithms") or ("HS256",)):
            raise ValueError("needs HS256 among AYB_AUTH_JWT_ALGORITHMS")
        return True


def _with_a_key(secret: object, key_set: object) -> AbstractSet[str]:
    usable: set[str] = set()
    if secret is not None:
        usable.add("HS256")
    if key_set is not None:
        usable |= {*PUBLIC_KEY_ALGORITHMS}
    return usable
