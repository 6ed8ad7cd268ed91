"""`python -m gateway`: run a gateway by its settings."""

from __future__ import annotations

import asyncio
import sys

from gateway.app import serve
from gateway.settings import GatewaySettings
from shared.errors import OperatorError
from shared.logging import configure_logging
from shared.loop import loop_factory
from shared.settings import load_settings


def main() -> int:
    """Run until stopped; returns the exit status."""
    try:
        settings = load_settings(GatewaySettings)
        configure_logging(level=settings.log_level, form=settings.log_format)
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(serve(settings))
    except OperatorError as error:
        print(f"gateway: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
