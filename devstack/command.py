"""Run everything on this machine until Ctrl-C."""

from __future__ import annotations

import contextlib
import shlex
import signal
import sys
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from devstack.changes import ChangeWatch
from devstack.demo import PASSWORD, USERS
from devstack.settings import DevSettings
from devstack.stack import Stack, short_path
from shared.errors import OperatorError
from shared.settings import load_settings

if TYPE_CHECKING:
    from types import FrameType

_TURN_SECONDS = 0.1


def tell(source: str, line: str) -> None:
    """Write one line of the log."""
    print(f"{source:>8} | {line}", flush=True)


def welcome(stack: Stack) -> str:
    """Return the lines to paste into another terminal."""
    text = files("devstack").joinpath("welcome.txt").read_text("utf-8")
    for name, value in (
        ("GATEWAY", stack.gateway_url),
        ("USER", USERS[0]),
        ("OTHER", USERS[1]),
        ("PASSWORD", PASSWORD),
        ("PSQL", stack.psql),
        ("PYTHON", shlex.quote(short_path(Path(sys.executable)))),
    ):
        text = text.replace(f"@{name}@", value)
    return text


def interrupt(_number: int, _frame: FrameType | None) -> None:
    """Stop as Ctrl-C does."""
    raise KeyboardInterrupt


def execute() -> int:
    """Run until interrupted; return the exit status."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    try:
        stack = Stack(load_settings(DevSettings), tell)
    except OperatorError as error:
        print(f"devstack: {error}", file=sys.stderr)
        return 1
    try:
        stack.start()
        with contextlib.closing(ChangeWatch(stack.redis_url)) as changes:
            print(welcome(stack), flush=True)
            while True:
                stack.watch()
                for line in changes.read(_TURN_SECONDS):
                    tell("change", line)
    except OperatorError as error:
        print(f"devstack: {error}", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        tell("devstack", "stopping")
        return 0
    finally:
        # A second Ctrl-C must not leave half of it running; every end below has a time limit.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        stack.stop()
