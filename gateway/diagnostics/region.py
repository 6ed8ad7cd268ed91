"""What a gateway's region gets: from each of its database hosts, and through its Redis.

Every host of `AYB_READ_DATABASE_URL` is asked, and the primary if `AYB_DATABASE_URL` names it.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

import asyncpg

from gateway.diagnostics.database_hosts import Server, contradictions, describe_server
from gateway.diagnostics.ticks import check_ticks
from shared.errors import AybError, DatabaseUnavailableError, OperatorError
from shared.outbox import log_state
from shared.postgres import UNAVAILABLE, connect
from shared.sql import queries

if TYPE_CHECKING:
    from gateway.settings import GatewaySettings
    from shared.postgres import DatabaseAddress

_SQL: Final = queries("gateway.diagnostics")


async def check_region(settings: GatewaySettings) -> list[str]:
    """Return lines on each host, on what contradicts each other, and on Redis.

    Raises `OperatorError` where the URL of the read database cannot be used.
    """
    read = settings.read_database.hosts
    addresses = list(read)
    if settings.read_database_url is not None and settings.database_url is not None:
        primary = settings.primary
        known = {address.name for address in addresses}
        addresses += [address for address in primary.hosts if address.name not in known]
    lines: list[str] = []
    servers: list[Server] = []
    for address in addresses:
        try:
            servers.append(await _ask(address))
        except (*UNAVAILABLE, AybError, asyncpg.PostgresError) as error:
            if isinstance(error, OperatorError) and address in read:
                raise  # no gateway could run
            reason = str(error).partition("\n")[0] or type(error).__name__
            lines.append(f"database {address.name}: warning: {reason}")
        else:
            lines.append(f"database {address.name}: {describe_server(servers[-1])}")
    lines += contradictions(servers)
    history = next((server.history for server in servers if server.history is not None), None)
    key = settings.realtime_bus_key
    lines.append(
        await check_ticks(
            settings.redis_url.get_secret_value(),
            history,
            prefix=settings.realtime_channel_prefix,
            key=None if key is None else key.get_secret_value().encode(),
        )
    )
    return lines


async def _ask(address: DatabaseAddress) -> Server:
    connection = await connect(address, application_name="ayb-gateway doctor")
    try:
        facts = await connection.fetchrow(_SQL["server"])
        state = await log_state(connection)
        identity = None
        with contextlib.suppress(asyncpg.InsufficientPrivilegeError):
            identity = await connection.fetchrow(_SQL["identity"])
        return Server(address.name, facts, identity, state.history)
    except asyncpg.UndefinedTableError as error:
        raise DatabaseUnavailableError(f"{error}: has a relay run there?") from error
    finally:
        connection.terminate()
