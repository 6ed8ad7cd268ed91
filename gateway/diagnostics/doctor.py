"""`python -m gateway doctor`: in which form each table is asked about, and why one must be looped.

A looped table costs a statement for each user and batch. That is right, but slow with many users;
mostly the policy can be written so that it need not be.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Final

from gateway.settings import GatewaySettings
from gateway.visibility.cohorts import Audience
from gateway.visibility.engine import Visibility
from gateway.visibility.plan import Form
from shared.errors import AybError, first_error
from shared.pool import open_pool
from shared.postgres import unavailable_as_ours
from shared.settings import load_settings
from shared.sql import queries

if TYPE_CHECKING:
    import asyncpg

_SQL: Final = queries("gateway.diagnostics")
_MEANINGS: Final = {
    Form.OPEN: "ok: without RLS for this role, every row is shown to everybody",
    Form.CLOSED: "warning: no policy shows this role any row",
    Form.JOINED: "ok: one question for all users",
}
_HINT: Final = (
    "to make it joinable, let the policy use columns, settings (or a plain SQL function that reads "
    "them, as auth.uid() does) and tables without RLS of their own"
)


async def examine(pool: asyncpg.Pool, roles: list[str]) -> list[str]:
    """Say a line for each captured table and role, two for a looped one.

    Raises `DatabaseUnavailableError`.
    """
    visibility = Visibility(pool)
    with unavailable_as_ours():
        tables = await pool.fetch(_SQL["captured_tables"])
    said = []
    for table in tables:
        for role in roles:
            what = f"{table['schema']}.{table['table']} for {role}"
            nobody: Audience[str] = Audience(role)
            await visibility.ask(table["relid"], nobody, [], 0)
            plan = visibility.plan_of(table["relid"], role)
            if plan is None:
                said.append(f"{what}: warning: the role does not exist")
            elif not plan.rules.readable:
                said.append(f"{what}: ok: the role may not read the table")
            elif plan.form is Form.LOOPED:
                said.append(f"{what}: warning: asked in a loop over users: {plan.reason}")
                said.append(f"  {_HINT}")
            else:
                said.append(f"{what}: {_MEANINGS[plan.form]}")
    return said


def doctor_main() -> int:
    """Run the command; the exit status is 1 where it could not look."""
    status = 0
    try:
        settings = load_settings(GatewaySettings)
        for line in asyncio.run(_run(settings)):
            print(line)  # noqa: T201 (a command)
    except* AybError as group:
        print(f"gateway: {first_error(group)}", file=sys.stderr)  # noqa: T201 (a command)
        status = 1
    return status


async def _run(settings: GatewaySettings) -> list[str]:
    roles = [settings.auth_role, *settings.auth_roles]
    if settings.auth_anon_role is not None:
        roles.append(settings.auth_anon_role)
    async with open_pool(
        settings.read_database,
        application_name="ayb-gateway doctor",
        most=2,
        settings={"default_transaction_read_only": "on", "statement_timeout": "60000"},
    ) as pool:
        return await examine(pool, list(dict.fromkeys(roles)))
