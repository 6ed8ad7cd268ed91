"""`python -m bench [NAME] [--quick] [--json FILE]`, `report FILE...`, or `simulate ...`.

NAME is one benchmark, or `all`. Tables are printed; plots, and the JSON of the last run, go to
`.bench/`. `report` puts such JSON files into docs/benchmarks.md and its plots. `simulate` measures
nothing: it says what a deployment of any size would use; see its --help.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench.catalogue import BENCHMARKS
from bench.load.files import raise_file_limit
from bench.model.simulate import main as simulate
from bench.reports.document import encode
from bench.reports.page import write_page
from bench.reports.plots import write_plots
from bench.reports.tables import summary
from bench.runner import run_all, run_one
from bench.size import Size

OUTPUT = Path(".bench")


def main(arguments: list[str] | None = None) -> int:
    """Run benchmarks and return the exit status: 1 if one of them failed."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["simulate"]:
        return simulate(arguments[1:])
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.name == "report":
        if not given.files:
            parser.error("report needs the JSON files of a run")
        return write_page([Path(file) for file in given.files])
    if given.files:
        parser.error(f"only report takes files, not {given.name}")
    raise_file_limit()
    size = Size(given.size)
    seconds = None if given.minutes is None else given.minutes * 60
    is_all = given.name == "all"
    document = run_all(size, most_seconds=seconds) if is_all else run_one(given.name, size)
    if given.json is not None:
        given.json.write_bytes(encode(document))
    if not given.part:
        OUTPUT.mkdir(exist_ok=True)
        OUTPUT.joinpath(f"{given.name}.json").write_bytes(encode(document))
        write_plots(document, OUTPUT)
        print(f"\n{summary(document)}\n  plots and JSON: {OUTPUT}/", flush=True)
    return 1 if any(report.error for report in document.reports) else 0


def _parser() -> argparse.ArgumentParser:
    lines = [f"  {b.name:<11} {b.title}{'' if b.in_all else ' (not in all)'}" for b in BENCHMARKS]
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=__doc__,
        epilog="benchmarks:\n" + "\n".join(lines),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [benchmark.name for benchmark in BENCHMARKS]
    parser.add_argument(
        "name", nargs="?", default="all", metavar="NAME", choices=[*names, "all", "report"],
        help="a benchmark, all (the default), or report",
    )  # fmt: skip
    parser.add_argument("files", nargs="*", metavar="FILE", help="of report: what --json wrote")
    parser.add_argument(
        "--quick", dest="size", action="store_const", const="quick", default="full",
        help="fewer repetitions",
    )  # fmt: skip
    parser.add_argument(
        "--smoke", dest="size", action="store_const", const="smoke",
        help="tiny numbers: only show that it works",
    )  # fmt: skip
    parser.add_argument(
        "--minutes", type=float, metavar="N", help="of all: leave out what would take longer"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report to FILE")
    parser.add_argument("--part", action="store_true", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
