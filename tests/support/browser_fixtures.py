"""The fixture of a real browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.browser import open_browser

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.browser import Chromium
    from tests.support.requirements import Requirements


@pytest.fixture
async def browser(require: Requirements, tmp_path: Path) -> AsyncIterator[Chromium]:
    """Chromium with an empty profile."""
    chromium = require.program("chromium", package="chromium")
    chromedriver = require.program("chromedriver", package="chromium-driver")
    async with open_browser(chromium, chromedriver, tmp_path) as browser:
        yield browser
