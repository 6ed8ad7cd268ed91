"""The errors of the whole project, in one tree.

The docstring of a class is its message when it is raised without one. An error that an operator can
correct is an `OperatorError`: the entry points print it as one line and exit with status 1.
"""

from __future__ import annotations

import inspect


class AybError(Exception):
    """Something went wrong in ayb-realtime."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or inspect.getdoc(type(self)) or type(self).__name__)


class OperatorError(AybError):
    """The deployment needs a correction by its operator."""


class SettingsError(OperatorError):
    """A setting is missing or wrong."""


class SchemaError(OperatorError):
    """The schema ayb_realtime is missing or too old; run `python -m relay install`."""


OLDER_SCHEMA = (
    "the schema ayb_realtime is older than this gateway: upgrade the relay first, "
    "or run `python -m relay install`"
)


class DatabaseUnavailableError(AybError):
    """database unavailable"""  # noqa: D400, D415


class ReplicaLagsError(DatabaseUnavailableError):
    """the replica lags behind"""  # noqa: D400, D415


class BusMessageError(AybError):
    """A message on the bus is malformed or not ours."""


class PositionError(AybError):
    """A position is not of the form <batch>, <batch>-<index> or <epoch>.<batch>-<index>."""


def first_error(error: BaseException) -> BaseException:
    """Return the first error within a group of errors, or the error itself."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
