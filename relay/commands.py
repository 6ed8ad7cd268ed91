"""The relay's commands: `run`, `install`, `doctor`, `roles`, `uninstall`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
from typing import TYPE_CHECKING

import asyncpg
import structlog

from relay.app import Relay
from relay.doctor.checks import examine
from relay.doctor.options import DoctorOptions
from relay.health import Health
from relay.metrics import RelayMetrics
from relay.schema.install import install
from relay.schema.roles import roles_script
from relay.schema.uninstall import uninstall, uninstall_script
from relay.settings import RelaySettings
from shared.errors import DatabaseUnavailableError, OperatorError, first_error
from shared.gc_tuning import collect_rarely
from shared.logging import configure_logging
from shared.settings import load_settings
from shared.tracing import NO_TRACING, open_tracing

if TYPE_CHECKING:
    from shared.tracing import Tracing

log = structlog.get_logger(__name__)

_RETIRE_SECONDS = 2.0
"""How long the batch under way may delay the end of a leader."""


async def run(settings: RelaySettings, tracing: Tracing = NO_TRACING) -> None:
    """Relay until SIGTERM or SIGINT."""
    metrics = RelayMetrics()
    health = Health(metrics)
    relay = Relay(settings, health=health, metrics=metrics, tracing=tracing)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with health.serve(settings.relay_host, settings.relay_port) as port:
        log.info("relay started", port=port)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(relay.run(), name="relay")
            await stop.wait()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_RETIRE_SECONDS):
                    await relay.retire()
            task.cancel()
    log.info("relay stopped")


def execute(arguments: list[str]) -> int:
    """Execute a command line; return the exit status, 1 where an operator has to do something."""
    asked = _parser().parse_args(arguments)
    status = 0
    try:
        match asked.command:
            case "roles":
                print(roles_script(asked.schema or ["public"]), end="")
            case "uninstall" if asked.print:
                print(uninstall_script(), end="")
            case _:
                status = _execute_on_database(asked.command)
    except* (OperatorError, DatabaseUnavailableError) as group:
        print(f"relay: {first_error(group)}", file=sys.stderr)
        status = 1
    except* asyncpg.InsufficientPrivilegeError as group:
        print(
            f"relay: this login lacks a right: {first_error(group)}; "
            "run `python -m relay roles | psql` as a superuser or the owner of the database",
            file=sys.stderr,
        )
        status = 1
    return status


def _execute_on_database(command: str) -> int:
    settings = load_settings(RelaySettings)
    configure_logging(level=settings.log_level, form=settings.log_format)
    match command:
        case "run":
            collect_rarely()
            tracing = open_tracing("ayb-relay", ratio=settings.traces_ratio)
            try:
                asyncio.run(run(settings, tracing))
            finally:
                tracing.close()
        case "install":
            print(asyncio.run(install(settings)))
        case "uninstall":
            for warning in asyncio.run(uninstall(settings)):
                print(f"warning: {warning}")
            print("the triggers and the schema ayb_realtime are removed")
        case "doctor":
            return 0 if asyncio.run(examine(DoctorOptions.of(settings), print)) else 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m relay", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run", help="read the outbox and publish")
    commands.add_parser("install", help="migrate, and install the capture triggers by hand")
    commands.add_parser("doctor", help="check what a deployment needs, and say what to do")
    roles = commands.add_parser("roles", help="print the SQL that creates logins and grants")
    roles.add_argument(
        "--schema", action="append", help="a schema with tables to capture (default: public)"
    )
    remove = commands.add_parser("uninstall", help="remove triggers, schema and logins")
    remove.add_argument("--print", action="store_true", help="print the SQL instead of running it")
    return parser
