"""Which tables are captured."""

from __future__ import annotations

import pytest

from relay.capture.patterns import leaves_out, matches, parse_pattern
from shared.errors import SettingsError


@pytest.mark.parametrize(
    ("patterns", "table", "wanted"),
    [
        ("public.*", "public.posts", True),
        ("public.*", "public.Weird Table", True),
        ("public.*", "other.posts", False),
        ("public.*", "public._ayb_users", False),
        ("*.*", "other.posts", True),
        ("*.*", "ayb_realtime.changes", False),
        ("*.*", "pg_catalog.pg_class", False),
        ("*.*", "information_schema.tables", False),
        ("_ayb_users", "public._ayb_users", True),
        ("public._ayb_*", "public._ayb_users", False),
        ("posts", "public.posts", True),
        ("POSTS", "public.posts", True),
        ('"POSTS"', "public.posts", False),
        ('"my-app"."Orders"', "my-app.Orders", True),
        ('"my-app".*', "my-app.Orders", True),
        ("public.p*s", "public.posts", True),
        ("public.p*s", "public.pos", True),
        ("public.p*s", "public.post", False),
        ('"a.b"', "public.a.b", True),
        ('"a""b"', 'public.a"b', True),
        ('"a*"', "public.ab", False),
        ('"a*"', "public.a*", True),
        ("public.*,!public.p*", "public.posts", False),
        ("public.*,!public.p*", "public.comments", True),
        ("!public.p*,public.*", "public.posts", False),
        ("public.*", "public.schema_migrations", False),
        ("public.*", "public.SequelizeMeta", False),
        ("public.*", "public.django_session", False),
        ("public.*,schema_migrations", "public.schema_migrations", True),
        ("public.*,!schema_migrations", "public.schema_migrations", False),
        # Names that an application may well have chosen by itself.
        ("public.*", "public.migrations", True),
        ("public.*", "public.sessions", True),
        ("public.*", "public.auth_user", True),
        ("public.*", "public.users", True),
        ("public.line*break", "public.line\nbreak", True),
    ],
)
def test_matches(patterns, table, wanted):
    """Names, wildcards, quotes, exceptions; never the system's schemas nor, by wildcard, AYB's."""
    schema, _, name = table.partition(".")
    assert matches([parse_pattern(text) for text in patterns.split(",")], schema, name) is wanted


@pytest.mark.parametrize(
    ("patterns", "table", "left_out"),
    [
        ("public.*", "public.django_session", True),
        ("public.*", "public._ayb_users", True),
        ("public.*", "public.posts", False),
        ("public.*,!*", "public.django_session", False),
        ("public.*,django_session", "public.django_session", False),
        ("posts", "public.django_session", False),
        ("*.*", "pg_catalog.django_session", False),
    ],
)
def test_left_out(patterns, table, left_out):
    """Bookkeeping is left out only where nothing but a wildcard means it."""
    schema, _, name = table.partition(".")
    parsed = [parse_pattern(text) for text in patterns.split(",")]
    assert leaves_out(parsed, schema, name) is left_out


@pytest.mark.parametrize("text", ["", "a.b.c", ".", "a.", '"a', "a b", "!"])
def test_faults(text):
    """What is no pattern is named in the error."""
    with pytest.raises(SettingsError, match="AYB_REALTIME_TABLES"):
        parse_pattern(text)
