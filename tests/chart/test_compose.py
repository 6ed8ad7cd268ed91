"""compose.yaml, started for real by Docker Compose on podman.

The images of Postgres, Valkey and nginx are stand-ins on a Debian made here, with the same servers
and an entry point that does what compose.yaml needs of the public ones. Prometheus and Grafana (the
profile `observability`) are not started.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from devstack.ports import free_port
from tests.support.sse_client import SseClient
from tests.support.stack import PROJECT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.containers import Containers
    from tests.support.requirements import Requirements

COMPOSE = Path(sys.executable).with_name("docker-compose")
STAND_INS = Path(__file__).with_name("standins")
POSTGRES, NGINX = "localhost/postgres:test", "localhost/nginx:test"


class Project:
    """A compose project on podman's API."""

    def __init__(self, containers: Containers, address: str) -> None:
        self.containers = containers
        self.port = free_port()
        self._environment = {
            **os.environ,
            "DOCKER_HOST": address,
            "POSTGRES_IMAGE": POSTGRES,
            "VALKEY_IMAGE": POSTGRES,
            "NGINX_IMAGE": NGINX,
            "AYB_PORT": str(self.port),
        }
        self._stop = threading.Event()
        self._health = threading.Thread(target=self._check_health, daemon=True)

    def compose(self, *arguments: str, seconds: float = 300) -> str:
        """Run Docker Compose to its end; return what it printed."""
        done = subprocess.run(
            [COMPOSE, "--file", PROJECT / "compose.yaml", *arguments],
            capture_output=True, text=True, timeout=seconds, env=self._environment, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    def up(self) -> None:
        """Start everything, and wait until it is healthy."""
        self._health.start()
        self.compose("up", "--no-build", "--pull", "never", "--detach", "--wait")

    def down(self) -> None:
        """Remove everything, volumes too, without waiting for anything to drain."""
        self._stop.set()
        self._health.join(60)
        self.compose("kill")
        self.compose("down", "--volumes", "--timeout", "1")

    def psql(self, sql: str) -> str:
        """Run SQL on the primary."""
        return self.compose(
            "exec", "-T", "postgres", "psql", "-qAtU", "postgres", "app", "-c", sql
        ).strip()

    def _check_health(self) -> None:
        """Run the health checks of what is not healthy: without systemd podman does not."""
        pending = ("ps", "--quiet", "--filter", "health=starting", "--filter", "health=unhealthy")
        while not self._stop.wait(0.5):
            for name in self.containers.podman(*pending, check=False).stdout.split():
                self.containers.podman("healthcheck", "run", name, check=False)


@pytest.fixture
def project(require: Requirements, request: pytest.FixtureRequest) -> Iterator[Project]:
    """Start the project."""
    require.that(
        Path("/usr/lib/podman/netavark").exists(),
        "podman has no networks (apt-get install netavark aardvark-dns iptables)",
    )
    containers: Containers = request.getfixturevalue("containers")
    containers.podman("tag", containers.image, "docker.io/library/ayb-realtime:latest")
    containers.build_image(STAND_INS, POSTGRES, "--target", "postgres")
    containers.build_image(STAND_INS, NGINX, "--target", "nginx")
    with containers.engine() as address:
        found = Project(containers, address)
        try:
            found.up()
            yield found
        except BaseException:
            print(found.compose("ps", "--all"), found.compose("logs", "--tail", "30"))
            raise
        finally:
            found.down()


def test_the_file_is_valid() -> None:
    """Docker Compose accepts the file with every profile, and no secret has a default."""
    done = subprocess.run(
        [COMPOSE, "--file", PROJECT / "compose.yaml", "--profile", "observability", "config",
         "--format", "json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    services = json.loads(done.stdout)["services"]
    assert {"postgres", "replica", "relay", "gateway", "proxy", "prometheus"} <= services.keys()
    for service in services.values():
        for name, value in (service.get("environment") or {}).items():
            assert not ("PASSWORD" in name or "SECRET" in name) or value.startswith("/secrets/")


async def test_the_project_streams(project: Project) -> None:
    """Everything gets healthy from nothing; a change of the primary arrives through the proxy."""
    url = f"http://127.0.0.1:{project.port}"
    async with httpx.AsyncClient(trust_env=False, timeout=20) as http:
        parts: dict[str, Any] = (await http.get(f"{url}/readyz")).json()
        assert parts["status"] == "ready"
        login = await http.post(
            f"{url}/api/auth/login", json={"email": "user@example.com", "password": "password"}
        )
        assert (await http.get(f"{url}/metrics")).status_code == 404
    assert project.psql("SELECT count(*) FROM pg_stat_replication") == "1"
    assert len(project.psql("SELECT string_agg(rolpassword, '') FROM pg_authid").split("SCRAM")) > 3
    async with SseClient(url, tables="posts", token=login.json()["token"]) as client:
        await client.connected()
        project.psql("INSERT INTO posts (title, published) VALUES ('from compose', true)")
        assert (await client.next_message()).json()["record"]["title"] == "from compose"
