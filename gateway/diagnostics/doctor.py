"""`python -m gateway doctor`: in which form each table is asked about, and why it is not joined.

A looped or opaque table costs a statement for each user and batch, which is slow with many users.
Of an opaque one, only rows that have not changed since are delivered. Mostly the policy can be
written so that neither is needed.
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

_OPAQUE_HINT: Final = (
    "a change is delivered only where the row has not changed since; to have every change judged "
    "as it was, let the policy call functions with settings and literals alone, or put their "
    "conditions into the policy, or name functions that depend on nothing but their arguments "
    "and settings in AYB_REALTIME_TRUSTED_FUNCTIONS"
)
_NO_KEY: Final = "it has no primary key to ask by, so nothing of it is delivered"


async def examine(
    pool: asyncpg.Pool, roles: list[str], *, trusted_functions: frozenset[str] = frozenset()
) -> list[str]:
    """Return a line for each captured table and role, with a hint for what is not joined.

    Raises `DatabaseUnavailableError`.
    """
    visibility = Visibility(pool, trusted_functions=trusted_functions)
    with unavailable_as_ours():
        tables = await pool.fetch(_SQL["captured_tables"])
    said = []
    for table in tables:
        if table["has_heirs"]:
            said.append(
                f"{table['schema']}.{table['table']}: warning: rows of tables that inherit from it "
                "are not delivered as its own: subscribe to those tables"
            )
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
            elif plan.form is Form.OPAQUE:
                said.append(f"{what}: warning: asked by a SELECT for each user: {plan.reason}")
                said.append(f"  {_OPAQUE_HINT if plan.rules.key else _NO_KEY}")
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
        return await examine(
            pool,
            list(dict.fromkeys(roles)),
            trusted_functions=frozenset(settings.realtime_trusted_functions),
        )
