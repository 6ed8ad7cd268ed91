"""An EXISTS over other tables with one equation on the row, as the set of values it may equal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gateway.visibility.joined.closed_expressions import ClosedExpression, read_closed
from gateway.visibility.joined.expressions import closing, operand_end, split, unwrap
from gateway.visibility.joined.lexer import CLOSE, OPEN, Token, UnreadableError, word

if TYPE_CHECKING:
    from collections.abc import Sequence

_OTHER_CLAUSES: Final = ("group", "having", "limit", "offset", "union", "intersect", "except",
                         "distinct")  # fmt: skip


def read_semijoin(tokens: Sequence[Token], table: str) -> tuple[ClosedExpression, str] | None:
    """Read `EXISTS (SELECT ... FROM ... WHERE ...)` with one equation that has a column of the row.

    Returns a closed SELECT of the equation's other side under the remaining conditions, and the
    column. For anything else, returns None or raises `UnreadableError`.
    """
    if not tokens[0].is_word("exists") or closing(tokens, 1) != len(tokens) - 1:
        return None
    source, conditions = _clauses(tokens[2:-1])
    closed: list[Token] = []
    equation: tuple[list[Token], str] | None = None
    for condition in conditions:
        try:
            read_closed(
                [
                    OPEN,
                    word("SELECT"),
                    word("true"),
                    *source,
                    word("WHERE"),
                    OPEN,
                    *condition,
                    CLOSE,
                    CLOSE,
                ]
            )
        except UnreadableError:
            if equation is not None:
                return None
            equation = _equation(condition, table)
            if equation is None:
                return None
        else:
            closed += [word("AND"), OPEN, *condition, CLOSE]
    if equation is None:
        return None
    inner, column = equation
    where = [word("WHERE"), OPEN, word("true"), *closed, CLOSE]
    return read_closed([OPEN, word("SELECT"), *inner, *source, *where, CLOSE]), column


def _clauses(tokens: Sequence[Token]) -> tuple[list[Token], list[list[Token]]]:
    """Split a SELECT into its FROM clause and the conditions of its WHERE clause.

    What it selects does not matter to an EXISTS, unless it is an aggregate, which makes a row of
    none, or a function that returns a set, which may make none of a row. So nothing may be called.
    """
    depth = 0
    places: dict[str, int] = {}
    for place, token in enumerate(tokens):
        if depth == 0 and token.is_word("from", "where"):
            places.setdefault(token.value, place)
        if depth == 0 and token.is_word(*_OTHER_CLAUSES):
            raise UnreadableError("it has other clauses")
        depth += (token.text in ("(", "[")) - (token.text in (")", "]"))
    if "from" not in places or "where" not in places:
        raise UnreadableError("it has no FROM, or no WHERE")
    if any(token.is_mark("(") for token in tokens[: places["from"]]):
        raise UnreadableError("what it selects may change its number of rows")
    return list(tokens[places["from"] : places["where"]]), split(
        tokens[places["where"] + 1 :], "and"
    )


def _equation(condition: Sequence[Token], table: str) -> tuple[list[Token], str] | None:
    """Read `column of the row = something else`, in either order."""
    tokens = unwrap(condition)
    middle = operand_end(tokens, 0)
    if middle >= len(tokens) or not tokens[middle].is_mark("="):
        return None
    if middle + 1 >= len(tokens) or operand_end(tokens, middle + 1) != len(tokens):
        return None
    one, other = tokens[:middle], tokens[middle + 1 :]
    for column, inner in ((one, other), (other, one)):
        if (
            len(column) == 3
            and column[0].kind in ("name", "quoted")
            and column[0].value == table
            and column[1].is_mark(".")
            and column[2].kind in ("name", "quoted")
        ):
            return inner, column[2].value
    return None
