"""Reading expressions in tokens: operands, types, literals, and splitting at AND and OR.

The text comes from `pg_get_expr`, which puts every operator in parentheses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gateway.visibility.joined.lexer import CLOSE, OPEN, Token, UnreadableError, word

if TYPE_CHECKING:
    from collections.abc import Sequence

_TYPES: Final = {
    "text": "text", "character varying": "varchar", "varchar": "varchar", "name": "name",
    "json": "json", "jsonb": "jsonb", "uuid": "uuid", "boolean": "bool", "bool": "bool",
    "smallint": "int2", "int2": "int2", "integer": "int4", "int": "int4", "int4": "int4",
    "bigint": "int8", "int8": "int8", "numeric": "numeric", "decimal": "numeric",
    "real": "float4", "float4": "float4", "double precision": "float8", "float8": "float8",
    "inet": "inet", "cidr": "cidr", "macaddr": "macaddr", "bytea": "bytea", "date": "date",
    "interval": "interval", "time without time zone": "time", "time with time zone": "timetz",
    "timestamp with time zone": "timestamptz", "timestamptz": "timestamptz",
    "timestamp without time zone": "timestamp", "timestamp": "timestamp",
}  # fmt: skip
"""Built-in types: the names that Postgres and users write, and the name in pg_catalog."""

_CLAUSES: Final = ("where", "group", "having", "order", "limit", "offset",
                   "union", "intersect", "except")  # fmt: skip
_JOINS: Final = ("from", "join", "lateral", "cross", "inner", "left", "right", "full", "outer")

# A parenthesis after one of these only groups; it is not a call.
_GROUPING: Final = frozenset(
    {
        "and", "or", "not", "select", "where", "on", "then", "else", "when", "case", "is", "like",
        "ilike", "having", "from", "by",
    }
)  # fmt: skip


def split(tokens: Sequence[Token], operator: str) -> list[list[Token]]:
    """Split at each top-level AND or OR, after removing parentheses around the whole."""
    tokens = unwrap(tokens)
    parts: list[list[Token]] = [[]]
    depth = 0
    for token in tokens:
        if token.is_mark("(") or token.is_mark("[") or token.is_word("case"):
            depth += 1
        elif token.is_mark(")") or token.is_mark("]") or token.is_word("end"):
            depth -= 1
        if depth == 0 and token.is_word(operator):
            parts.append([])
        else:
            parts[-1].append(token)
    if depth or not all(parts):
        raise UnreadableError("its parentheses do not match")
    return parts


def glued(operator: str, conditions: Sequence[Sequence[Token]]) -> list[Token]:
    """Put conditions together by AND or OR."""
    tokens: list[Token] = []
    for condition in conditions:
        tokens += [*([word(operator.upper())] if tokens else []), OPEN, *condition, CLOSE]
    return tokens


def unwrap(tokens: Sequence[Token]) -> list[Token]:
    """Remove parentheses around the whole."""
    inner = list(tokens)
    while len(inner) > 2 and inner[0].is_mark("(") and closing(inner, 0) == len(inner) - 1:
        inner = inner[1:-1]
    return inner


def closing(tokens: Sequence[Token], at: int) -> int:
    depth = 0
    for place in range(at, len(tokens)):
        if tokens[place].text in ("(", "["):
            depth += 1
        elif tokens[place].text in (")", "]"):
            depth -= 1
            if depth == 0:
                return place
    raise UnreadableError("its parentheses do not match")


def may_start(tokens: Sequence[Token], at: int) -> bool:
    """Return whether an operand can start here: not in the middle of a name or at arguments."""
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


def operand_end(tokens: Sequence[Token], at: int) -> int:
    """Return the position after the operand that starts here, with its casts and subscripts.

    Operators are not part of an operand: `pg_get_expr` puts each operator and its operands in
    parentheses, which together are an operand. Raises `UnreadableError`.
    """
    token = tokens[at]
    if token.is_mark("("):
        end = closing(tokens, at) + 1
    elif token.is_word("case"):
        end = _case_end(tokens, at)
    else:
        end = at + 1
        while _is_at(tokens, end, ".") and end + 1 < len(tokens):
            end += 2
        if (token.kind in ("name", "quoted") and _is_at(tokens, end, "(")) or (
            token.is_word("array") and _is_at(tokens, end, "[")
        ):
            end = closing(tokens, end) + 1
    while True:
        if _is_at(tokens, end, "::"):
            end = type_end(tokens, end + 1)
        elif _is_at(tokens, end, "["):
            end = closing(tokens, end) + 1
        elif _is_at(tokens, end, ".") and end + 1 < len(tokens):
            end += 2
        else:
            return end


def type_end(tokens: Sequence[Token], at: int) -> int:
    """Return the position after the name of a type, with its modifier and array brackets."""
    end = at + 1
    if _is_at(tokens, end, "."):
        end += 2
    else:
        for length in (4, 2):
            words = tokens[at : at + length]
            if len(words) == length and " ".join(word.value for word in words) in _TYPES:
                end = at + length
                break
    if _is_at(tokens, end, "("):
        end = closing(tokens, end) + 1
    while _is_at(tokens, end, "[") and _is_at(tokens, end + 1, "]"):
        end += 2
    return end


def qualified_type(tokens: Sequence[Token]) -> str | None:
    """Write the name of a type so that no search path can change it; None if it is not known.

    Types outside pg_catalog are already qualified. A type with a modifier counts as unknown.
    """
    dimensions = ""
    while len(tokens) > 2 and tokens[-1].is_mark("]") and tokens[-2].is_mark("["):
        tokens = tokens[:-2]
        dimensions = "[]"
    if len(tokens) == 3 and tokens[1].is_mark("."):
        return "".join(token.text for token in tokens) + dimensions
    is_plain = all(token.kind == "name" for token in tokens)
    name = _TYPES.get(" ".join(token.value for token in tokens)) if is_plain else None
    return None if name is None else f"pg_catalog.{name}{dimensions}"


def places_of_tables(tokens: Sequence[Token]) -> frozenset[int]:
    """Find the positions in FROM clauses that hold a table and not an expression."""
    found: set[int] = set()
    # For each open parenthesis: whether it contains a SELECT, and whether tables follow here.
    frames = [[False, False]]
    for place, token in enumerate(tokens):
        has_select, in_tables = frames[-1]
        if in_tables:
            found.add(place)
        if token.text in ("(", "["):
            before = tokens[place - 1] if place else None
            is_join = in_tables and before is not None and (
                before.is_word(*_JOINS) or before.text in (",", "(")
            )  # fmt: skip
            frames.append([False, is_join])
        elif token.text in (")", "]"):
            if len(frames) > 1:
                frames.pop()
        elif token.is_word("select"):
            frames[-1] = [True, False]
            found.discard(place)
        elif token.is_word("from") and has_select:
            frames[-1][1] = True
        elif token.is_word(*_CLAUSES):
            frames[-1][1] = False
    return frozenset(found)


def _case_end(tokens: Sequence[Token], at: int) -> int:
    depth = 0
    for place in range(at, len(tokens)):
        depth += tokens[place].is_word("case") - tokens[place].is_word("end")
        if depth == 0:
            return place + 1
    raise UnreadableError("a CASE does not end")


def _is_at(tokens: Sequence[Token], at: int, mark: str) -> bool:
    return at < len(tokens) and tokens[at].is_mark(mark)
