"""Promise 1, checked on what one chain of connections received.

Every committed change of the client's tables comes in commit order and once, or a `resync` says
that something was missed; and no number is delivered that the gateway knows to be taken back.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from shared.position import Position, parse_position
from tests.support.sse_client import Event
from tests.unit.gateway.fanout.simulation.outbox_model import OutboxModel


class Account:
    """What one chain of connections has received, compared with what the outbox holds.

    `knows` says whether the gateway takes a position for one that still stands.
    """

    def __init__(
        self, tables: frozenset[str], outbox: OutboxModel, knows: Callable[[Position], bool]
    ) -> None:
        self.tables = tables
        self.names = {table.removeprefix("public.") for table in tables}
        self.resyncs: list[str] = []
        self.received = 0
        self._outbox = outbox
        self._knows = knows
        self._position: Position | None = None
        self._last_change: Position | None = None
        self._awaits_resync = False

    def on_event(self, event: Event) -> None:
        """Take an event in; raises `AssertionError` if it breaks the promise."""
        match event.type:
            case "connected":
                position = parse_position(event.id)
                self._awaits_resync = self._position not in (None, position)
                self._position = self._position or position
            case "message":
                self._on_change(parse_position(event.id), json.loads(event.data)["table"])
            case "resync":
                self._on_resync(parse_position(event.id), json.loads(event.data))
            case "heartbeat":
                self._on_heartbeat(parse_position(event.id))

    def check_complete(self) -> None:
        """Assert that nothing is missing, now that everything has come to rest."""
        if self._position is not None:
            self._check_no_dead_change("at the end")
            missing = self._between(self._position, None)
            assert not missing, f"missing after {self._position}: {missing}"

    def _on_change(self, position: Position, table: str) -> None:
        self.received += 1
        before = self._position
        assert before is not None, "a change before connected"
        assert not self._awaits_resync, "the stream does not continue where it should"
        assert table in self.names
        assert self._knows(position), f"{position} was taken back"
        if self._outbox.holds(position):
            self._check_no_dead_change(f"before {position}")
            missing = self._between(before, position)
            assert not missing, f"missing between {before} and {position}: {missing}"
            before = self._outbox.standing(before)
        assert before < position, f"{position} after {before}"
        self._position = self._last_change = position

    def _on_resync(self, position: Position, data: dict[str, object]) -> None:
        reason = data["reason"]
        assert set(data["tables"]) == self.names  # type: ignore[call-overload]
        if reason == "unknown":
            assert self._outbox.crashes, "resync, but nothing was taken back"
        else:
            assert reason == "expired"
            assert self._outbox.rotations, "resync, but nothing was rotated away"
        self.resyncs.append(reason)
        self._position, self._last_change, self._awaits_resync = position, None, False

    def _on_heartbeat(self, position: Position) -> None:
        before = self._position
        assert before is not None, "a heartbeat before connected"
        if position == before:
            return
        assert self._knows(position), f"heartbeat at {position}, which was taken back"
        if self._outbox.holds(position):
            missing = self._between(before, position)
            assert not missing, f"missing between {before} and heartbeat {position}: {missing}"
            before = self._outbox.standing(before)
        assert before <= position, f"heartbeat at {position} after {before}"
        self._position = position

    def _check_no_dead_change(self, where: str) -> None:
        last = self._last_change
        assert last is None or self._outbox.holds(last), f"no resync after {last}, {where}"

    def _between(self, before: Position, end: Position | None) -> list[str]:
        """The changes of the tables that stand after one position and before another."""
        start = self._outbox.standing(before)
        last = self._outbox.last_batch if end is None else end.batch
        places = [
            Position(batch.epoch, batch.id, change.index)
            for number in range(start.batch, last + 1)
            if (batch := self._outbox.batches.get(number)) is not None
            for table in batch.tables
            if table.table in self.tables
            for change in table.changes
        ]
        return [str(p) for p in places if start < p and (end is None or p < end)]
