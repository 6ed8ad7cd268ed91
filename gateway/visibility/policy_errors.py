"""What a client learns of a policy that raises: which kind of error, never a value."""

from __future__ import annotations

from typing import Final

_TEXTS: Final = {
    "22P02": "a value does not cast to the type that a policy asks for",
    "22023": "a value is not acceptable to a policy",
    "22012": "a policy divides by zero",
    "22003": "a number is out of range in a policy",
    "42501": "a policy reads or calls what the role may not",
    "42703": "a policy reads a system column, which an event does not have",
    "42704": "a policy reads a setting that is not set",
    "57014": "a policy takes too long",
    "21000": "a subquery of a policy finds more than one row",
    "25006": "a policy writes",
    "54001": "a policy recurses too deeply",
    "P0001": "a policy's function raises",
    "P0004": "an assertion in a policy's function fails",
    "22P05": "a value has a character that the database's encoding does not have",
    "22021": "a value is no valid text",
}

NO_KEY: Final = "AYB10"
"""Our own state: a table that must be asked about by SELECT has no primary key."""


def explain_failure(sqlstate: str) -> str:
    """Put an SQLSTATE into words. A code that a function made up is not repeated: it is data."""
    if sqlstate == NO_KEY:
        return "the policies can only be asked about rows by a primary key, and there is none"
    text = _TEXTS.get(sqlstate)
    return f"{text} (SQLSTATE {sqlstate})" if text is not None else "a policy raises an error"
