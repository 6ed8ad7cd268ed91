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
from gateway.visibility.joined.lexer import Token, UnreadableError, tokenize

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_TYPES: Final = {
    "text": "text", "character varying": "text", "varchar": "text",
    "json": "json", "jsonb": "jsonb", "uuid": "uuid", "boolean": "boolean", "bool": "boolean",
    "smallint": "smallint", "int2": "smallint", "integer": "integer", "int": "integer",
    "int4": "integer", "bigint": "bigint", "int8": "bigint", "numeric": "numeric",
    "real": "real", "double precision": "double precision", "date": "date", "inet": "inet",
    "timestamp with time zone": "timestamp with time zone",
    "timestamp without time zone": "timestamp without time zone",
}  # fmt: skip
_JSON: Final = ("json", "jsonb")

VALIDATION: Final = "pg_input_is_valid"
"""The function of Postgres (from 16 on) that tells whether a cast from text would raise."""

# Before a parenthesis these do not call anything: it only groups.
_GROUPING: Final = frozenset(
    {
        "and", "or", "not", "select", "where", "on", "then", "else", "when", "case", "is", "like",
        "ilike", "having", "from", "by",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Claim:
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
class Claims:
    """The claims of a table's policies; equal ones are one column."""

    wrappers: Mapping[tuple[str, str], Claim] = field(default_factory=dict)
    found: list[Claim] = field(default_factory=list)

    def take_from(self, tokens: Sequence[Token]) -> list[Token]:
        """Replace the claims in a policy's tokens by tokens of kind claim, valued by number.

        Raises `UnreadableError` where a setting is read in a way that is not understood.
        """
        out: list[Token] = []
        at = 0
        while at < len(tokens):
            claim, end = (None, at)
            if _may_start(tokens, at):
                claim, end = _postfix(tokens, at, self.wrappers)
            if claim is not None and claim.is_setting:
                out.append(Token("claim", "", str(self._number(claim))))
                at = end
            else:
                out.append(tokens[at])
                at += 1
        for token, following in pairwise(out):
            if token.value == "current_setting" and following.is_mark("("):
                raise UnreadableError("it reads a setting that is not named plainly")
        return out

    def _number(self, claim: Claim) -> int:
        if claim not in self.found:
            self.found.append(claim)
        return self.found.index(claim)


def read_wrapper(body: str, returns: str) -> Claim:
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
        end = _alias(tokens, end)
    if claim is None or end != len(tokens) or not claim.is_setting:
        raise UnreadableError("its body is more than settings, casts, NULLIF and COALESCE")
    known = _TYPES.get(returns)
    if known is None:
        raise UnreadableError(f"it returns {returns}")
    if claim.type == known:
        return claim
    cast = _cast(claim, known) if known == "text" else None  # coerced as in an assignment
    if cast is not None:
        return cast
    raise UnreadableError(f"it returns {returns} by an implicit cast")


def split(tokens: Sequence[Token], word: str) -> list[list[Token]]:
    """Split at a top-level AND or OR, after taking off parentheses around the whole."""
    tokens = unwrap(tokens)
    parts: list[list[Token]] = [[]]
    depth = 0
    for token in tokens:
        if token.is_mark("(") or token.is_mark("[") or token.is_word("case"):
            depth += 1
        elif token.is_mark(")") or token.is_mark("]") or token.is_word("end"):
            depth -= 1
        if depth == 0 and token.is_word(word):
            parts.append([])
        else:
            parts[-1].append(token)
    if depth or not all(parts):
        raise UnreadableError("its parentheses do not match")
    return parts


def unwrap(tokens: Sequence[Token]) -> list[Token]:
    """Take off parentheses around the whole."""
    inner = list(tokens)
    while len(inner) > 2 and inner[0].is_mark("(") and _closing(inner, 0) == len(inner) - 1:
        inner = inner[1:-1]
    return inner


def _closing(tokens: Sequence[Token], at: int) -> int:
    depth = 0
    for place in range(at, len(tokens)):
        if tokens[place].is_mark("("):
            depth += 1
        elif tokens[place].is_mark(")"):
            depth -= 1
            if depth == 0:
                return place
    raise UnreadableError("its parentheses do not match")


def _may_start(tokens: Sequence[Token], at: int) -> bool:
    """Tell whether an operand can start here: not in the middle of a name, nor at arguments."""
    if at == 0:
        return True
    before = tokens[at - 1]
    if before.is_mark(".") or before.is_mark("::"):
        return False
    if not tokens[at].is_mark("("):
        return True
    if before.kind == "name":
        return before.value in _GROUPING
    return before.kind == "operator" or before.text in ("(", "[", ",")


_Found = tuple["Claim | None", int]


def _postfix(tokens: Sequence[Token], at: int, wrappers: Mapping[tuple[str, str], Claim]) -> _Found:
    """Read an operand with the casts and arrows behind it, as far as they are understood."""
    claim, at = _primary(tokens, at, wrappers)
    while claim is not None and at < len(tokens):
        following: Claim | None = None
        end = at
        if tokens[at].is_mark("::"):
            type_, end = _type(tokens, at + 1)
            following = None if type_ is None else _cast(claim, type_)
        elif tokens[at].is_mark("->") or tokens[at].is_mark("->>"):
            key, end = _key(tokens, at + 1)
            following = None if key is None else _arrow(claim, tokens[at].text, key)
        if following is None:
            break
        claim, at = following, end
    return claim, at


def _primary(  # noqa: PLR0911 (one return for each kind of operand)
    tokens: Sequence[Token], at: int, wrappers: Mapping[tuple[str, str], Claim]
) -> _Found:
    token = tokens[at] if at < len(tokens) else None
    if token is None:
        return None, at
    if token.kind == "string" and token.text.startswith("'"):
        return Claim(_literal(token.value), "text"), at + 1
    if token.is_mark("("):
        return _group(tokens, at, wrappers)
    if token.is_word("current_setting") and _is_call(tokens, at):
        return _setting(tokens, at)
    if token.is_word("pg_catalog") and tokens[at + 1 : at + 2] and tokens[at + 1].is_mark("."):
        return _primary(tokens, at + 2, {}) if _is_call(tokens, at + 2) else (None, at)
    if token.is_word("nullif", "coalesce") and _is_call(tokens, at):
        return _choice(tokens, at, wrappers)
    if token.is_word("cast") and _is_call(tokens, at):
        return _cast_call(tokens, at, wrappers)
    if token.kind in ("name", "quoted") and len(tokens) > at + 4:
        dot, name, opening, closing = tokens[at + 1 : at + 5]
        if dot.is_mark(".") and opening.is_mark("(") and closing.is_mark(")"):
            return wrappers.get((token.value, name.value)), at + 5
    return None, at


def _group(tokens: Sequence[Token], at: int, wrappers: Mapping[tuple[str, str], Claim]) -> _Found:
    start = at + 1
    is_select = start < len(tokens) and tokens[start].is_word("select")
    claim, end = _postfix(tokens, start + is_select, wrappers)
    if claim is not None and is_select:
        end = _alias(tokens, end)
    if claim is None or end >= len(tokens) or not tokens[end].is_mark(")"):
        return None, at
    return claim, end + 1


def _alias(tokens: Sequence[Token], at: int) -> int:
    """Pass over `AS name` behind a selected expression."""
    if (
        at + 1 < len(tokens)
        and tokens[at].is_word("as")
        and tokens[at + 1].kind in ("name", "quoted")
    ):
        return at + 2
    return at


def _setting(tokens: Sequence[Token], at: int) -> _Found:
    end = _closing(tokens, at + 1)
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
        return Claim(f"{{{number}}}", "text", reads=frozenset({number}), is_setting=True), end + 1
    if "." in name and rest == [",", "true"]:
        # Nobody sets it here, so it is the same for all: what the database has it set to, or NULL.
        sql = f"pg_catalog.current_setting({_literal(name)}, true)"
        return Claim(sql, "text", is_setting=True), end + 1
    return None, at


def _choice(tokens: Sequence[Token], at: int, wrappers: Mapping[tuple[str, str], Claim]) -> _Found:
    word = tokens[at].value
    members: list[Claim] = []
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
    tokens: Sequence[Token], at: int, wrappers: Mapping[tuple[str, str], Claim]
) -> _Found:
    claim, end = _postfix(tokens, at + 2, wrappers)
    if claim is None or end >= len(tokens) or not tokens[end].is_word("as"):
        return None, at
    type_, end = _type(tokens, end + 1)
    if type_ is None or end >= len(tokens) or not tokens[end].is_mark(")"):
        return None, at
    cast = _cast(claim, type_)
    return (cast, end + 1) if cast is not None else (None, at)


def _type(tokens: Sequence[Token], at: int) -> tuple[str | None, int]:
    """Read the name of a plain type, without modifiers and array brackets."""
    for length in (4, 2, 1):
        words = tokens[at : at + length]
        name = " ".join(t.value for t in words if t.kind == "name")
        if len(words) == length and name.count(" ") == length - 1 and name in _TYPES:
            end = at + length
            if end < len(tokens) and (tokens[end].is_mark("(") or tokens[end].is_mark("[")):
                return None, at
            return _TYPES[name], end
    return None, at


def _key(tokens: Sequence[Token], at: int) -> tuple[str | None, int]:
    """Read what stands behind an arrow: a string or a number, perhaps with its type."""
    if at >= len(tokens):
        return None, at
    token = tokens[at]
    if token.kind == "string" and token.text.startswith("'"):
        key = f"{_literal(token.value)}::pg_catalog.text"
    elif token.kind == "number" and token.text.isdigit() and len(token.text) < 9:
        key = f"{token.text}::pg_catalog.int4"
    else:
        return None, at
    end = at + 1
    if end < len(tokens) and tokens[end].is_mark("::"):
        type_, end = _type(tokens, end + 1)
        if type_ != ("text" if token.kind == "string" else "integer"):
            return None, at
    return key, end


def _cast(claim: Claim, type_: str) -> Claim | None:
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


def _arrow(claim: Claim, arrow: str, key: str) -> Claim | None:
    if claim.type not in _JSON:
        return None
    type_ = claim.type if arrow == "->" else "text"
    return replace(claim, sql=f"({claim.sql} OPERATOR(pg_catalog.{arrow}) {key})", type=type_)


def _combine(sql: str, type_: str, members: Sequence[Claim]) -> Claim:
    conditions = sorted({member.valid for member in members} - {"true"})
    valid = " AND ".join(f"({condition})" for condition in conditions) or "true"
    reads = frozenset[int]().union(*(member.reads for member in members))
    return Claim(sql, type_, valid, reads, any(member.is_setting for member in members))


def _qualified(type_: str) -> str:
    internal = {
        "boolean": "bool", "smallint": "int2", "integer": "int4", "bigint": "int8",
        "real": "float4", "double precision": "float8",
        "timestamp with time zone": "timestamptz", "timestamp without time zone": "timestamp",
    }  # fmt: skip
    return f"pg_catalog.{internal.get(type_, type_)}"


def _literal(value: str) -> str:
    # Braces are for the settings.
    return "'" + value.replace("'", "''").replace("{", "{{").replace("}", "}}") + "'"


def _is_call(tokens: Sequence[Token], at: int) -> bool:
    return at + 1 < len(tokens) and tokens[at + 1].is_mark("(")
