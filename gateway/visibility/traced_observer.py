"""An observer that puts each question into the trace of the portion that it is asked for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.visibility.observer import Observer
    from shared.tracing import Tracing


class TracedObserver:
    """Passes everything on to another observer."""

    def __init__(self, observer: Observer, tracing: Tracing) -> None:
        self._observer = observer
        self._tracing = tracing

    def planned(self, table: str, role: str, form: str, reason: str | None) -> None:
        """Pass it on."""
        self._observer.planned(table, role, form, reason)

    def asked(
        self, table: str, form: str, *, cohorts: int, events: int, seconds: float, rows: int
    ) -> None:
        """Record a span that ends now, and pass it on."""
        self._tracing.child(
            f"ask {form}",
            {
                "db.system.name": "postgresql",
                "ayb.table": table,
                "ayb.form": form,
                "ayb.cohorts": cohorts,
                "ayb.images": events,
                "ayb.rows": rows,
            },
            began_ns=time.time_ns() - int(seconds * 1e9),
        ).end()
        self._observer.asked(
            table, form, cohorts=cohorts, events=events, seconds=seconds, rows=rows
        )

    def failed(self, table: str, form: str, sqlstate: str, cohorts: int) -> None:
        """Record a failed span, and pass it on."""
        span = self._tracing.child(
            f"ask {form}", {"ayb.table": table, "ayb.form": form, "ayb.cohorts": cohorts}
        )
        span.fail(f"SQLSTATE {sqlstate}")
        span.end()
        self._observer.failed(table, form, sqlstate, cohorts)

    def differed(self, table: str, pairs: int) -> None:
        """Pass it on."""
        self._observer.differed(table, pairs)

    def unchecked(self, table: str, sqlstate: str) -> None:
        """Pass it on."""
        self._observer.unchecked(table, sqlstate)
