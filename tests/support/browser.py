"""Real browsers, headless; here Debian's Chromium, driven over WebDriver (W3C)."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import http.server
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import httpx

from devstack.process import Child
from devstack.servers import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

PAGES = Path(__file__).parents[1] / "acceptance/js"

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


class Driver(Protocol):
    """What drives a browser."""

    async def navigate(self, url: str) -> None:
        """Load a page."""

    async def execute(self, script: str, arguments: list[Any]) -> Any:
        """Run a script in the page and return its value (of a promise, its result)."""


class Browser:
    """One window of a browser."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    async def go(self, url: str) -> None:
        """Load a page, and wait until its script says that it is ready."""
        await self._driver.navigate(url)
        await self.wait_for("return window.ready === true")

    async def visit(self, origin: str) -> None:
        """Load a page of a gateway, or of a proxy in front of it, with the script `streams.js`."""
        await self._driver.navigate(f"{origin}/healthz")
        await self.run((PAGES / "streams.js").read_text(encoding="utf-8"))

    async def run(self, script: str, *arguments: Any) -> Any:
        """Run a script in the page and return its value (of a promise, its result)."""
        return await self._driver.execute(script, list(arguments))

    async def wait_for(self, script: str, seconds: float = 15.0) -> Any:
        """Run a script until its value is true; return that value."""
        end = time.monotonic() + seconds
        while not (value := await self.run(script)):
            if time.monotonic() > end:
                seen = await self.run("return window.seen")
                raise AssertionError(f"never true: {script}; the page has seen {seen}")
            await asyncio.sleep(0.05)
        return value


class _WebDriver:
    """A session of a driver that speaks HTTP."""

    def __init__(self, http: httpx.AsyncClient, session: str) -> None:
        self._http = http
        self._session = session

    async def navigate(self, url: str) -> None:
        await self.command("url", {"url": url})

    async def execute(self, script: str, arguments: list[Any]) -> Any:
        return await self.command("execute/sync", {"script": script, "args": arguments})

    async def command(self, command: str, body: dict[str, Any] | None = None) -> Any:
        """Send a command with a body, or ask for something without one."""
        url = f"/session/{self._session}/{command}"
        if body is None:
            response = await self._http.get(url)
        else:
            response = await self._http.post(url, json=body)
        assert response.status_code == 200, response.text
        return response.json()["value"]

    async def close_window(self) -> None:
        await self._http.delete(f"/session/{self._session}/window")


class Chromium(Browser):
    """A window with tabs."""

    def __init__(self, driver: _WebDriver) -> None:
        super().__init__(driver)
        self._chromium = driver

    async def open_tab(self, url: str) -> str:
        """Open a tab with a page that sets `window.ready`, and go to it; return its handle."""
        handle = await self._new("tab")
        await self.go(url)
        return handle

    async def open_window(self, url: str) -> str:
        """Open a window with any page, and go to it; return its handle."""
        handle = await self._new("window")
        await self._chromium.navigate(url)
        return handle

    async def _new(self, kind: str) -> str:
        handle: str = (await self._chromium.command("window/new", {"type": kind}))["handle"]
        await self.switch(handle)
        return handle

    async def handle(self) -> str:
        """The handle of the tab that commands go to."""
        value: str = await self._chromium.command("window")
        return value

    async def switch(self, handle: str) -> None:
        """Send commands to another tab."""
        await self._chromium.command("window", {"handle": handle})

    async def close_tab(self) -> None:
        """Close the tab that commands go to; switch to another one afterwards."""
        await self._chromium.close_window()

    async def reload(self) -> None:
        """Load the page again."""
        await self._chromium.command("refresh", {})
        await self.wait_for("return window.ready === true")

    async def set_offline(self, *, offline: bool) -> None:
        """Take the network away from the tab, or give it back."""
        conditions = {"offline": offline, "latency": 0, "throughput": -1}
        await self._chromium.command(
            "chromium/network_conditions", {"network_conditions": conditions}
        )

    async def freeze(self, *, frozen: bool) -> None:
        """Suspend the page of the tab, as browsers do with those in the background, or wake it."""
        state = "frozen" if frozen else "active"
        await self._chromium.command(
            "goog/cdp/execute", {"cmd": "Page.setWebLifecycleState", "params": {"state": state}}
        )

    async def command(self, command: str, body: dict[str, Any] | None = None) -> Any:
        """Send any command of WebDriver."""
        return await self._chromium.command(command, body)


@contextlib.asynccontextmanager
async def open_browser(chromium: Path, chromedriver: Path, folder: Path) -> AsyncIterator[Chromium]:
    """Start a browser with an empty profile; the profile and the log are written to `folder`."""
    port = free_port()
    driver = Child(
        "chromedriver",
        [chromedriver, f"--port={port}", "--allowed-ips=127.0.0.1"],
        log=folder / "chromedriver.log",
    )
    try:
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60
        ) as http:
            await _wait_for_driver(http, driver)
            options = {
                "binary": str(chromium),
                "args": [*FLAGS, f"--user-data-dir={folder / 'profile'}"],
            }
            capabilities = {"alwaysMatch": {"goog:chromeOptions": options}}
            response = await http.post("/session", json={"capabilities": capabilities})
            assert response.status_code == 200, response.text
            session = response.json()["value"]["sessionId"]
            try:
                yield Chromium(_WebDriver(http, session))
            finally:
                await http.delete(f"/session/{session}")
    finally:
        driver.stop()


async def _wait_for_driver(http: httpx.AsyncClient, driver: Child) -> None:
    while True:
        assert driver.is_running, driver.output()
        with contextlib.suppress(httpx.HTTPError):
            if (await http.get("/status")).json()["value"]["ready"]:
                return
        await asyncio.sleep(0.05)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def serve_folder(folder: Path) -> Iterator[str]:
    """Serve the files of a folder; yield the origin."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, name="pages")
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def serve_pages() -> Iterator[str]:
    """Serve the folder with the test page and the npm client; yield the page's URL."""
    with serve_folder(PAGES) as origin:
        yield f"{origin}/page.html"
