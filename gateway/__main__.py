"""`python -m gateway [COMMAND]`, see `gateway.commands`."""

from __future__ import annotations

import sys


def main() -> int:
    """Execute the command line; Ctrl-C ends it quietly, also while the modules are loading."""
    try:
        from gateway.commands import execute  # noqa: PLC0415 (takes half a second)

        return execute(sys.argv[1:])
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
