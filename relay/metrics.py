"""What the relay counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest


class RelayMetrics:
    """All series of one relay, in a registry of their own."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self.leading = Gauge(
            "ayb_relay_leading", "1 while this relay is the active one", registry=registry
        )
        self.rivals = Gauge(
            "ayb_relay_rivals",
            "Other relays that lead the same log: an old primary is not fenced",
            registry=registry,
        )
        self.last_batch = Gauge(
            "ayb_relay_last_batch", "Number of the last batch recorded", registry=registry
        )
        self.batches = Counter("ayb_relay_batches", "Batches recorded", registry=registry)
        self.changes = Counter(
            "ayb_relay_changes", "Changes in recorded batches", registry=registry
        )
        self.change_bytes = Counter(
            "ayb_relay_change_bytes", "Bytes of row images in recorded batches", registry=registry
        )
        self.skipped = Counter(
            "ayb_relay_skipped_changes",
            "Changes of tables that were dropped before they were read",
            registry=registry,
        )
        self.step_seconds = Histogram(
            "ayb_relay_step_seconds",
            "Time to read and record one batch",
            buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5),
            registry=registry,
        )
        self.sleeping = Gauge(
            "ayb_relay_sleeping", "1 while writers wake the relay by NOTIFY", registry=registry
        )
        self.wakes = Counter("ayb_relay_wakes", "Notifications received", registry=registry)
        self.kept_awake = Gauge(
            "ayb_relay_kept_awake",
            "1 while another session holds the sleep lock for long, so that the relay polls",
            registry=registry,
        )
        self.notification_queue = Gauge(
            "ayb_relay_notification_queue_usage",
            "How full Postgres' queue of notifications is, 0 to 1",
            registry=registry,
        )
        self.missed_wakes = Counter(
            "ayb_relay_missed_wakes",
            "Changes that a sleeping relay found without a notification",
            registry=registry,
        )
        self.restarts = Counter(
            "ayb_relay_reconnects", "Times the database connection was lost", registry=registry
        )
        self.database_up = Gauge(
            "ayb_relay_database_up",
            "1 while the relay is connected to Postgres, leading or standing by",
            registry=registry,
        )
        self.redis_up = Gauge(
            "ayb_relay_redis_up", "1 while a Redis accepts messages", ["target"], registry=registry
        )
        self.published = Counter(
            "ayb_relay_published_messages", "Messages published", ["target"], registry=registry
        )
        self.queue_bytes = Gauge(
            "ayb_relay_queue_bytes",
            "Bytes that wait for a Redis, or for its answer",
            ["target"],
            registry=registry,
        )
        self.queue_seconds = Gauge(
            "ayb_relay_queue_seconds",
            "How long the oldest of them has waited",
            ["target"],
            registry=registry,
        )
        self.unpublished = Counter(
            "ayb_relay_unpublished_batches",
            "Batches not published to a Redis; its gateways read them from the outbox",
            ["target"],
            registry=registry,
        )
        self.captured_tables = Gauge(
            "ayb_relay_captured_tables", "Tables with capture triggers", registry=registry
        )
        self.uncaptured_tables = Gauge(
            "ayb_relay_uncaptured_tables",
            "Tables that should be captured and could not be; tried again at each scan",
            registry=registry,
        )
        self.outbox_bytes = Gauge(
            "ayb_relay_outbox_bytes", "Disk use of the outbox", registry=registry
        )
        self.horizon = Gauge(
            "ayb_relay_horizon_batch", "Oldest batch that can be replayed", registry=registry
        )
        self.rotations = Counter(
            "ayb_relay_rotations", "Partitions of the outbox emptied", registry=registry
        )
        self.rotation_refused = Counter(
            "ayb_relay_rotations_refused",
            "Attempts to empty a partition that was in use",
            registry=registry,
        )

    def recorded(self, batch: int, changes: int, size: int) -> None:
        """Count a recorded batch."""
        self.last_batch.set(batch)
        self.batches.inc()
        self.changes.inc(changes)
        self.change_bytes.inc(size)

    def page(self) -> bytes:
        """Write the page that Prometheus reads."""
        return generate_latest(self._registry)
