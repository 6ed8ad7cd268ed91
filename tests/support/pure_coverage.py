"""The coverage of the unit tests: shown for all modules, and required of the pure ones.

`make check` runs this after the tests. pyproject.toml lists the pure modules, under
`tool.ayb.coverage`.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import coverage

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def pure_modules() -> list[str]:
    """Return the paths of the pure modules, relative to the project."""
    settings = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))
    modules: list[str] = settings["tool"]["ayb"]["coverage"]["pure"]
    return modules


def main() -> int:
    """Print both tables; return 1 if a pure module is missing or not fully covered."""
    modules = pure_modules()
    missing = [module for module in modules if not (PYPROJECT.parent / module).is_file()]
    if missing:
        print(f"tool.ayb.coverage in pyproject.toml lists no file: {', '.join(missing)}")
        return 1
    data = coverage.Coverage()
    data.load()
    print("Modules that the unit tests do not cover in full (the tests on servers cover more):")
    data.report(skip_covered=True, skip_empty=True)
    print(f"\nThe {len(modules)} pure modules, each to be covered in full:")
    covered = data.report(include=modules, skip_covered=True, show_missing=True)
    if covered < 100:
        print("Add unit tests for the lines above: these modules do no I/O.")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
