"""`python -m shared.healthcheck`: whether the process in this container is alive.

For container runtimes that run a command, where the image holds no HTTP client. Orchestrators probe
`/healthz` and `/readyz` over HTTP instead. Exit status 0 where the gateway's or the relay's
`/healthz` answers 200 on its port, 1 otherwise.
"""

from __future__ import annotations

import http.client
import os
import sys
from typing import Final

_TIMEOUT_SECONDS: Final = 3.0
_PORTS: Final = (("AYB_SERVER_PORT", 8090), ("AYB_RELAY_PORT", 8091))


def is_alive(port: int) -> bool:
    """Whether `/healthz` answers 200 on this port of the loopback address."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def main() -> int:
    """Probe the ports of both commands; the image runs one of them."""
    ports = (int(os.environ.get(name) or default) for name, default in _PORTS)
    return 0 if any(is_alive(port) for port in ports) else 1


if __name__ == "__main__":
    sys.exit(main())
