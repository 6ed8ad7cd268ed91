"""Containers for real: podman and buildah, on a Debian made here in place of public base images."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.support.stack import PROJECT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tests.support.requirements import Requirements

PIP_FILES = ("/etc/pip.conf", "/etc/xdg/pip", "/etc/ssl/certs")
"""How this machine reaches its package index, given to the build as it is."""


class Containers:
    """podman and buildah with a store of their own, and the image."""

    image = "localhost/ayb-realtime:test"

    def __init__(self, folder: Path, require: Requirements) -> None:
        self._podman = require.program("podman", package="podman")
        self._buildah = require.program("buildah", package="buildah")
        self._runtime = require.program("runc", package="runc")
        self._debootstrap = require.program("debootstrap", package="debootstrap")
        self._folder = folder
        self._config = folder / "containers.conf"
        # Limits that a process without the right to raise its own can give; no systemd here.
        self._config.write_text(
            "[containers]\ndefault_ulimits = ['nofile=1000:1000', 'nproc=2000:2000']\n"
            f"[engine]\ncgroup_manager = 'cgroupfs'\nruntime = '{self._runtime.name}'\n"
            "[network]\nnetwork_backend = 'netavark'\n"
            f"network_config_dir = '{folder / 'networks'}'\n",
            encoding="utf-8",
        )
        self._store = [
            "--root", str(folder / "store"), "--runroot", str(folder / "run"),
            "--storage-driver", "vfs",
        ]  # fmt: skip

    def podman(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run podman to its end."""
        return subprocess.run(
            [self._podman, *self._store, *arguments],
            check=check, capture_output=True, text=True, timeout=120, env=self.environment,
        )  # fmt: skip

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which podman and buildah find their settings."""
        return {**os.environ, "CONTAINERS_CONF": str(self._config)}

    @contextlib.contextmanager
    def engine(self) -> Iterator[str]:
        """Serve podman's Docker-compatible API; yields its address."""
        socket = self._folder / "podman.sock"
        address = f"unix://{socket}"
        service = subprocess.Popen(
            [self._podman, *self._store, "system", "service", "--time=0", address],
            env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            for _ in range(100):
                if socket.exists():
                    break
                time.sleep(0.1)
            yield address
        finally:
            service.terminate()
            service.wait(timeout=30)

    def run(self, name: str, *command: str, **environment: str) -> None:
        """Start a container: read-only, without rights, in the host's network."""
        self.podman("run", "--detach", *self._hardened(name, command, environment))

    def run_to_end(
        self, name: str, *command: str, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a container of the same kind to its end, whatever its status."""
        hardened = self._hardened(name, command, environment)
        return self.podman("run", "--rm", *hardened, check=False)

    def _hardened(
        self, name: str, command: Sequence[str], environment: Mapping[str, str]
    ) -> Sequence[str]:
        return (
            "--name", name, "--network", "host", "--read-only",
            "--cap-drop", "all", "--security-opt", "no-new-privileges",
            *(f"--env={key}={value}" for key, value in environment.items()),
            self.image, *command,
        )  # fmt: skip

    def build(self) -> None:
        """Make a base with Python, and the image on it."""
        base = self._folder / "base"
        suite, packages = "bookworm", "python3,python3-venv,ca-certificates"
        subprocess.run(
            [self._debootstrap, "--variant=minbase", f"--include={packages}", suite, base],
            check=True, capture_output=True, timeout=900,
        )  # fmt: skip
        archive = self._folder / "base.tar"
        subprocess.run(["tar", "-C", base, "-cf", archive, "."], check=True)
        self.podman("import", str(archive), "localhost/base:test")
        mounts = [f"--volume={path}:{path}:ro" for path in PIP_FILES if Path(path).exists()]
        self.build_image(PROJECT, self.image, *mounts, "--build-arg", "REVISION=test")

    def build_image(self, context: Path, tag: str, *arguments: str) -> None:
        """Build an image on the base."""
        subprocess.run(
            [self._buildah, *self._store, "bud", "--isolation", "chroot", "--network", "host",
             "--format", "docker", "--build-arg", "BASE=localhost/base:test", *arguments,
             "--tag", tag, context],
            check=True, capture_output=True, timeout=900, env=self.environment,
        )  # fmt: skip


@pytest.fixture(scope="session")
def containers(
    require: Requirements,
) -> Iterator[Containers]:
    """Build the image once."""
    require.that(sys.platform == "linux" and os.geteuid() == 0, "images are built as root")
    # podman takes no longer path for its state.
    folder = Path(tempfile.mkdtemp(prefix="ayb-pod-"))
    found = Containers(folder, require)
    try:
        found.build()
        yield found
    except subprocess.CalledProcessError as error:
        print(error.stdout, error.stderr)
        raise
    finally:
        found.podman("rm", "--all", "--force", check=False)
        _end_monitors(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _end_monitors(folder: Path) -> None:
    """End the monitors of health checks that were running as their containers were removed."""
    for process in psutil.process_iter(["name", "cmdline"]):
        arguments = process.info["cmdline"] or []
        if process.info["name"] == "conmon" and any(str(folder) in part for part in arguments):
            with contextlib.suppress(psutil.Error):
                process.kill()
