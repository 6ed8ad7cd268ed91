"""`python -m devstack`, which is what `make dev` runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from devstack.servers import free_port
from tests.support.stack import PROJECT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SETTINGS = ("AYB_DEV_POSTGRES_PORT", "AYB_DEV_VALKEY_PORT", "AYB_SERVER_PORT")
START_SECONDS = 60


@dataclass
class Run:
    """A devstack that was started, and its output so far."""

    process: asyncio.subprocess.Process
    output: str = ""

    async def until(self, text: str) -> str:
        """Read until the output holds a text; return all of it."""
        async with asyncio.timeout(START_SECONDS):
            while text not in self.output:
                line = await self.process.stdout.readline()
                assert line, f"it ended with {await self.process.wait()}: {self.output}"
                self.output += line.decode()
        return self.output

    async def end(self) -> tuple[int, str]:
        """Read to the end; return the exit status and the output."""
        async with asyncio.timeout(START_SECONDS):
            self.output += (await self.process.stdout.read()).decode()
            return await self.process.wait(), self.output

    def interrupt(self) -> None:
        """Press Ctrl-C: every process of the terminal's foreground group gets SIGINT."""
        os.killpg(self.process.pid, signal.SIGINT)

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    @property
    def last_line(self) -> str:
        return self.output.splitlines()[-1]


@pytest.fixture
def data_dir(server_dir):
    """A folder for the data that the user of Postgres can reach."""
    folder = server_dir / "devstack"
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def environment(data_dir):
    """Settings with free ports."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("AYB_")},
        "AYB_DEV_DIR": str(data_dir),
        **{name: str(free_port()) for name in SETTINGS},
    }


@contextlib.asynccontextmanager
async def devstack(environment: dict[str, str]) -> AsyncIterator[Run]:
    """Start a devstack in its own process group; check that it leaves nothing running."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "devstack",
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT, env=environment, cwd=PROJECT, start_new_session=True,
    )  # fmt: skip
    run = Run(process)
    try:
        yield run
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await run.end()


async def shell(command: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        "bash", "-c", command, stdout=asyncio.subprocess.PIPE, cwd=PROJECT
    )


async def gone(processes: list[psutil.Process]) -> None:
    """Check that processes have ended."""
    _, alive = await asyncio.to_thread(psutil.wait_procs, processes, timeout=15)
    assert alive == []


async def test_from_start_to_streamed_event_and_again(environment, require):
    """The printed lines, pasted, log in, stream and insert. Ctrl-C ends everything. It starts again
    with its data, and with tokens that are still valid.
    """
    require.program("curl", package="curl")
    async with devstack(environment) as run:
        paste = (await run.until("Ctrl-C stops it all.")).split(
            "another terminal, in this folder:"
        )[1]
        login, stream, tail, insert = re.findall(r"  # .*\n((?:  .*\n)+)", paste)
        listening = await shell(f"{login}\n{stream.replace('curl', 'curl -s')}")
        tailing = await shell(f"{login}\nexec env {tail.strip()} 2>&1")
        async with asyncio.timeout(START_SECONDS):
            await listening.stdout.readuntil(b"\n\n")  # connected
            assert (await tailing.stdout.readline()).startswith(b"connected, after ")
            writing = await shell(insert)
            assert await writing.wait() == 0
            frame = (await listening.stdout.readuntil(b"\n\n")).decode()
            line = await tailing.stdout.readline()
            assert line.startswith(b'create posts {"id": 1,'), line
        tailing.kill()
        await tailing.wait()
        record = r'\{"id":1,"author_id":"[0-9a-f-]+","title":"New Post","published":true,'
        assert re.search(rf'data: \{{"action":"create","table":"posts","record":{record}', frame)
        await run.until('change | create public.posts {"id":1')
        children = run.children()
        assert {child.name() for child in children} >= {"postgres", "valkey-server"}
        run.interrupt()
        status, output = await run.end()
        assert status == 0
        assert "Traceback" not in output
        await gone(children)
        await listening.wait()
    async with devstack(environment) as run:
        await run.until("Ctrl-C stops it all.")
        assert "tables are there already" in run.output
        again = await shell(insert)
        assert await again.wait() == 0
        await run.until('change | create public.posts {"id":2')
        run.interrupt()
        assert (await run.end())[0] == 0


@pytest.mark.parametrize("setting", SETTINGS)
async def test_busy_port(environment, data_dir, setting):
    """A busy port is one line that names the port and its setting, before anything starts."""
    with socket.create_server(("127.0.0.1", int(environment[setting]))):
        async with devstack(environment) as run:
            status, output = await run.end()
    assert status == 1
    (line,) = output.splitlines()
    assert line.startswith(f"devstack: port {environment[setting]} for ")
    assert "(Address already in use)" in line
    assert setting in line
    assert not data_dir.exists()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"PG_VERSION": "9\n", "global/pg_control": ""}, "was made by Postgres 9"),
        ({"global/pg_control": ""}, "is not a Postgres data directory, or an incomplete one"),
        ({"base/1/leftover": ""}, "is not a Postgres data directory, or an incomplete one"),
    ],
)
async def test_stale_data(environment, data_dir, files, message):
    """A data directory that cannot be used is one line that says what to do, and stays as it is."""
    for name, text in files.items():
        (data_dir / "postgres" / name).parent.mkdir(parents=True, exist_ok=True)
        (data_dir / "postgres" / name).write_text(text)
    async with devstack(environment) as run:
        status, output = await run.end()
    assert status == 1
    (line,) = output.splitlines()
    assert line.startswith("devstack: ")
    assert message in line
    assert line.endswith("remove it to start afresh")
    assert all((data_dir / "postgres" / name).exists() for name in files)


async def test_wrong_setting(environment):
    """A wrong setting is one line that names it."""
    environment["AYB_SERVER_PORT"] = "http"
    async with devstack(environment) as run:
        status, output = await run.end()
    assert status == 1
    assert re.fullmatch(r"devstack: AYB_SERVER_PORT: .*\n", output)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell of a parent's death")
async def test_after_sigkill(environment):
    """If it is killed, its children end too, and it starts again on the data left behind."""
    async with devstack(environment) as run:
        await run.until("Ctrl-C stops it all.")
        children = run.children()
        run.process.kill()
        await gone(children)
        await run.end()
    async with devstack(environment) as run:
        await run.until("Ctrl-C stops it all.")


@pytest.mark.parametrize("victim", ["gateway", "valkey-server"])
async def test_a_part_that_dies(environment, victim):
    """A part that ends takes the others down, with one line that names it."""
    async with devstack(environment) as run:
        await run.until("Ctrl-C stops it all.")
        children = run.children()
        killed = next(child for child in children if victim in " ".join(child.cmdline()))
        killed.kill()
        status, _ = await run.end()
        await gone(children)
    assert status == 1
    told = [line for line in run.output.splitlines() if line.startswith("devstack: ")]
    name = {"valkey-server": "Valkey"}.get(victim, victim)
    assert [line.partition(" has ended")[0] for line in told] == [f"devstack: {name}"]


async def test_on_servers_of_others(environment, database, own_valkey):
    """Given URLs are used instead of embedded servers, and those servers are left alone."""
    environment |= {
        "AYB_DATABASE_URL": database.dsn,
        "AYB_REDIS_URL": own_valkey.url,
        "AYB_DEV_DEMO": "1",
    }
    async with devstack(environment) as run:
        await run.until("Ctrl-C stops it all.")
        names = {child.name() for child in run.children()}
        assert not names & {"postgres", "valkey-server"}
        assert 'psql "$AYB_DATABASE_URL"' in run.output
        await database.execute("INSERT INTO posts (title, published) VALUES ('x', true)")
        await run.until("change | create public.posts")
        run.interrupt()
        assert (await run.end())[0] == 0
    assert own_valkey.is_running
    async with database.connect() as connection:
        assert await connection.fetchval("SELECT count(*) FROM posts") == 1


async def test_a_database_of_others_is_left_alone(environment, database):
    """With AYB_DATABASE_URL in the environment by chance, nothing is put into that database."""
    environment["AYB_DATABASE_URL"] = database.dsn
    async with devstack(environment) as run:
        status, output = await run.end()
    assert status == 1
    (line,) = output.splitlines()
    assert "AYB_DEV_DEMO=1" in line
    async with database.connect() as connection:
        assert await connection.fetchval("SELECT to_regclass('_ayb_users') IS NULL")


async def test_second_starts(environment):
    """A second one on the same folder, and one whose demo was dropped, say what to do."""
    async with devstack(environment) as run:
        await run.until("Ctrl-C stops it all.")
        other = environment | {name: str(free_port()) for name in SETTINGS}
        async with devstack(other) as second:
            status, output = await second.end()
        assert (status, len(output.splitlines())) == (1, 1)
        assert "AYB_DEV_DIR" in output
        (psql,) = re.findall(r"^  (\S+psql \S+) ", run.output, re.MULTILINE)
        dropping = await shell(f"{psql} -c 'DROP TABLE comments'")
        assert await dropping.wait() == 0
        run.interrupt()
        assert (await run.end())[0] == 0
    async with devstack(environment) as run:
        status, _ = await run.end()
    assert status == 1
    assert "comments missing" in run.last_line
    assert "remove .devstack" in run.last_line


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs Postgres as somebody else")
async def test_root_in_a_closed_folder(environment, tmp_path):
    """If the user of Postgres cannot reach the folder, the data goes to /var/tmp."""
    tmp_path.chmod(0o700)
    environment["AYB_DEV_DIR"] = str(tmp_path / "data")
    async with devstack(environment) as run:
        output = await run.until("Ctrl-C stops it all.")
        (folder,) = map(Path, re.findall(r"data in (.*)/postgres$", output, re.MULTILINE))
        run.interrupt()
        assert (await run.end())[0] == 0
    assert folder.parent == Path("/var/tmp")
    assert folder.name.startswith("ayb-devstack-")
    shutil.rmtree(folder)


async def test_interrupted_start(environment, data_dir):
    """Ctrl-C during the first start leaves nothing half done: the next start works."""
    async with devstack(environment) as run:
        while not (data_dir / "postgres.partial").is_dir():  # noqa: ASYNC110 (another process)
            await asyncio.sleep(0.01)
        children = run.children()
        run.interrupt()
        assert (await run.end())[0] == 0
        await gone(children)
    assert not (data_dir / "postgres").exists()
    async with devstack(environment) as run:
        await run.until("Ctrl-C stops it all.")
