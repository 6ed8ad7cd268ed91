"""Becomes another program: as an unprivileged user, and ending with the process that started it.

Run as a script of its own, `launch.py SIGNAL UID GID PARENT PROGRAM ARGUMENT...`, because between
fork and exec a process with threads can do none of this safely. UID -1 keeps the present user.
"""

from __future__ import annotations

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1  # prctl(2), Linux


def main(arguments: list[str]) -> None:
    """Drop privileges, ask for the signal at the parent's end, and run the program."""
    end_signal, uid, gid, parent = map(int, arguments[:4])
    command = arguments[4:]
    if uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if sys.platform == "linux":
        # After setuid, which clears it. A parent that died before this line has left an orphan.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, end_signal)
        if os.getppid() != parent:
            sys.exit(1)
    try:
        os.execv(command[0], command)
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")


if __name__ == "__main__":
    main(sys.argv[1:])
