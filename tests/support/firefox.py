"""Firefox, headless, driven over Marionette: its own remote protocol, which needs no driver.

A message is its length in bytes, a colon and JSON: `[0, id, command, parameters]` for a command,
`[1, id, error, result]` for its answer. The commands are those of WebDriver.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from typing import TYPE_CHECKING, Any

from devstack.process import Child
from devstack.servers import free_port
from tests.support.browser import Browser

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

_START_SECONDS = 60.0
_PREFERENCES = {
    "app.normandy.enabled": False,
    "app.update.disabledForTesting": True,
    "browser.aboutwelcome.enabled": False,
    "browser.safebrowsing.downloads.enabled": False,
    "browser.safebrowsing.malware.enabled": False,
    "browser.safebrowsing.phishing.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.page": 0,
    "datareporting.policy.dataSubmissionEnabled": False,
    "devtools.jsonview.enabled": False,
    "dom.ipc.processCount": 1,
    "extensions.systemAddon.update.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "network.proxy.type": 0,
    "services.settings.server": "http://127.0.0.1:9/",
    "toolkit.telemetry.enabled": False,
}
"""So that it asks nothing of the internet, and shows JSON as a plain page."""


class Marionette:
    """A connection to one Firefox."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._ids = itertools.count(1)

    async def navigate(self, url: str) -> None:
        """Load a page."""
        await self.command("WebDriver:Navigate", {"url": url})

    async def execute(self, script: str, arguments: list[Any]) -> Any:
        """Run a script in the page and return its value (of a promise, its result)."""
        parameters = {"script": script, "args": arguments, "newSandbox": False, "sandbox": None}
        return (await self.command("WebDriver:ExecuteScript", parameters))["value"]

    async def command(self, name: str, parameters: dict[str, Any]) -> Any:
        """Run a command and return its result."""
        message = json.dumps([0, next(self._ids), name, parameters]).encode()
        self._writer.write(b"%d:%b" % (len(message), message))
        _, _, error, result = await self.receive()
        assert error is None, error
        return result

    async def receive(self) -> Any:
        """Wait for the next message."""
        length = await self._reader.readuntil(b":")
        return json.loads(await self._reader.readexactly(int(length[:-1])))

    def close(self) -> None:
        """Close the connection."""
        self._writer.close()


@contextlib.asynccontextmanager
async def open_firefox(firefox: Path, folder: Path) -> AsyncIterator[Browser]:
    """Start Firefox with an empty profile; the profile and the log are written to `folder`."""
    port = free_port()
    profile = folder / "firefox"
    profile.mkdir()
    preferences = {**_PREFERENCES, "marionette.port": port}
    (profile / "user.js").write_text(
        "".join(
            f"user_pref({json.dumps(name)}, {json.dumps(value)});\n"
            for name, value in preferences.items()
        ),
        encoding="utf-8",
    )
    process = Child(
        "firefox",
        [firefox, "--headless", "--marionette", "--no-remote", "--profile", profile],
        log=folder / "firefox.log",
    )
    try:
        marionette = await _connect(port, process)
        try:
            await marionette.command("WebDriver:NewSession", {})
            yield Browser(marionette)
        finally:
            marionette.close()
    finally:
        process.stop()


async def _connect(port: int, process: Child) -> Marionette:
    async with asyncio.timeout(_START_SECONDS):
        while True:
            assert process.is_running, process.output()
            with contextlib.suppress(OSError):
                marionette = Marionette(*await asyncio.open_connection("127.0.0.1", port))
                await marionette.receive()  # says which protocol it speaks
                return marionette
            await asyncio.sleep(0.05)
