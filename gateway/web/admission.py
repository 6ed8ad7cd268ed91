"""From the head of a stream request to a `StreamRequest`, or to the refusal that it gets.

The checks come in the order of the protocol: authentication, tables, position. Limits come after
them, since they are counted by user.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg
import structlog

from gateway.errors import (
    NoTablesError,
    NotConfiguredError,
    PermissionDeniedError,
    PositionAheadError,
    RequestTooLongError,
    ServiceUnavailableError,
    ShuttingDownError,
    TablesRequiredError,
    UnknownTableRequestError,
)
from gateway.streams import sse
from gateway.tables.catalog import UnknownTableError
from gateway.tables.names import MOST_CHARACTERS, MOST_TABLES, parse_tables
from gateway.web.stream_request import StreamRequest, parse_query
from shared.errors import DatabaseUnavailableError, SchemaError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.datastructures import Headers

    from gateway.auth.claims import Claims
    from gateway.fanout.backlog import Backlog
    from gateway.fanout.hub import Hub
    from gateway.streams.drain import Drain
    from gateway.tables.catalog import Catalog, Table
    from gateway.web.authentication import Authentication

log = structlog.get_logger(__name__)


class Admission:
    """Decides which requests become streams."""

    def __init__(
        self,
        *,
        authentication: Authentication,
        catalog: Catalog,
        hub: Hub,
        backlog: Backlog,
        drain: Drain,
    ) -> None:
        self._authentication = authentication
        self._catalog = catalog
        self._hub = hub
        self._backlog = backlog
        self._drain = drain

    async def check(
        self, headers: Headers, query_string: bytes, address: str = ""
    ) -> StreamRequest:
        """Check the head of a request from an address.

        Raises a `GatewayError` if it must be refused.
        """
        self._check_service()
        query = parse_query(query_string)
        try:
            identity = await self._authentication.identify(headers, query, address)
            if not self._hub.is_started:
                raise ServiceUnavailableError
            request = StreamRequest(
                identity=identity,
                tables=await self._tables(query, identity.claims, identity.role),
                leave=query.get("leave") == "true",
                last_event_id=headers.get("last-event-id") or query.get("lastEventId") or None,
            )
            position = request.position
            if position is None:
                await self._hub.catch_up()
            else:
                await self._backlog.await_position(position)
                if self._backlog.is_ahead(position):
                    raise PositionAheadError
        except DatabaseUnavailableError as error:
            raise ServiceUnavailableError from error
        except (SchemaError, asyncpg.PostgresError) as error:
            # A function or grant of ours is missing, say: never the client's fault.
            log.error("request refused by the database", error=str(error))  # noqa: TRY400
            raise NotConfiguredError from error
        self._check_service()  # the drain may have begun meanwhile
        return request

    def _check_service(self) -> None:
        if self._drain.is_refusing:
            raise ShuttingDownError

    async def _tables(
        self, query: Mapping[str, str], claims: Claims | None, role: str | None
    ) -> tuple[Table, ...]:
        parameter = query.get("tables", "")
        if not parameter.strip():
            raise TablesRequiredError
        if len(parameter) > MOST_CHARACTERS:
            raise RequestTooLongError
        try:
            names = parse_tables(parameter)
            if len(names) > MOST_TABLES:
                raise RequestTooLongError
            tables = await self._catalog.resolve(names)
        except (ValueError, UnknownTableError) as error:
            raise UnknownTableRequestError(str(error)) from None
        if not tables:
            raise NoTablesError
        if role is not None:
            for table in tables:
                name = sse.display_name(table.name)
                if claims is not None and not claims.allows(table.name, name):
                    raise PermissionDeniedError(name)
                if not await self._catalog.may_read(table, role):
                    raise PermissionDeniedError(name)
        return tuple(tables)
