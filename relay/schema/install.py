"""`python -m relay install`: schema and triggers by hand.

For those who give the relay's login no right to alter anything: run as a superuser or the tables'
owner. Objects of the schema are made in the name of the schema's owner.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from relay.capture.patterns import parse_pattern
from relay.capture.triggers import Capture
from relay.outbox.epoch import ensure_epoch
from relay.schema.migrate import migrate
from shared.errors import OperatorError
from shared.postgres import connect, unavailable_as_ours
from shared.sql import queries

if TYPE_CHECKING:
    from relay.settings import RelaySettings

_SQL: Final = queries("relay.schema")


class InstallError(OperatorError):
    """Capture could not be installed on every table."""


async def install(settings: RelaySettings) -> str:
    """Migrate, install capture on the tables there are, and say what was done.

    Raises `InstallError` where some could not be captured, `DatabaseUnavailableError`, and
    `SchemaError` where this login may not migrate.
    """
    connection = await connect(settings.database, application_name="ayb-relay install")
    try:
        with unavailable_as_ours():
            owner = await connection.fetchval(_SQL["schema_owner"])
            if owner is not None:
                await connection.fetchval(_SQL["act_as"], owner)
            done = await migrate(connection)
            await ensure_epoch(connection)
            await connection.fetchval(_SQL["act_as"], "none")
            capture = Capture(
                connection,
                [parse_pattern(text) for text in settings.realtime_tables],
                lock_milliseconds=settings.relay_lock_milliseconds,
            )
            failed = await capture.install()
    finally:
        connection.terminate()
    if failed:
        names = ", ".join(table.quoted for table in failed)
        raise InstallError(f"not captured: {names} (see above); run it again")
    return f"migrations applied: {', '.join(done) or 'none, all are there'}; tables are captured"
