"""Types of extensions, whose text does not always read back as the value."""

from __future__ import annotations

import pytest

from gateway.visibility.engine import Visibility
from tests.integration.visibility.conftest import settings
from tests.integration.visibility.test_leaks import BOTH_FORMS

MEMBERS = {"a": settings(user="a"), "b": settings(user="b")}
EXTENSIONS = {
    # a value that shows the row to a, one that hides it, and the policy
    "hstore": (
        """'owner=>a, "x\\"y"=>"1", n=>NULL'""",
        "'owner=>c'",
        "v -> 'owner' = current_setting('ayb.user_id')",
    ),
    "citext": ("'A'", "'c'", "v = current_setting('ayb.user_id')::citext"),
    "ltree": (
        "'team.a.x'",
        "'team.c'",
        "v ~ ('*.' || current_setting('ayb.user_id') || '.*')::lquery",
    ),
    "intarray": ("'{1,97}'", "'{2}'", "v @> ARRAY[ascii(current_setting('ayb.user_id'))]"),
    "cube": (
        "'(97,2),(3,4)'",
        "'(2)'",
        """cube_ll_coord(v, 1) = 3
        AND ascii(current_setting('ayb.user_id')) = cube_ur_coord(v, 1)""",
    ),
    "isn": (
        "'978-0-393-04002-9'",
        "'978-0-11-000222-4'",
        "v = '978-0-393-04002-9'::isbn13 AND current_setting('ayb.user_id') = 'a'",
    ),
    "seg": (
        "'1.50 .. 97'",
        "'2 .. 3'",
        "seg_upper(v)::int = ascii(current_setting('ayb.user_id'))",
    ),
    "postgis geometry": (
        "'POINT(0.1 0.2)'",
        "'LINESTRING(5 5,6 6)'",
        "ST_DWithin(v, ST_MakePoint(ascii(current_setting('ayb.user_id')) - 97, 0), 0.5)",
    ),
    "postgis PointZM": (
        "'POINT ZM(1 2 3 97)'",
        "'POINT ZM(1 2 3 96)'",
        """v && ST_MakeEnvelope(0, 0, 5, 5)
        AND ST_M(v) = ascii(current_setting('ayb.user_id'))""",
    ),
    "postgis curve": (
        "'POINT(1 1)'",
        "'POINT(7 7)'",
        """ST_Within(v, ST_CurveToLine('CURVEPOLYGON(CIRCULARSTRING(0 0,4 0,4 4,0 4,0 0))'))
        AND current_setting('ayb.user_id') = 'a'""",
    ),
    "postgis geography": (
        "'POINT(0 0.001)'",
        "'POINT(5 5)'",
        """ST_DWithin(v, ST_MakePoint(ascii(current_setting('ayb.user_id')) - 97, 0)::geography,
        999)""",
    ),
}  # fmt: skip
COLUMNS = {
    "intarray": "int[]",
    "isn": "isbn13",
    "postgis geometry": "geometry",
    "postgis PointZM": "geometry(PointZM)",
    "postgis curve": "geometry",
    "postgis geography": "geography",
}
PACKAGES = {"postgis": "postgresql-15-postgis-3, say"}


@BOTH_FORMS
@pytest.mark.parametrize("kind", EXTENSIONS)
async def test_what_a_client_would_see(engine, kind, is_joining):
    """Each value is judged as a SELECT would, in every form, and no image is undecidable; where no
    policy reads the column, the type does not matter.
    """
    extension = kind.split()[0]
    known = "SELECT count(*) FROM pg_available_extensions WHERE name = $1"
    if not await engine.admin.fetchval(known, extension):
        package = PACKAGES.get(extension, "postgresql-contrib")
        pytest.skip(f"this Postgres has no extension {extension}: see {package}")
    shown, hidden, policy = EXTENSIONS[kind]
    await engine.admin.execute(
        f"""
        CREATE EXTENSION {extension};
        CREATE TABLE docs (id int PRIMARY KEY, v {COLUMNS.get(kind, kind)});
        INSERT INTO docs VALUES (1, {shown}), (2, {hidden}), (3, NULL);
        GRANT SELECT ON docs TO ayb_authenticated;
        ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
        CREATE POLICY p ON docs USING ({policy});
        """
    )
    images = await engine.images("docs")
    engine.visibility = Visibility(
        engine.pool, observer=engine.recorder, is_joining=is_joining, verify_rate=1.0
    )
    seen = await engine.ask("docs", MEMBERS, images)
    form = engine.recorder.plans[-1]
    assert (seen.by("a"), seen.by("b")) == ({0}, set()), form
    assert not seen.answer.undecidable, form
    assert not seen.answer.broken, form
    await engine.admin.execute("ALTER POLICY p ON docs USING (id < 3)")
    assert (await engine.ask("docs", MEMBERS, images)).by("b") == {0, 1}
    assert engine.recorder.differences == 0
    assert engine.recorder.unchecked_because == []
