"""`python -m gateway doctor`: what the region gets, and in which form each table is asked about.

The joined form costs one statement per batch for all users. The looped and the opaque form cost one
per distinct user, which is slow with many users; of an opaque table, only rows that have not
changed since are delivered. Most policies can be written so that neither is needed.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Final

from gateway.diagnostics.ayb_tables import check_ayb_tables
from gateway.diagnostics.region import check_region
from gateway.diagnostics.unset_settings import unset_settings
from gateway.settings import GatewaySettings
from gateway.visibility.cohorts import KNOWN_SETTINGS, Audience
from gateway.visibility.engine import Visibility
from gateway.visibility.plan import Form
from shared.errors import AybError, first_error
from shared.pool import open_pool
from shared.postgres import unavailable_as_ours
from shared.settings import load_settings
from shared.sql import queries

if TYPE_CHECKING:
    import asyncpg

    from gateway.visibility.plan import Plan

_SQL: Final = queries("gateway.diagnostics")
_MEANINGS: Final = {
    Form.OPEN: "ok: no RLS for this role: every user gets every row",
    Form.CLOSED: "warning: no policy shows this role any row",
    Form.JOINED: "ok: joined: one question for all users",
    Form.LOOPED: "warning: looped, a question for each user",
    Form.OPAQUE: "warning: opaque, a SELECT for each user",
}
_HINTS: Final = {
    Form.LOOPED: "to have it joined, give functions settings and literals alone, as in "
    "has_role(auth.uid(), 'admin') or team_id IN (SELECT my_teams()), or a column only to those "
    "that read other tables, declare them STABLE, and tie a table with RLS of its own to the row "
    "by one equation",
    Form.OPAQUE: "a change is delivered only if the row has not changed since; to have every "
    "change judged as it was, give functions settings and literals alone, or have them read "
    "other tables only (in SQL or PL/pgSQL without EXECUTE, declared STABLE, with plain names), or "
    "put their conditions into the policy, or name functions that depend on nothing but their "
    "arguments and settings in AYB_REALTIME_TRUSTED_FUNCTIONS",
}
_NO_KEY: Final = "it has no primary key to ask by, so nothing of it is delivered"


async def examine(
    pool: asyncpg.Pool,
    roles: list[str],
    *,
    trusted_functions: frozenset[str] = frozenset(),
    setting_names: tuple[str, ...] = KNOWN_SETTINGS,
) -> list[str]:
    """Return lines for each captured table and role: the form, and what to change.

    Raises `DatabaseUnavailableError`.
    """
    visibility = Visibility(pool, trusted_functions=trusted_functions, setting_names=setting_names)
    with unavailable_as_ours():
        tables = await pool.fetch(_SQL["captured_tables"])
        taken = await pool.fetchval(_SQL["taken_settings"], list(setting_names))
        shadowing = await pool.fetch(_SQL["shadowing_types"])
    found = [
        f"error: AYB_AUTH_CLAIM_SETTINGS: {name} is a setting of Postgres or of an extension, "
        "which a token must not change: choose another name"
        for name in taken
    ]
    found += [
        f"warning: {type_['name']} has the name of a type of Postgres and is found before it by "
        f"{type_['path']}: a function's body that names the type means yours, while the gateway "
        "takes it for the one of Postgres: list pg_catalog first, or not at all"
        for type_ in shadowing
    ]
    if not tables:
        return [*found, "warning: no table is captured: `python -m relay doctor` says why"]
    for table in tables:
        if table["has_heirs"]:
            found.append(
                f"{table['schema']}.{table['table']}: warning: rows of tables that inherit from it "
                "are not delivered as its own: subscribe to those tables"
            )
        for role in roles:
            nobody: Audience[str] = Audience(role)
            await visibility.ask(table["relid"], nobody, [], 0)
            plan = visibility.plan_of(table["relid"], role)
            first, *more = _describe(plan)
            found.append(f"{table['schema']}.{table['table']} for {role}: {first}")
            found += [f"  {line}" for line in more]
    return found


def _describe(plan: Plan | None) -> list[str]:
    if plan is None:
        return ["warning: the role does not exist"]
    if not plan.rules.readable:
        return ["ok: the role may not read the table"]
    described = [_MEANINGS[plan.form] + (f": {plan.reason}" if plan.reason else "")]
    if plan.form is Form.OPAQUE and not plan.rules.key:
        described.append(_NO_KEY)
    elif plan.form in _HINTS:
        described.append(_HINTS[plan.form])
    if plan.computed is not None:
        described[0] += f", after what is computed for each: {', '.join(plan.computed_texts)}"
    if unset := unset_settings(plan.rules, plan.names):
        described.append(
            f"warning: policies read settings that are never set for clients: {', '.join(unset)}; "
            f"set are {', '.join(plan.names)}"
        )
    return described


def doctor_main() -> int:
    """Run the command; return the exit status, 1 if the database could not be examined."""
    status = 0
    try:
        settings = load_settings(GatewaySettings)
        if not settings.auth_enabled:
            print(  # noqa: T201 (a command)
                "warning: AYB_AUTH_ENABLED is false: every client receives every change, and what "
                "follows does not apply"
            )
        for line in asyncio.run(check_region(settings)):
            print(line)  # noqa: T201 (a command)
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
        found = []
        if settings.auth_api_keys:
            found += await check_ayb_tables(pool, "AYB_AUTH_API_KEYS")
        return found + await examine(
            pool,
            list(dict.fromkeys(roles)),
            trusted_functions=frozenset(settings.realtime_trusted_functions),
            setting_names=settings.setting_names,
        )
