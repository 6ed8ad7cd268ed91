"""Why did I not get this event: `python -m gateway explain --table posts --key 42`.

Asks the same engine as the stream, for one client and one row: whether the table is captured, what
the role may read, which policies apply and what each decides, in which form the table is asked, and
which changes of the row are in the outbox. Values of rows are not shown, so that the answer can be
passed on.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from typing import TYPE_CHECKING, Any, Final

from gateway.auth.api_keys import ApiKeys, key_throttle
from gateway.auth.verifier import TokenVerifier
from gateway.diagnostics.explanation import ChangeVerdict, Explanation, PolicyVerdict, lines
from gateway.settings import GatewaySettings
from gateway.tables.catalog import Catalog, UnknownTableError
from gateway.tables.names import parse_tables
from gateway.tables.recent_answers import RecentAnswers
from gateway.visibility.cohorts import KNOWN_SETTINGS, Audience
from gateway.visibility.engine import EVERYBODY, Image, Visibility
from gateway.visibility.queries import encode_settings
from shared.errors import AybError, OperatorError, first_error
from shared.pool import open_pool
from shared.position import Position
from shared.postgres import unavailable_as_ours
from shared.settings import load_settings
from shared.sql import queries

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg

    from gateway.auth.claims import Claims

_SQL: Final = queries("gateway.diagnostics")
_OPS: Final = {"I": "create", "U": "update", "D": "delete"}


class ExplainError(OperatorError):
    """The table or the key does not exist."""


async def explain(
    pool: asyncpg.Pool, *, table: str, key: Sequence[str], claims: Claims, most_changes: int = 5,
    deletes: str = "all", trusted_functions: frozenset[str] = frozenset(),
    setting_names: tuple[str, ...] = KNOWN_SETTINGS,
) -> Explanation:  # fmt: skip
    """Ask Postgres everything that decides about one row, given by its primary key.

    Raises `ExplainError` for an unknown table or a key of another length,
    `DatabaseUnavailableError`.
    """
    visibility = Visibility(pool, trusted_functions=trusted_functions, setting_names=setting_names)
    try:
        [name] = parse_tables(table)
        [found] = await Catalog(pool, visibility, RecentAnswers()).resolve([name])
    except (ValueError, UnknownTableError):
        raise ExplainError(
            f"{table} is no captured table: see `python -m relay doctor`, or AYB_REALTIME_TABLES"
        ) from None
    with unavailable_as_ours():
        columns = await pool.fetchval(_SQL["key_columns"], found.relid)
        if len(columns) != len(key):
            raise ExplainError(f"the primary key of {found.name} is ({', '.join(columns)})")
        rows = await pool.fetch(
            _SQL["changes_of_row"], found.relid, columns, list(key), most_changes
        )
    settings = claims.settings()
    audience: Audience[str] = Audience(claims.role)
    audience.add("client", settings)
    images = [row["new"] or row["old"] for row in rows]
    # The oldest first, as a gateway asks: which image is a row's last one matters.
    asked = [n for n in reversed(range(len(images))) if images[n] is not None]
    texts = [images[n] for n in asked]
    answer = await visibility.ask(
        found.relid,
        audience,
        [Image(images[n].encode(), rows[n]["seq"], is_past=rows[n]["new"] is None) for n in asked],
        0,
    )
    plan = visibility.plan_of(found.relid, claims.role)
    if plan is None:
        raise ExplainError(f"the role {claims.role} does not exist")
    with unavailable_as_ours():
        said = await pool.fetch(
            _SQL["explain"],
            found.relid,
            claims.role,
            encode_settings(setting_names, [settings]),
            columns,
            list(key),
            texts,
        )
    kinds = {p.name: "permissive" if p.permissive else "restrictive"
             for p in plan.rules.policies or ()}  # fmt: skip
    changes = []
    for n, row in enumerate(rows):
        place = asked.index(n) if n in asked else None
        seen: bool | None = None
        if place is not None and place not in answer.undecidable:
            visible = answer.visible[place]
            seen = visible is EVERYBODY or 0 in visible
        changes.append(
            ChangeVerdict(
                action=_OPS.get(row["op"], row["op"]),
                at=row["at"].isoformat(timespec="milliseconds"),
                position=None if row["batch"] is None
                else str(Position(row["epoch"], row["batch"], row["index"])),
                is_visible=seen,
                is_superseded=place in answer.superseded,
                is_delivered_to_all=row["op"] == "D" and deletes == "all",
                policies=tuple(
                    PolicyVerdict(
                        s["policy"], kinds.get(s["policy"], "?"), s["verdict"], s["failure"]
                    )
                    for s in said if place is not None and s["image"] == place + 1
                ),
            )
        )  # fmt: skip
    present = next((s for s in said if s["image"] == 0), None)
    names = [column.name for column in plan.rules.columns]
    return Explanation(
        table=found.name,
        key=", ".join(f"{c} = {v}" for c, v in zip(columns, key, strict=True)),
        role=claims.role,
        user_id=claims.user_id,
        form=plan.form,
        reason=plan.reason,
        reads=plan.reads,
        readable=answer.columns,
        hidden=tuple(name for name in names if name not in answer.columns),
        is_shown_now=None if present is None else present["verdict"],
        failure=next(iter(answer.broken.values()), None),
        changes=tuple(changes),
    )


def explain_main(arguments: Sequence[str]) -> int:
    """Run the command with what follows `explain`; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m gateway explain", description=__doc__)
    parser.add_argument("--table", required=True)
    parser.add_argument("--key", required=True, action="append",
                        help="value of the primary key; once for each of its columns")  # fmt: skip
    parser.add_argument(
        "--token", help="the client's token; better in the environment, as AYB_EXPLAIN_TOKEN"
    )
    parser.add_argument("--changes", type=int, default=5, help="how many changes to look at")
    asked = parser.parse_args(arguments)
    token = asked.token or os.environ.get("AYB_EXPLAIN_TOKEN")
    if not token:
        parser.error("a token is needed: --token or AYB_EXPLAIN_TOKEN")
    try:
        settings = load_settings(GatewaySettings)
        explanation = asyncio.run(_run(settings, asked, token))
    except* AybError as group:
        print(f"gateway: {first_error(group)}", file=sys.stderr)  # noqa: T201 (a command)
        return_value = 1
    else:
        print("\n".join(lines(explanation)))  # noqa: T201 (a command)
        return_value = 0
    return return_value


async def _run(settings: GatewaySettings, asked: Any, token: str) -> Explanation:  # noqa: ANN401
    async with (
        open_pool(
            settings.read_database,
            application_name="ayb-explain",
            most=2,
            settings={"default_transaction_read_only": "on", "statement_timeout": "60000"},
        ) as pool,
        asyncio.TaskGroup() as group,
    ):
        options = settings.token_options
        api_keys = (
            ApiKeys(pool, options.mapping, throttle=key_throttle())
            if settings.auth_api_keys
            else None
        )
        verifier = TokenVerifier(options, api_keys=api_keys)
        keys = group.create_task(verifier.run(), name="key set")
        try:
            claims = await verifier.verify(token)
            return await explain(
                pool,
                table=asked.table,
                key=asked.key,
                claims=claims,
                most_changes=asked.changes,
                deletes=settings.realtime_deletes,
                trusted_functions=frozenset(settings.realtime_trusted_functions),
                setting_names=settings.setting_names,
            )
        finally:
            keys.cancel()
