"""AYB's own tables, which the gateway's login may be unable to read."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import asyncpg
import structlog

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.errors import GatewayError

log = structlog.get_logger(__name__)


@contextlib.contextmanager
def missing_tables(refusal: type[GatewayError], remedy: str) -> Iterator[None]:
    """Log the remedy and raise the refusal where a table, a column or a grant is missing."""
    try:
        yield
    except (
        asyncpg.UndefinedTableError,
        asyncpg.UndefinedColumnError,
        asyncpg.InsufficientPrivilegeError,
    ) as error:
        log.error(remedy, error=str(error))  # noqa: TRY400 (the remedy, not the stack)
        raise refusal from error
