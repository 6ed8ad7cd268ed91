"""Random conditions of policies, over the columns of a random table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.world_columns import USERS

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping


class Conditions:
    """Makes conditions for a table `name` with `columns` (quoted names, by kind).

    `own_row` are conditions that call functions which look the table up.
    """

    def __init__(
        self,
        chance: random.Random,
        name: str,
        columns: Mapping[str, str],
        own_row: list[str],
    ) -> None:
        self._chance = chance
        self._name = name
        self._columns = columns
        self._own_row = own_row

    def make(self, depth: int) -> str:
        """Return a condition, of at most so many levels."""
        chance = self._chance
        if depth <= 1 or chance.random() < 0.2:
            return self._atom()
        word = chance.choice(["AND", "OR", "OR", "NOT", "CASE", "IS"])
        if word == "NOT":
            return f"NOT ({self.make(depth - 1)})"
        if word == "IS":
            return f"({self.make(depth - 1)}) IS NOT {chance.choice(['TRUE', 'FALSE', 'NULL'])}"
        if word == "CASE":
            return f"CASE WHEN {self.make(1)} THEN {self.make(depth - 1)} ELSE {self.make(1)} END"
        arms = [self.make(depth - 1) for _ in range(chance.choice([2, 2, 3]))]
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
                "volatile_uid()",
                "clause_uid()",
                "restored_uid()",
                "caught_uid()",
                "any_of('x', current_setting('ayb.user_id', true))::uuid",
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
                 f"(SELECT m.level FROM members m WHERE m.project = {me}.nr AND {own_member}) > 0",
                 f"1 >= (SELECT m.level FROM members m WHERE m.project = nr AND {own_member})",
                 f"(SELECT m.level FROM members m WHERE m.project = nr AND NOT {own_member}) > 0",
                 f"(SELECT m.level > 0 FROM members m WHERE m.project = nr AND {own_member})",
                 f"(SELECT count(*) FROM members m WHERE m.project = nr AND {own_member}) > 0",
                 f"(SELECT max(m.level) FROM members m WHERE m.project > nr AND {own_member}) > 0",
                 ("nr IN (SELECT o.project FROM members o JOIN members m ON m.project = o.project "
                 f"WHERE {own_member} AND o.level >= m.level)"),
                 f"EXISTS (SELECT FROM seen_members {me} WHERE {me}.user_id = {user})",
                 f"{me} IS NOT NULL", f"{me}.nr = ANY (string_to_array({email}, ',')::int[])",
                 f"nr = ANY (ARRAY[{tenant}, 4])", "is_member(nr)", "picky(nr)",
                 "current_user = 'world_a'", "nr % 2 = 0",
                 "level_in(nr) > 0", "level_in(nr % 4) IS NULL", f"role_in(nr, {user}) <> 'one'",
                 f"coalesce(role_in(nr % 3, {user}), 'none') = 'it''s, \"two\"'",
                 "nr IN (SELECT my_projects())", "nr = ANY (ARRAY(SELECT my_projects()))",
                 "unqualified_level() > 0", f"has_level({user}, 1)", f"has_level({user}, nr)",
                 "claim('role') = 'admin'",
                 f"ROW(nr, {tenant}) < ROW(5, 2)", f"10 / (nr - 3) > {tenant}",
                 f"folded_ban({email})", "found_here() = 1", "found_here() = nr",
                 "definer_name() = 'postgres'", "is_small(nr)", f"level_of({user}) > 0",
                 f"level_of({user}, nr) > 2", "nr IN (SELECT project FROM my_levels())",
                 "EXISTS (SELECT FROM my_levels() l WHERE l.level > 1)",
                 f"{email} === 'a@example.com'",
                 "current_setting('search_path') LIKE '%odd%'", "now()::text LIKE '2%'",
                 "'2020-01-01'::date::text = '2020-01-01'",
                 "(nr * 0 + 0.1::float8 + 0.2::float8)::text = '0.3'"]  # fmt: skip
        for kind, texts in {
            "uid": [f"{{}} = {user}", f"{{}} IS NOT DISTINCT FROM {user}", "{} IS NULL",
                    f"{{}} IN (SELECT m.user_id FROM members m WHERE m.level = {tenant})",
                    f"{{}} = {user}", f"{{}} = {user}", f"{{}} = {user}", f"{{}} <> {user}",
                    "knows({})", "NOT knows({})", "role_in(nr, {}) IS NULL"],
            "num": [f"{{}} = {tenant}", f"{{}} >= {tenant}", f"10 / {{}} > {tenant}", "6 / {} > 2",
                    f"EXISTS (SELECT FROM members m WHERE m.project = {me}.{{}} AND {own_member})",
                    f"EXISTS (SELECT FROM members m WHERE m.project = {{}} AND m.user_id = {user})",
                    ("{} IN (SELECT o.level FROM members o JOIN members m USING (user_id) "
                    f"WHERE {own_member})"),
                    f"(SELECT m.level FROM members m WHERE m.project = {{}} AND {own_member}) = 1",
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
            "local": ["{} < now()", "{}::text LIKE '2020-%'", "{} = '2020-01-01 00:00:00.5'"],
            "clock": ["{} < '12:00'", "{} = '24:00:00'"],
            "digits": ["{} = 0.3", f"{{}} > {tenant}", "{}::text = '0.30'"],
            "single": ["{} = 0.1::real", "{} < 0.1", "{}::text = '0.1'"],
            "marks": ["'draft' = ANY ({})", "{} @> '{{draft}}'", f"{email} = ANY ({{}}::text[])"],
            "list": [f"{{}} @> ARRAY[{tenant}]", "({})[1] = 1", "cardinality({}) = 2"],
            "nested": ["({}).mark = 'draft'", f"(({{}}).inner_pair).y = {email}", "{} IS NULL",
                       "({}).day < now()"],
            "multi": [f"{{}} @> {tenant}", "isempty({})"],
            "bits": ["{} = B'101'", "get_bit({}, 0) = 1"],
            "docs": ["({})[1] @> '{{\"level\": 2}}'", "cardinality({}) = 0"],
            "hstore": [f"({{}} -> 'owner') = {email}", "{} ? 'public'", "{} @> 'public=>1'"],
            "citext": [f"{{}} = {email}", "{} = 'a@example.com'", "{} LIKE 'A%'"],
            "shape": ["ST_Within({}, 'POLYGON((0 0,0 3,3 3,3 0,0 0))'::geometry)",
                      f"ST_DWithin({{}}, ST_MakePoint({tenant}, 2), 1.5)", "ST_IsEmpty({})",
                      f"{{}} && ST_MakeEnvelope(0, 0, {tenant}, {tenant})"],
            "spot": [f"ST_M({{}}) > {tenant}", "ST_Z({0}) = 3 AND ST_M({0}) < 5",
                     "{} = 'SRID=4326;POINT ZM(1 2 3 4)'::geometry"],
            "arc": ["ST_HasArc({})", f"ST_Length({{}}) > {tenant}",
                    "{} && ST_MakeEnvelope(0, 0, 1, 1)"],
            "place": [f"ST_DWithin({{}}, ST_MakePoint({tenant}, 2)::geography, 150000)",
                      f"{{}} && ST_MakePoint({tenant}, 2)::geography",
                      "ST_Covers('POLYGON((0 0,0 9,9 9,9 0,0 0))'::geography, {})"],
            "ltree": ["{} <@ 'top'", "{} ~ '*.science'", "nlevel({}) > 2"],
        }.items():  # fmt: skip
            if kind in c:
                atoms += [text.format(c[kind]) for text in texts]
        if self._own_row and self._chance.random() < 0.5:
            return self._chance.choice(self._own_row)
        own = [a for a in atoms if any(column in a for column in c.values())]
        return self._chance.choice(own if own and self._chance.random() < 0.6 else atoms)
