"""What the errors of a question to Postgres mean.

Three kinds of errors: the database is unavailable (`DatabaseUnavailableError`: the same may be
asked again), the rules changed under the question (`RulesChangedError`), the question itself fails
(`QuestionError`: the policies, or the time was up).
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

import asyncpg

from shared.errors import OLDER_SCHEMA, AybError, DatabaseUnavailableError, ReplicaLagsError
from shared.postgres import unavailable_as_ours

if TYPE_CHECKING:
    from collections.abc import Iterator

QUERY_CANCELED: Final = "57014"
SETTINGS_DIFFER: Final = "AYB03"
"""A session has another value of a setting than the kept values were computed under."""
RULES_DIFFER: Final = "AYB06"
"""A session has other rules than those that values are to be computed under."""
_OURS: Final = (QUERY_CANCELED, SETTINGS_DIFFER, "AYB04", RULES_DIFFER)
"""What a question may fail with though its class says nothing of policies; AYB04: out of time."""
UNDEFINED: Final = frozenset(("3F000", "42703", "42704", "42883", "42P01"))
"""States of names that are not found."""
_ELSEWHERE: Final = ("08", "40", "53", "57", "58", "XX", "AY")
"""Classes of SQLSTATE that say nothing about the policies; AYB01 is a replica that lags."""


def is_of_the_server(sqlstate: str) -> bool:
    """Return whether an error says nothing about a policy: its cause is not known."""
    return sqlstate != QUERY_CANCELED and sqlstate.startswith(_ELSEWHERE)


class RulesChangedError(AybError):
    """The rules of the table changed while it was asked about."""


class QuestionError(AybError):
    """A policy, or a claim under it, raises."""

    def __init__(self, sqlstate: str) -> None:
        super().__init__(f"SQLSTATE {sqlstate}")
        self.sqlstate = sqlstate


class JoinedFailsError(AybError):
    """The joined form fails by how it is written, so it would at each batch; the text says how."""

    def __str__(self) -> str:
        return f"the joined form fails ({super().__str__()})"


class TableReadError(AybError):
    """What the policies call has read the table itself: as it is now, not as it was."""


class PolicyStallsError(DatabaseUnavailableError):
    """An error that is the server's by its class, but was raised while policies ran."""


class SchemaOlderError(DatabaseUnavailableError):
    """The database lacks something of ours that this gateway asks for."""

    def __init__(self, missing: str) -> None:
        super().__init__(f"{OLDER_SCHEMA} ({missing})")


class RulesStallError(DatabaseUnavailableError):
    """The rules of the table cannot be read in time, as while DDL holds a lock on it."""


@contextlib.contextmanager
def catalog_errors() -> Iterator[None]:
    """Let errors where no policy is asked be the database's: there is nobody to be denied for."""
    try:
        with question_errors():
            yield
    except QuestionError as error:
        if error.sqlstate == QUERY_CANCELED:
            raise RulesStallError("database unavailable: out of time") from None
        raise DatabaseUnavailableError(f"database unavailable ({error.sqlstate})") from None


def _is_of_ours(error: asyncpg.PostgresError) -> bool:
    """Whether a name that is not found is one of ours.

    What is missing in a policy is missing within functions of ours, which the context names.
    """
    return not getattr(error, "context", None) or "ayb_realtime." in str(error)


@contextlib.contextmanager
def question_errors() -> Iterator[None]:
    with unavailable_as_ours():
        try:
            yield
        except asyncpg.PostgresError as error:
            state = error.sqlstate or "XX000"
            if state == "AYB01":
                raise ReplicaLagsError from None
            if state in UNDEFINED and _is_of_ours(error):
                raise SchemaOlderError(str(error)) from None
            if state in _OURS or not state.startswith(_ELSEWHERE):
                # No cause: its text may hold values of rows.
                raise QuestionError(state) from None
            if getattr(error, "severity_en", None) == "ERROR":
                # The session lives on: raised by a statement, and so perhaps by a policy.
                raise PolicyStallsError(f"database unavailable ({state})") from None
            raise DatabaseUnavailableError(f"database unavailable ({state})") from None
