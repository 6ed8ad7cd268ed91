"""`python -m devstack`: see `devstack.command`."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the stack; Ctrl-C ends it quietly, also while the modules are loading."""
    try:
        from devstack.command import execute  # noqa: PLC0415 (takes a while)

        return execute()
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
