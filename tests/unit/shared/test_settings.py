"""Reading settings, and the one line that names a wrong one."""

from __future__ import annotations

import os
from typing import Self

import pytest
from pydantic import model_validator

from shared.errors import SettingsError
from shared.settings import CommaList, CommonSettings, PostgresUrl, RedisUrls, load_settings


class Settings(CommonSettings):
    """Settings with one of each kind."""

    database_url: PostgresUrl
    redis_url: RedisUrls
    tables: CommaList = ("public.*",)
    least: int = 1
    most: int = 2

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.least > self.most:
            raise ValueError("AYB_LEAST is above AYB_MOST")
        return self


GOOD = {"AYB_DATABASE_URL": "postgresql://u:s3cret@h/db", "AYB_REDIS_URL": "redis://h"}


def load(monkeypatch: pytest.MonkeyPatch, **environment: str) -> Settings:
    for name in os.environ:
        if name.startswith("AYB_"):
            monkeypatch.delenv(name)
    for name, value in {**GOOD, **environment}.items():
        monkeypatch.setenv(name, value)
    return load_settings(Settings)


def test_values_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings are read under the prefix `AYB_`; what is not set has its default."""
    settings = load(monkeypatch, AYB_LOG_LEVEL="WARNING", AYB_UNKNOWN="ignored")
    assert settings.database_url.get_secret_value() == "postgresql://u:s3cret@h/db"
    assert (settings.log_level, settings.log_format) == ("WARNING", "json")
    assert settings.tables == ("public.*",)
    assert settings.realtime_bus_key is None


@pytest.mark.parametrize(
    ("text", "parts"), [("a", ("a",)), (" a , ,b,", ("a", "b")), ("", ()), (" , ", ())]
)
def test_lists_are_separated_by_commas(
    monkeypatch: pytest.MonkeyPatch, text: str, parts: tuple[str, ...]
) -> None:
    """Blanks around members are dropped, empty members too."""
    assert load(monkeypatch, AYB_TABLES=text).tables == parts


def test_a_list_may_be_given_by_code() -> None:
    """A value that is a list already is taken as it is."""
    settings = Settings(
        database_url="postgres://h/db",  # type: ignore[arg-type]
        redis_url=("unix:///run/valkey",),  # type: ignore[arg-type]
        tables=("a,b",),
    )
    assert settings.tables == ("a,b",)
    assert [url.get_secret_value() for url in settings.redis_url] == ["unix:///run/valkey"]


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (
            {"AYB_DATABASE_URL": "mysql://u:s3cret@h"},
            "AYB_DATABASE_URL: must begin with postgres:// or postgresql://",
        ),
        (
            {"AYB_REDIS_URL": "redis://h,http://s3cret@h"},
            (
                "AYB_REDIS_URL: must begin with redis://, rediss://, unix://, redis+sentinel:// or "
                "rediss+sentinel://"
            ),
        ),
        ({"AYB_LEAST": "3"}, "settings: AYB_LEAST is above AYB_MOST"),
        (
            {"AYB_LEAST": "s3cret", "AYB_LOG_FORMAT": "s3cret"},
            (
                "AYB_LOG_FORMAT: String should match pattern '^(json|console)$'; AYB_LEAST: "
                "Input should be a valid integer, unable to parse string as an integer"
            ),
        ),
        (
            {"AYB_REDIS_URL": "redis://h?socket_timeout=s3cret"},
            (
                "AYB_REDIS_URL: is not a Redis URL: Invalid value for 'socket_timeout' in "
                "connection URL."
            ),
        ),
        (
            {"AYB_REDIS_URL": "redis://:s3cret/x@h:6379"},
            (
                "AYB_REDIS_URL: has a port that is no number; special characters of a password "
                "must be percent-encoded"
            ),
        ),
    ],
)
def test_each_fault_is_named_in_one_line(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], message: str
) -> None:
    """The error names each wrong setting and what is wrong; never the value."""
    with pytest.raises(SettingsError) as caught:
        load(monkeypatch, **environment)
    assert str(caught.value) == message
    assert caught.value.__cause__ is None


def test_a_missing_setting_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has no default and is not set is named as required."""
    for name in (*GOOD, "AYB_TABLES"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(
        SettingsError, match=r"^AYB_DATABASE_URL: is required; AYB_REDIS_URL: is required$"
    ):
        load_settings(Settings)


def test_a_short_bus_key_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key of fewer than 32 characters is refused without being shown."""
    with pytest.raises(SettingsError, match=r"^AYB_REALTIME_BUS_KEY: ") as caught:
        load(monkeypatch, AYB_REALTIME_BUS_KEY="short-s3cret")
    assert "s3cret" not in str(caught.value)
