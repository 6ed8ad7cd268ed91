"""`python -m bench NAME [--quick] [--json FILE]`: measure one figure."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

NAMES = ("latency", "visibility", "writers", "fanout")


def main() -> int:
    """Run one benchmark; exit status 1 where what arrived was wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--quick", action="store_true", help="at most 40 s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report to FILE")
    arguments = parser.parse_args()
    benchmark = importlib.import_module(f"bench.{arguments.name}")
    print(f"{arguments.name}{' (quick)' if arguments.quick else ''}", flush=True)
    report = benchmark.run(quick=arguments.quick)
    if arguments.json is not None:
        report.write(arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
