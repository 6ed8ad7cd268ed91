"""What the gateway counts, for Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from gateway.visibility_metrics import VisibilityMetrics

if TYPE_CHECKING:
    from collections.abc import Collection


class GatewayMetrics:
    """The gateway's metrics, in a registry of their own."""

    def __init__(self, *, region: str = "") -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        Gauge(
            "ayb_gateway_info", "1, with the region of the gateway", ["region"], registry=r
        ).labels(region).set(1)
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
            "ayb_resyncs_total",
            "Streams asked to fetch again: positions that could not be continued (expired,"
            " unknown), changes that could not be sent (overflow), changes that were missed while"
            " policies failed (policy)",
            ["reason"],
            registry=r,
        )
        self.overflows = Counter(
            "ayb_streams_overflowed_total",
            "Times a slow stream was moved from live delivery to replay",
            registry=r,
        )
        self.open = Gauge("ayb_streams_open", "Open streams", registry=r)
        self.replaying = Gauge("ayb_streams_replaying", "Streams in replay", registry=r)
        self.streams = Gauge(
            "ayb_streams",
            "Open streams by state: live, in replay, or in the lane of a slow table",
            ["state"],
            registry=r,
        )
        self.lanes = Gauge(
            "ayb_lanes",
            "Lanes of slow tables: their streams are served at their own pace",
            registry=r,
        )
        self.batches = Counter(
            "ayb_batches_delivered_total", "Batches delivered to live streams", registry=r
        )
        self.received = Counter(
            "ayb_changes_received_total",
            "Changes taken up for live streams, once for each role",
            registry=r,
        )
        self.events = Counter("ayb_events_sent_total", "Events written to live streams", registry=r)
        self.replayed = Counter("ayb_events_replayed_total", "Events written in replay", registry=r)
        self.behind_seconds = Gauge(
            "ayb_behind_seconds", "Age of the last batch when it was written", registry=r
        )
        self.delivery_seconds = Histogram(
            "ayb_delivery_seconds",
            "From the recording of a batch, right after its commits, to its last write: by the form"
            " of its tables, of live streams, and of those of tables that are slow to judge",
            ["path", "form"],
            buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
            registry=r,
        )
        self._seconds_of: dict[tuple[str, str], Histogram] = {}
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
            "ayb_bus_pushing",
            "1 while ticks arrive in time, 0 while the outbox is polled",
            registry=r,
        )
        self.read_database_place = Gauge(
            "ayb_read_database_place",
            "Place of the host in use among those of AYB_READ_DATABASE_URL; 0 is the first",
            registry=r,
        )
        self.staleness_seconds = Gauge(
            "ayb_staleness_seconds",
            "How far the read database is behind the relay; about 1 while nothing is written",
            registry=r,
        )
        self.stale = Gauge(
            "ayb_stale",
            "1 while the read database is staler than AYB_REALTIME_MAX_LAG_SECONDS",
            registry=r,
        )
        self.rival_relays = Gauge(
            "ayb_rival_relays", "1 while two relays send ticks, of two primaries", registry=r
        )
        self.bus_dropped = Counter(
            "ayb_bus_messages_dropped_total",
            "Bus messages that were malformed or not signed",
            registry=r,
        )
        self.bus_foreign = Counter(
            "ayb_bus_messages_foreign_total",
            "Bus messages of another deployment that were dropped",
            registry=r,
        )
        self.holding = Gauge(
            "ayb_holding", "1 while events wait because Postgres cannot be queried", registry=r
        )

    def observe_written(
        self, path: Literal["live", "slow"], recorded: Collection[tuple[str, float]], now: float
    ) -> None:
        """Note that batches were written, as (form of a table, when the batch was recorded).

        Times are Unix seconds, of two hosts' clocks.
        """
        for form, at in recorded:
            histogram = self._seconds_of.get((path, form))
            if histogram is None:
                histogram = self.delivery_seconds.labels(path, form)
                self._seconds_of[path, form] = histogram
            histogram.observe(max(0.0, now - at))
