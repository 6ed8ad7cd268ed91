"""Closed expressions: those that read nothing from the row, so they mean the same for every row.

A closed expression may call functions and read tables in subqueries of its own, but every column in
it belongs to one of those tables. It is rewritten with each operator, function and type qualified:
policies were bound to these when they were created, and no search path that is in force later, and
no object that is created later, can bind the expression to others.

Constructs that cannot be qualified (a row comparison, `IS DISTINCT FROM`, `CASE x WHEN`, a
collation, `USING`) cannot be read and raise `UnreadableError`, as does a column of the row. The
text comes from `pg_get_expr`, which qualifies columns inside subqueries with their table's alias
and never uses an alias twice along a chain of nested queries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gateway.visibility.joined.expressions import closing, qualified_type, type_end
from gateway.visibility.joined.lexer import Token, UnreadableError

if TYPE_CHECKING:
    from collections.abc import Sequence

_WORDS: Final = frozenset(
    ["and", "or", "not", "is", "null", "true", "false", "unknown", "case", "when", "then", "else",
     "end", "any", "all", "some"]
)  # fmt: skip
_SELECT_WORDS: Final = frozenset(
    ["select", "distinct", "where", "group", "by", "having", "order", "limit", "offset", "union",
     "intersect", "except", "asc", "desc", "nulls", "first", "last"]
)  # fmt: skip
_JOIN_WORDS: Final = frozenset(
    ["join", "left", "right", "full", "inner", "outer", "cross", "lateral"]
)
_BEHIND_TABLES: Final = ("on", "using", "natural", "tablesample")
_CALL_WORDS: Final = frozenset(
    ["coalesce", "nullif", "greatest", "least", "exists", "any", "all", "some", "array", "row",
     "and", "or", "not", "when", "then", "else", "case"]
)  # fmt: skip
_SESSION_WORDS: Final = frozenset(["current_user", "current_role", "session_user", "user"])
_TIME_WORDS: Final = frozenset(
    ["current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"]
)
_TIME_TYPES: Final = ("date", "time", "timetz", "timestamp", "timestamptz")


@dataclass(frozen=True, slots=True)
class Setting:
    """A call of current_setting with a plain name; `is_optional` if a missing setting is NULL."""

    name: str
    is_optional: bool


@dataclass(frozen=True, slots=True)
class ClosedExpression:
    """What a closed expression consists of; `sql` is its qualified text.

    `calls` are functions outside pg_catalog, `builtins` the names of those inside it. The `bare`
    ones appear outside any SELECT, where a set or an aggregate would belong to the enclosing query.
    `tables` are named as in the policy; `settings` are in order of appearance. `is_timeless` is
    false if it reads the clock or casts to a date or time type, whose input accepts words such as
    `now`.
    """

    sql: str
    calls: frozenset[tuple[str, str]]
    bare_calls: frozenset[tuple[str, str]]
    builtins: frozenset[str]
    bare_builtins: frozenset[str]
    tables: frozenset[str]
    settings: tuple[Setting, ...]
    is_timeless: bool
    reads_session: bool


def read_closed(tokens: Sequence[Token], given: str | None = None) -> ClosedExpression:
    """Read tokens that form a whole expression; raise `UnreadableError` if it is not closed.

    `given` is the name of a table outside the expression whose columns it may use.
    """
    reader = _Reader(tokens)
    if given is not None:
        reader.declared.add(given)
    reader.read(len(tokens))
    if not reader.used <= reader.declared:
        raise UnreadableError("it uses a column of the row")
    return ClosedExpression(
        " ".join(reader.out),
        frozenset(reader.calls),
        frozenset(reader.bare_calls),
        frozenset(reader.builtins),
        frozenset(reader.bare_builtins),
        frozenset(reader.tables),
        tuple(dict.fromkeys(reader.settings)),
        reader.is_timeless,
        reader.reads_session,
    )


class _Reader:
    def __init__(self, tokens: Sequence[Token]) -> None:
        self._tokens = tokens
        self._at = 0
        self._selects = 0
        self.out: list[str] = []
        self.calls: set[tuple[str, str]] = set()
        self.bare_calls: set[tuple[str, str]] = set()
        self.builtins: set[str] = set()
        self.bare_builtins: set[str] = set()
        self.tables: set[str] = set()
        self.settings: list[Setting] = []
        self.declared: set[str] = set()
        self.used: set[str] = set()
        self.is_timeless = True
        self.reads_session = False

    def read(self, end: int) -> None:
        """Read values up to a position."""
        while self._at < end:
            token = self._tokens[self._at]
            if token.kind in ("name", "quoted"):
                self._name(end)
            elif token.text in ("(", "["):
                self._group()
            elif token.is_mark("::"):
                self._type()
            elif token.kind == "operator":
                self._operator()
            elif token.is_mark("."):
                self._field()
            elif token.kind in ("string", "number") or token.is_mark(","):
                self._emit(token)
            else:
                raise UnreadableError(f"it uses {token.text}")

    def _emit(self, token: Token) -> None:
        self.out.append(token.text)
        self._at += 1

    def _peek(self, ahead: int = 0) -> Token:
        place = self._at + ahead
        return self._tokens[place] if place < len(self._tokens) else Token("mark", "", "")

    def _group(self) -> None:
        end = closing(self._tokens, self._at)
        self._emit(self._peek())
        if self._peek().is_word("select"):
            self._select(end)
        else:
            self.read(end)
        self._emit(self._tokens[end])

    def _select(self, end: int) -> None:
        self._selects += 1
        while self._at < end:
            token = self._peek()
            if token.is_word("from"):
                self._emit(token)
                self._from(end)
            elif token.is_word("as"):
                self._emit(token)
                self._emit(self._peek())
            elif token.is_word(*_SELECT_WORDS) or (
                token.is_word("all") and self._tokens[self._at - 1].is_word("union", "except")
            ):
                self._emit(token)
            else:
                self._value(end)
        self._selects -= 1

    def _value(self, end: int) -> None:
        """Read values up to the next word of the SELECT."""
        stop = self._at + 1
        depth = int(self._peek().text in ("(", "["))
        while stop < end:
            token = self._tokens[stop]
            if depth == 0 and token.is_word("from", "as", *_SELECT_WORDS):
                break
            depth += (token.text in ("(", "[")) - (token.text in (")", "]"))
            stop += 1
        self.read(stop)

    def _from(self, end: int) -> None:
        while self._at < end:
            token = self._peek()
            if token.is_word(*_SELECT_WORDS):
                return
            if token.is_word(*_JOIN_WORDS) or token.is_mark(","):
                self._emit(token)
            elif token.is_word("on"):
                self._emit(token)
                self._group()
            elif token.is_mark("("):
                self._table_group()
            else:
                self._table()

    def _table_group(self) -> None:
        end = closing(self._tokens, self._at)
        self._emit(self._peek())
        if self._peek().is_word("select"):
            self._select(end)
            self._emit(self._tokens[end])
            self._alias(None)
            return
        self._from(end)
        if self._at != end:
            raise UnreadableError("its FROM is not understood")
        self._emit(self._tokens[end])

    def _table(self) -> None:
        path = self._path()
        if len(path) != 2:
            raise UnreadableError("it reads something that is not a table")
        if self._peek().is_mark("("):
            self._call(path)
        else:
            text = ".".join(token.text for token in path)
            self.tables.add(text)
            self.out.append(text)
        self._alias(path[-1])

    def _alias(self, name: Token | None) -> None:
        token = self._peek()
        if token.kind == "quoted" or (
            token.kind == "name"
            and not token.is_word(*_BEHIND_TABLES, *_JOIN_WORDS, *_SELECT_WORDS)
        ):  # fmt: skip
            name = token
            self._emit(token)
            if self._peek().is_mark("("):
                for _ in range(closing(self._tokens, self._at) + 1 - self._at):
                    if self._peek().kind not in ("name", "quoted", "mark"):
                        raise UnreadableError("its FROM is not understood")
                    self._emit(self._peek())
        if name is None:
            raise UnreadableError("its FROM is not understood")
        self.declared.add(name.value)

    def _path(self) -> list[Token]:
        """Take a name with its qualifiers."""
        path = [self._peek()]
        self._at += 1
        while self._peek().is_mark(".") and self._peek(1).kind in ("name", "quoted"):
            path.append(self._peek(1))
            self._at += 2
        if any(token.kind not in ("name", "quoted") for token in path):
            raise UnreadableError("its FROM is not understood")
        return path

    def _name(self, end: int) -> None:
        start = self._at
        path = self._path()
        first = path[0]
        is_call = self._at < end and self._peek().is_mark("(")
        if len(path) == 1 and first.kind == "name":
            if first.value == "in" and is_call and self._peek(1).is_word("select"):
                self.out.append("OPERATOR(pg_catalog.=) ANY")
                return
            if first.value == "current_setting" and is_call:
                self._setting()
                return
            if first.value in (_CALL_WORDS if is_call else _WORDS):
                self._word(first)
                return
            if first.value == "array" and self._peek().is_mark("["):
                self.out.append(first.text)
                return
            if not is_call and first.value in (_SESSION_WORDS | _TIME_WORDS):
                self.reads_session |= first.value in _SESSION_WORDS
                self.is_timeless &= first.value not in _TIME_WORDS
                self.out.append(first.text)
                return
            if first.value == "cast" and is_call:
                self._cast()
                return
        if is_call:
            self._call(path)
        elif len(path) == 2:
            self.used.add(first.value)
            self.out.append(".".join(token.text for token in path))
        else:
            raise UnreadableError(f"it uses {self._tokens[start].text}")

    def _word(self, token: Token) -> None:
        following = self._peek()
        if token.value == "case" and not following.is_word("when"):
            raise UnreadableError("it compares in a CASE")
        if token.value == "nullif" and not self._is_nullif_of_text():
            raise UnreadableError("it uses NULLIF")
        if token.value == "row":
            raise UnreadableError("it uses ROW")
        self.out.append(token.text)

    def _is_nullif_of_text(self) -> bool:
        """Return whether NULLIF compares with a text, whose operator no search path can change."""
        last = closing(self._tokens, self._at) - 1
        if self._tokens[last].is_word("text") and self._tokens[last - 1].is_mark("::"):
            last -= 2
        return self._tokens[last].kind == "string" and self._tokens[last - 1].is_mark(",")

    def _call(self, path: list[Token]) -> None:
        name = path[-1]
        if len(path) == 1 or (len(path) == 2 and path[0].value == "pg_catalog"):
            if name.kind == "name" and name.value == "current_setting":
                self._setting()
                return
            self.builtins.add(name.value)
            if not self._selects:
                self.bare_builtins.add(name.value)
            self.out.append(f"pg_catalog.{name.text}")
        elif len(path) == 2:
            self.calls.add((path[0].value, name.value))
            if not self._selects:
                self.bare_calls.add((path[0].value, name.value))
            self.out.append(f"{path[0].text}.{name.text}")
        else:
            raise UnreadableError(f"it calls {name.text}")
        end = closing(self._tokens, self._at)
        self._emit(self._peek())
        if self._peek().is_mark("*") and self._at + 1 == end:
            self._emit(self._peek())
        self.read(end)
        self._emit(self._tokens[end])

    def _setting(self) -> None:
        """Read the arguments of current_setting."""
        end = closing(self._tokens, self._at)
        inner = self._tokens[self._at + 1 : end]
        rest = [token.value for token in inner[1:]]
        if rest[:2] == ["::", "text"]:
            rest = rest[2:]
        if (
            not inner or inner[0].kind != "string" or not inner[0].text.startswith("'")
            or rest not in ([], [",", "true"], [",", "false"])
        ):  # fmt: skip
            raise UnreadableError("it reads a setting that is not named plainly")
        is_optional = rest == [",", "true"]
        self.settings.append(Setting(inner[0].value, is_optional))
        flag = ", true" if is_optional else ""
        self.out.append(f"pg_catalog.current_setting({inner[0].text}{flag})")
        self._at = end + 1

    def _cast(self) -> None:
        """Read CAST (value AS type)."""
        end = closing(self._tokens, self._at)
        middle = next((n for n in range(self._at, end) if self._tokens[n].is_word("as")), end)
        type_ = qualified_type(self._tokens[middle + 1 : end])
        if type_ is None:
            raise UnreadableError("it casts to a type that is not known")
        self.out.append("CAST (")
        self._at += 1
        self.read(middle)
        self._add_type(type_)
        self.out[-1] = f"AS {type_})"
        self._at = end + 1

    def _type(self) -> None:
        end = type_end(self._tokens, self._at + 1)
        type_ = qualified_type(self._tokens[self._at + 1 : end])
        if type_ is None:
            raise UnreadableError("it casts to a type that is not known")
        self._add_type(type_)
        self._at = end

    def _add_type(self, type_: str) -> None:
        if type_.removeprefix("pg_catalog.").removesuffix("[]") in _TIME_TYPES:
            self.is_timeless = False
        self.out.append(f"::{type_}")

    def _operator(self) -> None:
        token = self._peek()
        self.out.append(f"OPERATOR(pg_catalog.{token.text})")
        self._at += 1

    def _field(self) -> None:
        """Read the selection of a field from a composite."""
        if self._peek(1).kind not in ("name", "quoted"):
            raise UnreadableError("it uses a whole row")
        self._emit(self._peek())
        self._emit(self._peek())
