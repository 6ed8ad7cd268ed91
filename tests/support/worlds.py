"""Random tables with random policies, for comparing the engine with Postgres itself."""

from __future__ import annotations

import json
import random
import uuid
from dataclasses import dataclass, field

ROLES = ("world_a", "world_b", "world_group", "world_owner", "world_bypass")
CLIENTS = ("world_a", "world_b", "world_owner", "world_bypass")

SETUP = """
DO $$
DECLARE name text;
BEGIN
    FOREACH name IN ARRAY '{world_a,world_b,world_group,world_owner,world_bypass}'::text[] LOOP
        IF to_regrole(name) IS NULL THEN
            EXECUTE format('CREATE ROLE %I', name);
        END IF;
        EXECUTE format('GRANT %I TO ayb_gateway', name);
    END LOOP;
    GRANT world_group TO world_a;
    ALTER ROLE world_bypass BYPASSRLS;
END $$;
CREATE SCHEMA auth; GRANT USAGE ON SCHEMA auth TO PUBLIC;
CREATE SCHEMA "odd schema"; GRANT USAGE ON SCHEMA "odd schema" TO PUBLIC;
CREATE TYPE state AS ENUM ('draft', 'in review', 'it''s out');
CREATE TYPE "odd schema"."Size" AS ENUM ('S', 'M');
CREATE DOMAIN tag AS text CHECK (VALUE <> 'never');
CREATE TYPE pair AS (x int, y text);
CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE AS $$
    select coalesce(nullif(current_setting('request.jwt.claim.sub', true), ''),
        (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'))::uuid
$$;
CREATE FUNCTION auth.tenant() RETURNS integer LANGUAGE sql STABLE
    RETURN NULLIF(current_setting('ayb.tenant_id'), '')::integer;
CREATE FUNCTION auth.email() RETURNS text LANGUAGE sql STABLE AS $$
    SELECT current_setting('ayb.user_email') -- the address
$$;
CREATE FUNCTION auth.jwt() RETURNS jsonb LANGUAGE sql STABLE AS $$
    select nullif(current_setting('request.jwt.claims', true), '')::jsonb
$$;
CREATE FUNCTION plain_uid() RETURNS uuid LANGUAGE plpgsql STABLE AS $$
    BEGIN RETURN current_setting('ayb.user_id')::uuid; END $$;
CREATE FUNCTION hidden_uid() RETURNS uuid LANGUAGE sql STABLE SECURITY DEFINER AS $$
    SELECT NULLIF(current_setting('ayb.user_id'), '')::uuid $$;
CREATE FUNCTION folded_uid() RETURNS uuid LANGUAGE plpgsql IMMUTABLE AS $$
    BEGIN RETURN NULLIF(current_setting('ayb.user_id'), '')::uuid; END $$;
CREATE FUNCTION remembered_uid() RETURNS uuid LANGUAGE plpgsql STABLE AS $$ BEGIN
    IF coalesce(current_setting('world.uid', true), '') = '' THEN
        PERFORM set_config('world.uid', current_setting('ayb.user_id'), true),
            set_config('search_path', 'pg_catalog', true), set_config('TimeZone', 'Japan', true);
    END IF;
    RETURN NULLIF(current_setting('world.uid'), '')::uuid;
END $$;
CREATE FUNCTION claim(name text) RETURNS text LANGUAGE plpgsql STABLE AS $$
    BEGIN RETURN NULLIF(current_setting('request.jwt.claims'), '')::jsonb ->> name; END $$;
CREATE TYPE mood AS ENUM ('low', 'high');
CREATE FUNCTION mood_json(mood) RETURNS json LANGUAGE sql IMMUTABLE AS $$ SELECT '"high"'::json $$;
CREATE CAST (mood AS json) WITH FUNCTION mood_json(mood);
CREATE TABLE members (project int, user_id uuid, level int);
CREATE TABLE secured (project int, user_id uuid, level int);
CREATE VIEW seen_members AS SELECT * FROM members WHERE level > 1;
CREATE TABLE banned (email text);
ALTER TABLE secured ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON secured USING (user_id = NULLIF(current_setting('ayb.user_id'), '')::uuid);
GRANT SELECT ON members, secured, seen_members, banned TO PUBLIC;
CREATE FUNCTION is_member(asked int) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER AS $$
    SELECT EXISTS (SELECT FROM public.members m WHERE m.project = asked
        AND m.user_id = NULLIF(current_setting('ayb.user_id'), '')::uuid) $$;
CREATE FUNCTION picky(asked int) RETURNS boolean LANGUAGE plpgsql STABLE AS $$ BEGIN
    IF asked = 3 AND current_setting('ayb.tenant_id') = '2' THEN RAISE 'not this one'; END IF;
    RETURN asked > 1;
END $$;
CREATE FUNCTION my_projects() RETURNS SETOF int LANGUAGE sql STABLE SECURITY DEFINER AS $$
    SELECT m.project FROM public.members m
    WHERE m.user_id = NULLIF(current_setting('ayb.user_id'), '')::uuid $$;
CREATE FUNCTION unqualified_level() RETURNS int LANGUAGE plpgsql STABLE AS $$ BEGIN
    RETURN (SELECT max(level) FROM members
        WHERE user_id = NULLIF(current_setting('ayb.user_id'), '')::uuid); END $$;
CREATE FUNCTION has_level(uid uuid, lowest int) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT FROM members m WHERE m.user_id = uid AND m.level >= lowest) $$;
INSERT INTO members
    SELECT n % 5, ('00000000-0000-4000-8000-00000000000' || (1 + n % 4))::uuid, n % 3
    FROM generate_series(1, 9) n;
INSERT INTO secured SELECT * FROM members;
INSERT INTO banned VALUES ('b@example.com'), (NULL);
"""

TEARDOWN = """
DO $$
DECLARE name text;
BEGIN
    FOREACH name IN ARRAY '{world_a,world_b,world_group,world_owner,world_bypass}'::text[] LOOP
        EXECUTE format('DROP OWNED BY %I CASCADE', name);
        EXECUTE format('DROP ROLE %I', name);
    END LOOP;
END $$;
"""

USERS = [str(uuid.UUID(f"00000000-0000-4000-8000-00000000000{n}")) for n in range(1, 5)]


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


@dataclass
class World:
    """A table (its DDL and rows) and members, who are all of the same role."""

    seed: int
    table: str
    ddl: list[str] = field(default_factory=list)
    name: str = ""
    policies: list[tuple[str, str, str, str]] = field(default_factory=list)
    """Kind, command, role and expression, in the order of their names."""
    role: str = "world_a"
    members: dict[int, tuple[str, str, str, str]] = field(default_factory=dict)

    def condition(self) -> str:
        """What Postgres makes of the policies for the role's SELECT."""
        groups = {"world_a": {"PUBLIC", "world_a", "world_group"}, "world_b": {"PUBLIC", "world_b"}}
        mine = [
            (kind, text)
            for kind, command, role, text in self.policies
            if command in ("ALL", "SELECT") and role in groups.get(self.role, {"PUBLIC"})
        ]
        limits = [f"({text})" for kind, text in mine if kind == "RESTRICTIVE"]
        arms = [f"({text})" for kind, text in reversed(mine) if kind == "PERMISSIVE"]
        return " AND ".join([*limits, f"({' OR '.join(arms) or 'false'})"])


COLUMNS = {
    "uid": ("uuid", [*(f"'{u}'" for u in USERS), "NULL"]),
    "num": ("integer", ["0", "1", "2", "3", "4", "NULL"]),
    "big": ("bigint", ["9007199254740993", "-1", "2", "NULL"]),
    "amount": ("numeric", ["0.1234567890123456789012345", "2", "'NaN'", "NULL"]),
    "ratio": ("double precision", ["'NaN'", "'-Infinity'", "0.1", "2", "NULL"]),
    "text": ("text", ["'a@example.com'", "'b@example.com'", "''", "'It''s {0} \"x\" % $1'",
                      f"'{USERS[0]}'", "E'line\\nbreak'", "NULL"]),
    "flag": ("boolean", ["true", "false", "NULL"]),
    "stamp": ("timestamptz", ["'2020-01-01 00:00:00.123456+02'", "'2999-01-01'", "'infinity'",
                              "NULL"]),
    "day": ("date", ["'2020-01-01'", "'2999-01-01'", "'-infinity'", "NULL"]),
    "span": ("interval", ["'1 day -2 hours'", "'-1 mons +3 days'", "NULL"]),
    "doc": ("jsonb", ["'{\"sub\": \"a@example.com\", \"level\": 2}'", "'[]'", "'{\"sub\": null}'",
                      "'null'", "NULL"]),
    "raw": ("json", ["'{\"sub\":  \"b@example.com\"}'", "'{}'", "NULL"]),
    "tags": ("text[]", ["'{a@example.com,b@example.com}'", "'{}'", "'{NULL,\"x\"\"y\"}'", "NULL"]),
    "state": ("state", ["'draft'", "'in review'", "'it''s out'", "NULL"]),
    "size": ('"odd schema"."Size"', ["'S'", "'M'", "NULL"]),
    "tag": ("tag", ["'a@example.com'", "'x'", "NULL"]),
    "pair": ("pair", ["'(1,a@example.com)'", "'(,)'", "NULL"]),
    "net": ("inet", ["'10.0.0.1'", "'10.0.0.0/8'", "NULL"]),
    "raw_bytes": ("bytea", ["'\\x00ff'", "NULL"]),
    "range": ("int4range", ["'[1,3)'", "'empty'", "NULL"]),
    "mood": ("mood", ["'low'", "'high'", "NULL"]),
    "fixed": ("character(3)", ["'a'", "'abc'", "NULL"]),
}  # fmt: skip

ODD_NAMES = [
    "Select",
    "a.b",
    "ayb0n",
    "user",
    "current_setting",
    'qu"ote',
    "Größe 😀",
    "posts",
    "x{0}",
]


class Maker:
    """Makes one world from a seed."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._world = World(seed, "")
        self._columns: dict[str, str] = {}

    def make(self) -> World:
        chance, world = self._chance, self._world
        schema = chance.choice(["public", "public", '"odd schema"'])
        name = chance.choice(["posts", "members_of", "Odd Table", "ayb0c", "select", "m", "a.b"])
        self._name = _quote(name)
        world.name = self._name
        world.table = f"{schema}.{self._name}"
        kinds = chance.sample(list(COLUMNS), chance.randrange(5, 9))
        for kind in ("uid", "num", "text", "flag"):
            if kind not in kinds and chance.random() < 0.7:
                kinds.append(kind)
        odd = chance.sample(ODD_NAMES, 3)
        for kind in kinds:
            plain = kind if chance.random() < 0.8 or not odd else odd.pop()
            self._columns[kind] = _quote(plain)
        definitions = ", ".join(f"{self._columns[k]} {COLUMNS[k][0]}" for k in kinds)
        world.ddl.append(f"CREATE TABLE {world.table} (nr int PRIMARY KEY, {definitions})")
        for nr in range(1, 11):
            values = ", ".join(chance.choice(COLUMNS[kind][1]) for kind in kinds)
            world.ddl.append(f"INSERT INTO {world.table} VALUES ({nr}, {values})")
        if chance.random() < 0.3:  # an old row without a later column
            world.ddl.append(f"ALTER TABLE {world.table} ADD COLUMN late int DEFAULT 2")
            self._columns["late"] = "late"
        self._secure()
        self._people()
        return world

    def _secure(self) -> None:
        chance, world = self._chance, self._world
        table = world.table
        if chance.random() < 0.95:
            world.ddl.append(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        if chance.random() < 0.3:
            world.ddl.append(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        world.ddl.append(f"ALTER TABLE {table} OWNER TO world_owner")
        if chance.random() < 0.8:
            world.ddl.append(f"GRANT SELECT ON {table} TO PUBLIC")
        else:
            world.ddl.append(f"GRANT SELECT (nr) ON {table} TO PUBLIC")
        if chance.random() < 0.15:
            world.ddl.append("GRANT world_owner TO world_b")
        else:
            world.ddl.append("REVOKE world_owner FROM world_b")
        for number in range(chance.choice([0, 1, 1, 1, 2, 2, 3, 4])):
            kind = "RESTRICTIVE" if number and chance.random() < 0.35 else "PERMISSIVE"
            command = chance.choice(["ALL", "ALL", "SELECT", "SELECT", "UPDATE", "INSERT"])
            role = chance.choice(
                ["PUBLIC", "PUBLIC", "PUBLIC", "world_group", "world_a", "world_b"]
            )
            text = self._condition(chance.choice([1, 1, 2, 3]))
            world.policies.append((kind, command, role, text))
            clause = f"WITH CHECK ({text})" if command == "INSERT" else f"USING ({text})"
            world.ddl.append(
                f'CREATE POLICY "p {number}" ON {table} AS {kind} FOR {command} TO {role} {clause}'
            )

    def _people(self) -> None:
        chance, world = self._chance, self._world
        world.role = chance.choices(CLIENTS, [6, 4, 1, 1])[0]
        for member in range(9):
            user = chance.choice([*USERS, *USERS, "", "not a uuid"])
            email = chance.choice(["a@example.com", "b@example.com", "", "it's {0}"])
            tenant = chance.choice(
                ["1", "2", "3", "", "x"] if chance.random() < 0.3 else ["1", "2"]
            )
            claims = chance.choice(
                [
                    "",
                    json.dumps({"sub": user, "role": "member", "tenant": 2}),
                    json.dumps({"sub": user, "email": email, "role": "admin"}),
                    json.dumps({"sub": None}),
                    '{"sub": "\\u0000"}' if chance.random() < 0.2 else "{}",
                    "not json" if chance.random() < 0.2 else json.dumps({"sub": USERS[0]}),
                ]
            )
            world.members[member] = (user, email, tenant, claims)

    def _condition(self, depth: int) -> str:
        chance = self._chance
        if depth <= 1 or chance.random() < 0.2:
            return self._atom()
        word = chance.choice(["AND", "OR", "OR", "NOT", "CASE", "IS"])
        if word == "NOT":
            return f"NOT ({self._condition(depth - 1)})"
        if word == "IS":
            return (
                f"({self._condition(depth - 1)}) IS NOT {chance.choice(['TRUE', 'FALSE', 'NULL'])}"
            )
        if word == "CASE":
            return (
                f"CASE WHEN {self._condition(1)} THEN {self._condition(depth - 1)} "
                f"ELSE {self._condition(1)} END"
            )
        arms = [self._condition(depth - 1) for _ in range(chance.choice([2, 2, 3]))]
        return f" {word} ".join(f"({arm})" for arm in arms)

    def _user(self) -> str:
        return self._chance.choice(
            [
                "current_setting('ayb.user_id')::uuid",
                "current_setting('ayb.user_id', true)::uuid",
                "NULLIF(current_setting('ayb.user_id'), '')::uuid",
                "(SELECT NULLIF(current_setting('ayb.user_id', true), '')::uuid)",
                "auth.uid()",
                "(SELECT auth.uid())",
                "(NULLIF(current_setting('request.jwt.claims', true), '')::json ->> 'sub')::uuid",
                "((current_setting('request.jwt.claims')::jsonb) ->> 'sub')::uuid",
                "plain_uid()",
                "hidden_uid()",
                "folded_uid()",
                "remembered_uid()",
                "claim('sub')::uuid",
                f"coalesce(NULLIF(current_setting('ayb.user_id'), ''), '{USERS[0]}')::uuid",
            ]
        )

    def _tenant(self) -> str:
        return self._chance.choice(
            [
                "current_setting('ayb.tenant_id')::int",
                "NULLIF(current_setting('ayb.tenant_id'), '')::int",
                "auth.tenant()",
                "(SELECT auth.tenant())",
                "(auth.jwt() ->> 'tenant')::int",
            ]
        )

    def _email(self) -> str:
        return self._chance.choice(
            [
                "current_setting('ayb.user_email')",
                "auth.email()",
                "(SELECT auth.email())",
                "(auth.jwt() ->> 'email')",
                "current_setting('AYB.user_email', true)::varchar",
                "lower(current_setting('ayb.user_email'))",
                "current_setting('no.such', true)",
                "coalesce(current_setting('no.such', true), current_setting('ayb.user_email'))",
            ]
        )

    def _atom(self) -> str:
        c, me = self._columns, self._name
        user, tenant, email = self._user(), self._tenant(), self._email()
        own_member = f"m.user_id = {user}"
        atoms = ["true", "false", f"{user} IS NOT NULL", f"{email} = 'a@example.com'", "nr > 3",
                 "nr IN (1, 2, 5, 8)", "(auth.jwt() ->> 'role') = 'admin'", "NULL::boolean",
                 f"EXISTS (SELECT FROM members m WHERE m.user_id = {user} AND m.level > 0)",
                 f"nr IN (SELECT m.project FROM members m WHERE m.user_id = {user})",
                 f"NOT EXISTS (SELECT FROM banned WHERE banned.email = {email})",
                 f"(SELECT count(*) FROM members m WHERE m.user_id = {user}) > nr",
                 "EXISTS (SELECT FROM secured s WHERE s.project = nr)",
                 f"EXISTS (SELECT FROM seen_members {me} WHERE {me}.user_id = {user})",
                 f"{me} IS NOT NULL", f"{me}.nr = ANY (string_to_array({email}, ',')::int[])",
                 f"nr = ANY (ARRAY[{tenant}, 4])", "is_member(nr)", "picky(nr)",
                 "current_user = 'world_a'", "nr % 2 = 0",
                 "nr IN (SELECT my_projects())", "nr = ANY (ARRAY(SELECT my_projects()))",
                 "unqualified_level() > 0", f"has_level({user}, 1)", f"has_level({user}, nr)",
                 "claim('role') = 'admin'",
                 f"ROW(nr, {tenant}) < ROW(5, 2)", f"10 / (nr - 3) > {tenant}"]  # fmt: skip
        for kind, texts in {
            "uid": [f"{{}} = {user}", f"{{}} IS NOT DISTINCT FROM {user}", "{} IS NULL",
                    f"{{}} IN (SELECT m.user_id FROM members m WHERE m.level = {tenant})",
                    f"{{}} = {user}", f"{{}} = {user}", f"{{}} = {user}", f"{{}} <> {user}"],
            "num": [f"{{}} = {tenant}", f"{{}} >= {tenant}", f"10 / {{}} > {tenant}", "6 / {} > 2",
                    f"EXISTS (SELECT FROM members m WHERE m.project = {me}.{{}} AND {own_member})",
                    f"EXISTS (SELECT FROM members m WHERE m.project = {{}} AND m.user_id = {user})",
                    f"{{}} BETWEEN 1 AND {tenant}", "is_member({})"],
            "big": [f"{{}} > {tenant}", "{} = 9007199254740993"],
            "amount": [f"{{}} > {tenant}", "{} = 0.1234567890123456789012345", "{} = 'NaN'"],
            "ratio": ["{} = 'NaN'", f"{{}} < {tenant}", "{} = 0.1"],
            "text": [f"{{}} = {email}", "{} LIKE 'a%'", f"{{}}::uuid = {user}",
                     f"{{}} ILIKE {email}",
                     f"{{}} = ANY (ARRAY[{email}, 'x'])",
                     "{} = 'current_setting(''ayb.user_id''::text)'",
                     f"length({{}}) > {tenant}", f"{{}} || 'x' <> {email}", "{} = E'line\\nbreak'",
                     "{} = 'It''s {{0}} \"x\" % $1'", f"NULLIF({{}}, '') = {email}"],
            "flag": ["{}", "NOT {}", "{} IS NOT TRUE", f"{{}} AND {user} IS NOT NULL", "{}", "{}"],
            "stamp": ["{} < now()", "{} = '2020-01-01 00:00:00.123456+02'", "isfinite({})"],
            "day": ["{} < now()", "{} < '2021-01-01'", "{} > current_date"],
            "span": ["{} > '0'", "{} = '1 day -2 hours'"],
            "doc": [f"({{}} ->> 'sub') = {email}", "({}->>'level')::int = 2", "{} IS NULL",
                    "{} @> '{{\"level\": 2}}'", "jsonb_typeof({}) = 'object'"],
            "raw": [f"({{}} ->> 'sub') = {email}", "({} -> 'sub') IS NULL"],
            "tags": [f"{{}} @> ARRAY[{email}]", f"{email} = ANY ({{}})", "cardinality({}) = 0",
                     "({})[1] = 'a@example.com'"],
            "state": ["{} = 'draft'", "{} IN ('draft', 'it''s out')", "{}::text = 'in review'",
                      f"{{}}::text = {email}"],
            "size": ["{} = 'S'", "{} > 'S'"],
            "tag": [f"{{}} = {email}", "{}::text = 'x'"],
            "pair": ["({}).x = 1", f"({{}}).y = {email}", "{} IS NULL"],
            "net": ["{} << '10.0.0.0/8'", "{} = '10.0.0.1'"],
            "raw_bytes": ["{} = '\\x00ff'"],
            "range": [f"{{}} @> {tenant}", "isempty({})"],
            "mood": ["{} = 'low'", "{}::text = 'high'"],
            "fixed": ["{} = 'a'", "{} = 'abc'"],
            "late": ["{} = 2", f"{{}} = {tenant}"],
        }.items():  # fmt: skip
            if kind in c:
                atoms += [text.format(c[kind]) for text in texts]
        own = [a for a in atoms if any(column in a for column in c.values())]
        return self._chance.choice(own if own and self._chance.random() < 0.6 else atoms)
