"""The systemd units of docs/deploy.md, checked by systemd itself."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.support.requirements import Requirements

DOCUMENT = Path(__file__).parents[2] / "docs/deploy.md"
UNIT = re.compile(r"`/etc/systemd/system/([\w-]+\.service)`:\n\n```ini\n(.*?)```", re.DOTALL)


def test_the_units_are_valid(require: Requirements, tmp_path: Path) -> None:
    """systemd-analyze has nothing to say about any unit; only the program is not there yet."""
    analyze = require.program("systemd-analyze", package="systemd")
    units = dict(UNIT.findall(DOCUMENT.read_text(encoding="utf-8")))
    assert set(units) == {"ayb-relay.service", "ayb-gateway.service"}
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n", encoding="utf-8")
    program.chmod(0o755)
    for name, unit in units.items():
        assert "NoNewPrivileges=yes" in unit
        file = tmp_path / name
        file.write_text(re.sub(r"/opt/ayb-realtime/bin/\S+", str(program), unit), encoding="utf-8")
        done = subprocess.run(
            [analyze, "verify", "--man=no", file], capture_output=True, text=True, check=False
        )
        ours = [line for line in done.stderr.splitlines() if name in line or "Unknown" in line]
        assert (done.returncode, ours) == (0, []), done.stderr
