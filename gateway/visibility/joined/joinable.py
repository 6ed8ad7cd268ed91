"""The joined form: one statement over cohorts and row images.

The restrictive policies R and the permissive policies P of a table, as `pg_get_expr` writes them,
combine to

    (R1 AND R2 ...) AND (P1 OR P2 ...)

Everything that depends only on the client has become columns of the table of cohorts
(`gateway.visibility.joined.setting_expressions`). Permissive policies are split into parts at their
top-level OR, and each part or restrictive policy reads the row, the cohort, or both:

* row only: evaluated once for each image;
* cohort only: evaluated once for each cohort;
* both: evaluated for the pairs that Postgres finds by joining images and cohorts, with a hash join
  where it can.

The answer does not have a row for each pair: a product is returned as a list of images and a list
of cohorts, and an image that more than half of the cohorts see is returned with the other cohorts.

Splitting changes which part is computed first. That must not matter, so it is done only if no part
can raise (`_cannot_raise`); otherwise the condition stays in one piece. An error in the joined form
decides nothing: the question is asked again in the looped form.

The statement finds none of the user's objects by a bare name, so nobody with the right to create
objects can interfere. It calls only functions that are known to be pure: if the policies call
user-defined functions, volatile functions or functions that look at the session, the table is left
to the loop.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gateway.visibility.cohorts import KNOWN_SETTINGS
from gateway.visibility.joined.candidates import Demand, demands
from gateway.visibility.joined.expressions import closing, glued, split
from gateway.visibility.joined.lexer import Token, UnreadableError, tokenize
from gateway.visibility.joined.setting_expressions import (
    Builtins,
    SettingCollector,
    SettingExpression,
    tuples_of,
)
from gateway.visibility.joined.statement import JoinedStatement
from gateway.visibility.quoting import quote_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.visibility.rules import Rules

_STABLE: Final = frozenset(
    [
        "now",
        "statement_timestamp",
        "transaction_timestamp",
        "current_database",
        "date_trunc",
        "date_part",
        "extract",
        "timezone",
        "to_char",
        "to_date",
        "to_timestamp",
        "age",
        "concat",
        "concat_ws",
        "format",
        "to_json",
        "to_jsonb",
        "jsonb_build_object",
        "jsonb_build_array",
        "array_to_string",
        "string_agg",
        "array_agg",
        "jsonb_agg",
        "length",
    ]
)
_JSON_MAKERS: Final = frozenset(
    ["to_json", "to_jsonb", "jsonb_build_object", "jsonb_build_array", "jsonb_agg"]
)
"""They call user-defined casts from their arguments' types to json; no dependency records it."""
_SYNTAX: Final = frozenset(
    [
        "and",
        "or",
        "not",
        "in",
        "any",
        "all",
        "some",
        "exists",
        "select",
        "from",
        "where",
        "on",
        "as",
        "case",
        "when",
        "then",
        "else",
        "is",
        "like",
        "ilike",
        "values",
        "array",
        "row",
        "coalesce",
        "nullif",
        "greatest",
        "least",
        "distinct",
        "union",
        "except",
        "intersect",
        "having",
        "by",
        "limit",
        "offset",
        "using",
        "join",
        "lateral",
        "trim",
        "substring",
        "position",
        "overlay",
        "both",
        "leading",
        "trailing",
        "for",
    ]
)
_TYPE_WORDS: Final = frozenset(
    ("varying", "character", "bit", "time", "timestamp", "interval", "numeric", "varchar")
)
_REFUSED: Final = frozenset(
    [
        "tablesample",
        "current_schema",
        "ctid",
        "xmin",
        "xmax",
        "cmin",
        "cmax",
        "tableoid",
        "operator",
        "over",
    ]
)
_SAFE_OPERATORS: Final = frozenset(
    ["=", "<>", "<", ">", "<=", ">=", "->", "->>", "#>", "#>>", "@>", "<@", "&&", "?", "?|", "?&"]
)
_SAFE_CALLS: Final = _SYNTAX - {"values", "limit", "offset", "substring", "overlay", "for"} | {
    "lower",
    "upper",
    "length",
    "now",
}
_SET_READERS: Final = ("exists", "in", "any", "all", "array")
_AGGREGATES: Final = ("count", "min", "max", "bool_and", "bool_or", "every")


@dataclass(frozen=True, slots=True)
class Draft:
    """What a joined statement consists of, except for the types of its setting expressions.

    `reads` are the settings that cohorts are grouped by, of all `names` that clients have.
    """

    rules: Rules
    expressions: tuple[SettingExpression, ...]
    parts: tuple[list[Token], ...]
    limits: tuple[list[Token], ...]
    names: tuple[str, ...] = KNOWN_SETTINGS

    @property
    def reads(self) -> tuple[str, ...]:
        """The known settings that it reads, in order."""
        numbers = frozenset[int]().union(*(e.reads for e in self.expressions))
        return tuple(self.names[number] for number in sorted(numbers))

    @property
    def keys(self) -> tuple[str, ...]:
        """The columns by which computed sets are limited, in order."""
        keys = (expression.key for expression in self.expressions)
        return tuple(dict.fromkeys(key for key in keys if key is not None))

    @property
    def demands(self) -> tuple[Demand, ...]:
        """What it demands of whoever sees an image, as far as equalities say."""
        return demands(
            self.parts,
            self.limits,
            expressions=self.expressions,
            columns=self.rules.needed,
            table=self.rules.table,
            cannot_raise=_cannot_raise,
        )

    @property
    def tuples(self) -> tuple[tuple[str, ...], ...]:
        """The combinations of columns that functions are given, in order."""
        return tuple(tuples_of(self.expressions))

    @property
    def given(self) -> tuple[str, ...]:
        """The columns that functions are given, in order."""
        return tuple(dict.fromkeys(column for columns in self.tuples for column in columns))

    def write(self, types: Sequence[str], *, lists_rest: bool = True) -> str:
        """Write the statement; `types` has one type for each expression.

        With `lists_rest`, an image that most cohorts see is answered with the others.
        """
        return JoinedStatement(
            self.rules,
            self.expressions,
            types,
            self.parts,
            self.limits,
            limited=len(self.keys),
            tuples=len(self.tuples),
            cannot_raise=_cannot_raise,
        ).write(lists_rest=lists_rest)


class NotJoinableError(ValueError):
    """The table has to be handled by the loop; the text says why."""


def join(
    rules: Rules,
    builtins: Builtins,
    names: tuple[str, ...] = KNOWN_SETTINGS,
    trusted: frozenset[str] = frozenset(),
) -> Draft:
    """Draft the statement for rules with at least one permissive policy.

    `names` are the settings that clients have, `trusted` the functions that may be given columns of
    the row by the operator's word.

    Raises `NotJoinableError`.
    """
    _check_dependencies(rules)
    stable = _STABLE - _JSON_MAKERS if rules.json_casts else _STABLE
    collector = SettingCollector(
        builtins,
        {(f.schema, f.name): f for f in rules.functions or ()},
        _unjoinable(rules),
        rules.table,
        _own_name(rules),
        frozenset(column.name for column in rules.columns),
        names=names,
        trusted=trusted,
    )
    permissive: list[list[Token]] = []
    restrictive: list[list[Token]] = []
    for policy in rules.policies or ():  # by name
        try:
            tokens = collector.replace_in(tokenize(policy.expression))
            _check_tokens(tokens, builtins.pure | stable)
            _check_tables(tokens, collector.unjoinable)
        except UnreadableError as error:
            fault = collector.fault_in(policy.expression) or str(error)
            raise NotJoinableError(f"policy {policy.name}: {fault}") from None
        (permissive if policy.permissive else restrictive).append(tokens)
    if all(_cannot_raise(policy) for policy in (*permissive, *restrictive)):
        parts = [part for policy in permissive for part in split(policy, "or")]
        limits = restrictive
    else:
        parts = [glued("and", [*restrictive, glued("or", permissive[::-1])])]
        limits = []
    return Draft(rules, tuple(collector.found), tuple(parts), tuple(limits), names)


def _check_dependencies(rules: Rules) -> None:
    for type_ in rules.types or ():
        if type_.kind != "e":
            raise NotJoinableError(f"a policy uses the type {type_.name}")
    if rules.operators:
        raise NotJoinableError(f"a policy uses an operator of the schema {rules.operators[0]}")
    if rules.others:
        raise NotJoinableError(f"a policy depends on an object in {rules.others[0]}")


def _unjoinable(rules: Rules) -> frozenset[str]:
    """List what a statement for all clients must not read, named as in policies."""
    names = {r.name for r in rules.relations or () if r.secured or r.kind not in ("r", "p", "m")}
    names |= {name.removeprefix("pg_catalog.") for name in names}
    return frozenset({*names, _own_name(rules)})


def _own_name(rules: Rules) -> str:
    return f"{_as_written(rules.schema)}.{_as_written(rules.table)}"


def _as_written(name: str) -> str:
    """Quote a name where Postgres does, except that keywords are not quoted."""
    is_plain = re.fullmatch(r"[a-z_][a-z0-9_]*", name) is not None
    return name if is_plain else quote_name(name)


def _check_tables(tokens: Sequence[Token], unjoinable: frozenset[str]) -> None:
    """Raise for tables that the statement would read for all clients at once but must not."""
    for place, token in enumerate(tokens):
        name = token.text
        if tokens[place + 1 : place + 2] and tokens[place + 1].is_mark("."):
            name = f"{token.text}.{tokens[place + 2].text}"
        if name in unjoinable:
            raise UnreadableError(
                f"{name}, which it reads for each row, is a view or has RLS itself"
            )


def _check_tokens(tokens: Sequence[Token], callable_: frozenset[str]) -> None:
    """Raise if anything is called or read that another session would see differently."""
    for place, token in enumerate(tokens):
        before = tokens[place - 1] if place else None
        after = tokens[place + 1] if place + 1 < len(tokens) else None
        is_qualified = before is not None and before.is_mark(".")
        if is_qualified and token.is_mark("*"):
            raise UnreadableError("it uses a whole row")
        if token.kind not in ("name", "quoted"):
            continue
        if token.kind == "name" and token.value in _REFUSED:
            raise UnreadableError(f"it uses {token.value}")
        if before is not None and before.is_mark("::"):
            if token.value.startswith("reg"):
                raise UnreadableError(f"it uses {token.value}")
            continue
        if after is not None and after.is_mark("(") and not (
            token.kind == "name"
            and not is_qualified
            and (token.value in _SYNTAX or token.value in callable_ or token.value in _TYPE_WORDS)
        ):  # fmt: skip
            raise UnreadableError(f"it calls {token.text}")


def _cannot_raise(tokens: Sequence[Token]) -> bool:
    """Return whether an expression is certain not to raise, whatever the row."""
    for place, token in enumerate(tokens):
        before = tokens[place - 1] if place else None
        after = tokens[place + 1] if place + 1 < len(tokens) else None
        if (
            token.kind == "operator"
            and token.text not in _SAFE_OPERATORS
            and not (token.text == "*" and before is not None and before.is_mark("("))
        ):
            return False
        if token.is_mark("::"):
            of_literal = before is not None and before.kind in ("string", "number")
            if not of_literal and not (after is not None and after.is_word("text")):
                return False
        if token.is_word("select") and place >= 1:
            opener = tokens[place - 2] if place >= 2 else None
            is_read_as_set = opener is not None and opener.is_word(*_SET_READERS)
            if not is_read_as_set and not _has_one_row(tokens, place):
                return False
        if (
            token.kind == "name"
            and after is not None
            and after.is_mark("(")
            and not (before is not None and before.is_mark("::"))
            and token.value not in _SAFE_CALLS
            and not token.is_word(*_AGGREGATES)
        ):
            return False
    return True


def _has_one_row(tokens: Sequence[Token], select: int) -> bool:
    """Return whether the SELECT at a place is one of an aggregate without GROUP BY.

    Such a subquery has one row, and so cannot raise for having several. An aggregate of nothing but
    the outer query's columns would be one of that query.
    """
    if not tokens[select - 1].is_mark("("):
        return False
    end = closing(tokens, select - 1)
    is_listing = True
    has_aggregate = False
    place = select + 1
    while place < end:
        token = tokens[place]
        if token.is_word("group", "union", "intersect", "except"):
            return False
        is_listing = is_listing and not token.is_word("from")
        if token.is_mark("(") and tokens[place + 1].is_word("select"):
            place = closing(tokens, place)
        elif is_listing and token.is_word(*_AGGREGATES) and tokens[place + 1].is_mark("("):
            arguments = tokens[place + 1 : closing(tokens, place + 1)]
            if any(argument.kind == "setting" for argument in arguments):
                return False
            has_aggregate = True
        place += 1
    return has_aggregate
