"""What a turn of private, capture and scale is summed up to."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from bench.benchmarks.capture import PLAIN, Contender, share_of
from bench.benchmarks.private import Event, Step
from bench.benchmarks.scale import deployment_of
from bench.load.pgbench import read_output
from bench.peers.wal2json import ChangeFile
from bench.reports.figure import OURS
from bench.servers.cpu_meter import CpuReading
from devstack.servers import PostgresServer
from tests.unit.bench.model.test_costs import observed

SAID = """number of transactions actually processed: {done}
number of failed transactions: {failed} (0.000%)
tps = 1234.500000 (without initial connection time)
"""


def test_pgbench_says_how_many_transactions_there_were() -> None:
    """And how many in a second."""
    assert read_output(SAID.format(done=2_469, failed=0)) == (2_469, 1234.5)


@pytest.mark.parametrize("text", ["no numbers", SAID.format(done=10, failed=1)])
def test_a_transaction_that_failed_fails_the_benchmark(text: str) -> None:
    """So does an output that says nothing."""
    with pytest.raises(RuntimeError, match="pgbench"):
        read_output(text)


def step(rate: float, *, last_read: float) -> Step:
    """Return a step of two events that were written within 20 ms."""
    events = [Event(1, user=0, committed_at=5.01), Event(2, user=1, committed_at=5.02)]
    return Step.of(rate, 5.0, events, {1: 5.015, 2: last_read}, {"gateway": 0.0002})


def test_delays_count_from_commit_to_client() -> None:
    """CPU time is divided by the events."""
    found = step(100, last_read=5.05)
    assert found.p50_ms == pytest.approx(30)
    assert found.late_seconds == pytest.approx(0.03)
    assert found.written_rate == pytest.approx(100)
    assert found.cpu_us["gateway"] == pytest.approx(100)
    assert found.is_sustained


def test_a_rate_is_sustained_if_writers_and_clients_keep_up() -> None:
    """Neither a late client nor a slow writer counts."""
    late, slow = step(100, last_read=7.0), step(200, last_read=5.05)
    assert not late.is_in_time
    assert not late.is_sustained
    assert slow.is_in_time
    assert not slow.is_sustained


def test_the_share_of_the_rate_is_taken_turn_by_turn() -> None:
    """A machine that is slow in one turn is slow for both."""
    server = cast("PostgresServer", None)
    plain = Contender(PLAIN, server, "plain", rates={"insert": [100.0, 10.0, 50.0]})
    ours = Contender(OURS, server, "captured", rates={"insert": [60.0, 6.0, 30.0]})
    assert share_of([plain, ours], "insert") == pytest.approx(0.6)


def test_cpu_time_is_summed_by_part() -> None:
    """What came in between counts as a whole."""
    before = CpuReading({1: 5.0}, {1: "gateway"})
    after = CpuReading({1: 6.0, 2: 0.5}, {1: "gateway", 2: "gateway"})
    assert after.since(before) == {"gateway": 1.5}


def test_the_simulator_is_asked_for_what_a_run_was_asked_for() -> None:
    """Not for what the run counted: that is what it predicts."""
    run = observed(900, 2_000, gateways=4, active=1, clients=20, audience=20, questions=700)
    found = deployment_of(run)
    assert (found.clients, found.gateways, found.subscribed) == (20, 4, 0.25)
    assert found.events == pytest.approx(200)
    assert found.audience == 20
    assert found.users_per_cohort == 20


def test_a_table_without_clients_is_a_deployment_too() -> None:
    """No gateway is concerned."""
    found = deployment_of(observed(900, 2_000, active=0))
    assert found.subscribed == 0
    assert found.audience == 0


def test_wal2json_counts_complete_lines(tmp_path: Path) -> None:
    """A line that is cut is counted once it is complete; begin and commit are no changes."""
    file = ChangeFile(tmp_path / "out")
    assert file.count() == 0
    file.path.write_bytes(b'{"action":"B"}\n{"action":"I","x":1}\n{"action":"U"')
    assert file.count() == 1
    with file.path.open("ab") as more:
        more.write(b',"x":2}\n{"action":"C"}\n{"action":"D"}\n')
    assert file.count() == 3
