"""The container image, built and run for real on a Debian made here."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from devstack.ports import free_port
from tests.support.sse_client import SseClient
from tests.support.stack import JWT_SECRET, PROJECT

if TYPE_CHECKING:
    from tests.support.containers import Containers
    from tests.support.databases import Database
    from tests.support.stack import Stack

ALICE = "00000000-0000-0000-0000-00000000000a"
NOTES = """
CREATE TABLE notes (id int PRIMARY KEY);
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON notes TO ayb_authenticated;
CREATE POLICY anyone ON notes USING (true);
"""


async def ready(url: str) -> None:
    """Wait until a part says that it is ready."""
    async with httpx.AsyncClient() as client, asyncio.timeout(60):
        while True:
            try:
                if (await client.get(f"{url}/readyz")).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.2)


def test_the_dockerfile_lints() -> None:
    """hadolint finds nothing to say."""
    done = subprocess.run(
        [Path(sys.executable).with_name("hadolint"), PROJECT / "Dockerfile"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "")


def test_what_the_image_is(containers: Containers) -> None:
    """Not root by number, labelled, with a health check, and no tools to build with."""
    image = json.loads(containers.podman("inspect", containers.image).stdout)[0]
    print(f"size: {image['Size'] / 2**20:.0f} MiB")
    assert image["Config"]["User"] == "10001:10001"
    assert image["Config"]["StopSignal"] == "SIGTERM"
    labels = image["Config"]["Labels"]
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert labels["org.opencontainers.image.revision"] == "test"
    assert "shared.healthcheck" in " ".join(image["Healthcheck"]["Test"])
    for program in ("pip", "gcc", "make"):
        found = containers.podman(
            "run", "--rm", "--network", "none", "--entrypoint", "sh", containers.image,
            "-c", f"ls /app/bin/{program} || command -v {program}", check=False,
        )  # fmt: skip
        assert found.returncode != 0, program


async def test_relay_and_gateway_run_in_it(containers: Containers, start_stack: Any) -> None:
    """Both run read-only and without rights, stream a change, to the smoke test in the image as
    well, and end on SIGTERM with 0.
    """
    stack: Stack = await start_stack(start=False)
    database: Database = stack.database
    ports = {"relay": free_port(), "gateway": free_port()}
    common = {"AYB_REDIS_URL": stack.valkey.url, "AYB_LOG_FORMAT": "console"}
    containers.run(
        "relay", "relay", "run", **common,
        AYB_DATABASE_URL=database.relay_dsn, AYB_RELAY_PORT=str(ports["relay"]),
        AYB_RELAY_NOTIFY="on", AYB_RELAY_SCAN_SECONDS="0.1",
    )  # fmt: skip
    containers.run(
        "gateway", "gateway", **common,
        AYB_READ_DATABASE_URL=database.gateway_dsn, AYB_SERVER_PORT=str(ports["gateway"]),
        AYB_AUTH_JWT_SECRET=JWT_SECRET, AYB_REALTIME_DRAIN_SECONDS="1",
    )  # fmt: skip
    try:
        for name, port in ports.items():
            await ready(f"http://127.0.0.1:{port}")
            check = containers.podman("exec", name, "/app/bin/python", "-m", "shared.healthcheck")
            assert check.returncode == 0
        await stack.create(NOTES, "notes")
        url = f"http://127.0.0.1:{ports['gateway']}"
        async with SseClient(url, tables="notes", token=stack.token(ALICE)) as client:
            await client.connected()
            await stack.sql("INSERT INTO notes VALUES (1)")
            assert (await client.next_message()).json()["record"] == {"id": 1}
        smoke = await asyncio.to_thread(
            containers.run_to_end, "smoke", "gateway", "smoke", f"--url={url}", "--table=notes",
            "--sql=INSERT INTO notes VALUES (2)",
            AYB_AUTH_JWT_SECRET=JWT_SECRET, AYB_SMOKE_DATABASE_URL=database.dsn,
        )  # fmt: skip
        assert smoke.returncode == 0, smoke.stderr
        assert "create of notes" in smoke.stdout
        tail = await asyncio.to_thread(
            containers.run_to_end, "tail", "gateway", "tail", "nosuch", f"--url={url}",
            AYB_TOKEN=stack.token(ALICE),
        )  # fmt: skip
        assert "unknown table: nosuch" in tail.stderr
    except BaseException:
        for name in ports:
            print(containers.podman("logs", name, check=False))
        raise
    for name in ports:
        containers.podman("stop", "--time", "20", name)
        state = json.loads(containers.podman("inspect", name).stdout)[0]["State"]
        assert state["ExitCode"] == 0, containers.podman("logs", name).stderr


def test_a_wrong_setting_is_one_line(containers: Containers) -> None:
    """Without settings each command ends with status 1 and one line that names what is missing."""
    for name, command in (("no-gateway", ["gateway"]), ("no-relay", ["relay", "run"])):
        done = containers.podman(
            "run", "--rm", "--name", name, "--network", "none", containers.image, *command,
            check=False,
        )  # fmt: skip
        assert done.returncode == 1
        ours = [line for line in done.stderr.splitlines() if not line.startswith('time="')]
        assert len(ours) == 1  # the others are podman's
        assert "AYB_" in ours[0]
