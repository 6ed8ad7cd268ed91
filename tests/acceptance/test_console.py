"""The console in Chromium, behind a path prefix, with two users side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from devstack.demo import PASSWORD, USERS
from devstack.demo_server import DemoServer
from tests.support.browser import PAGES
from tests.support.stack import PROJECT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.browser import Chromium
    from tests.support.nginx import StartNginx
    from tests.support.requirements import Requirements
    from tests.support.stack import Stack
    from tests.support.stack_fixtures import StartStack

AXE = PAGES / "node_modules/axe-core/axe.min.js"
ADMIN = "an admin's secret of 32 characters"
DEMO = (PROJECT / "devstack/sql/demo.sql").read_text("utf-8")
PREFIX = "location /realtime/ { proxy_pass http://gateways/; proxy_buffering off; gzip off; }"
TEXT = "return document.querySelectorAll('.pane')[{}].querySelector('.events').innerText"


@pytest.fixture
async def blog(start_stack: StartStack) -> Stack:
    """The demo's tables and users, and a gateway with everything that the console offers."""
    gateway = {"AYB_CONSOLE_ENABLED": "true", "AYB_EXPLAIN_SECRET": ADMIN}
    stack = await start_stack(gateway=gateway, start=False)
    await stack.sql(DEMO)
    for part in ("relay", "gateway"):
        await stack.start(part)
    await stack.captured("posts", "comments")
    return stack


@pytest.fixture
def demo(blog: Stack) -> Iterator[DemoServer]:
    """What answers the devstack's buttons."""
    server = DemoServer(blog.database.dsn, origins=[blog.gateway_url])
    yield server
    server.close()


async def open_console(browser: Chromium, url: str) -> None:
    """Load the page; violations of its content security policy are collected."""
    await browser.command("url", {"url": url})
    await browser.wait_for("return document.documentElement.dataset.ready === 'true'")


async def log_in(browser: Chromium, pane: int, email: str) -> None:
    """Log in by the form of a pane, and tick all tables."""
    await browser.run(
        """
        const form = document.querySelectorAll('.pane')[arguments[0]].querySelector('.log-in');
        form.elements.email.value = arguments[1]; form.elements.password.value = arguments[2];
        form.requestSubmit();
        """,
        pane, email, PASSWORD,
    )  # fmt: skip
    boxes = f"document.querySelectorAll('.pane')[{pane}].querySelectorAll('.tables input')"
    await browser.wait_for(f"return {boxes}.length === 2")
    await browser.run(f"{boxes}.forEach((box) => box.click())")
    state = f"document.querySelectorAll('.pane')[{pane}].querySelector('.state').textContent"
    await browser.wait_for(f"return {state} === 'connected'")


async def faults(browser: Chromium) -> list[str]:
    """What axe-core finds wrong with the page for people with disabilities."""
    await browser.run(f"{AXE.read_text('utf-8')}; window.axe = axe")
    found = await browser.run("return axe.run()")
    return [f"{one['id']}: {one['nodes'][0]['html']}" for one in found["violations"]]


async def test_two_users_beside_each_other(
    blog: Stack, browser: Chromium, start_nginx: StartNginx, require: Requirements
) -> None:
    """Each pane shows what its user may see, with the difference to the row before and its age."""
    require.that(AXE.is_file(), "axe-core is not installed (make test installs it)")
    await open_console(browser, f"{start_nginx(blog.gateway_url, server=PREFIX)}/realtime/console")
    assert await faults(browser) == []
    await log_in(browser, 0, USERS[0])
    await browser.run("document.getElementById('beside').click()")
    await log_in(browser, 1, USERS[1])
    await blog.sql("INSERT INTO posts (title, published) VALUES ('<b>First</b>', true)")
    await blog.sql("UPDATE posts SET title = 'Second', published = false")
    for wanted in ("create", "update", "<b>First</b>", "Second", "true", "false", "id=1", " ms"):
        await browser.wait_for(f"return ({TEXT.format(0).removeprefix('return ')}).includes("
                               f"{wanted!r})")  # fmt: skip
    other = await browser.run(TEXT.format(1))
    assert "create" in other
    assert "update" not in other
    for width in (1280, 400):
        await browser.command("window/rect", {"width": width, "height": 900})
        assert await faults(browser) == []
        assert await browser.run(
            "return document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        ), f"the page is wider than {width} pixels"
    for scheme in ("dark", "light"):
        await browser.command(
            "goog/cdp/execute",
            {
                "cmd": "Emulation.setEmulatedMedia",
                "params": {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
            },
        )
        assert await faults(browser) == []


async def test_what_one_does_with_events(blog: Stack, browser: Chromium) -> None:
    """Filter, pause, clear; a table left out; the states of the stream; why a row is not seen."""
    await open_console(browser, f"{blog.gateway_url}/console")
    await log_in(browser, 0, USERS[1])
    await blog.sql("INSERT INTO posts (title, published) VALUES ('apple', true), ('pear', true)")
    await browser.wait_for(f"return ({TEXT.format(0).removeprefix('return ')}).includes('id=2')")
    await browser.run(
        "const filter = document.querySelector('.filter'); filter.value = 'APPLE';"
        "filter.dispatchEvent(new Event('input'))"
    )
    shown = "return [...document.querySelectorAll('.events li')].filter((li) => !li.hidden).length"
    assert await browser.run(shown) == 1
    await browser.run(
        "const filter = document.querySelector('.filter'); filter.value = '';"
        "filter.dispatchEvent(new Event('input')); document.querySelector('.pause').click()"
    )
    before = await browser.run(shown)
    await blog.sql("INSERT INTO posts (title, published) VALUES ('plum', true)")
    await browser.wait_for("return document.querySelector('.received').textContent === '3'")
    assert await browser.run(shown) == before
    await browser.run("document.querySelector('.pause').click()")
    await browser.wait_for(f"{shown} === {before + 1}")
    await browser.run("document.querySelector('.clear').click()")
    assert await browser.run(shown) == 0
    await blog.restart("gateway")
    await browser.wait_for("return document.querySelector('.reconnects').textContent === '1'", 30)
    text = await browser.run(TEXT.format(0))
    assert "closing" in text
    assert "replaying" in text
    await blog.sql("INSERT INTO posts (id, title) VALUES (77, 'a draft of the first user')")
    await browser.run(
        """
        const form = document.querySelector('.why form'); form.closest('details').open = true;
        for (const [name, value] of Object.entries(arguments[0])) form.elements[name].value = value;
        form.requestSubmit();
        """,
        {"table": "posts", "key": "77", "secret": ADMIN},
    )
    because = "document.querySelector('.because').innerText"
    await browser.wait_for(f"return {because}.includes('posts_author')")
    text = await browser.run(f"return {because}")
    assert "visible: no" in text
    assert "posts_published" in text


async def test_the_buttons_of_the_demo(blog: Stack, demo: DemoServer) -> None:
    """They write rows as a user, for pages of this gateway only."""
    origin = blog.gateway_url
    async with httpx.AsyncClient(base_url=demo.url, trust_env=False) as http:

        async def press(action: str, row: int | None = None, page: str = origin) -> httpx.Response:
            body = {"user": USERS[1], "row": row}
            return await http.post(f"/{action}", json=body, headers={"Origin": page})

        row = (await press("insert")).json()["row"]
        assert (await press("update", row)).json()["message"] == f"post {row} updated"
        said = [(await press("publish", row)).json()["message"] for _ in range(3)]
        assert said == [
            f"post {row} hidden: only its author sees it now",
            f"post {row} published: everyone sees it",
            f"post {row} hidden: only its author sees it now",
        ]
        (left,) = await blog.rows("SELECT author_id::text, published FROM posts")
        assert tuple(left) == ("00000000-0000-4000-8000-000000000002", False)
        assert (await press("delete", row)).json()["row"] is None
        assert (await press("delete")).status_code == 404
        assert (await press("drop")).status_code == 404
        assert (await press("hide")).status_code == 404
        bent = await http.get("/users", headers={"Host": "rebound.example"})
        assert bent.status_code == 404
        assert (
            "access-control-allow-origin"
            not in (await press("insert", page="https://evil.example")).headers
        )
        plain = await http.post("/insert", content='{"user": "user@example.com", "row": null}')
        assert plain.status_code == 404


async def test_it_is_off_by_default(stack: Stack) -> None:
    """Without the setting there is no page."""
    async with httpx.AsyncClient(base_url=stack.gateway_url, trust_env=False) as http:
        for path in ("/console", "/console/options", "/console/console.js"):
            assert (await http.get(path)).status_code == 404


async def test_what_it_answers(blog: Stack) -> None:
    """The page may run what the gateway serves and nothing else; batches need a token."""
    async with httpx.AsyncClient(base_url=blog.gateway_url, trust_env=False) as http:
        page = await http.get("/console")
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        moved = await http.get("/console/")
        assert (moved.status_code, moved.headers["location"]) == (308, "../console")
        assert (await http.get("/console/nosuch.js")).status_code == 404
        assert (await http.get("/console/batches?ids=1")).status_code == 401
        token = {"Authorization": f"Bearer {blog.token('me')}"}
        assert (await http.get("/console/batches?ids=x", headers=token)).status_code == 400
        assert (await http.get("/console/batches?ids=1", headers=token)).json()["batches"] == {}
