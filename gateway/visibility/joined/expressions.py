"""Reading expressions in tokens: operands, types, literals, and splitting at AND and OR.

The text comes from `pg_get_expr`, which puts every operator in parentheses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gateway.visibility.joined.lexer import Token, UnreadableError

if TYPE_CHECKING:
    from collections.abc import Sequence

TYPES: Final = {
    "text": "text", "character varying": "text", "varchar": "text",
    "json": "json", "jsonb": "jsonb", "uuid": "uuid", "boolean": "boolean", "bool": "boolean",
    "smallint": "smallint", "int2": "smallint", "integer": "integer", "int": "integer",
    "int4": "integer", "bigint": "bigint", "int8": "bigint", "numeric": "numeric",
    "real": "real", "double precision": "double precision", "date": "date", "inet": "inet",
    "timestamp with time zone": "timestamp with time zone",
    "timestamp without time zone": "timestamp without time zone",
}  # fmt: skip
"""Plain types by the names that Postgres and people write, with the name of each that is kept."""

# Before a parenthesis these do not call anything: it only groups.
_GROUPING: Final = frozenset(
    {
        "and", "or", "not", "select", "where", "on", "then", "else", "when", "case", "is", "like",
        "ilike", "having", "from", "by",
    }
)  # fmt: skip


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
    while len(inner) > 2 and inner[0].is_mark("(") and closing(inner, 0) == len(inner) - 1:
        inner = inner[1:-1]
    return inner


def closing(tokens: Sequence[Token], at: int) -> int:
    depth = 0
    for place in range(at, len(tokens)):
        if tokens[place].is_mark("("):
            depth += 1
        elif tokens[place].is_mark(")"):
            depth -= 1
            if depth == 0:
                return place
    raise UnreadableError("its parentheses do not match")


def may_start(tokens: Sequence[Token], at: int) -> bool:
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


def skip_alias(tokens: Sequence[Token], at: int) -> int:
    """Pass over `AS name` behind a selected expression."""
    if (
        at + 1 < len(tokens)
        and tokens[at].is_word("as")
        and tokens[at + 1].kind in ("name", "quoted")
    ):
        return at + 2
    return at


def read_type(tokens: Sequence[Token], at: int) -> tuple[str | None, int]:
    """Read the name of a plain type, without modifiers and array brackets."""
    for length in (4, 2, 1):
        words = tokens[at : at + length]
        name = " ".join(t.value for t in words if t.kind == "name")
        if len(words) == length and name.count(" ") == length - 1 and name in TYPES:
            end = at + length
            if end < len(tokens) and (tokens[end].is_mark("(") or tokens[end].is_mark("[")):
                return None, at
            return TYPES[name], end
    return None, at


def read_key(tokens: Sequence[Token], at: int) -> tuple[str | None, int]:
    """Read what stands behind an arrow: a string or a number, perhaps with its type."""
    if at >= len(tokens):
        return None, at
    token = tokens[at]
    if token.kind == "string" and token.text.startswith("'"):
        key = f"{literal(token.value)}::pg_catalog.text"
    elif token.kind == "number" and token.text.isdigit() and len(token.text) < 9:
        key = f"{token.text}::pg_catalog.int4"
    else:
        return None, at
    end = at + 1
    if end < len(tokens) and tokens[end].is_mark("::"):
        type_, end = read_type(tokens, end + 1)
        if type_ != ("text" if token.kind == "string" else "integer"):
            return None, at
    return key, end


def literal(value: str) -> str:
    # Braces are for the settings.
    return "'" + value.replace("'", "''").replace("{", "{{").replace("}", "}}") + "'"


def is_call(tokens: Sequence[Token], at: int) -> bool:
    return at + 1 < len(tokens) and tokens[at + 1].is_mark("(")
