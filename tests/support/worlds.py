"""Random tables with random policies, for comparing the engine with Postgres itself."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.world_columns import COLUMNS, EXTENSIONS, USERS
from tests.support.world_conditions import Conditions

SETUP = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
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
CLIENTS = ("world_a", "world_b", "world_owner", "world_bypass")
MEMBERS = 14
ROWS = 14
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
_TRUE = "LANGUAGE sql IMMUTABLE AS 'SELECT true'"
CAPTURES = [
    (
        f"""CREATE FUNCTION public.same_state(state, state) RETURNS boolean {_TRUE};
        CREATE OPERATOR public.= (LEFTARG = state, RIGHTARG = state,
            FUNCTION = public.same_state)""",
        "DROP FUNCTION public.same_state(state, state) CASCADE",
    ),
    (
        f"""CREATE FUNCTION public.same_varchar(text, varchar) RETURNS boolean {_TRUE};
        CREATE OPERATOR public.= (LEFTARG = text, RIGHTARG = varchar,
            FUNCTION = public.same_varchar)""",
        "DROP FUNCTION public.same_varchar(text, varchar) CASCADE",
    ),
    (
        """CREATE FUNCTION public.lower(varchar) RETURNS text LANGUAGE sql IMMUTABLE
        AS $$ SELECT 'a@example.com'::text $$""",
        "DROP FUNCTION public.lower(varchar)",
    ),
    (
        """CREATE FUNCTION public.cardinality(text[]) RETURNS int LANGUAGE sql IMMUTABLE
        AS 'SELECT 0'""",
        "DROP FUNCTION public.cardinality(text[])",
    ),
    (
        f"CREATE FUNCTION public.has_level(uuid, bigint) RETURNS boolean {_TRUE}",
        "DROP FUNCTION public.has_level(uuid, bigint)",
    ),
]
"""Objects that would take over names in the policies if these were looked up again, and their
removal."""


def quote(name: str) -> str:
    """Quote a name for SQL."""
    return '"' + name.replace('"', '""') + '"'


@dataclass
class World:
    """A table (its DDL and rows) and members, all of the same role; and what happens to the rows
    between the events and the question.
    """

    seed: int
    table: str
    frozen: str = ""
    """A table like it, on which nothing happens: what its rows were when the events were made."""
    ddl: list[str] = field(default_factory=list)
    functions: list[str] = field(default_factory=list)
    """Functions that look the table up; they come after it and before its policies."""
    security: list[str] = field(default_factory=list)
    name: str = ""
    source: str = ""
    """The table's rows, as in FROM, without those of tables that inherit from it."""
    policies: list[tuple[str, str, str, str]] = field(default_factory=list)
    """Kind, command, role and expression, in the order of their names."""
    role: str = "world_a"
    members: dict[int, tuple[str, str, str, str]] = field(default_factory=dict)
    since: list[str] = field(default_factory=list)
    """What is done after the events."""
    capture: tuple[str, str] | None = None
    renames: bool = False
    """Whether labels of the type `state` are renamed after the events."""

    @property
    def frozen_source(self) -> str:
        """The frozen table's rows, as in FROM."""
        return self.source.replace(self.table, self.frozen)

    def of(self, table: str) -> list[str]:
        """Return the statements that make the table under another name, without functions."""
        statements = (*self.ddl, *self.security)
        return [text.replace(self.table[:-1], table[:-1]) for text in statements]

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


class Maker:
    """Makes one world from a seed, with types of the `extensions` that the database has."""

    def __init__(self, seed: int, extensions: frozenset[str] = frozenset()) -> None:
        self._chance = random.Random(seed)
        self._world = World(seed, "")
        self._columns: dict[str, str] = {}
        self._kinds = dict(COLUMNS)
        for extension in EXTENSIONS:
            if extension in extensions:
                self._kinds.update(EXTENSIONS[extension])
        self._own_row: list[str] = []

    def make(self) -> World:
        """Make it."""
        chance, world = self._chance, self._world
        schema = chance.choice(["public", "public", '"odd schema"'])
        name = chance.choice(["posts", "members_of", "Odd Table", "ayb0c", "select", "m", "a.b"])
        world.name = quote(name)
        world.table = world.source = f"{schema}.{world.name}"
        world.frozen = f"frozen.{world.name}"
        self._table()
        self._look_up()
        self._secure()
        self._people()
        self._happen()
        return world

    def _table(self) -> None:
        chance, world = self._chance, self._world
        kinds = chance.sample(list(self._kinds), chance.randrange(5, 9))
        for kind in ("uid", "num", "text", "flag"):
            if kind not in kinds and chance.random() < 0.7:
                kinds.append(kind)
        odd = chance.sample(ODD_NAMES, 3)
        for kind in kinds:
            plain = kind if chance.random() < 0.8 or not odd else odd.pop()
            self._columns[kind] = quote(plain)
        definitions = ", ".join(f"{self._columns[k]} {self._kinds[k][0]}" for k in kinds)
        shape = chance.choice(["plain"] * 6 + ["partitioned", "inherited"])
        world.ddl.append(
            f"CREATE TABLE {world.table} (nr int PRIMARY KEY, {definitions})"
            + (" PARTITION BY RANGE (nr)" if shape == "partitioned" else "")
        )
        if shape == "partitioned":
            partition = f"PARTITION OF {world.table}"
            world.ddl += [
                f'CREATE TABLE {world.table[:-1]} low" {partition} FOR VALUES FROM (0) TO (6)',
                f'CREATE TABLE {world.table[:-1]} high" {partition} DEFAULT',
            ]
        for nr in range(1, ROWS + 1):
            values = ", ".join(chance.choice(self._kinds[kind][1]) for kind in kinds)
            world.ddl.append(f"INSERT INTO {world.table} VALUES ({nr}, {values})")
        if shape == "inherited":
            world.source = f"ONLY {world.table}"
            world.ddl += [
                f'CREATE TABLE {world.table[:-1]} child" () INHERITS ({world.table})',
                f'INSERT INTO {world.table[:-1]} child" SELECT * FROM {world.table}',
                f'UPDATE {world.table[:-1]} child" SET nr = nr + 100',
            ]
        if chance.random() < 0.3:  # an old row without a later column
            world.ddl.append(f"ALTER TABLE {world.table} ADD COLUMN late int DEFAULT 2")
            self._columns["late"] = "late"

    def _look_up(self) -> None:
        chance, world = self._chance, self._world
        if chance.random() > 0.25:
            return
        condition = self._columns.get("flag") or "nr % 2 = 0"
        rows = f"FROM {world.source} WHERE {condition}"
        hidden = world.table.replace("'", "''")
        world.functions += [
            f"""CREATE OR REPLACE FUNCTION own_has(asked int) RETURNS boolean LANGUAGE sql STABLE
            SECURITY DEFINER AS $own$ SELECT EXISTS (SELECT {rows} AND nr = asked) $own$""",
            """CREATE OR REPLACE FUNCTION own_deep(asked int) RETURNS boolean LANGUAGE sql STABLE
            AS $own$ SELECT /* hidden */ public.own_has($1) $own$""",
            f"""CREATE OR REPLACE FUNCTION own_list() RETURNS SETOF int LANGUAGE plpgsql STABLE
            SECURITY DEFINER AS $own$ BEGIN RETURN QUERY SELECT nr {rows}; END $own$""",
            f"""CREATE OR REPLACE FUNCTION own_hidden() RETURNS int[] LANGUAGE plpgsql STABLE
            SECURITY DEFINER AS $own$ DECLARE found int[]; BEGIN
            EXECUTE 'SELECT array_agg(nr) FROM ' || '{hidden}' || ' WHERE nr < 8' INTO found;
            RETURN found; END $own$""",
        ]
        self._own_row += ["own_has(nr)", "own_deep(nr)", "nr IN (SELECT own_list())",
                          "nr = ANY (own_hidden())", "cardinality(own_hidden()) > 3"]  # fmt: skip

    def _secure(self) -> None:
        chance, world = self._chance, self._world
        table, statements = world.table, world.security
        conditions = Conditions(chance, world.name, self._columns, self._own_row)
        if chance.random() < 0.95:
            statements.append(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        if chance.random() < 0.3:
            statements.append(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        statements.append(f"ALTER TABLE {table} OWNER TO world_owner")
        columns = " (nr)" if chance.random() > 0.85 else ""
        statements.append(f"GRANT SELECT{columns} ON {table} TO PUBLIC")
        if chance.random() < 0.15:
            statements.append("GRANT world_owner TO world_b")
        else:
            statements.append("REVOKE world_owner FROM world_b")
        # The first policy mostly applies: worlds in which nobody may see anything prove little.
        for number in range(chance.choices([0, 1, 2, 3, 4], [1, 8, 5, 3, 2])[0]):
            kind = "RESTRICTIVE" if number and chance.random() < 0.35 else "PERMISSIVE"
            command = chance.choice(["ALL", "SELECT", "SELECT", "UPDATE", "INSERT"])
            role = chance.choice(["PUBLIC", "PUBLIC", "world_group", "world_a", "world_b"])
            if not number and chance.random() < 0.85:
                command, role = chance.choice(["ALL", "SELECT"]), "PUBLIC"
            text = conditions.make(chance.choice([1, 1, 2, 3]))
            world.policies.append((kind, command, role, text))
            clause = f"WITH CHECK ({text})" if command == "INSERT" else f"USING ({text})"
            statements.append(
                f'CREATE POLICY "p {number}" ON {table} AS {kind} FOR {command} TO {role} {clause}'
            )

    def _people(self) -> None:
        chance, world = self._chance, self._world
        world.role = chance.choices(CLIENTS, [12, 8, 1, 1])[0]
        for member in range(MEMBERS):
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

    def _happen(self) -> None:
        """Let rows change, memberships come and go, and objects appear, after the events."""
        chance, world = self._chance, self._world
        if chance.random() < 0.25:
            world.capture = chance.choice(CAPTURES)
        if chance.random() < 0.4 and not self._own_row:
            return
        for kind in chance.sample(list(self._columns), 2):
            if kind in self._kinds:
                value = chance.choice(self._kinds[kind][1])
                world.since.append(
                    f"UPDATE {world.table} SET {self._columns[kind]} = {value} "
                    f"WHERE nr % {chance.choice([3, 4, 5])} = 0"
                )
        if chance.random() < 0.5:
            world.since.append(f"DELETE FROM {world.table} WHERE nr = {chance.randrange(ROWS)}")
        if not self._own_row and chance.random() < 0.5:
            for table in ("members", "secured"):
                world.since += [
                    f"DELETE FROM {table} WHERE user_id = '{chance.choice(USERS)}'",
                    f"INSERT INTO {table} VALUES (3, '{chance.choice(USERS)}', 2)",
                ]
        world.renames = "state" in self._columns and chance.random() < 0.3
