"""What the gateway counts, for Prometheus."""

from __future__ import annotations

import time
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

log = structlog.get_logger(__name__)

_LOGGED_APART_SECONDS: Final = 60.0
"""One client's bad claim fails every question; the log says it now and then."""


class GatewayMetrics:
    """The gateway's metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        self.opened = Counter("ayb_streams_opened_total", "Streams accepted", registry=r)
        self.closed = Counter(
            "ayb_streams_closed_total", "Streams ended, by reason", ["reason"], registry=r
        )
        self.refused = Counter(
            "ayb_streams_refused_total",
            "Stream requests refused, by status",
            ["status"],
            registry=r,
        )
        self.resumed = Counter(
            "ayb_streams_resumed_total", "Streams that continue after a position", registry=r
        )
        self.resyncs = Counter(
            "ayb_resyncs_total", "Positions that could not be continued", ["reason"], registry=r
        )
        self.overflows = Counter(
            "ayb_streams_overflowed_total",
            "Times a slow stream was taken off the live one to be replayed to",
            registry=r,
        )
        self.open = Gauge("ayb_streams_open", "Open streams", registry=r)
        self.replaying = Gauge("ayb_streams_replaying", "Streams behind the live one", registry=r)
        self.batches = Counter("ayb_batches_told_total", "Batches told to live streams", registry=r)
        self.events = Counter("ayb_events_sent_total", "Events written to live streams", registry=r)
        self.replayed = Counter("ayb_events_replayed_total", "Events written in replay", registry=r)
        self.behind_seconds = Gauge(
            "ayb_behind_seconds", "Age of the last batch when it was written", registry=r
        )
        self.judged_seconds = Histogram(
            "ayb_visibility_seconds",
            "Duration of one visibility question",
            buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10),
            registry=r,
        )
        self.visibility = VisibilityMetrics(r)
        self.connects_refused = Counter(
            "ayb_database_connects_refused_total",
            "Attempts to open a connection to the read database that failed",
            registry=r,
        )
        self.outbox_reads = Counter(
            "ayb_outbox_reads_total",
            "Portions read from the outbox instead of the ring",
            registry=r,
        )
        self.ring_bytes = Gauge("ayb_ring_bytes", "Bytes of recent batches in memory", registry=r)
        self.bus_connected = Gauge("ayb_bus_connected", "1 while Redis is connected", registry=r)
        self.pushing = Gauge(
            "ayb_bus_pushing", "1 while ticks arrive, 0 while the outbox is polled", registry=r
        )
        self.bus_dropped = Counter(
            "ayb_bus_messages_dropped_total", "Bus messages that were not understood", registry=r
        )
        self.bus_foreign = Counter(
            "ayb_bus_messages_foreign_total",
            "Bus messages of another deployment, which were dropped",
            registry=r,
        )
        self.holding = Gauge(
            "ayb_holding", "1 while events wait because Postgres cannot be asked", registry=r
        )


class VisibilityMetrics:
    """What the questions to Postgres cost, by table."""

    def __init__(self, registry: CollectorRegistry) -> None:
        form = ["table", "form"]
        self._form = Gauge(
            "ayb_visibility_form",
            "1 for the form in which a table is asked about for a role",
            ["table", "role", "form"],
            registry=registry,
        )
        self._questions = Counter(
            "ayb_visibility_questions_total", "Questions asked", form, registry=registry
        )
        self._cohorts = Counter(
            "ayb_visibility_cohorts_total", "Cohorts asked about", form, registry=registry
        )
        self._events = Counter(
            "ayb_visibility_images_total", "Row images asked about", form, registry=registry
        )
        self._seconds = Counter(
            "ayb_visibility_asked_seconds_total", "Time spent asking", form, registry=registry
        )
        self._rows = Counter(
            "ayb_visibility_answer_rows_total", "Rows of the answers", form, registry=registry
        )
        self._errors = Counter(
            "ayb_visibility_errors_total",
            "Cohorts on which a policy raises, by SQLSTATE",
            [*form, "sqlstate"],
            registry=registry,
        )
        self._differences = Counter(
            "ayb_visibility_differences_total",
            "Pairs of row and cohort that the self-check found a SELECT to show otherwise",
            ["table"],
            registry=registry,
        )
        self._unchecked = Counter(
            "ayb_visibility_unchecked_total",
            "Answers of which the self-check failed, by SQLSTATE",
            ["table", "sqlstate"],
            registry=registry,
        )
        self._forms: dict[tuple[str, str], str] = {}
        self._logged: dict[tuple[str, ...], float] = {}

    def planned(self, table: str, role: str, form: str, reason: str | None) -> None:
        """The rules of a table were read: the form, and why it is looped."""
        before = self._forms.get((table, role))
        if before == form:
            return
        if before is not None:
            self._form.remove(table, role, before)
        self._forms[table, role] = form
        self._form.labels(table, role, form).set(1)
        if reason is not None:
            log.warning("policies must be asked in a loop", table=table, role=role, reason=reason)

    def asked(
        self, table: str, form: str, *, cohorts: int, events: int, seconds: float, rows: int
    ) -> None:
        """A question was answered."""
        self._questions.labels(table, form).inc()
        self._cohorts.labels(table, form).inc(cohorts)
        self._events.labels(table, form).inc(events)
        self._seconds.labels(table, form).inc(seconds)
        self._rows.labels(table, form).inc(rows)

    def failed(self, table: str, form: str, sqlstate: str, cohorts: int) -> None:
        """Policies raised."""
        self._errors.labels(table, form, sqlstate).inc(cohorts)
        if self._is_to_be_logged(table, form, sqlstate):
            log.warning(
                "a policy raises", table=table, form=form, sqlstate=sqlstate, cohorts=cohorts
            )

    def differed(self, table: str, pairs: int) -> None:
        """The self-check found a difference."""
        self._differences.labels(table).inc(pairs)

    def unchecked(self, table: str, sqlstate: str) -> None:
        """The self-check failed."""
        self._unchecked.labels(table, sqlstate).inc()
        if self._is_to_be_logged(table, "self-check", sqlstate):
            log.warning("the self-check fails", table=table, sqlstate=sqlstate)

    def _is_to_be_logged(self, *key: str) -> bool:
        """Whether the last line of this kind is long ago."""
        now = time.monotonic()
        if now - self._logged.get(key, -_LOGGED_APART_SECONDS) < _LOGGED_APART_SECONDS:
            return False
        self._logged[key] = now
        return True
