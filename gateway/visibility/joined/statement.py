"""The statement of the joined form; `gateway.visibility.joined.joinable` decides when to use it.

Its parameters: $1 the kept values (see below), $2 the computed values, $3 the images, $4 what
`key_query` found in the images: values by which sets are limited, and combinations of columns.

Its tables, as far as they are needed (each name has a prefix that occurs nowhere in the policies):

    i  the images as typed rows: the columns that policies read, under their own names, n, and the
       numbers of their combinations of columns: each is a place in the values of a function
    o  images that pass the restrictive policies on the row alone; open: every cohort sees it. It is
       i where no policy, or part of one, reads the row alone
    r  the cohorts with the values of their setting expressions as text, if some are computed
    a  groups of cohorts with the same values; if none are computed, $1 is already grouped
    d  groups that pass the restrictive policies on the cohort alone; sees: it sees everything. It
       is a where no policy, or part of one, reads the cohort alone

Kept values are passed as one array: all of the first expression, then all of the second, and so on.
Computed values are passed as one text per cohort, which is an array of texts; NULL if one of them
could not be computed.

Most questions are about few cohorts and images, and take longer to parse and to plan than to
execute. So what a table's policies do not need is left out.

Where a policy's text is placed, only o (named like the table) and d are in scope, so its bare names
can only mean the row's columns.
"""

# ruff: noqa: S608 (a statement is what is made here, of text that comes from Postgres' own catalogs)

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gateway.visibility.joined.expressions import split
from gateway.visibility.joined.given_calls import GIVEN
from gateway.visibility.joined.lexer import Token, render
from gateway.visibility.joined.narrowing import Narrowing
from gateway.visibility.joined.setting_expressions import tuples_of
from gateway.visibility.quoting import quote_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from gateway.visibility.joined.setting_expressions import SettingExpression
    from gateway.visibility.rules import Rules

EXCLUDED: Final = 0
"""Kind of answer row: cohorts for which a setting expression cannot be computed."""
GROUP: Final = 3
"""Kind of answer row: these cohorts form the group with this number.

Rows of the other kinds refer to groups by number, from 1: those of $1, or those of such rows."""
REST: Final = 2
"""Kind of answer row: all cohorts except these see these images.

Of kind 1: these cohorts, or all of them if NULL, see these images."""

Condition = list[Token]
_TIMES: Final = ("date", "time", "timetz", "timestamp", "timestamptz")
_FLOATS: Final = ("float4", "float8", "_float4", "_float8")


class JoinedStatement:
    """The statement for one table."""

    def __init__(
        self,
        rules: Rules,
        expressions: Sequence[SettingExpression],
        types: Sequence[str],
        parts: Sequence[Condition],
        limits: Sequence[Condition],
        *,
        limited: int = 0,
        tuples: int = 0,
        cannot_raise: Callable[[Sequence[Token]], bool],
    ) -> None:
        """`limited` is the number of columns that limit sets, `tuples` of combinations."""
        self._limited = limited
        self._tuples = tuples
        self._row_names = {column.name for column in rules.columns} | {rules.table}
        words = {token.value for condition in (*parts, *limits) for token in condition}
        self._p = _free_prefix({*self._row_names, *words})
        self._expressions = expressions
        self._types = types
        self._kept = [n for n, e in enumerate(expressions) if e.is_kept]
        self._computed = [n for n, e in enumerate(expressions) if not e.is_kept]
        self._columns = [need.name for need in rules.needs or ()]
        self._row_type = f"{quote_name(rules.schema)}.{quote_name(rules.table)}"
        self._table = quote_name(rules.table)
        self._row_parts, self._cohort_parts, both_parts = self._sort(parts)
        self._row_limits, self._cohort_limits, self._both_limits = self._sort(limits)
        self._both_parts: list[Condition] = []
        self._products: list[tuple[str, str]] = []
        for part in both_parts:
            rows, cohorts, both = self._sort(split(part, "and") if cannot_raise(part) else [part])
            if both:
                self._both_parts.append(part)
            else:
                self._products.append((self._all_of(rows), self._all_of(cohorts)))
        judges_rows = bool(self._row_parts or self._row_limits or self._products)
        judges_cohorts = bool(self._cohort_parts or self._cohort_limits or self._products)
        self._o = f"{self._p}o" if judges_rows else f"{self._p}i"
        self._d = f"{self._p}d" if judges_cohorts else f"{self._p}a"
        self._narrowing = Narrowing(
            frozenset(self._columns),
            table=rules.table,
            images=self._o,
            cannot_raise=cannot_raise,
        )

    def write(self, *, lists_rest: bool = True) -> str:
        """Write it: rows of (kind, images, cohorts), with images and cohorts numbered from 1.

        With `lists_rest`, an image that most cohorts see is answered with the others.
        """
        p = self._p
        tables = [self._images()]
        if self._o != f"{p}i":
            tables.append(self._judged_images())
        answers: list[str] = []
        if self._computed:
            tables.append(self._computed_cohorts())
            left_out = f"SELECT {EXCLUDED}, NULL::int4[], pg_catalog.array_agg({p}n)"
            answers = [
                f"{left_out} FROM {p}r WHERE NOT {p}ok",
                f"SELECT {GROUP}, ARRAY[{p}n], {p}list FROM {p}a",
            ]
        if self._expressions:
            tables.append(self._groups())
            if self._d != f"{p}a":
                tables.append(self._judged_cohorts())
            answers += self._answers(lists_rest=lists_rest)
        else:
            answers = [
                f"SELECT 1, pg_catalog.array_agg({p}n), NULL::int4[] FROM {p}o WHERE {p}open"
            ]
        return "WITH " + ",\n".join(tables) + "\n" + "\nUNION ALL ".join(answers)

    def _sort(
        self, conditions: Sequence[Condition]
    ) -> tuple[list[Condition], list[Condition], list[Condition]]:
        """Sort conditions by what they read: only the row, only the cohort, or both."""
        found: tuple[list[Condition], list[Condition], list[Condition]] = ([], [], [])
        for condition in conditions:
            reads_cohort = any(token.kind == "setting" for token in condition)
            reads_row = not reads_cohort or any(
                token.kind == "tuple"
                or (
                    token.kind in ("name", "quoted")
                    and token.value in self._row_names
                    and not self._is_of_another_table(condition, place)
                )
                for place, token in enumerate(condition)
            )
            found[reads_cohort + (reads_cohort and reads_row)].append(condition)
        return found

    def _is_of_another_table(self, condition: Condition, place: int) -> bool:
        """Whether a name is a column of a subquery's table: `m.id`, where m is not the row."""
        return (
            place >= 2
            and condition[place - 1].is_mark(".")
            and condition[place - 2].kind in ("name", "quoted")
            and condition[place - 2].value not in self._row_names
        )

    def _images(self) -> str:
        p = self._p
        columns = "".join(f", {p}r.{quote_name(name)}" for name in self._columns)
        columns += "".join(f", {p}u.{p}q{n}" for n in range(self._tuples))
        sources = ", ".join(
            ["pg_catalog.unnest($3)"]
            + [
                f"pg_catalog.unnest(($4[{self._limited + 2 * n + 1}])::pg_catalog.int4[])"
                for n in range(self._tuples)
            ]
        )
        names = "".join(f", {p}q{n}" for n in range(self._tuples))
        return (
            f"{p}i AS MATERIALIZED (SELECT {p}u.{p}n::pg_catalog.int4 AS {p}n{columns} "
            f"FROM ROWS FROM ({sources}) WITH ORDINALITY AS {p}u ({p}image{names}, {p}n) "
            "CROSS JOIN LATERAL pg_catalog.json_populate_record("
            f"NULL::{self._row_type}, {p}u.{p}image::pg_catalog.json) AS {p}r)"
        )

    def _judged_images(self) -> str:
        p = self._p
        columns = "".join(f", {self._table}.{quote_name(name)}" for name in self._columns)
        columns += "".join(f", {self._table}.{p}q{n}" for n in range(self._tuples))
        products = "".join(f", ({row}) AS {p}p{n}" for n, (row, _) in enumerate(self._products))
        return (
            f"{p}o AS MATERIALIZED (SELECT {self._table}.{p}n{columns}, "
            f"({self._any_of(self._row_parts)}) IS TRUE AS {p}open{products} "
            f"FROM {p}i AS {self._table} WHERE {self._all_of(self._row_limits)})"
        )

    def _values(self, numbers: Sequence[int]) -> tuple[str, str]:
        """Write the source of the kept values for ROWS FROM, and the names of its columns."""
        each = f"pg_catalog.cardinality($1) OPERATOR(pg_catalog./) {len(numbers)}"
        sources = ", ".join(
            f"pg_catalog.unnest($1[{n} OPERATOR(pg_catalog.*) ({each}) OPERATOR(pg_catalog.+) 1 : "
            f"{n + 1} OPERATOR(pg_catalog.*) ({each})])"
            for n in range(len(numbers))
        )
        return sources, ", ".join(f"{self._p}t{number}" for number in numbers)

    def _typed(self, number: int, value: str) -> str:
        return f"({value})::{self._types[number]} AS {self._p}k{number}"

    def _computed_cohorts(self) -> str:
        p = self._p
        source, names = "pg_catalog.unnest($2)", f"{p}v"
        if self._kept:
            kept, kept_names = self._values(self._kept)
            source, names = f"{kept}, {source}", f"{kept_names}, {names}"
        texts = [f"{p}u.{p}t{number}" for number in self._kept]
        texts += [
            f"(({p}u.{p}v)::pg_catalog.text[])[{n}] AS {p}t{number}"
            for n, number in enumerate(self._computed, 1)
        ]
        return (
            f"{p}r AS MATERIALIZED (SELECT {p}u.{p}n::pg_catalog.int4 AS {p}n, "
            f"{p}u.{p}v IS NOT NULL AS {p}ok, {', '.join(texts)} "
            f"FROM ROWS FROM ({source}) WITH ORDINALITY AS {p}u ({names}, {p}n))"
        )

    def _groups(self) -> str:
        p = self._p
        numbers = range(len(self._expressions))
        typed = ", ".join(self._typed(n, f"{p}u.{p}t{n}") for n in numbers)
        if self._computed:
            names = ", ".join(f"{p}r.{p}t{n}" for n in numbers)
            return (
                f"{p}a AS MATERIALIZED (SELECT {p}u.{p}n, {p}u.{p}list, {typed} FROM ("
                f"SELECT pg_catalog.row_number() OVER ()::pg_catalog.int4 AS {p}n, "
                f"pg_catalog.array_agg({p}r.{p}n) AS {p}list, {names} "
                f"FROM {p}r WHERE {p}r.{p}ok GROUP BY {names} OFFSET 0) AS {p}u)"
            )
        source, names = self._values(self._kept)
        return (
            f"{p}a AS MATERIALIZED (SELECT {p}u.{p}n::pg_catalog.int4 AS {p}n, {typed} "
            f"FROM ROWS FROM ({source}) WITH ORDINALITY AS {p}u ({names}, {p}n))"
        )

    def _judged_cohorts(self) -> str:
        p = self._p
        products = "".join(f", ({c}) AS {p}p{n}" for n, (_, c) in enumerate(self._products))
        return (
            f"{p}d AS MATERIALIZED (SELECT {p}c.*, "
            f"({self._any_of(self._cohort_parts)}) IS TRUE AS {p}sees{products} "
            f"FROM {p}a AS {p}c WHERE {self._all_of(self._cohort_limits)})"
        )

    def _answers(self, *, lists_rest: bool) -> Iterable[str]:
        p = self._p
        is_open = [f"{self._table}.{p}open"] if self._row_parts else []
        sees = [f"{p}c.{p}sees"] if self._cohort_parts else []
        # For few cohorts, planning one join more takes longer than it saves.
        narrowed = self._narrowing.narrowed if lists_rest else list
        if self._both_limits:
            anyhow = [*is_open, *sees]
            anyhow += [
                f"({self._table}.{p}p{n} AND {p}c.{p}p{n})" for n in range(len(self._products))
            ]
            anyhow.append(self._any_of([narrowed(part) for part in self._both_parts]))
            limits = self._all_of([narrowed(limit) for limit in self._both_limits])
            yield self._pairs([f"{limits} AND ({' OR '.join(anyhow)})"], lists_rest=lists_rest)
            return
        if self._row_parts:
            yield self._product(f"{p}open", "true")
        if self._cohort_parts:
            yield self._product("true", f"{p}sees")
        for n in range(len(self._products)):
            yield self._product(f"{p}p{n}", f"{p}p{n}")
        if self._both_parts:
            others = "".join(f"NOT {already} AND " for already in (*is_open, *sees))
            yield self._pairs(
                [f"{others}({self._text(narrowed(part))})" for part in self._both_parts],
                lists_rest=lists_rest,
            )

    def _product(self, images: str, cohorts: str) -> str:
        p = self._p
        listed = f"FROM {self._d} WHERE {cohorts}"
        return (
            f"SELECT 1, pg_catalog.array_agg({p}n), "
            f"CASE WHEN (SELECT pg_catalog.count(*) {listed}) "
            f"OPERATOR(pg_catalog.<>) ({self._number_of_groups()}) "
            f"THEN ARRAY(SELECT {p}n {listed}) END FROM {self._o} WHERE {images}"
        )

    def _pairs(self, conditions: Sequence[str], *, lists_rest: bool) -> str:
        """Select the pairs for which one of the conditions holds, as one row per image."""
        p = self._p
        sources = f"FROM {self._o} AS {self._table} CROSS JOIN {self._d} AS {p}c WHERE"
        if len(conditions) == 1 and not lists_rest:
            return (
                f"SELECT 1, ARRAY[{self._table}.{p}n], pg_catalog.array_agg({p}c.{p}n) "
                f"{sources} {conditions[0]} GROUP BY {self._table}.{p}n"
            )
        found = " UNION ".join(
            f"SELECT {self._table}.{p}n AS {p}n, {p}c.{p}n AS {p}m {sources} {condition}"
            for condition in conditions
        )
        listed = (
            f"(SELECT {p}n, pg_catalog.array_agg({p}m) AS {p}list FROM ({found}) AS {p}f "
            f"GROUP BY {p}n) AS {p}g"
        )
        if not lists_rest:
            return f"SELECT 1, ARRAY[{p}g.{p}n], {p}g.{p}list FROM {listed}"
        most = (
            f"2 OPERATOR(pg_catalog.*) pg_catalog.cardinality({p}g.{p}list) "
            f"OPERATOR(pg_catalog.>) ({self._number_of_groups()})"
        )
        return (
            f"SELECT CASE WHEN {most} THEN 2 ELSE 1 END, ARRAY[{p}g.{p}n], CASE WHEN {most} THEN "
            f"ARRAY(SELECT {p}a.{p}n FROM {p}a EXCEPT ALL SELECT pg_catalog.unnest({p}g.{p}list)) "
            f"ELSE {p}g.{p}list END FROM {listed}"
        )

    def _number_of_groups(self) -> str:
        if self._computed:
            return f"(SELECT pg_catalog.count(*) FROM {self._p}a)"
        return f"pg_catalog.cardinality($1) OPERATOR(pg_catalog./) {len(self._kept)}"

    def _text(self, condition: Condition) -> str:
        columns = {
            "setting": f"{self._p}c.{self._p}k",
            "tuple": f"{self._table}.{self._p}q",
        }
        return render(
            [
                Token("name", columns[t.kind] + t.value, "") if t.kind in columns else t
                for t in condition
            ]
        )

    def _all_of(self, conditions: Sequence[Condition]) -> str:
        return " AND ".join(f"({self._text(condition)})" for condition in conditions) or "true"

    def _any_of(self, conditions: Sequence[Condition]) -> str:
        return " OR ".join(f"({self._text(condition)})" for condition in conditions) or "false"


def value_query(
    expressions: Sequence[tuple[SettingExpression, str]],
    keys: Mapping[str, str] | None = None,
    given: Mapping[str, str] | None = None,
) -> str:
    """Write the query that returns the values of typed expressions as one text.

    The text is an array of texts. `keys` are the columns by which sets are limited, with the types
    of arrays of them, and `given` those that functions are given, with their types. $1 is what
    `key_query` returns.
    """
    keys, given = keys or {}, given or {}
    tuples = tuples_of([e for e, _ in expressions])
    values = [
        _for_each_tuple(e, len(keys) + 2 * tuples.index(e.columns) + 2, given)
        if e.columns
        else _value(e, type_, keys)
        for e, type_ in expressions
    ]
    if not any(_bare_name(type_) in _FLOATS for _, type_ in expressions):
        texts = ", ".join(f"({value})::pg_catalog.text" for value in values)
        return f"SELECT (ARRAY[{texts}])::pg_catalog.text"
    # The session's own extra_float_digits may lose some, and functions may rely on it.
    columns = ", ".join(f"{value} AS v{n}" for n, value in enumerate(values))
    texts = ", ".join(f"(ayb_v.v{n})::pg_catalog.text" for n in range(len(values)))
    return (
        f"WITH ayb_v AS MATERIALIZED (SELECT {columns}), "
        "ayb_pinned AS MATERIALIZED (SELECT pg_catalog.count("
        "pg_catalog.set_config('extra_float_digits', '1', true)) FROM ayb_v) "
        f"SELECT (ARRAY[{texts}])::pg_catalog.text FROM ayb_pinned CROSS JOIN ayb_v"
    )


def key_query(rules: Rules, keys: Iterable[str], tuples: Sequence[Sequence[str]] = ()) -> str:
    """Write the query for what the images, which are $1, have in some columns, as texts.

    For each of `keys` it returns an array of the values. For each of `tuples`, which are
    combinations of columns, it returns two texts: an array with the number of each image's
    combination, and the combinations in the order of these numbers, as JSON. Combinations are the
    same only if they are written the same: functions may tell 1.0 from 1.
    """
    columns = [f"ayb_r.{quote_name(key)} AS ayb_k{n}" for n, key in enumerate(keys)]
    texts = [
        f"(SELECT (pg_catalog.array_agg(DISTINCT ayb_i.ayb_k{n}))::pg_catalog.text FROM ayb_i "
        f"WHERE ayb_i.ayb_k{n} IS NOT NULL)"
        for n in range(len(columns))
    ]
    for n, names in enumerate(tuples):
        written = ", ".join(f"(ayb_r.{quote_name(name)})::pg_catalog.text" for name in names)
        columns.append(f"pg_catalog.json_build_array({written})::pg_catalog.text AS ayb_t{n}")
        numbers = (
            f'(SELECT ayb_i.ayb_n, ayb_i.ayb_t{n} COLLATE pg_catalog."C" AS ayb_t, '
            f'pg_catalog.dense_rank() OVER (ORDER BY ayb_i.ayb_t{n} COLLATE pg_catalog."C") '
            "AS ayb_q FROM ayb_i) AS ayb_d"
        )
        texts.append(
            "(SELECT (pg_catalog.array_agg(ayb_d.ayb_q ORDER BY ayb_d.ayb_n))::pg_catalog.text "
            f"FROM {numbers})"
        )
        texts.append(
            "(SELECT pg_catalog.json_agg(ayb_o.ayb_t::pg_catalog.json ORDER BY ayb_o.ayb_q)"
            "::pg_catalog.text FROM (SELECT DISTINCT ayb_d.ayb_q, ayb_d.ayb_t "
            f"FROM {numbers}) AS ayb_o)"
        )
    return (
        f"WITH ayb_i AS MATERIALIZED (SELECT ayb_u.ayb_n, {', '.join(columns)} "
        "FROM pg_catalog.unnest($1) WITH ORDINALITY AS ayb_u (ayb_image, ayb_n) "
        "CROSS JOIN LATERAL pg_catalog.json_populate_record("
        f"NULL::{quote_name(rules.schema)}.{quote_name(rules.table)}, "
        f"ayb_u.ayb_image::pg_catalog.json) AS ayb_r) SELECT ARRAY[{', '.join(texts)}]"
    )


def given_expression(rules: Rules, expression: SettingExpression) -> str:
    """Write an expression of columns of the row for `ayb_realtime.expression_types`."""
    columns = ", ".join(
        f"ayb_r.{quote_name(name)} AS c{n}" for n, name in enumerate(expression.columns)
    )
    row_type = f"{quote_name(rules.schema)}.{quote_name(rules.table)}"
    return (
        f"( SELECT {expression.sql} FROM (SELECT {columns} FROM (SELECT ("
        f"NULL::{row_type}).*) AS ayb_r) AS {GIVEN})"
    )


def key_expression(rules: Rules, key: str) -> str:
    """Write a set with the type of a column, for `ayb_realtime.expression_types`."""
    row = f"NULL::{quote_name(rules.schema)}.{quote_name(rules.table)}"
    return f"( SELECT ayb_r.{quote_name(key)} FROM (SELECT ({row}).*) AS ayb_r)"


def _for_each_tuple(expression: SettingExpression, place: int, types: Mapping[str, str]) -> str:
    """Write the array of an expression's values for the combinations at a place in $1."""
    columns = ", ".join(
        f"({_readable(f'ayb_e.ayb_v OPERATOR(pg_catalog.->>) {n}', types[name])})"
        f"::{types[name]} AS c{n}"
        for n, name in enumerate(expression.columns)
    )
    return (
        f"ARRAY(SELECT {expression.sql} FROM (SELECT ayb_e.ayb_n, {columns} "
        f"FROM pg_catalog.json_array_elements(($1[{place}])::pg_catalog.json) "
        f"WITH ORDINALITY AS ayb_e (ayb_v, ayb_n) OFFSET 0) AS {GIVEN} "
        f"ORDER BY {GIVEN}.ayb_n)"
    )


def _readable(text: str, type_: str) -> str:
    """Write the text of a value so that reading it raises where a setting would change it.

    With array_nulls off, which no SELECT can put right within itself, a NULL within an array is
    read as the text NULL. The cohort is then asked in the loop.
    """
    if not _bare_name(type_).startswith("_"):
        return text
    is_read = "pg_catalog.current_setting('array_nulls') OPERATOR(pg_catalog.=) 'on'"
    return f"CASE WHEN {is_read} THEN {text} ELSE 'array_nulls is off' END"


def _value(expression: SettingExpression, type_: str, keys: Mapping[str, str]) -> str:
    if expression.key is not None:
        place = list(keys).index(expression.key) + 1
        return (
            f"ARRAY(SELECT ayb_s.ayb_v FROM {expression.sql} AS ayb_s (ayb_v) "
            "WHERE ayb_s.ayb_v OPERATOR(pg_catalog.=) "
            f"ANY (($1[{place}])::{keys[expression.key]}))"
        )
    if _bare_name(type_) in _TIMES:
        # As in JSON, which does not depend on DateStyle.
        return (
            f"pg_catalog.to_json({expression.sql}) "
            "OPERATOR(pg_catalog.#>>) '{}'::pg_catalog.text[]"
        )
    return f"{'ARRAY' if expression.is_set else ''}{expression.sql}"


def _bare_name(type_: str) -> str:
    return type_.removeprefix("pg_catalog.").strip('"')


def _free_prefix(taken: Iterable[str]) -> str:
    names = tuple(taken)
    number = 0
    while any(name.startswith(f"ayb{number}") for name in names):
        number += 1
    return f"ayb{number}"
