"""`python -m bench [NAME] [--quick] [--json FILE]`: run one benchmark, or all of them."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

NAMES = (
    "fanout",
    "burst",
    "private",
    "latency",
    "writers",
    "visibility",
    "policies",
    "regions",
    "connect",
)


def main() -> int:
    """Run benchmarks; one fails if what arrived was wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("name", nargs="?", choices=NAMES, help="by default all")
    parser.add_argument("--quick", action="store_true", help="at most 40 s each")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the report to FILE (with a NAME only)"
    )
    arguments = parser.parse_args()
    if arguments.json is not None and arguments.name is None:
        parser.error("--json goes with a NAME")
    for name in NAMES if arguments.name is None else (arguments.name,):
        print(f"{name}{' (quick)' if arguments.quick else ''}", flush=True)
        report = importlib.import_module(f"bench.{name}").run(quick=arguments.quick)
        if arguments.json is not None:
            report.write(arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
