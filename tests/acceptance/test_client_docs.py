"""The npm package as it would be published, and the snippets of docs/clients.md."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.browser import PAGES, serve_folder
from tests.support.requirements import Requirements
from tests.support.stack import PROJECT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.browser import Chromium
    from tests.support.stack import Stack

DOCUMENT = PROJECT / "docs/clients.md"
SNIPPET = re.compile(
    r"^```\w+\n(?://|#|<!--) ([\w.-]+)(?: -->)?\n(.*?)^```$", re.MULTILINE | re.DOTALL
)
COMPILER = PAGES / "node_modules/typescript/bin/tsc"
EMAIL, PASSWORD = "user@example.com", "password"
TABLE = """
    CREATE TABLE posts (id int PRIMARY KEY, title text);
    GRANT SELECT ON posts TO ayb_authenticated;
"""


@pytest.fixture(scope="module")
def installed() -> None:
    """What these tests need."""
    require = Requirements()
    require.program("node", package="nodejs")
    require.program("npm", package="npm")
    modules = PAGES / "node_modules"
    require.that((modules / "typescript").is_dir(), "npm packages are missing (make test)")


@pytest.fixture(scope="module")
def folder(installed: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with the snippets as files, the packed client, and what the tests install."""
    folder = tmp_path_factory.mktemp("snippets")
    packed = subprocess.run(
        ["npm", "pack", "--silent", "--pack-destination", folder, PROJECT / "clients/js"],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    modules = folder / "node_modules"
    modules.mkdir()
    for module in (PAGES / "node_modules").iterdir():
        (modules / module.name).symlink_to(module)
    with tarfile.open(folder / packed.stdout.strip().splitlines()[-1]) as archive:
        archive.extractall(folder, filter="data")
    (folder / "package").rename(modules / "ayb-realtime")
    (folder / "package.json").write_text('{"type": "module"}')
    for name, text in SNIPPET.findall(DOCUMENT.read_text("utf-8")):
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
async def posts(stack: Stack) -> Stack:
    """A stack with a table and a user who can log in."""
    await stack.create(TABLE, "posts")
    await stack.add_user(EMAIL, PASSWORD)
    return stack


def test_every_snippet_is_used() -> None:
    """Each snippet with a file name is named by a test here, or imported by one that is."""
    snippets = dict(SNIPPET.findall(DOCUMENT.read_text("utf-8")))
    used = Path(__file__).read_text("utf-8") + (PAGES / "client_docs.mjs").read_text("utf-8")
    used += "".join(snippets.values())
    unused = {name for name in snippets if f'"{name}"' not in used and f'"./{name}"' not in used}
    assert snippets
    assert unused == set()


def test_the_package(folder: Path) -> None:
    """It holds the module, its types, the README, and nothing else."""
    package = folder / "node_modules/ayb-realtime"
    names = {str(path.relative_to(package)) for path in package.rglob("*")}
    assert names == {"client.js", "client.d.ts", "package.json", "README.md"}
    module = (package / "client.js").read_bytes()
    assert module == (PROJECT / "gateway/web/assets/client.js").read_bytes()
    version = json.loads((package / "package.json").read_text())["version"]
    assert f'export const version = "{version}";'.encode() in module
    assert not (PROJECT / "clients/js/client.js").exists()


def test_types(folder: Path) -> None:
    """TypeScript accepts the snippets and the declarations, and rejects what is wrong."""
    (folder / "wrong.ts").write_text(
        'import { connect } from "ayb-realtime";\n'
        'connect({ integers: "float" });\n'
        'connect().subscribe<{ id: number }>("t", ({ record }) => record.nosuch);\n'
    )
    (folder / "dropin.ts").write_text(
        'import { AYBRealtime } from "ayb-realtime";\n'
        'import { AYBClient } from "@allyourbase/js";\n'
        'const realtime = new AYBRealtime(new AYBClient("https://api.example.com"));\n'
        'const leave: () => void = realtime.subscribe(["posts"], (e) => console.log(e.table));\n'
        "leave();\n"
    )
    options = (
        "--noEmit", "--strict", "--target", "es2022", "--module", "nodenext", "--lib",
        "es2023,dom",
    )  # fmt: skip

    def check(*files: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["node", COMPILER, *options, *files],
            cwd=folder, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    good = check("typed.ts", "dropin.ts")
    assert good.returncode == 0, good.stdout
    bad = check("wrong.ts")
    assert bad.stdout.count("wrong.ts(2,") == 1, bad.stdout
    assert bad.stdout.count("wrong.ts(3,") == 1, bad.stdout


def test_react_native(folder: Path) -> None:
    """TypeScript accepts the snippet with the types of React Native and Expo, and no others."""
    modules = PAGES / "react_native/node_modules"
    Requirements().that(modules.is_dir(), "npm packages are missing (make test)")
    project = folder / "native"
    (project / "node_modules").mkdir(parents=True)
    for module in modules.iterdir():
        (project / "node_modules" / module.name).symlink_to(module)
    (project / "node_modules/ayb-realtime").symlink_to(folder / "node_modules/ayb-realtime")
    snippet = (folder / "LatestPosts.tsx").read_text("utf-8")
    (project / "LatestPosts.tsx").write_text(snippet)
    (project / "Wrong.tsx").write_text(snippet.replace("record.title", "record.nosuch"))

    def check(*arguments: str) -> str:
        return subprocess.run(
            [
                "node", COMPILER, "--noEmit", "--strict", "--target", "esnext", "--module",
                "esnext", "--moduleResolution", "bundler", "--customConditions", "react-native",
                "--jsx", "react-native", "--lib", "es2022", "--types", "react-native", *arguments,
            ],
            cwd=project, capture_output=True, text=True, timeout=120, check=False,
        ).stdout  # fmt: skip

    assert check("--skipLibCheck", "LatestPosts.tsx") == ""
    assert "nosuch" in check("--skipLibCheck", "Wrong.tsx")
    # Their declarations have faults; ours have none, though there is no DOM.
    assert "ayb-realtime" not in check("LatestPosts.tsx")


async def test_go(folder: Path, posts: Stack) -> None:
    """The program in Go is formatted and vetted, prints each row once, also those written while
    the gateway restarts, and ends when its token is refused.
    """
    require = Requirements()
    for program in ("go", "gofmt"):
        require.program(program, package="golang-go")

    def go(*command: str) -> str:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    await asyncio.to_thread(go, "go", "vet", "follow.go")
    await asyncio.to_thread(go, "go", "build", "-o", "follow", "follow.go")
    assert go("gofmt", "-l", "follow.go") == ""
    async with running(folder, posts, "./follow") as process:
        first, seen = 0, []
        while not seen:  # until it follows
            await posts.sql("INSERT INTO posts VALUES ($1, 'x')", first)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    seen.append(json.loads(await process.stdout.readline())["record"]["id"])
            first += 1
        await posts.stop("gateway")
        await posts.sql("INSERT INTO posts VALUES (1001, 'meanwhile')")
        await posts.start("gateway")
        await posts.sql("INSERT INTO posts VALUES (1002, 'after')")
        while seen[-1] != 1002:
            seen.append(json.loads(await process.stdout.readline())["record"]["id"])
        assert seen == [*range(seen[0], first), 1001, 1002]
    refused = await asyncio.create_subprocess_exec(
        folder / "follow",
        env={**os.environ, "AYB_URL": posts.gateway_url, "AYB_TOKEN": "nonsense", "no_proxy": "*"},
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(30):
        _, complaint = await refused.communicate()
    assert b"the gateway refuses: 401" in complaint


async def test_the_first_page(stack: Stack, browser: Chromium, tmp_path: Path) -> None:
    """Two windows with two users show different rows of one table."""
    await stack.create(
        """
        CREATE TABLE posts (id int PRIMARY KEY, author_id uuid, title text, published boolean);
        ALTER TABLE posts ENABLE ROW LEVEL SECURITY;
        CREATE POLICY author ON posts USING (author_id = current_setting('ayb.user_id')::uuid);
        CREATE POLICY published ON posts FOR SELECT USING (published);
        GRANT SELECT ON posts TO ayb_authenticated;
        """,
        "posts",
    )
    page = dict(SNIPPET.findall(DOCUMENT.read_text("utf-8")))["posts.html"]
    (tmp_path / "posts.html").write_text(page.replace("http://localhost:8090", stack.gateway_url))
    log_in = """
        document.querySelector("[name=email]").value = arguments[0];
        document.querySelector("form").requestSubmit();
    """
    titles = "return [...document.querySelectorAll('li')].map((e) => e.textContent).join()"
    users, windows = [], []
    with serve_folder(tmp_path) as origin:
        for email in ("user@example.com", "other@example.com"):
            users.append(await stack.add_user(email, PASSWORD))
            windows.append(await browser.open_window(f"{origin}/posts.html"))
            await browser.wait_for("return document.querySelector('form').onsubmit !== null")
            await browser.run(log_in, email)
            await browser.wait_for("return document.querySelector('form').hidden")
        for number, author, title, published in (
            (1, users[0], "public", True),
            (2, users[0], "draft of user", False),
            (3, users[1], "draft of other", False),
            (4, users[1], "last", True),
        ):
            await stack.sql(
                "INSERT INTO posts VALUES ($1, $2, $3, $4)", number, author, title, published
            )
        for window, draft in zip(windows, ("draft of user", "draft of other"), strict=True):
            await browser.switch(window)
            await browser.wait_for(f"{titles}.endsWith('last')")
            assert await browser.run(titles) == f"public,{draft},last"


@contextlib.asynccontextmanager
async def running(folder: Path, posts: Stack, *command: str) -> AsyncIterator[Any]:
    """Run a program in the folder with the settings that the snippets read."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env={
            **os.environ,
            "AYB_URL": posts.gateway_url,
            "AYB_TOKEN": posts.token("me"),
            "PYTHONPATH": str(PROJECT / "clients/python"),
            "no_proxy": "*",
        },
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(60):
            yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # a shell has a child
        await process.communicate()


@pytest.mark.parametrize(
    ("command", "wanted"),
    [
        (("node", "follow.mjs"), b'"record":{"id":'),
        ((sys.executable, "follow.py"), b"create posts {'id':"),
        (("sh", "follow.sh"), b'data: {"action":"create","table":"posts","record":{"id":'),
    ],
    ids=["node", "python", "curl"],
)
async def test_programs(
    folder: Path, posts: Stack, command: tuple[str, ...], wanted: bytes
) -> None:
    """Each prints a row that is written while it runs."""
    async with running(folder, posts, *command) as process:

        async def write() -> None:
            for row in range(1_000):
                await posts.sql("INSERT INTO posts VALUES ($1, 'x')", row)
                await asyncio.sleep(0.2)

        writing = asyncio.create_task(write())
        try:
            while wanted not in (line := await process.stdout.readline()):
                assert line, "it ended"
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)


API = """
import type { Realtime } from "ayb-realtime";
export interface Post { id: number; title: string }
export let realtime: Realtime;
export let fetchPosts: () => Promise<Post[]>;
export function provide(...parts: [Realtime, () => Promise<Post[]>]): void {
  [realtime, fetchPosts] = parts;
}
"""


def compile_page(folder: Path) -> None:
    """Type-check the page for Next.js and make JavaScript of it, with an `api.js` of its own.

    The bundler of Next.js does not find `./api.ts` as `./api.js`, so the snippets name no suffix.
    Node wants one.
    """
    (folder / "api.ts").write_text(API)
    done = subprocess.run(
        [
            "node", COMPILER, "--strict", "--noImplicitAny", "false", "--allowJs", "--jsx",
            "react-jsx", "--target", "es2022", "--module", "esnext", "--moduleResolution",
            "bundler", "--lib", "es2023,dom", "--outDir", "compiled", "page.tsx", "live-posts.tsx",
        ],
        cwd=folder, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    for name in ("api.js", "page.js", "live-posts.js"):
        text = (folder / "compiled" / name).read_text("utf-8")
        assert not re.search(r'from "\./[\w-]+\.', text)
        (folder / name).write_text(re.sub(r'(from "\./[\w-]+)"', r'\1.js"', text), "utf-8")


async def test_frameworks(folder: Path, posts: Stack) -> None:
    """React, TanStack Query, SWR, a page of Next.js, Vue and Svelte show rows as they change, and
    leave nothing behind.
    """
    compile_page(folder)
    for name in ("client_docs.mjs", "client_docs_window.mjs"):
        (folder / name).write_bytes((PAGES / name).read_bytes())
    command = ("node", "client_docs.mjs", posts.gateway_url, EMAIL, PASSWORD)
    async with running(folder, posts, *command) as process:

        async def ask(line: str) -> Any:
            process.stdin.write(f"{line}\n".encode())
            return json.loads(await process.stdout.readline())

        assert json.loads(await process.stdout.readline()) == {
            "open": True,
            "renewed": True,
            "rendered": ["fetched"],
        }
        await posts.sql("INSERT INTO posts VALUES (2, 'new')")
        await posts.sql("UPDATE posts SET title = 'changed'")
        await posts.sql("INSERT INTO posts VALUES (3, 'short')")
        await posts.sql("DELETE FROM posts WHERE id = 3")
        wanted = {
            "hook": ["create 2", "update 2", "create 3", "delete 3"],
            "query": ["1 fetched", "2 changed"],
            "swr": ["1 fetched", "2 changed"],
            "next": ["fetched", "changed"],
            "vue": ["1 fetched", "2 changed"],
            "svelte": ["delete 3", "create 3", "update 2", "create 2"],
        }
        while (seen := await ask("report")) != wanted:
            assert len(seen["hook"]) <= 4, seen
        # A change that comes during a fetch whose answer does not have it, and TRUNCATE.
        await ask("hold")
        await posts.sql("INSERT INTO posts VALUES (5, 'between')")
        while "create 5" not in (await ask("report"))["hook"]:
            pass
        seen = await ask("report")
        assert seen["query"] == seen["swr"] == ["1 fetched", "2 changed"]
        assert seen["next"] == ["fetched", "changed", "between"]
        await ask("release")
        while any("5 between" not in seen[name] for name in ("query", "swr")):
            seen = await ask("report")
        await ask('serve [{"id": 6, "title": "since then"}]')
        await posts.sql("TRUNCATE posts")
        while (seen := await ask("report"))["vue"] or not (
            seen["query"] == seen["swr"] == ["6 since then"] and seen["next"] == ["since then"]
        ):
            pass
        assert await ask("unmount") == {"unmounted": True}
        await posts.sql("INSERT INTO posts VALUES (4, 'unseen')")
        assert (await ask("report"))["hook"] == [*wanted["hook"], "create 5"]
