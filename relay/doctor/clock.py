"""How far a server's clock is from this machine's."""

from __future__ import annotations

from typing import Final

from relay.doctor.finding import Finding, ok, warn

_SKEW_SECONDS: Final = 1.0


def compare_clocks(name: str, clock: float, began: float, ended: float) -> Finding:
    """Compare a server's clock with ours; it was read between `began` and `ended`."""
    apart = max(began - clock, clock - ended, 0.0)
    if apart > _SKEW_SECONDS:
        return warn(
            f"the clocks of the {name} and of this machine are {apart:.1f} s apart: tokens expire "
            "at the wrong time and delays are measured wrongly",
            "run NTP on both",
        )
    return ok(f"clock of the {name}: at most {max(apart, ended - began):.2f} s apart")
