"""Contenders in turns: a peer that fails is left out, and ours is not."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from bench.load.programs import build
from bench.reports.report import NotPossibleError, Report
from bench.servers.contenders import Contender, peer_openers, take_turns


def contenders(*names: str) -> list[Contender]:
    """Contenders that nothing is started for."""
    nothing: Any = None
    return [Contender(name, nothing, nothing, 0, "/") for name in names]


async def act(contender: Contender, *, fails: str, acted: list[str]) -> None:
    """Note whose turn it is; one of them fails."""
    acted.append(contender.name)
    if contender.name == fails:
        raise EOFError("it has hung up")


async def test_a_peer_that_fails_is_left_out() -> None:
    """The others go on without it, and the report says why."""
    report, acted = Report("fanout"), list[str]()
    taking_part = contenders("ours", "nchan", "Node")
    for turn in (1, 2):
        await take_turns(report, taking_part, turn, partial(act, fails="nchan", acted=acted))
    assert acted == ["ours", "nchan", "Node", "Node", "ours"]
    assert [contender.name for contender in taking_part] == ["ours", "Node"]
    [left_out] = report.left_out
    assert (left_out.what, left_out.reason) == ("nchan", "it failed: it has hung up")


async def test_ours_is_never_left_out() -> None:
    """A benchmark of which ours fails, fails."""
    with pytest.raises(EOFError):
        await take_turns(
            Report("fanout"), contenders("ours"), 1, partial(act, fails="ours", acted=[])
        )


def test_programs_that_are_not_installed(monkeypatch) -> None:
    """Peers without their program are left out; without a compiler there is no load client."""
    monkeypatch.setenv("PATH", "")
    report = Report("fanout")
    assert not {"nchan", "Node"} & peer_openers(report).keys()
    reasons = {left_out.what: left_out.reason for left_out in report.left_out}
    assert "apt-get install libnginx-mod-nchan" in reasons["nchan"]
    assert reasons["Node"] == "node is not installed (apt-get install nodejs)"
    with pytest.raises(NotPossibleError, match="apt-get install gcc"):
        build("load")
