-- The outbox: what the capture trigger writes, what the relay has read, and how long it lies there.
-- Owned by the relay's login. Full row images lie here: only the relay's and the gateways' logins
-- may read it.

CREATE TABLE ayb_realtime.migrations (
    number     integer PRIMARY KEY,
    name       text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- seq = generation * 2^40 + counter. The generation is the place of a change in the ring of six
-- partitions below: the relay empties the next partition with TRUNCATE, then jumps the sequence
-- into it. Nothing is ever deleted row by row, and a writer never depends on a partition that
-- somebody had to create in time.
CREATE SEQUENCE ayb_realtime.change_seq AS bigint MINVALUE 1 START 1 CACHE 1;

CREATE TABLE ayb_realtime.changes (
    seq   bigint NOT NULL DEFAULT nextval('ayb_realtime.change_seq'),
    xid   xid8 NOT NULL DEFAULT pg_current_xact_id(),
    relid oid NOT NULL,
    op    "char" NOT NULL,  -- I, U, D, T
    new   json,
    old   json,
    at    timestamptz NOT NULL DEFAULT clock_timestamp()
) PARTITION BY LIST (((seq >> 40) % 6));

CREATE TABLE ayb_realtime.changes_0 PARTITION OF ayb_realtime.changes FOR VALUES IN (0);
CREATE TABLE ayb_realtime.changes_1 PARTITION OF ayb_realtime.changes FOR VALUES IN (1);
CREATE TABLE ayb_realtime.changes_2 PARTITION OF ayb_realtime.changes FOR VALUES IN (2);
CREATE TABLE ayb_realtime.changes_3 PARTITION OF ayb_realtime.changes FOR VALUES IN (3);
CREATE TABLE ayb_realtime.changes_4 PARTITION OF ayb_realtime.changes FOR VALUES IN (4);
CREATE TABLE ayb_realtime.changes_5 PARTITION OF ayb_realtime.changes FOR VALUES IN (5);

CREATE INDEX changes_xid_seq ON ayb_realtime.changes (xid, seq);

-- An epoch is a stretch of batch numbers that no crash of Postgres can have taken back. A new one
-- begins when the relay finds a restarted or a foreign server; first_batch is its first number.
CREATE TABLE ayb_realtime.epochs (
    epoch             integer PRIMARY KEY,
    first_batch       bigint NOT NULL,
    system_identifier bigint NOT NULL,
    server_started_at timestamptz NOT NULL,
    started_at        timestamptz NOT NULL DEFAULT now()
);

-- A batch: the relay's checkpoint and the index for replay. Its changes are those with an xid in
-- xids and a seq from first_seq to last_seq. The next batch reads on from snapshot; if this one
-- was cut (complete = false), first the rest of the difference (prev_snapshot, snapshot) behind
-- last_seq. Partitioned like the outbox: generation is the one of the changes when it was recorded.
CREATE TABLE ayb_realtime.batches (
    id            bigint NOT NULL,
    epoch         integer NOT NULL,
    prev_snapshot pg_snapshot NOT NULL,
    snapshot      pg_snapshot NOT NULL,
    complete      boolean NOT NULL,
    xids          xid8[] NOT NULL,
    first_seq     bigint NOT NULL,
    last_seq      bigint NOT NULL,
    changes       integer NOT NULL,
    relids        oid[] NOT NULL,
    lsn           pg_lsn NOT NULL,
    at            timestamptz NOT NULL DEFAULT clock_timestamp(),
    generation    bigint NOT NULL
) PARTITION BY LIST ((generation % 6));

CREATE TABLE ayb_realtime.batches_0 PARTITION OF ayb_realtime.batches FOR VALUES IN (0);
CREATE TABLE ayb_realtime.batches_1 PARTITION OF ayb_realtime.batches FOR VALUES IN (1);
CREATE TABLE ayb_realtime.batches_2 PARTITION OF ayb_realtime.batches FOR VALUES IN (2);
CREATE TABLE ayb_realtime.batches_3 PARTITION OF ayb_realtime.batches FOR VALUES IN (3);
CREATE TABLE ayb_realtime.batches_4 PARTITION OF ayb_realtime.batches FOR VALUES IN (4);
CREATE TABLE ayb_realtime.batches_5 PARTITION OF ayb_realtime.batches FOR VALUES IN (5);

CREATE INDEX batches_id ON ayb_realtime.batches (id);

-- The oldest batch whose changes are certainly all in the outbox; older positions are answered
-- with resync. Raised in the transaction that empties a partition.
CREATE TABLE ayb_realtime.horizon (
    only_row     boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    first_batch  bigint NOT NULL DEFAULT 1
);
INSERT INTO ayb_realtime.horizon DEFAULT VALUES;
