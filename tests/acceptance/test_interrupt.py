"""Ctrl-C while a program is still loading."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import pytest

from tests.support.stack import PROJECT


@pytest.mark.parametrize("program", ["relay run", "gateway", "devstack"])
async def test_interrupted_while_loading(program: str):
    """Its modules half imported, a program ends without a word, with the status of Ctrl-C."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-X", "importtime", "-m", *program.split()),
        cwd=PROJECT,
        env={name: value for name, value in os.environ.items() if not name.startswith("AYB_")},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    while b"pydantic_core" not in (line := await process.stderr.readline()):
        assert line, "it has ended"
    process.send_signal(signal.SIGINT)
    output = b"".join(await process.communicate()).decode()
    said = [line for line in output.splitlines() if not line.startswith("import time:")]
    assert (process.returncode, said) == (130, [])
