"""Postgres' tokens, as far as expressions need them.

Follows "Lexical Structure" in the Postgres manual, with standard_conforming_strings on. Anything
that is not understood is an error: a text that cannot be read is not rewritten.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

Kind = Literal["name", "quoted", "string", "number", "operator", "mark", "setting", "tuple"]


class UnreadableError(ValueError):
    """A text that this package does not understand."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token: `text` is how it is written, `value` what it means.

    The value of a name is in lower case; that of a quoted name or a plain string is unquoted.
    """

    kind: Kind
    text: str
    value: str

    def is_word(self, *words: str) -> bool:
        """Return whether it is one of these keywords or unquoted names."""
        return self.kind == "name" and self.value in words

    @property
    def may_name_column(self) -> bool:
        """Whether it can be a column's name, in a text that Postgres has written.

        Postgres writes keywords in capitals, except true and false, and quotes names like those.
        """
        return self.kind == "quoted" or (
            self.kind == "name" and self.text == self.value and not self.is_word("true", "false")
        )

    def is_mark(self, mark: str) -> bool:
        """Return whether it is this punctuation or operator."""
        return self.kind in ("mark", "operator") and self.text == mark


def word(text: str) -> Token:
    """Return the token of a keyword or an unquoted name."""
    return Token("name", text, text.lower())


OPEN: Final = Token("mark", "(", "(")
CLOSE: Final = Token("mark", ")", ")")

_BLANK: Final = re.compile(r"(?:[ \t\n\r\f\v]|--[^\n\r]*)+")
_NAME: Final = re.compile(r"[^\W\d][\w$]*")
_NUMBER: Final = re.compile(r"(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:[eE][+-]?\d+)?")
_QUOTED: Final = re.compile(r'"(?:[^"]|"")+"')
_STRING: Final = re.compile(r"'(?:[^']|'')*'")
_ESCAPED: Final = re.compile(r"[eE]'(?:[^'\\]|''|\\.)*'", re.DOTALL)
_PREFIXED: Final = re.compile(r"(?:[bBxXnN]|[uU]&)'(?:[^']|'')*'|[uU]&\"(?:[^\"]|\"\")+\"")
_DOLLAR: Final = re.compile(r"\$((?:[^\W\d]\w*)?)\$(.*?)\$\1\$", re.DOTALL)
_MARK: Final = re.compile(r"::|[()\[\],.;:]")
_OPERATOR: Final = re.compile(r"[-+*/<>=~!@#%^&|`?]+")
_COMMENT: Final = re.compile(r"/\*|\*/")

_KINDS: Final[tuple[tuple[Kind, re.Pattern[str], Callable[[str], str]], ...]] = (
    ("string", _ESCAPED, str),
    ("string", _PREFIXED, str),
    ("string", _DOLLAR, str),
    ("name", _NAME, str.lower),
    ("number", _NUMBER, str),
    ("quoted", _QUOTED, lambda text: text[1:-1].replace('""', '"')),
    ("string", _STRING, lambda text: text[1:-1].replace("''", "'")),
    ("mark", _MARK, str),
)


def tokenize(text: str) -> list[Token]:
    """Split a text into tokens, without whitespace and comments; raises `UnreadableError`."""
    tokens = []
    at = 0
    while at < len(text):
        if blank := _BLANK.match(text, at):
            at = blank.end()
        elif text.startswith("/*", at):
            at = _after_comment(text, at)
        else:
            token = _token(text, at)
            tokens.append(token)
            at += len(token.text)
    return tokens


def render(tokens: list[Token]) -> str:
    """Write tokens as a text with the same meaning."""
    return " ".join(token.text for token in tokens)


def _token(text: str, at: int) -> Token:
    for kind, pattern, value_of in _KINDS:
        if found := pattern.match(text, at):
            return Token(kind, found[0], value_of(found[0]))
    if found := _OPERATOR.match(text, at):
        operator = _cut_operator(found[0])
        return Token("operator", operator, operator)
    raise UnreadableError(f"unexpected character at {at}")


def _cut_operator(run: str) -> str:
    for comment in ("--", "/*"):
        place = run.find(comment)
        if place > 0:
            run = run[:place]
    # A multi-character operator ends in + or - only if it contains one of these.
    while len(run) > 1 and run[-1] in "+-" and not re.search(r"[~!@#%^&|`?]", run):
        run = run[:-1]
    return run


def _after_comment(text: str, at: int) -> int:
    depth = 0
    for found in _COMMENT.finditer(text, at):
        depth += 1 if found[0] == "/*" else -1
        if depth == 0:
            return found.end()
    raise UnreadableError("a comment does not end")
