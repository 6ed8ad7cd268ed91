-- The outbox: what the capture trigger writes, what the relay has read, and how long it lies there.
-- Owned by the relay's login. Full row images lie here: only the relay's and the gateways' logins
-- may read it. docs/decisions/0003-outbox-ring.md tells why it is built this way.

-- seq = generation * 2^40 + counter. A generation is a stretch of time; its changes lie together in
-- one of the six partitions below. The relay empties a partition with TRUNCATE, then jumps the
-- sequence into it. Nothing is ever deleted row by row, and a writer never depends on a partition
-- that somebody had to create in time.
CREATE SEQUENCE ayb_realtime.change_seq AS bigint MINVALUE 1 START 1 CACHE 1;

CREATE TABLE ayb_realtime.changes (
    seq   bigint NOT NULL DEFAULT nextval('ayb_realtime.change_seq'),
    xid   xid8 NOT NULL DEFAULT pg_current_xact_id(),
    relid oid NOT NULL,
    op    "char" NOT NULL,  -- I, U, D, T
    -- Whether an image was too large, and holds its key and small values only (capture_row).
    reduced boolean NOT NULL DEFAULT false,
    new   json,
    old   json,
    at    timestamptz NOT NULL DEFAULT clock_timestamp()
) PARTITION BY LIST (((seq >> 40) % 6));

-- An epoch is a stretch of batch numbers that no crash of Postgres can have taken back. A new one
-- begins when the relay finds that Postgres crashed, or another database than before; first_batch
-- is its first number. xid is the transaction that wrote the row: one that says so and was written by
-- another has been restored from a dump.
CREATE TABLE ayb_realtime.epochs (
    epoch             integer PRIMARY KEY,
    first_batch       bigint NOT NULL,
    system_identifier bigint NOT NULL,
    database          oid NOT NULL,
    started_at        timestamptz NOT NULL DEFAULT now(),
    xid               xid8 NOT NULL DEFAULT pg_current_xact_id()
);

-- Tells a crash: Postgres empties unlogged tables in crash recovery, when a standby is promoted and
-- when a base backup is restored, which are just the cases in which it may have forgotten commits
-- that were made with synchronous_commit = off. A clean restart keeps the row.
CREATE UNLOGGED TABLE ayb_realtime.uncrashed (
    epoch integer PRIMARY KEY
);

-- A batch: the relay's checkpoint and the index for replay. Its changes are those with an xid in
-- xids and a seq from first_seq to last_seq, in the order of seq. The next batch reads on from
-- snapshot; if this one was cut (complete = false), first the rest of the difference between
-- prev_snapshot and snapshot that lies behind last_seq. Partitioned like the outbox: generation is
-- the one that writers were in when the batch was recorded.
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
    bytes         bigint NOT NULL,
    relids        oid[] NOT NULL,
    lsn           pg_lsn NOT NULL,
    at            timestamptz NOT NULL DEFAULT clock_timestamp(),
    generation    bigint NOT NULL
) PARTITION BY LIST ((generation % 6));

-- Insert-only and emptied as a whole: there is nothing to vacuum but at the wraparound of xids.
DO $create$
BEGIN
    FOR place IN 0..5 LOOP
        EXECUTE format('CREATE TABLE ayb_realtime.changes_%s PARTITION OF ayb_realtime.changes '
            'FOR VALUES IN (%s) WITH (autovacuum_vacuum_insert_threshold = -1)', place, place);
        EXECUTE format('CREATE TABLE ayb_realtime.batches_%s PARTITION OF ayb_realtime.batches '
            'FOR VALUES IN (%s) WITH (autovacuum_vacuum_insert_threshold = -1)', place, place);
        EXECUTE format('CREATE UNIQUE INDEX ON ayb_realtime.batches_%s (id)', place);
    END LOOP;
END
$create$;

CREATE INDEX changes_xid_seq ON ayb_realtime.changes (xid, seq);

CREATE INDEX batches_seqs ON ayb_realtime.batches (last_seq, first_seq);

-- Batches with changes from before the generation in which they were recorded, that is, of
-- transactions that were open at a rotation. Few.
CREATE INDEX batches_late ON ayb_realtime.batches (first_seq) WHERE (first_seq >> 40) < generation;

-- The generations whose changes lie in the outbox. The newest is where writers write.
CREATE TABLE ayb_realtime.generations (
    generation bigint PRIMARY KEY,
    entered_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    left_at    timestamptz
);
INSERT INTO ayb_realtime.generations (generation) VALUES (0);

-- The oldest batch whose changes are certainly all in the outbox; older positions are answered
-- with resync. Raised in the transaction that empties a partition. most_bytes is the bound of the
-- outbox, from the relay's settings.
CREATE TABLE ayb_realtime.horizon (
    only_row     boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    first_batch  bigint NOT NULL DEFAULT 1,
    most_bytes   bigint NOT NULL DEFAULT 8589934592,
    -- Capture has been stopped and has gone on since: once every transaction older than hole_after
    -- has ended, the hole is told to clients. NULL while it is not known how long to wait.
    has_hole     boolean NOT NULL DEFAULT false,
    hole_after   xid8
);
INSERT INTO ayb_realtime.horizon DEFAULT VALUES;

-- What a change's table is like now: its name as clients know it, the primary key in key order, and
-- the columns of type timestamptz or a domain over it. SQL_ASCII holds bytes of any encoding: names
-- there that are not plain ASCII have no meaning to a client.
CREATE VIEW ayb_realtime.captured AS
SELECT
    c.oid AS relid,
    n.nspname || '.' || c.relname AS "table",
    ARRAY(
        SELECT a.attname::text
        FROM pg_catalog.pg_index i
        CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, place)
        JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
        WHERE i.indrelid = c.oid AND i.indisprimary AND k.place <= i.indnkeyatts
        ORDER BY k.place
    ) AS key,
    ARRAY(
        SELECT a.attname::text
        FROM pg_catalog.pg_attribute a
        JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        AND (t.oid = 'pg_catalog.timestamptz'::regtype OR t.typtype = 'd' AND (
            WITH RECURSIVE base (oid, typtype, typbasetype) AS (
                SELECT t.oid, t.typtype, t.typbasetype
                UNION ALL
                SELECT u.oid, u.typtype, u.typbasetype
                FROM base
                JOIN pg_catalog.pg_type u ON u.oid = base.typbasetype
                WHERE base.typtype = 'd'
            )
            SELECT bool_or(base.oid = 'pg_catalog.timestamptz'::regtype) FROM base
        ))
        ORDER BY a.attnum
    ) AS stamps
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE pg_catalog.getdatabaseencoding() <> 'SQL_ASCII' OR NOT EXISTS (
    SELECT FROM pg_catalog.pg_attribute a
    WHERE a.attrelid = c.oid AND n.nspname || c.relname || a.attname ~ '[^ -~]'
);

-- Which column had a name last, for every name that a captured table's columns have had. An image
-- names its columns: where another column takes a name over (one is dropped or renamed, and another
-- one added or renamed), an image from before means another column by it. reused_seq is the sequence's
-- value when the relay found that out: whatever has a seq up to it may be from before.
CREATE TABLE ayb_realtime.column_names (
    relid      oid NOT NULL,
    name       text NOT NULL,
    attnum     smallint NOT NULL,
    reused_seq bigint,
    PRIMARY KEY (relid, name)
);

-- Which session leads: that of the relay which reads the outbox. No login but the relay's can write
-- here, so none can keep it from leading. heard_at is renewed while it works.
CREATE TABLE ayb_realtime.leader (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    pid      integer,
    began    timestamptz,  -- of the session, which tells it from later ones of the same pid
    name     text,
    since    timestamptz,
    heard_at timestamptz
);
INSERT INTO ayb_realtime.leader DEFAULT VALUES;
