-- The outbox: what the capture trigger writes, what the relay has read, and how long it is kept.
-- Owned by the relay's login. It contains full row images, so only the logins of the relay and the
-- gateways may read it. docs/decisions/0003-outbox-ring.md explains why it is built this way.

-- seq = generation * 2^40 + counter. A generation is a period of time; its changes are stored
-- together in one of the six partitions below. The relay empties a partition with TRUNCATE, then
-- advances the sequence so that writes go there. Nothing is ever deleted row by row, and a writer
-- never depends on a partition having been created in time.
CREATE SEQUENCE ayb_realtime.change_seq AS bigint MINVALUE 1 START 1 CACHE 1;

CREATE TABLE ayb_realtime.changes (
    seq   bigint NOT NULL DEFAULT nextval('ayb_realtime.change_seq'),
    xid   xid8 NOT NULL DEFAULT pg_current_xact_id(),
    relid oid NOT NULL,
    op    "char" NOT NULL,  -- I, U, D, T
    -- Whether an image was too large and so contains only its key and small values (capture_row).
    reduced boolean NOT NULL DEFAULT false,
    new   json,
    old   json,
    at    timestamptz NOT NULL DEFAULT clock_timestamp()
) PARTITION BY LIST (((seq >> 40) % 6));

-- An epoch is a range of batch numbers that no crash of Postgres can have undone. A new one begins
-- when the relay finds that Postgres has crashed, or that this is not the same database as before;
-- first_batch is its first number. xid is the transaction that wrote the row: if a row was in fact
-- written by another transaction, it has been restored from a dump.
CREATE TABLE ayb_realtime.epochs (
    epoch             integer PRIMARY KEY,
    first_batch       bigint NOT NULL,
    system_identifier bigint NOT NULL,
    database          oid NOT NULL,
    started_at        timestamptz NOT NULL DEFAULT now(),
    xid               xid8 NOT NULL DEFAULT pg_current_xact_id()
);

-- Detects a crash: Postgres empties unlogged tables in crash recovery, when a standby is promoted
-- and when a base backup is restored, which are exactly the cases in which it may have lost commits
-- made with synchronous_commit = off. A clean restart keeps the row.
CREATE UNLOGGED TABLE ayb_realtime.uncrashed (
    epoch integer PRIMARY KEY
);

-- A batch: the relay's checkpoint and the index for replay. Its changes are those with an xid in
-- xids and a seq from first_seq to last_seq, ordered by seq. The next batch continues from
-- snapshot; if this batch was cut (complete = false), the rest of the difference between
-- prev_snapshot and snapshot, after last_seq, is read first. Partitioned like the outbox:
-- generation is the one that writers were using when the batch was recorded.
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

-- Insert-only and emptied as a whole: vacuum is needed only to prevent xid wraparound.
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

-- Batches with changes from before the generation in which they were recorded, that is, from
-- transactions that were open during a rotation. There are few.
CREATE INDEX batches_late ON ayb_realtime.batches (first_seq) WHERE (first_seq >> 40) < generation;

-- The generations whose changes are in the outbox. Writers write to the newest.
CREATE TABLE ayb_realtime.generations (
    generation bigint PRIMARY KEY,
    entered_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    left_at    timestamptz
);
INSERT INTO ayb_realtime.generations (generation) VALUES (0);

-- The oldest batch whose changes are certain to be all in the outbox; older positions are answered
-- with resync. Raised in the transaction that empties a partition. most_bytes is the size limit of
-- the outbox, from the relay's settings.
CREATE TABLE ayb_realtime.horizon (
    only_row     boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    first_batch  bigint NOT NULL DEFAULT 1,
    most_bytes   bigint NOT NULL DEFAULT 8589934592,
    -- Whether capture stopped and has resumed since. Once every transaction older than hole_after
    -- has ended, clients are notified of the hole. hole_after is NULL while it is not known how
    -- long to wait.
    has_hole     boolean NOT NULL DEFAULT false,
    hole_after   xid8
);
INSERT INTO ayb_realtime.horizon DEFAULT VALUES;

-- The current state of a change's table: its name as clients know it, the primary key in key order,
-- and the columns of type timestamptz or a domain over it. SQL_ASCII databases can hold bytes in
-- any encoding, so names in them that are not plain ASCII mean nothing to a client.
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

-- For every name that a captured table's columns have had, the last column to have it. An image
-- names its columns: if another column takes over a name (one column is dropped or renamed, and
-- another is added or renamed), the name means a different column in older images. reused_seq is
-- the value of the sequence when the relay noticed: any change with a seq up to it may be older.
-- The text of a value may mean another value once the column has another type (or typmod);
-- retyped_seq is the value of the sequence when the relay noticed that.
CREATE TABLE ayb_realtime.column_names (
    relid       oid NOT NULL,
    name        text NOT NULL,
    attnum      smallint NOT NULL,
    type        oid NOT NULL,
    typmod      integer NOT NULL,
    reused_seq  bigint,
    retyped_seq bigint,
    PRIMARY KEY (relid, name)
);

-- For every label that the database's enums have had, the last value to have it (the oid of its row
-- in pg_enum, which a renamed label keeps). An image has labels, so if another value takes over a
-- label, it means a different value in older images. ALTER TYPE locks no table: a transaction that
-- was open when the label changed hands may go on writing its old meaning. So any change is taken
-- for an older one until all transactions below waits_for have ended; then reused_seq is set, to
-- the value of the sequence.
CREATE TABLE ayb_realtime.enum_labels (
    type       oid NOT NULL,
    label      text NOT NULL,
    value      oid NOT NULL,
    waits_for  xid8,
    reused_seq bigint,
    PRIMARY KEY (type, label)
);

-- The session that leads, which is that of the relay reading the outbox. Only the relay's login can
-- write here, so no other login can prevent it from leading. heard_at is renewed every second: a
-- replica that has received nothing newer is stale, however quiet the tables are.
CREATE TABLE ayb_realtime.leader (
    only_row  boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    pid       integer,      -- NULL while no relay leads
    began     timestamptz,  -- session start; distinguishes it from later sessions with the same pid
    login     oid,          -- of the session; visible where its start is not
    relay     text,         -- its id in the table relays
    name      text,
    since     timestamptz,
    heard_at  timestamptz,
    successor text          -- the relay that the lead was handed to, until it takes it
);
INSERT INTO ayb_realtime.leader DEFAULT VALUES;

-- The relays that lead or stand by. Each renews its row every second or more often, so that the lead
-- can go to the one that should have it (better_relay). The row of a relay that has ended remains for
-- a minute (note_relay).
CREATE TABLE ayb_realtime.relays (
    id            text PRIMARY KEY,  -- random, made at its start
    name          text NOT NULL,
    priority      integer NOT NULL,
    round_trip_ms real NOT NULL,     -- between the relay and this server
    redis_up      integer NOT NULL,  -- how many Redis servers it reaches
    heard_at      timestamptz NOT NULL
);
