"""The package as an operator installs it: built, in a virtual environment of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from devstack.servers import PostgresServer
from tests.support.databases import ROLES_SQL, open_connection

PROJECT = Path(__file__).parents[2]
PIP = ("-m", "pip", "--disable-pip-version-check", "--quiet")


def run(
    *command: str | Path, cwd: Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program that sees no settings but those given, and not the sources."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AYB_")}
    clean.pop("PYTHONPATH", None)
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**clean, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an sdist, of what git would clone, and of the wheel built from that sdist."""
    folder = tmp_path_factory.mktemp("package")
    files = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=PROJECT)
    assert files.returncode == 0, files.stderr
    source = folder / "source"
    for name in filter(None, files.stdout.split("\0")):
        if (PROJECT / name).is_file():
            copy = source / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes((PROJECT / name).read_bytes())
    builder = folder / "builder"
    for command in (
        (sys.executable, "-m", "venv", builder),
        (builder / "bin/python", *PIP, "install", "build"),
        (builder / "bin/python", "-m", "build", "--outdir", folder, source),
    ):
        done = run(*command, cwd=folder)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    """The wheel."""
    (found,) = built.glob("ayb_realtime-*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Path:
    """The folder of the programs of a fresh environment that holds the wheel and what it needs."""
    environment = wheel.parent / "environment"
    made = run(sys.executable, "-m", "venv", environment, cwd=wheel.parent)
    assert made.returncode == 0, made.stderr
    pinned = PROJECT / "requirements/runtime.txt"
    for arguments in (("-r", pinned), ("--no-index", wheel)):  # the second checks what it requires
        put = run(environment / "bin/python", *PIP, "install", *arguments, cwd=wheel.parent)
        assert put.returncode == 0, put.stderr
    return environment / "bin"


def test_the_wheel_holds_what_the_sources_hold(built: Path, wheel: Path) -> None:
    """Every module, query, migration, function and page is in the wheel, and nothing else."""
    source = built / "source"
    expected = {
        path.relative_to(source).as_posix()
        for package in ("shared", "relay", "gateway")
        for path in (source / package).rglob("*")
        if path.is_file()
    }
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
        metadata = archive.read(next(n for n in archive.namelist() if n.endswith("/METADATA")))
    assert found == expected
    assert any(name.endswith(".sql") for name in found)
    assert b"License-Expression: Apache-2.0" in metadata


def test_the_sdist_holds_what_building_needs(built: Path) -> None:
    """The sdist has the sources, the metadata and the license; the wheel was made of it alone."""
    (file,) = built.glob("ayb_realtime-*.tar.gz")
    with tarfile.open(file) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "PKG-INFO"} <= names
    assert "relay/schema/roles.sql" in names


@pytest.mark.parametrize(("program", "command"), [("ayb-relay", ["run"]), ("ayb-gateway", [])])
def test_traces_without_the_extra(
    installed: Path, tmp_path: Path, program: str, command: list[str]
) -> None:
    """Traces that are switched on need the extra: one line says what to install."""
    settings = {
        "AYB_DATABASE_URL": "postgresql://ayb@127.0.0.1:9/app",
        "AYB_REDIS_URL": "redis://127.0.0.1:9",
        "AYB_AUTH_JWT_SECRET": "a secret of at least 32 characters",
        "AYB_TRACES_RATIO": "0.1",
    }
    refused = run(installed / program, *command, cwd=tmp_path, environment=settings)
    assert refused.returncode == 1
    [line] = [line for line in refused.stderr.splitlines() if "AYB_TRACES_RATIO" in line]
    assert "pip install 'ayb-realtime[otel]'" in line
    assert "Traceback" not in refused.stderr


def test_the_relay_runs(installed: Path, tmp_path: Path) -> None:
    """`ayb-relay --help` lists the commands."""
    shown = run(installed / "ayb-relay", "--help", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "install" in shown.stdout
    assert shown.stderr == ""


@pytest.mark.parametrize("program", ["ayb-relay run", "ayb-gateway"])
def test_without_settings_one_line_says_so(installed: Path, tmp_path: Path, program: str) -> None:
    """Started without settings, each names what is missing in one line, and exits with 1."""
    name, *arguments = program.split()
    ended = run(installed / name, *arguments, cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (1, "")
    (line,) = ended.stderr.splitlines()
    assert "AYB_" in line
    assert "is required" in line


def test_tail_is_in_the_client(installed: Path, tmp_path: Path) -> None:
    """`ayb-gateway tail` says in one line how to install the client; once it is there, it runs."""
    ended = run(installed / "ayb-gateway", "tail", "posts", cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (1, "")
    (line,) = ended.stderr.splitlines()
    assert "pip install ./clients/python" in line
    client = tmp_path / "client"  # a copy: building writes into the folder
    shutil.copytree(PROJECT / "clients/python", client)
    put = run(installed / "python", *PIP, "install", "--no-deps", client, cwd=tmp_path)
    assert put.returncode == 0, put.stderr
    shown = run(installed / "ayb-gateway", "tail", "--help", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "usage: python -m gateway tail" in shown.stdout
    assert run(installed / "ayb-tail", "--help", cwd=tmp_path).returncode == 0


async def test_the_installed_relay_makes_its_schema(
    installed: Path, tmp_path: Path, postgres_server: PostgresServer
) -> None:
    """`ayb-relay install` finds its migrations and functions in the package."""
    async with open_connection(postgres_server.dsn()) as admin:
        await admin.execute("CREATE DATABASE packaged")
    async with open_connection(postgres_server.dsn("packaged")) as admin:
        await admin.execute(ROLES_SQL.read_text(encoding="utf-8"))
        ended = run(
            installed / "ayb-relay", "install", cwd=tmp_path,
            environment={
                "AYB_DATABASE_URL": postgres_server.dsn("packaged", user="ayb_relay"),
                "AYB_REDIS_URL": "redis://127.0.0.1:1",
            },
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        assert await admin.fetchval("SELECT count(*) FROM ayb_realtime.migrations") > 0
    async with open_connection(postgres_server.dsn()) as admin:
        await admin.execute("DROP DATABASE packaged WITH (FORCE)")
