"""`GET /api/realtime/tables`: which tables a client may subscribe to, with their columns.

It lists what the client's role may read, by the grants of the moment, and nothing else: a table or
column that the role may not read is not mentioned. Which rows it would see is another question,
which only Row-Level Security answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from gateway.client_network import client_address
from gateway.streams import sse
from gateway.tables.names import spell_table
from gateway.web.body import error_responses

if TYPE_CHECKING:
    from gateway.tables.catalog import Catalog, ListedTable
    from gateway.web.authentication import Authentication


class Column(BaseModel):
    """A column that the client may read; `type` is its type in SQL."""

    name: str
    type: str
    nullable: bool


class Table(BaseModel):
    """A table as events name it, and how to write it in the parameter `tables`.

    `key` has the columns of the primary key, in key order.
    """

    table: str
    parameter: str
    columns: list[Column]
    key: list[str]


class Tables(BaseModel):
    """The tables that the client may read; `truncated` says that there are more."""

    tables: list[Table]
    truncated: bool


def tables_router(*, authentication: Authentication, catalog: Catalog) -> APIRouter:
    """Build `GET /api/realtime/tables`."""
    routes = APIRouter(tags=["stream"])

    @routes.get("/api/realtime/tables", responses=error_responses(401, 429, 503))
    async def list_tables(request: Request, response: Response) -> Tables:
        """List the tables that the token in the header `Authorization` may read."""
        address = client_address(request.scope)
        identity = await authentication.identify(request.headers, {}, address)
        found = await catalog.readable_tables(identity.role)
        response.headers["Cache-Control"] = "private, no-store"
        claims = identity.claims
        return Tables(
            tables=[
                _described(table)
                for table in found.tables
                if claims is None or claims.allows(table.name, sse.display_name(table.name))
            ],
            truncated=found.is_truncated,
        )

    return routes


def _described(table: ListedTable) -> Table:
    return Table(
        table=sse.display_name(table.name),
        parameter=spell_table(table.schema, table.table),
        columns=[
            Column(name=name, type=type_, nullable=nullable)
            for name, type_, nullable in table.columns
        ],
        key=list(table.key),
    )
