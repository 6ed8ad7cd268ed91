"""The programs and facts that a test needs besides Python packages."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest


class Requirements:
    """What a test needs: without it the test is skipped, or fails where REQUIRE_ALL is 1."""

    def program(self, *names: str, package: str) -> Path:
        """Find a program under one of its names; `package` is what apt would install."""
        found = next((path for name in names if (path := shutil.which(name))), None)
        if found is None:
            self._refuse(f"{names[0]} is not installed (apt-get install {package})")
        return Path(found)

    def that(self, fact: object, reason: str) -> None:
        """Require a fact; `reason` says what is missing."""
        if not fact:
            self._refuse(reason)

    def _refuse(self, reason: str) -> NoReturn:
        if os.environ.get("REQUIRE_ALL") == "1":
            pytest.fail(f"REQUIRE_ALL=1, but {reason}", pytrace=False)
        pytest.skip(reason)
