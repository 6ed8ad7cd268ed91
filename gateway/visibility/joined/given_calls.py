"""A call of a function that is given columns of the row, as an expression of these columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gateway.visibility.joined.closed_expressions import ClosedExpression, read_closed
from gateway.visibility.joined.lexer import Token, UnreadableError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

GIVEN: Final = "ayb_given"
"""The table whose columns c0, c1 ... stand for the columns of the row."""


def called(tokens: Sequence[Token], at: int) -> tuple[str, str] | None:
    """Return schema and name of the function whose call starts here, if one does."""
    if (
        at + 3 < len(tokens)
        and all(tokens[at + n].kind in ("name", "quoted") for n in (0, 2))
        and tokens[at + 1].is_mark(".")
        and tokens[at + 3].is_mark("(")
        and not (at > 0 and tokens[at - 1].is_mark("."))
    ):
        return tokens[at].value, tokens[at + 2].value
    return None


def read_given(
    tokens: Sequence[Token], table: str, columns: Collection[str]
) -> tuple[ClosedExpression, tuple[str, ...]]:
    """Read an expression that has no other columns than those of the row.

    Returns it with columns of `GIVEN` in their place, and the columns in that order. Raises
    `UnreadableError` where it is anything else.
    """
    given: list[str] = []
    out: list[Token] = []
    at = 0
    while at < len(tokens):
        length = _column_at(tokens, at, table, columns)
        if tokens[at].value == GIVEN:
            raise UnreadableError(f"it uses the name {GIVEN}")
        if not length:
            out.append(tokens[at])
            at += 1
            continue
        name = tokens[at + length - 1].value
        if name not in given:
            given.append(name)
        column = f"c{given.index(name)}"
        out += [Token("name", GIVEN, GIVEN), Token("mark", ".", "."), Token("name", column, column)]
        at += length
    if not given:
        raise UnreadableError("it uses no column of the row")
    return read_closed(out, GIVEN), tuple(given)


def _column_at(tokens: Sequence[Token], at: int, table: str, columns: Collection[str]) -> int:
    """Return how many tokens a column of the row takes here: `column` or `table.column`, else 0."""
    for length in (3, 1):
        name = tokens[at : at + length]
        if (
            len(name) == length
            and all(token.may_name_column for token in name[::2])
            and name[-1].value in columns
            and (length == 1 or (name[0].value == table and name[1].is_mark(".")))
            and not (at > 0 and (tokens[at - 1].is_mark(".") or tokens[at - 1].is_mark("::")))
            and not (at + length < len(tokens) and tokens[at + length].text in (".", "("))
        ):
            return length
    return 0
