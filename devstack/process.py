"""A child process that ends with us, addressed only by its process id."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from shared.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from devstack.account import Account

_starter = ThreadPoolExecutor(1, "starter of children")
_LAUNCH = Path(__file__).with_name("launch.py")


class Child:
    """A program in the foreground of its own session, with its output in a file.

    The terminal's Ctrl-C does not reach it: its starter decides the order in which processes end.
    On Linux it gets `end_signal` when its parent dies, or more exactly when the thread that started
    it ends. So one thread that lives as long as we do starts all of them.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
        account: Account | None = None,
        end_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name = name
        self.log = log
        self._end_signal = end_signal
        uid, gid = account or (-1, -1)
        before = [sys.executable, "-I", _LAUNCH, int(end_signal), uid, gid, os.getpid()]
        with log.open("ab") as output:
            self._log_start = output.tell()
            self._process = _starter.submit(
                subprocess.Popen,
                [str(part) for part in (*before, *command)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=None if environment is None else dict(environment),
                cwd=directory,
                start_new_session=True,
            ).result()

    @property
    def pid(self) -> int:
        """The process id, the same for launcher and program."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process has not ended yet."""
        return self._process.poll() is None

    @property
    def exit_status(self) -> int | None:
        """The exit status, negative for the number of a signal, None while it runs."""
        return self._process.poll()

    def output(self) -> str:
        """Read what this process has written so far."""
        with self.log.open("rb") as file:
            file.seek(self._log_start)
            return file.read().decode(errors="replace")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if the process is still there."""
        self._process.send_signal(number)

    def wait(self, seconds: float | None = None) -> int:
        """Wait for the end and return the exit status; raise `TimeoutError` when the time is up."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{self.name} still runs after {seconds:g} s") from None

    def stop(self, seconds: float = 20.0) -> int:
        """End the process politely, or by force after a time; return its exit status."""
        self.signal(signal.SIGCONT)
        self.signal(self._end_signal)
        try:
            return self.wait(seconds)
        except TimeoutError:
            return self.kill()

    def kill(self) -> int:
        """End the process by SIGKILL; return its exit status."""
        self.signal(signal.SIGKILL)
        return self.wait()

    def pause(self) -> None:
        """Freeze the process."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Resume a frozen process."""
        self.signal(signal.SIGCONT)


def run_to_end(command: Sequence[str | Path], *, account: Account | None = None) -> str:
    """Run a short program and return its output; raise `OperatorError` with its last line."""
    result = subprocess.run(
        [str(part) for part in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
        cwd="/",
        user=None if account is None else account.uid,
        group=None if account is None else account.gid,
        extra_groups=None if account is None else [],
    )
    if result.returncode != 0:
        lines = result.stdout.strip().splitlines() or ["no message"]
        raise OperatorError(f"{Path(command[0]).name} failed: {lines[-1]}")
    return result.stdout
