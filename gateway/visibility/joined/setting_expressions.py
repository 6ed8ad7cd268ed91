"""Policy text, rewritten so that it can be asked for many cohorts at once.

What a policy computes from settings alone, for example
`(NULLIF(current_setting('request.jwt.claims', true), '')::json ->> 'sub')::uuid`, is a *claim*: it
becomes a column of the table of cohorts, computed once for each. Only what is recognised whole is
taken: settings, literals, NULLIF, COALESCE, casts to plain types, `->` and `->>`, a SELECT of such
an expression and nothing else, and functions whose body is no more than that.

With a claim comes a condition that is true only where computing it does not raise, and that never
raises itself (`pg_input_is_valid`, Postgres 16).

The text comes from `pg_get_expr`, which puts every operator in parentheses; names of columns of the
policy's own table stand alone at the top, and behind the table's name in subqueries.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from gateway.visibility.cohorts import KNOWN_SETTINGS
from gateway.visibility.joined.expressions import (
    TYPES,
    closing,
    is_call,
    literal,
    may_start,
    read_key,
    read_type,
    skip_alias,
)
from gateway.visibility.joined.lexer import Token, UnreadableError, tokenize

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_JSON: Final = ("json", "jsonb")

VALIDATION: Final = "pg_input_is_valid"
"""The function of Postgres (from 16 on) that tells whether a cast from text would raise."""


@dataclass(frozen=True, slots=True)
class SettingExpression:
    """An expression of settings alone.

    `sql` has the settings as `{0}` to `{3}` (to be formatted in); `valid` likewise is a condition
    that is true only if computing it does not raise. `type` is the name of its type, literals
    are text. `reads` are the numbers of the known settings in it; `is_setting` tells that it reads
    any setting at all.
    """

    sql: str
    type: str
    valid: str = "true"
    reads: frozenset[int] = frozenset()
    is_setting: bool = False


@dataclass(slots=True)
class SettingCollector:
    """The claims of a table's policies; equal ones are one column."""

    wrappers: Mapping[tuple[str, str], SettingExpression] = field(default_factory=dict)
    found: list[SettingExpression] = field(default_factory=list)

    def replace_in(self, tokens: Sequence[Token]) -> list[Token]:
        """Replace the claims in a policy's tokens by tokens of kind claim, valued by number.

        Raises `UnreadableError` where a setting is read in a way that is not understood.
        """
        out: list[Token] = []
        at = 0
        while at < len(tokens):
            claim, end = (None, at)
            if may_start(tokens, at):
                claim, end = _postfix(tokens, at, self.wrappers)
            if claim is not None and claim.is_setting:
                out.append(Token("setting", "", str(self._number(claim))))
                at = end
            else:
                out.append(tokens[at])
                at += 1
        for token, following in pairwise(out):
            if token.value == "current_setting" and following.is_mark("("):
                raise UnreadableError("it reads a setting that is not named plainly")
        return out

    def _number(self, claim: SettingExpression) -> int:
        if claim not in self.found:
            self.found.append(claim)
        return self.found.index(claim)


def read_wrapper(body: str, returns: str) -> SettingExpression:
    """Read the body of an SQL function that is a claim; raise `UnreadableError` if it is none."""
    tokens = tokenize(body)
    if tokens and tokens[-1].is_mark(";"):
        tokens.pop()
    if tokens and tokens[0].is_word("begin") and tokens[1:2] and tokens[1].is_word("atomic"):
        tokens = tokens[2:]
        if tokens and tokens[-1].is_word("end"):
            tokens.pop()
        if tokens and tokens[-1].is_mark(";"):
            tokens.pop()
    if not tokens or not tokens[0].is_word("select", "return"):
        raise UnreadableError("its body is not a single SELECT")
    claim, end = _postfix(tokens, 1, {})
    if claim is not None and end < len(tokens):
        end = skip_alias(tokens, end)
    if claim is None or end != len(tokens) or not claim.is_setting:
        raise UnreadableError("its body is more than settings, casts, NULLIF and COALESCE")
    known = TYPES.get(returns)
    if known is None:
        raise UnreadableError(f"it returns {returns}")
    if claim.type == known:
        return claim
    cast = _cast(claim, known) if known == "text" else None  # coerced as in an assignment
    if cast is not None:
        return cast
    raise UnreadableError(f"it returns {returns} by an implicit cast")


_Found = tuple["SettingExpression | None", int]


def _postfix(
    tokens: Sequence[Token], at: int, wrappers: Mapping[tuple[str, str], SettingExpression]
) -> _Found:
    """Read an operand with the casts and arrows behind it, as far as they are understood."""
    claim, at = _primary(tokens, at, wrappers)
    while claim is not None and at < len(tokens):
        following: SettingExpression | None = None
        end = at
        if tokens[at].is_mark("::"):
            type_, end = read_type(tokens, at + 1)
            following = None if type_ is None else _cast(claim, type_)
        elif tokens[at].is_mark("->") or tokens[at].is_mark("->>"):
            key, end = read_key(tokens, at + 1)
            following = None if key is None else _arrow(claim, tokens[at].text, key)
        if following is None:
            break
        claim, at = following, end
    return claim, at


def _primary(  # noqa: PLR0911 (one return for each kind of operand)
    tokens: Sequence[Token], at: int, wrappers: Mapping[tuple[str, str], SettingExpression]
) -> _Found:
    token = tokens[at] if at < len(tokens) else None
    if token is None:
        return None, at
    if token.kind == "string" and token.text.startswith("'"):
        return SettingExpression(literal(token.value), "text"), at + 1
    if token.is_mark("("):
        return _group(tokens, at, wrappers)
    if token.is_word("current_setting") and is_call(tokens, at):
        return _setting(tokens, at)
    if token.is_word("pg_catalog") and tokens[at + 1 : at + 2] and tokens[at + 1].is_mark("."):
        return _primary(tokens, at + 2, {}) if is_call(tokens, at + 2) else (None, at)
    if token.is_word("nullif", "coalesce") and is_call(tokens, at):
        return _choice(tokens, at, wrappers)
    if token.is_word("cast") and is_call(tokens, at):
        return _cast_call(tokens, at, wrappers)
    if token.kind in ("name", "quoted") and len(tokens) > at + 4:
        dot, name, opening, closing = tokens[at + 1 : at + 5]
        if dot.is_mark(".") and opening.is_mark("(") and closing.is_mark(")"):
            return wrappers.get((token.value, name.value)), at + 5
    return None, at


def _group(
    tokens: Sequence[Token], at: int, wrappers: Mapping[tuple[str, str], SettingExpression]
) -> _Found:
    start = at + 1
    is_select = start < len(tokens) and tokens[start].is_word("select")
    claim, end = _postfix(tokens, start + is_select, wrappers)
    if claim is not None and is_select:
        end = skip_alias(tokens, end)
    if claim is None or end >= len(tokens) or not tokens[end].is_mark(")"):
        return None, at
    return claim, end + 1


def _setting(tokens: Sequence[Token], at: int) -> _Found:
    end = closing(tokens, at + 1)
    inner = list(tokens[at + 2 : end])
    if not inner or inner[0].kind != "string" or not inner[0].text.startswith("'"):
        return None, at
    name = inner[0].value.lower()
    rest = [t.value for t in inner[1:]]
    if rest[:2] == ["::", "text"]:
        rest = rest[2:]
    if rest not in ([], [",", "true"], [",", "false"]):
        return None, at
    if name in KNOWN_SETTINGS:
        number = KNOWN_SETTINGS.index(name)
        return SettingExpression(
            f"{{{number}}}", "text", reads=frozenset({number}), is_setting=True
        ), end + 1
    if "." in name and rest == [",", "true"]:
        # Nobody sets it here, so it is the same for all: what the database has it set to, or NULL.
        sql = f"pg_catalog.current_setting({literal(name)}, true)"
        return SettingExpression(sql, "text", is_setting=True), end + 1
    return None, at


def _choice(
    tokens: Sequence[Token], at: int, wrappers: Mapping[tuple[str, str], SettingExpression]
) -> _Found:
    word = tokens[at].value
    members: list[SettingExpression] = []
    end = at + 1
    while tokens[end].is_mark("(") or tokens[end].is_mark(","):
        claim, end = _postfix(tokens, end + 1, wrappers)
        if claim is None or end >= len(tokens):
            return None, at
        members.append(claim)
    types = {member.type for member in members}
    if not tokens[end].is_mark(")") or len(types) != 1 or types & set(_JSON):
        return None, at
    if word == "nullif" and len(members) != 2:
        return None, at
    sql = f"{word}({', '.join(member.sql for member in members)})"
    return _combine(sql, types.pop(), members), end + 1


def _cast_call(
    tokens: Sequence[Token], at: int, wrappers: Mapping[tuple[str, str], SettingExpression]
) -> _Found:
    claim, end = _postfix(tokens, at + 2, wrappers)
    if claim is None or end >= len(tokens) or not tokens[end].is_word("as"):
        return None, at
    type_, end = read_type(tokens, end + 1)
    if type_ is None or end >= len(tokens) or not tokens[end].is_mark(")"):
        return None, at
    cast = _cast(claim, type_)
    return (cast, end + 1) if cast is not None else (None, at)


def _cast(claim: SettingExpression, type_: str) -> SettingExpression | None:
    if claim.type == type_:
        return claim
    sql = f"({claim.sql})::{_qualified(type_)}"
    if type_ == "text":
        return replace(claim, sql=sql, type=type_)
    if claim.type != "text":
        return None
    # jsonb is stricter than json in what ->> can raise for: lone surrogates, \u0000.
    asked = "jsonb" if type_ == "json" else _qualified(type_).removeprefix("pg_catalog.")
    check = f"coalesce(pg_catalog.{VALIDATION}({claim.sql}, '{asked}'), true)"
    if type_ == "json":
        check += f" AND coalesce(pg_catalog.{VALIDATION}({claim.sql}, 'json'), true)"
    valid = (
        check if claim.valid == "true" else f"CASE WHEN {claim.valid} THEN {check} ELSE false END"
    )
    return replace(claim, sql=sql, type=type_, valid=valid)


def _arrow(claim: SettingExpression, arrow: str, key: str) -> SettingExpression | None:
    if claim.type not in _JSON:
        return None
    type_ = claim.type if arrow == "->" else "text"
    return replace(claim, sql=f"({claim.sql} OPERATOR(pg_catalog.{arrow}) {key})", type=type_)


def _combine(sql: str, type_: str, members: Sequence[SettingExpression]) -> SettingExpression:
    conditions = sorted({member.valid for member in members} - {"true"})
    valid = " AND ".join(f"({condition})" for condition in conditions) or "true"
    reads = frozenset[int]().union(*(member.reads for member in members))
    return SettingExpression(sql, type_, valid, reads, any(member.is_setting for member in members))


def _qualified(type_: str) -> str:
    internal = {
        "boolean": "bool", "smallint": "int2", "integer": "int4", "bigint": "int8",
        "real": "float4", "double precision": "float8",
        "timestamp with time zone": "timestamptz", "timestamp without time zone": "timestamp",
    }  # fmt: skip
    return f"pg_catalog.{internal.get(type_, type_)}"
