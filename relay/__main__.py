"""The relay's entry point: `python -m relay run`, `install`, `doctor`."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys

import structlog

from relay.app import Relay
from relay.doctor.checks import examine
from relay.health import Health
from relay.metrics import RelayMetrics
from relay.schema.install import install
from relay.settings import RelaySettings
from shared.errors import DatabaseUnavailableError, OperatorError, first_error
from shared.gc_tuning import collect_rarely
from shared.logging import configure_logging
from shared.settings import load_settings

log = structlog.get_logger(__name__)


async def run(settings: RelaySettings) -> None:
    """Relay until SIGTERM or SIGINT."""
    metrics = RelayMetrics()
    health = Health(metrics)
    relay = Relay(settings, health=health, metrics=metrics)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with health.serve(settings.relay_host, settings.relay_port) as port:
        log.info("relay starts", port=port)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(relay.run(), name="relay")
            await stop.wait()
            task.cancel()
    log.info("relay stopped")


def main() -> int:
    """Run a command; the exit status is 1 where an operator has to do something."""
    parser = argparse.ArgumentParser(prog="python -m relay", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run", help="read the outbox and publish")
    commands.add_parser("install", help="migrate, and install the capture triggers by hand")
    commands.add_parser("doctor", help="check what a deployment needs, and say what to do")
    command = parser.parse_args().command
    status = 0
    try:
        settings = load_settings(RelaySettings)
        configure_logging(level=settings.log_level, form=settings.log_format)
        if command == "run":
            collect_rarely()
            asyncio.run(run(settings))
        elif command == "install":
            print(asyncio.run(install(settings)))
        else:
            status = 0 if asyncio.run(examine(settings, print)) else 1
    except* (OperatorError, DatabaseUnavailableError) as group:
        print(f"relay: {first_error(group)}", file=sys.stderr)
        status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
