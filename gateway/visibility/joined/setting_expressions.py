"""What policies compute for a client without looking at the row.

The largest closed expressions (`gateway.visibility.joined.closed_expressions`) that read a setting,
call a user's function or read a table that cannot be joined become columns of the table of cohorts.
Postgres itself computes each of them unchanged, for one cohort at a time, under the client's role
and settings, so the value is what a SELECT by this client would compute. There are two kinds:

* kept: known to depend only on the settings. The expression consists of settings, literals, casts
  and pure functions, and of functions whose whole body consists of these (`auth.uid()`). Its value
  is computed once for a client and kept;
* computed: it calls another function, or reads tables. Its value is computed for each question, in
  the same snapshot.

A subquery after IN, ANY or ALL becomes an array: `x = ANY (array)` has the same result, including
NULLs. So does an EXISTS that depends on the row only through one equation with a column of it:
`EXISTS (SELECT FROM m WHERE m.x = row.y AND ...)` becomes
`row.y = ANY (SELECT m.x FROM m WHERE ...) IS TRUE`. Only those values of that set that occur in the
images are computed (its `key` is the column).

A call of a function that is given columns of the row, and is known to read other tables only, or
trusted to depend on nothing but its arguments and settings, becomes an array: it is computed for
each client and each combination of these columns that the images have (its `columns`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from gateway.visibility.cohorts import KNOWN_SETTINGS
from gateway.visibility.joined.closed_expressions import ClosedExpression, read_closed
from gateway.visibility.joined.expressions import (
    closing,
    may_start,
    operand_end,
    places_of_tables,
)
from gateway.visibility.joined.given_calls import GIVEN, called, read_given
from gateway.visibility.joined.lexer import Token, UnreadableError, tokenize
from gateway.visibility.joined.semijoins import read_semijoin
from gateway.visibility.quoting import quote_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gateway.visibility.rules import Function

OF_THE_SESSION: Final = frozenset(
    ["pg_has_role", "has_table_privilege", "has_any_column_privilege", "has_column_privilege",
     "has_schema_privilege", "has_function_privilege", "row_security_active", "to_regclass",
     "to_regproc", "to_regrole", "to_regtype"]
)  # fmt: skip
"""Functions in pg_catalog that resolve names by the session's search path, as a SELECT would."""
_OF_THE_CLOCK: Final = frozenset(
    ["now", "statement_timestamp", "transaction_timestamp", "date_trunc",
     "date_part", "timezone", "to_char", "to_date", "to_timestamp", "age", "concat", "concat_ws",
     "format", "to_json", "to_jsonb", "jsonb_build_object", "json_build_object",
     "jsonb_build_array", "array_to_string", "length", "current_database"]
)  # fmt: skip
_AGGREGATES: Final = frozenset(["array_agg", "string_agg", "jsonb_agg", "json_agg"])
_GIVEN: Final = re.compile(rf"\b{GIVEN}\.c(\d+)")
_QUALIFIED_OPERATOR: Final = re.compile(r"OPERATOR\(pg_catalog\.([^\s\w()]+)\)")


@dataclass(frozen=True, slots=True)
class Builtins:
    """Names of functions in pg_catalog that depend only on their arguments.

    `scalar` are those of them under which no function returns a set or is an aggregate.
    """

    pure: frozenset[str]
    scalar: frozenset[str]


@dataclass(frozen=True, slots=True)
class SettingExpression:
    """An expression that depends on the client and not on the row.

    `sql` is its text: a SELECT in parentheses if `is_set`. `reads` are the numbers of the known
    settings in it, `others` the names of further settings, which the gateway does not set.
    `is_kept` is true if its value can be kept as long as the rules are the same. `columns` are
    those of the row that it is given; there is a value for each combination of them.
    """

    sql: str
    is_kept: bool
    is_set: bool = False
    reads: frozenset[int] = frozenset()
    others: tuple[str, ...] = ()
    key: str | None = None
    columns: tuple[str, ...] = ()

    @property
    def is_array(self) -> bool:
        """Whether its value is an array: the members of a set, or a value for each combination."""
        return self.is_set or bool(self.columns)

    @property
    def text(self) -> str:
        """The expression as a person would write it."""
        shown = _QUALIFIED_OPERATOR.sub(r"\1", self.sql).replace("pg_catalog.", "")
        shown = _GIVEN.sub(lambda place: _as_written(self.columns[int(place[1])]), shown)
        tokens = tokenize(shown)
        text = " ".join(token.text for token in tokens)
        for mark in ("(", ".", "::", "["):
            text = text.replace(f" {mark} ", f"{mark} ").replace(f"{mark} ", mark)
        for mark in (")", ",", "]"):
            text = text.replace(f" {mark}", mark)
        return text


@dataclass(slots=True)
class SettingCollector:
    """The setting expressions of a table's policies; equal expressions share a column.

    `functions` are the user-defined functions that policies call, `unjoinable` the tables and views
    that a statement for many clients cannot read. `table` is the name of the table itself,
    `own_name` the same with its schema, as policies write it, and `columns` its columns. `names`
    are the settings that clients have. `trusted` functions (`schema.name`) may be given columns.
    """

    builtins: Builtins
    functions: Mapping[tuple[str, str], Function] = field(default_factory=dict)
    unjoinable: frozenset[str] = frozenset()
    table: str = ""
    own_name: str = ""
    columns: frozenset[str] = frozenset()
    found: list[SettingExpression] = field(default_factory=list)
    names: tuple[str, ...] = KNOWN_SETTINGS
    trusted: frozenset[str] = frozenset()

    def replace_in(self, tokens: Sequence[Token]) -> list[Token]:
        """Replace each setting expression in a policy's tokens with a token that has its number.

        Raises `UnreadableError` if a setting is read in a way that is not understood.
        """
        out: list[Token] = []
        tables = places_of_tables(tokens)
        at = 0
        while at < len(tokens):
            found: SettingExpression | None = None
            end = at
            if at not in tables:
                found, end = self._at(tokens, at)
            if found is None:
                out.append(tokens[at])
                at += 1
                continue
            if found.key is not None:
                setting = Token("setting", "", str(self._number(found)))
                out += _is_among(self._row_table(tokens[at:end]), found.key, setting)
                at = end
                continue
            setting = Token("setting", "", str(self._number(found)))
            if found.columns:
                place = Token("tuple", "", str(tuples_of(self.found).index(found.columns)))
                out += [setting, Token("mark", "[", "["), place, Token("mark", "]", "]")]
                at = end
                continue
            if found.is_set:
                if out[-1].is_word("in"):
                    out[-1:] = [Token("operator", "=", "="), Token("name", "ANY", "any")]
                out += [Token("mark", "(", "("), setting, Token("mark", ")", ")")]
            else:
                out.append(setting)
            at = end
        for token, following in pairwise(out):
            if token.value == "current_setting" and following.is_mark("("):
                raise UnreadableError("it reads a setting that is not named plainly")
        return out

    def fault_in(self, text: str) -> str | None:
        """Say which of the functions that a policy calls prevents joining, if any."""
        tokens = tokenize(text)
        for schema, dot, name, mark in zip(
            tokens, tokens[1:], tokens[2:], tokens[3:], strict=False
        ):
            name_ = (schema.value, name.value)
            if dot.is_mark(".") and mark.is_mark("(") and name_ in self.functions:
                fault = self._fault(name_)
                if fault is None and self._wrapper(name_) is None:
                    fault = "is given something of the row, or stands in FROM"
                if fault is not None:
                    return f"it calls {schema.value}.{name.value}(), which {fault}"
        return None

    def _at(self, tokens: Sequence[Token], at: int) -> tuple[SettingExpression | None, int]:
        """Read the setting expression that starts here, if there is one."""
        is_set = (
            at > 0
            and tokens[at - 1].is_word("in", "any", "all", "some")
            and tokens[at].is_mark("(")
            and at + 1 < len(tokens)
            and tokens[at + 1].is_word("select")
        )
        if is_set:
            end = closing(tokens, at) + 1
        elif tokens[at].kind in ("name", "quoted") or tokens[at].is_mark("("):
            if tokens[at].is_word(*_NO_OPERANDS) or not may_start(tokens, at):
                return None, at
            end = operand_end(tokens, at)
        else:
            return None, at
        try:
            closed = read_closed(tokens[at:end])
        except UnreadableError:
            if called(tokens, at) in self.functions:
                return self._given(tokens[at:end]), end
            return self._keyed(tokens[at:end]), end
        return self._judged(closed, is_set=is_set), end

    def _keyed(self, tokens: Sequence[Token]) -> SettingExpression | None:
        """Read an EXISTS as a set that must contain a column of the row, if it has that form."""
        try:
            found = read_semijoin(tokens, self.table)
        except UnreadableError:
            return None
        if found is None:
            return None
        closed, column = found
        expression = self._judged(closed, is_set=True)
        if expression is None or expression.is_kept:
            return None
        return replace(expression, key=column)

    def _given(self, tokens: Sequence[Token]) -> SettingExpression | None:
        """Read a call that is given columns of the row, if all it calls may be."""
        try:
            closed, columns = read_given(tokens, self.table, self.columns)
        except UnreadableError:
            return None
        for name in closed.calls:
            function = self.functions.get(name)
            if function is None or not (
                not function.arguments or function.is_transparent or ".".join(name) in self.trusted
            ):
                return None
        expression = self._judged(closed, is_set=False)
        if expression is None or expression.is_kept:
            return None
        return replace(expression, columns=columns)

    def _row_table(self, tokens: Sequence[Token]) -> Token:
        """Return the name of the table as the policy writes it."""
        return next(t for t in tokens if t.kind in ("name", "quoted") and t.value == self.table)

    def _judged(self, closed: ClosedExpression, *, is_set: bool) -> SettingExpression | None:
        if (closed.settings or closed.calls) and self._is_kept(closed):
            reads, others = self._settings_of(closed)
            return SettingExpression(
                closed.sql, is_kept=True, is_set=is_set, reads=reads, others=others
            )
        wrappers = {name for name in closed.calls if self._wrapper(name) is not None}
        if any(name == self.own_name for name in closed.tables):
            return None
        is_needed = (
            closed.calls - wrappers
            or closed.tables & self.unjoinable
            or closed.builtins & OF_THE_SESSION
            or (closed.settings and not closed.is_timeless)
        )
        if is_needed and self._is_computable(closed):
            everything = frozenset(range(len(self.names)))
            return SettingExpression(closed.sql, is_kept=False, is_set=is_set, reads=everything)
        return None

    def _is_kept(self, closed: ClosedExpression) -> bool:
        return (
            closed.is_timeless
            and not closed.reads_session
            and not closed.tables
            and closed.builtins <= self.builtins.pure
            and closed.bare_builtins <= self.builtins.scalar
            and all(self._wrapper(name) is not None for name in closed.calls)
        )

    def _is_computable(self, closed: ClosedExpression) -> bool:
        known = self.builtins.pure | OF_THE_SESSION | _OF_THE_CLOCK | _AGGREGATES
        scalar = self.builtins.scalar | OF_THE_SESSION | _OF_THE_CLOCK
        return (
            closed.builtins <= known
            and closed.bare_builtins <= scalar
            and all(self._fault(name) is None for name in closed.calls)
            and not any(self.functions[name].set for name in closed.bare_calls)
        )

    def _settings_of(self, closed: ClosedExpression) -> tuple[frozenset[int], tuple[str, ...]]:
        settings = list(closed.settings)
        for name in sorted(closed.calls):
            settings += (self._wrapper(name) or _NOTHING).settings
        reads = set()
        others = []
        for setting in settings:
            folded = _folded(setting.name)
            if folded in self.names:
                reads.add(self.names.index(folded))
            elif "." not in folded or not setting.is_optional:
                raise UnreadableError(f"it reads the setting {setting.name}")
            else:
                others.append(setting.name)
        return frozenset(reads), tuple(dict.fromkeys(others))

    def _fault(self, name: tuple[str, str]) -> str | None:
        """Say why a function cannot be evaluated once for each cohort, if that is so."""
        function = self.functions.get(name)
        if function is None:
            return "is not known"
        for fault, text in (
            (function.kind != "f", "is no plain function"),
            (function.overloads > 1, "has several functions of its name beside it"),
            (not function.executable, "may not be executed by the role"),
            (function.volatility == "v" and self._wrapper(name) is None,
             "is VOLATILE: declare it STABLE"),
        ):  # fmt: skip
            if fault:
                return text
        return None

    def _wrapper(self, name: tuple[str, str]) -> ClosedExpression | None:
        """Read the body of a function that only computes from settings."""
        function = self.functions.get(name)
        if (
            function is None
            or function.body is None
            or function.kind != "f"
            or function.overloads > 1
            or function.set
            or not function.executable
            or function.arguments
        ):
            return None
        try:
            return read_wrapper(function.body)
        except UnreadableError:
            return None

    def _number(self, expression: SettingExpression) -> int:
        if expression not in self.found:
            self.found.append(expression)
        return self.found.index(expression)


def _as_written(name: str) -> str:
    """Quote a name, unless it is one that needs no quotes."""
    is_plain = re.fullmatch(r"[a-z_][a-z0-9_]*", name) is not None
    return name if is_plain else '"' + name.replace('"', '""') + '"'


def tuples_of(expressions: Sequence[SettingExpression]) -> list[tuple[str, ...]]:
    """List the combinations of columns that expressions are given, in order."""
    return list(dict.fromkeys(e.columns for e in expressions if e.columns))


_NO_OPERANDS: Final = (
    "and", "or", "not", "is", "in", "any", "all", "some", "select", "from", "where", "on", "as",
    "when", "then", "else", "end", "by", "having",
)  # fmt: skip
_NOTHING: Final = ClosedExpression(
    "", frozenset(), frozenset(), frozenset(), frozenset(), frozenset(), (), True, False
)


def _is_among(table: Token, column: str, setting: Token) -> list[Token]:
    quoted = quote_name(column)
    return [
        Token("mark", "(", "("), Token("mark", "(", "("), table, Token("mark", ".", "."),
        Token("quoted", quoted, column), Token("operator", "=", "="), Token("name", "ANY", "any"),
        Token("mark", "(", "("), setting, Token("mark", ")", ")"), Token("mark", ")", ")"),
        Token("name", "IS", "is"), Token("name", "TRUE", "true"), Token("mark", ")", ")"),
    ]  # fmt: skip


_ARROWS: Final = ("->", "->>", "#>", "#>>")


def read_wrapper(body: str) -> ClosedExpression:
    """Read the body of a function that computes from settings alone, in SQL or PL/pgSQL.

    It may use casts, NULLIF, COALESCE and the arrow operators of json. Raises `UnreadableError` for
    anything else.
    """
    tokens = tokenize(body)
    if tokens and tokens[-1].is_mark(";"):
        tokens.pop()
    if tokens and tokens[0].is_word("begin"):
        tokens = tokens[1:]
        if tokens and tokens[0].is_word("atomic"):
            tokens = tokens[1:]
        if tokens and tokens[-1].is_word("end"):
            tokens.pop()
        if tokens and tokens[-1].is_mark(";"):
            tokens.pop()
    if not tokens or not tokens[0].is_word("select", "return"):
        raise UnreadableError("its body is not a single SELECT")
    tokens = tokens[1:]
    if len(tokens) > 2 and tokens[-2].is_word("as") and tokens[-1].kind in ("name", "quoted"):
        tokens = tokens[:-2]
    depth = 0
    for token in tokens:
        depth += (token.text in ("(", "[")) - (token.text in (")", "]"))
        if (depth == 0 and token.is_mark(",")) or (
            token.kind == "operator" and token.text not in _ARROWS
        ):
            raise UnreadableError("its body is more than settings, casts, NULLIF and COALESCE")
    closed = read_closed(tokens)
    if (
        not closed.settings or closed.calls or closed.builtins or closed.tables
        or not closed.is_timeless or closed.reads_session
    ):  # fmt: skip
        raise UnreadableError("its body is more than settings, casts, NULLIF and COALESCE")
    return closed


def _folded(name: str) -> str:
    """Fold a setting's name as Postgres does: ASCII letters only."""
    return name.encode().lower().decode()
