"""Conditions beside those of policies, by which Postgres finds the few pairs that may satisfy them.

A policy may tie the row to the cohort in a subquery that Postgres evaluates for each pair, or one
that has all values of all cohorts:

    (SELECT m.level FROM m WHERE m.user = <cohort> AND m.team = row.team) > 0
    row.project IN (SELECT p.id FROM p JOIN m ON ... WHERE m.user = <cohort>)

The first can be true only if the subquery has a row, since Postgres' comparisons with NULL are not
true. So `EXISTS (SELECT FROM m WHERE ...)` is put beside it, which Postgres can join: instead of
200,000 subqueries for 10,000 cohorts and 20 images, there are as many as pairs have a row. Of the
values of the second only those matter that an image has in the column. So that is demanded within
the subquery, as `(p.id IN (SELECT ... the images)) IS TRUE`, which Postgres looks up in a hash
table for each row; without IS TRUE it would turn it into one more join, and choose a worse order.

Neither makes a condition true that is not, or the other way round; what was NULL may become false.
So this is done only where a condition is joined to others by the top-level ANDs and ORs of a
policy. A subquery with several rows still raises for each pair for which it has them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gateway.visibility.joined.expressions import closing, glued, operand_end, split, unwrap
from gateway.visibility.joined.lexer import CLOSE, OPEN, Token, UnreadableError, word
from gateway.visibility.quoting import quote_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from collections.abc import Set as AbstractSet

_COMPARISONS: Final = frozenset(("=", "<>", "<", ">", "<=", ">="))
_OTHER_CLAUSES: Final = ("group", "having", "window", "union", "intersect", "except", "distinct",
                         "offset", "fetch", "limit", "order", "with", "for")  # fmt: skip
_DOT: Final = Token("mark", ".", ".")


class Narrowing:
    """Narrows conditions on pairs.

    `columns` are those of the images, which stand in the statement's table `images`; `table` is the
    name that the policies' text has for the row.
    """

    def __init__(
        self,
        columns: AbstractSet[str],
        *,
        table: str,
        images: str,
        cannot_raise: Callable[[Sequence[Token]], bool],
    ) -> None:
        self._columns = columns
        self._table = table
        self._images = images
        self._cannot_raise = cannot_raise

    def narrowed(self, condition: Sequence[Token]) -> list[Token]:
        """Return the condition with what follows from it; the same if nothing is known to help."""
        try:
            return self._narrowed(condition)
        except UnreadableError:
            return list(condition)

    def _narrowed(self, condition: Sequence[Token]) -> list[Token]:
        if not unwrap(condition)[0].is_word("select"):
            for operator in ("or", "and"):
                parts = split(condition, operator)
                if len(parts) > 1:
                    narrowed = [self._narrowed(part) for part in parts]
                    return list(condition) if narrowed == parts else glued(operator, narrowed)
        return self._compared(condition) or self._contained(condition) or list(condition)

    def _compared(self, condition: Sequence[Token]) -> list[Token] | None:
        """Narrow a subquery that is compared with something, or is a condition itself."""
        tokens = unwrap(condition)
        if tokens[0].is_word("select"):
            row = _row_of(tokens)
        else:
            middle = operand_end(tokens, 0)
            if middle >= len(tokens) - 1 or tokens[middle].text not in _COMPARISONS:
                return None
            if operand_end(tokens, middle + 1) != len(tokens):
                return None
            sides = tokens[:middle], tokens[middle + 1 :]
            row = None
            for side, other in (sides, sides[::-1]):
                if side[0].is_mark("(") and closing(side, 0) == len(side) - 1:
                    query = unwrap(side)
                    if query[0].is_word("select") and self._cannot_raise(other):
                        row = row or _row_of(query)
        if row is None or not any(token.kind == "setting" for token in row):
            return None
        exists = [word("EXISTS"), OPEN, word("SELECT"), *row, CLOSE]
        return glued("and", [exists, condition])

    def _contained(self, condition: Sequence[Token]) -> list[Token] | None:
        """Narrow the set, out of several tables, that a column of the row is to be in."""
        tokens = unwrap(condition)
        middle = operand_end(tokens, 0)
        start = middle + 1
        if start >= len(tokens) or not tokens[middle].is_word("in"):
            return None
        column = self._column(tokens[:middle])
        if column is None or closing(tokens, start) != len(tokens) - 1:
            return None
        query = tokens[start + 1 : -1]
        places = _clauses(query)
        if places is None or not any(t.is_word("join") or t.is_mark(",") for t in query):
            return None
        begin, end = places
        value = query[1:begin]
        if len(value) != 3 or not value[1].is_mark("."):
            return None
        images = word(self._images)
        name = Token("quoted", quote_name(column), column)
        values = [OPEN, word("SELECT"), images, _DOT, name, word("FROM"), images, CLOSE]
        wanted = [OPEN, *value, word("IN"), *values, CLOSE, word("IS"), word("TRUE")]
        conditions = [query[end + 1 :], wanted] if end < len(query) else [wanted]
        narrowed = [*query[:end], word("WHERE"), *glued("and", conditions)]
        return [*tokens[: start + 1], *narrowed, CLOSE]

    def _column(self, tokens: Sequence[Token]) -> str | None:
        if len(tokens) == 3 and tokens[0].value == self._table and tokens[1].is_mark("."):
            tokens = tokens[2:]
        is_column = len(tokens) == 1 and tokens[0].may_name_column
        return tokens[0].value if is_column and tokens[0].value in self._columns else None


def _row_of(query: Sequence[Token]) -> list[Token] | None:
    """Return the FROM and WHERE clauses of a subquery of one column as it is in a row."""
    places = _clauses(query)
    if places is None or places[0] != 4 or not query[2].is_mark("."):
        return None
    return list(query[places[0] :])


def _clauses(query: Sequence[Token]) -> tuple[int, int] | None:
    """Find FROM, and WHERE or the end, in a SELECT that has no other clauses; else None."""
    depth = 0
    places: dict[str, int] = {}
    for place, token in enumerate(query):
        if depth == 0 and token.is_word(*_OTHER_CLAUSES):
            return None
        if depth == 0 and token.is_word("from", "where"):
            places.setdefault(token.value, place)
        depth += (token.text in ("(", "[")) - (token.text in (")", "]"))
    if not query[0].is_word("select") or "from" not in places:
        return None
    return places["from"], places.get("where", len(query))
