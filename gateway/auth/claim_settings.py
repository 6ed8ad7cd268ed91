"""Which claims become Postgres settings that policies read.

Four settings are always there (`gateway.visibility.cohorts.KNOWN_SETTINGS`). A deployment may map
further claims to settings of its own, or take one of the first three from another claim:

    AYB_AUTH_CLAIM_SETTINGS=ayb.tenant_id=org_id,app.team=app_metadata.team

Only names of two parts are accepted, as an application defines its own (`app.team`). A name without
a dot is a setting of Postgres itself, and some prefixes belong to Postgres, to its extensions, or
to the claims as a whole (`request.jwt.claims`): a token must never choose their values.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gateway.auth.claim_path import ABSENT, ClaimPath, parse_claim_path, split_list
from gateway.auth.claims import checked_text
from gateway.visibility.cohorts import KNOWN_SETTINGS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MOST_SETTINGS: Final = 32

_NAME = re.compile(r"[a-z_][a-z0-9_$]*\.[a-z_][a-z0-9_$]*")
_MOST_NAME_BYTES: Final = 63
_PAIR = re.compile(r"([^=]+)=(.+)")
_RESERVED: Final = frozenset(
    ("anon", "auto_explain", "ayb_realtime", "citus", "cron", "neon", "pgaudit", "pglogical",
     "pgrst", "pgsodium", "plperl", "plpgsql", "plpython", "pltcl", "plv8", "postgis", "rds",
     "request", "sepgsql", "supautils", "timescaledb", "vault")
)  # fmt: skip
"""Prefixes of extensions' settings, and `request`, where PostgREST keeps its own. Whether a name is
that of a setting of an extension that is installed, `python -m gateway doctor` says."""


@dataclass(frozen=True, slots=True)
class ClaimSetting:
    """A setting, and the claim that it gets its value from."""

    name: str
    path: ClaimPath


def parse_claim_settings(text: str) -> tuple[ClaimSetting, ...]:
    """Read a list `setting=claim,...`; raises `ValueError`, whose text says what is wrong."""
    found: dict[str, ClaimSetting] = {}
    for part in split_list(text):
        pair = _PAIR.fullmatch(part)
        if pair is None:
            raise ValueError(f"{part} is not of the form setting=claim")
        name = pair[1].strip().lower()
        _check_name(name)
        if name in found:
            raise ValueError(f"{name} is set twice")
        found[name] = ClaimSetting(name, parse_claim_path(pair[2].strip()))
    if len(found) > MOST_SETTINGS:
        raise ValueError(f"at most {MOST_SETTINGS} settings can be set")
    return tuple(found.values())


def names_of(mapped: Iterable[ClaimSetting]) -> tuple[str, ...]:
    """Return the names of all settings that clients have, in the order of their values."""
    return (*KNOWN_SETTINGS, *(s.name for s in mapped if s.name not in KNOWN_SETTINGS))


def value_of(claims: Mapping[str, object], path: ClaimPath) -> str:
    """Return a claim as the text of a setting.

    A string is itself, an absent claim or null the empty string, and anything else its JSON.
    Raises `TokenRefusedError` for a text that Postgres cannot hold.
    """
    value = path.find(claims)
    if value is ABSENT or value is None:
        return ""
    if not isinstance(value, str):
        value = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return checked_text(value, path.text)


def _check_name(name: str) -> None:
    prefix, _, _ = name.partition(".")
    if name == "request.jwt.claims":
        raise ValueError(f"{name} always has all claims")
    if _NAME.fullmatch(name) is None or len(name) > _MOST_NAME_BYTES:
        raise ValueError(
            f"{name} is not the name of a setting of your own: two plain names and a dot, "
            "as in app.team"
        )
    if prefix in _RESERVED or prefix.startswith("pg_"):
        raise ValueError(f"{name} belongs to Postgres or an extension: choose another prefix")
