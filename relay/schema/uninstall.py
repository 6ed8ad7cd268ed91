"""`python -m relay uninstall`: triggers, schema and roles go, and what stays is named."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

import asyncpg

from shared.errors import OperatorError
from shared.postgres import connect, unavailable_as_ours

if TYPE_CHECKING:
    from relay.settings import RelaySettings


class UninstallError(OperatorError):
    """Nothing was removed."""


def uninstall_script() -> str:
    """Return the SQL that removes everything from one database."""
    return files("relay.schema").joinpath("uninstall.sql").read_text("utf-8")


async def uninstall(settings: RelaySettings) -> list[str]:
    """Run it with the login of the settings; return what could not be removed.

    Raises `UninstallError` where nothing was removed, and what `connect` raises.
    """
    warnings: list[str] = []

    def note(_connection: object, message: asyncpg.PostgresLogMessage) -> None:
        warnings.append(" ".join(filter(None, (message.message, message.hint))))

    connection = await connect(settings.database, application_name="ayb-relay uninstall")
    try:
        connection.add_log_listener(note)
        with unavailable_as_ours():
            await connection.execute(uninstall_script())
    except asyncpg.PostgresError as error:
        hint = getattr(error, "hint", None)
        reason = f"{error.args[0]}" + (f". {hint}" if hint else "")
        raise UninstallError(f"nothing was removed: {reason}") from None
    finally:
        connection.terminate()
    return warnings
