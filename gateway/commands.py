"""The gateway's commands: run one by its settings, `doctor`, `explain`, `smoke`, or `tail`."""

from __future__ import annotations

import asyncio
import sys

import structlog

from gateway.app import serve
from gateway.diagnostics.doctor import doctor_main
from gateway.diagnostics.explain import explain_main
from gateway.diagnostics.smoke import smoke_main
from gateway.settings import GatewaySettings
from gateway.web.event_loop import loop_factory
from shared.errors import OperatorError, first_error
from shared.gc_tuning import collect_rarely
from shared.logging import configure_logging
from shared.settings import load_settings
from shared.tracing import NO_TRACING, Tracing, open_tracing

log = structlog.get_logger(__name__)

_USAGE = "usage: python -m gateway [doctor | explain --help | smoke --help | tail --help]"


def execute(arguments: list[str]) -> int:
    """Execute a command line; return the exit status, 1 where an operator has to do something."""
    if arguments[:1] == ["explain"]:
        return explain_main(arguments[1:])
    if arguments[:1] == ["smoke"]:
        return smoke_main(arguments[1:])
    if arguments[:1] == ["tail"]:
        return _tail(arguments[1:])
    if arguments == ["doctor"]:
        return doctor_main()
    if arguments:
        print(_USAGE, file=sys.stderr)
        return 2
    status = 0
    tracing: Tracing = NO_TRACING
    try:
        settings = load_settings(GatewaySettings)
        configure_logging(level=settings.log_level, form=settings.log_format)
        if not settings.auth_enabled:
            log.warning(
                "authentication is off: every client receives every change, unfiltered",
                setting="AYB_AUTH_ENABLED",
            )
        tracing = open_tracing("ayb-gateway", ratio=settings.traces_ratio, region=settings.region)
        collect_rarely()
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(serve(settings, tracing))
    except* OperatorError as group:
        print(f"gateway: {first_error(group)}", file=sys.stderr)
        status = 1
    finally:
        tracing.close()
    return status


def _tail(arguments: list[str]) -> int:
    """Print the changes of tables; the Python client, which does it, is a package of its own."""
    try:
        from ayb_realtime.tail import main  # noqa: PLC0415 (a gateway runs without it)
    except ModuleNotFoundError as error:
        if error.name != "ayb_realtime":
            raise
        print(
            "gateway: tail is part of the Python client: pip install ayb-realtime-client "
            "(from a checkout: pip install ./clients/python)",
            file=sys.stderr,
        )
        return 1
    return main(arguments, program="python -m gateway tail")
