"""The opaque form: of a row's images, those that others have replaced are not asked about."""

from __future__ import annotations

import pytest

from gateway.visibility.engine import Image, Visibility
from tests.integration.visibility.conftest import gateway_pool, settings

MEMBERS = {"a": settings(user="a"), "b": settings(user="b")}


def image(number: int, title: str, seq: int, *, is_past: bool = False) -> Image:
    text = f'{{"id":{number},"owner":"a","title":"{title}"}}'
    return Image(text.encode(), seq, is_past)


@pytest.fixture
async def asked(engine, monkeypatch):
    """A table with an opaque policy and two rows; gives the images that Postgres is asked about."""
    await engine.admin.execute(
        """
        CREATE TABLE docs (id int PRIMARY KEY, owner text, title text);
        INSERT INTO docs VALUES (1, 'a', 'third'), (2, 'a', 'first');
        GRANT SELECT ON docs TO ayb_authenticated;
        ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
        CREATE FUNCTION owns(int) RETURNS boolean LANGUAGE plpgsql STABLE SECURITY DEFINER
            AS $$ BEGIN RETURN EXISTS (SELECT FROM public.docs d
                WHERE d.id = $1 AND d.owner = current_setting('ayb.user_id')); END $$;
        CREATE POLICY p ON docs USING (owns(id));
        """
    )
    numbers: list[int] = []
    each = engine.visibility._queries.each

    async def counting(subject, question, *args, **kwargs):
        numbers.append(len(question))
        return await each(subject, question, *args, **kwargs)

    monkeypatch.setattr(engine.visibility._queries, "each", counting)
    return numbers


async def test_only_the_last_image_of_a_row_is_asked_about(engine, asked):
    """Whoever sees the row gets its last image, and the earlier ones are superseded."""
    images = [
        image(1, "first", 1), image(2, "first", 2), image(1, "second", 3), image(1, "third", 4),
    ]  # fmt: skip
    seen = await engine.ask("docs", MEMBERS, images)
    assert asked == [2]
    assert seen.by("a") == {1, 3}
    assert seen.by("b") == set()
    assert seen.answer.superseded == {0: {0}, 2: {0}}
    assert seen.answer.undecidable == set()


async def test_a_row_that_has_changed_back_is_delivered_once(engine, asked):
    """The first of two equal images is withheld: the second one says the same, and is current."""
    images = [image(1, "third", 1), image(1, "second", 2), image(1, "third", 3)]
    seen = await engine.ask("docs", MEMBERS, images)
    assert asked == [1]
    assert seen.by("a") == {2}


async def test_images_of_before_a_change_replace_none(engine, asked):
    """What a delete removed is asked about, and so is the row that it removed."""
    images = [image(1, "second", 1), image(1, "second", 2, is_past=True), image(1, "third", 3),
              image(3, "gone", 4, is_past=True)]  # fmt: skip
    seen = await engine.ask("docs", MEMBERS, images)
    assert asked == [3]
    assert seen.by("a") == {2}
    assert seen.answer.superseded == {0: {0}, 1: {0}}


async def test_an_earlier_image_counts_if_the_last_one_cannot_be_read(engine, asked):
    """An image that does not fit the table any more replaces none."""
    images = [image(1, "third", 1), Image(b'{"id":1,"owner":"a"}', 2)]
    seen = await engine.ask("docs", MEMBERS, images)
    assert asked == [1]
    assert seen.by("a") == {0}
    assert seen.answer.undecidable == {1}


@pytest.mark.parametrize("spare", [0, 1])
async def test_two_sessions_side_by_side(engine, asked, monkeypatch, spare):
    """With a session to spare, each asks half of the cohorts, and every cohort gets its answer."""
    visibility = engine.visibility = Visibility(engine.pool, spare_sessions=spare)
    each = visibility._queries.each
    running = 0
    cohorts: list[tuple[int, int]] = []

    async def watched(subject, question, settings_, **kwargs):
        nonlocal running
        running += 1
        cohorts.append((running, len(settings_)))
        try:
            return await each(subject, question, settings_, **kwargs)
        finally:
            running -= 1

    monkeypatch.setattr(visibility._queries, "each", watched)
    members = {n: settings(user="a" if n % 3 == 0 else f"u{n}", claims=str(n)) for n in range(101)}
    members[100] = settings(user="a", claims="raises")
    await engine.admin.execute(
        "CREATE POLICY r ON docs AS RESTRICTIVE USING "
        "(CASE WHEN current_setting('request.jwt.claims') = 'raises' THEN 1 / (id - id) > 0 "
        "ELSE true END)"
    )
    seen = await engine.ask("docs", members, [image(1, "third", 1), image(2, "second", 2)])
    assert cohorts == ([(1, 51), (2, 50)] if spare else [(1, 101)])
    for member in members:
        assert seen.by(member) == ({0} if member % 3 == 0 and member < 100 else set())
    assert seen.broken() == {100}


async def test_side_by_side_the_rules_change(engine, asked):
    """An answer under old rules in either session is discarded."""
    engine.visibility = Visibility(engine.pool, spare_sessions=1)
    members = {n: settings(user="a", claims=str(n)) for n in range(60)}
    images = [image(1, "third", 1)]
    seen = await engine.ask("docs", members, images)
    assert all(seen.by(member) == {0} for member in members)
    await engine.admin.execute("DROP POLICY p ON docs")
    seen = await engine.ask("docs", members, images)
    assert not any(seen.by(member) for member in members)


async def test_a_row_that_cannot_be_written_breaks_no_policy(engine):
    """A value whose cast to json raises (PostGIS has no GeoJSON of a curve) is not the client's
    fault: its row differs from every image, and the other rows are delivered.
    """
    await engine.admin.execute(
        """
        CREATE TYPE mood AS ENUM ('low', 'curve');
        CREATE FUNCTION as_json(mood) RETURNS json LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
            IF $1 = 'curve' THEN RAISE 'not supported'; END IF; RETURN to_json($1::text); END $$;
        CREATE CAST (mood AS json) WITH FUNCTION as_json(mood);
        CREATE TABLE docs (id int PRIMARY KEY, owner text, mood mood);
        INSERT INTO docs VALUES (1, 'a', 'low'), (2, 'a', 'low');
        GRANT SELECT ON docs TO ayb_authenticated;
        ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
        CREATE POLICY p ON docs USING (owner = current_setting('ayb.user_id') AND mood <> 'low'
            OR owner = current_setting('ayb.user_id'));
        """
    )
    images = await engine.images("docs")
    images = [Image(image.json, n) for n, image in enumerate(images, 1)]
    await engine.admin.execute("UPDATE docs SET mood = 'curve' WHERE id = 1")
    seen = await engine.ask("docs", MEMBERS, images)
    assert engine.recorder.plans[-1][1] == "opaque"
    assert (seen.by("a"), seen.by("b")) == ({1}, set())
    assert seen.answer.undecidable == {0}
    assert seen.broken() == set()


KEYS = {
    "int[]": ["{1,2}", "{1,NULL}", "{}", "{{1},{2}}", "[0:1]={1,2}"],
    "text[]": ['{a,"b,c"}', "{NULL}", '{"NULL"}', '{"[0:1]={"}'],
    "pair": ["(1,x)", "(,)", '(2,"a,b")'],
    "interval": ["1 day -2 hours", "-1 mons +3 days"],
}


@pytest.mark.parametrize("kind", KEYS)
async def test_a_key_of_any_type(engine, database, kind):
    """A row is found by a key that JSON has otherwise than Postgres, whatever the settings."""
    await engine.admin.execute(
        f"""
        CREATE TYPE pair AS (x int, y text);
        CREATE TABLE docs (id {kind} PRIMARY KEY);
        GRANT SELECT ON docs TO ayb_authenticated;
        ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
        CREATE POLICY p ON docs USING (ctid IS NOT NULL AND current_setting('ayb.user_id') = 'a');
        """
    )
    await engine.admin.execute(
        f"INSERT INTO docs SELECT v::{kind} FROM unnest($1::text[]) AS v", KEYS[kind]
    )
    rows = await engine.admin.fetch(
        """SELECT CASE WHEN d.id::text LIKE '[%' THEN json_build_object('id', d.id::text)
            ELSE row_to_json(d) END::text AS image FROM docs AS d"""
    )  # bounds as capture writes them
    name = await engine.admin.fetchval("SELECT current_database()")
    for setting, value in (("array_nulls", "off"), ("IntervalStyle", "sql_standard")):
        await engine.admin.execute(f"ALTER DATABASE {name} SET {setting} = '{value}'")
    async with gateway_pool(database) as pool:
        engine.visibility = Visibility(pool, observer=engine.recorder)
        images = [Image(row["image"].encode()) for row in rows]
        seen = await engine.ask("docs", MEMBERS, images)
    assert engine.recorder.plans[-1][1] == "opaque"
    assert (seen.by("a"), seen.by("b")) == (set(range(len(KEYS[kind]))), set())
    assert not seen.answer.broken
