"""Settings that policies read and that nothing sets, so that they show nobody a row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.visibility.cohorts import KNOWN_SETTINGS
from gateway.visibility.joined.lexer import UnreadableError, tokenize

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from gateway.visibility.rules import Rules


def unset_settings(rules: Rules, known: Collection[str] = KNOWN_SETTINGS) -> list[str]:
    """Name the settings that policies, or functions that they call, read in place of ours.

    `known` are the settings that are set for clients. A text that reads one of them as well falls
    back to it, as `auth.uid()` does: it is left out.
    """
    found: dict[str, None] = {}
    for text in _texts(rules):
        names = _settings_in(text)
        if not any(name in known for name in names):
            found.update(dict.fromkeys(name for name in names if "." in name))
    return list(found)


def _texts(rules: Rules) -> Iterator[str]:
    for policy in rules.policies or ():
        yield policy.expression
    for function in (*(rules.functions or ()), *(rules.nested_functions or ())):
        if function.body is not None:
            yield function.body


def _settings_in(text: str) -> list[str]:
    try:
        tokens = tokenize(text)
    except UnreadableError:
        return []
    return [
        argument.value.encode().lower().decode()
        for call, mark, argument in zip(tokens, tokens[1:], tokens[2:], strict=False)
        if call.is_word("current_setting") and mark.is_mark("(") and argument.kind == "string"
    ]
