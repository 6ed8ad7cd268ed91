"""The CPU time and the memory of a process."""

from __future__ import annotations

from pathlib import Path

import psutil


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process so far, user and system; 0 if it has ended.

    The kernel's own account (schedstat, in nanoseconds) where there is one; `times` counts in
    hundredths of a second.
    """
    try:
        threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
        if spent := sum(int(thread.read_text().split()[0]) for thread in threads):
            return spent / 1e9
        times = psutil.Process(pid).cpu_times()
    except (OSError, psutil.NoSuchProcess):
        return 0.0
    return float(times.user + times.system)


def memory_bytes(pid: int) -> int:
    """Return the proportional set size: memory of its own, and its share of what is shared.

    Where the system does not say, the resident set size.
    """
    full = psutil.Process(pid).memory_full_info()
    return int(getattr(full, "pss", full.rss))
