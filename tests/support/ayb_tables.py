"""AYB's own tables, as its migrations make them, and what is in them."""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.support.databases import Database

USERS = """
    CREATE TABLE IF NOT EXISTS public._ayb_users (
        id            uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        email         text NOT NULL UNIQUE,
        password_hash text NOT NULL DEFAULT '',
        created_at    timestamptz NOT NULL DEFAULT now(),
        updated_at    timestamptz NOT NULL DEFAULT now()
    );
"""
API_KEYS = """
    CREATE TABLE public._ayb_api_keys (
        id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        user_id      uuid NOT NULL REFERENCES public._ayb_users ON DELETE CASCADE,
        name         text NOT NULL DEFAULT '',
        key_hash     text NOT NULL,
        key_prefix   text NOT NULL,
        last_used_at timestamptz,
        expires_at   timestamptz,
        created_at   timestamptz NOT NULL DEFAULT now(),
        revoked_at   timestamptz
    );
    CREATE INDEX ON public._ayb_api_keys (key_hash);
"""
SCOPES = """
    ALTER TABLE public._ayb_api_keys ADD COLUMN scope text NOT NULL DEFAULT '*';
    ALTER TABLE public._ayb_api_keys ADD COLUMN allowed_tables text[] NOT NULL DEFAULT '{}';
"""
GRANTS = "GRANT SELECT ON public._ayb_users, public._ayb_api_keys TO ayb_gateway;"


async def make_api_keys(database: Database, *, scopes: bool = True, grants: bool = True) -> None:
    """Make the tables of API keys, with the columns of newer versions or without."""
    await database.execute(USERS + API_KEYS + SCOPES * scopes + GRANTS * grants)


async def add_api_key(database: Database, email: str, **columns: object) -> str:
    """Add a key, and its user if there is none with this address; return the key."""
    key = "ayb_" + secrets.token_hex(24)
    await database.execute(
        "INSERT INTO public._ayb_users (email) VALUES ($1) ON CONFLICT DO NOTHING", email
    )
    values = [email, key_hash(key), key[:12], *columns.values()]
    names = "".join(f", {name}" for name in columns)
    places = "".join(f", ${n}" for n in range(4, len(values) + 1))
    await database.execute(
        f"INSERT INTO public._ayb_api_keys (user_id, key_hash, key_prefix{names})"
        f" SELECT id, $2, $3{places} FROM public._ayb_users WHERE email = $1",
        *values,
    )
    return key


async def change_api_key(database: Database, key: str, change: str) -> None:
    """Change the row of a key, by what follows SET."""
    await database.execute(
        f"UPDATE public._ayb_api_keys SET {change} WHERE key_hash = $1", key_hash(key)
    )


def key_hash(key: str) -> str:
    """Return what AYB stores of a key."""
    return hashlib.sha256(key.encode()).hexdigest()
