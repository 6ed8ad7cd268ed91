-- name: lock_epochs
-- Ensures that only one of several concurrent starts begins an epoch.
LOCK TABLE ayb_realtime.epochs IN EXCLUSIVE MODE

-- name: commit_durably
SET LOCAL synchronous_commit = on

-- name: database_state
-- What the decision to begin a new epoch depends on. An epoch's row that was not written by the
-- transaction it names is a copy: the log has been restored to an earlier state.
SELECT
    coalesce(e.epoch, 0) AS epoch,
    coalesce(e.first_batch, 0) AS first_batch,
    e.system_identifier = s.system_identifier AND e.database = d.oid AND e.is_original AS is_same,
    EXISTS (SELECT FROM ayb_realtime.uncrashed u WHERE u.epoch = e.epoch) AS is_uncrashed,
    EXISTS (SELECT FROM ayb_realtime.batches) AS has_checkpoint,
    coalesce((SELECT max(id) FROM ayb_realtime.batches), 0) AS last_batch,
    extract(epoch FROM clock_timestamp() - '2025-01-01T00:00Z')::bigint AS clock
FROM pg_control_system() s
JOIN pg_database d ON d.datname = current_database()
LEFT JOIN LATERAL (
    SELECT p.*, p.xmin = p.xid::xid AS is_original
    FROM ayb_realtime.epochs p
    ORDER BY p.epoch DESC
    LIMIT 1
) e ON true

-- name: empty_outbox
-- Of the data that another database left behind, only the numbers are useful.
TRUNCATE ayb_realtime.changes, ayb_realtime.batches

-- name: forget_generations
DELETE FROM ayb_realtime.generations g
WHERE g.generation < (SELECT max(generation) FROM ayb_realtime.generations)

-- name: raise_horizon
UPDATE ayb_realtime.horizon SET first_batch = greatest(first_batch, $1)

-- name: begin_epoch
WITH begun AS (
    INSERT INTO ayb_realtime.epochs (epoch, first_batch, system_identifier, database)
    SELECT $1::integer, $2::bigint, s.system_identifier, d.oid
    FROM pg_control_system() s
    JOIN pg_database d ON d.datname = current_database()
    RETURNING epoch
), cleared AS (
    DELETE FROM ayb_realtime.uncrashed
)
INSERT INTO ayb_realtime.uncrashed SELECT epoch FROM begun

-- name: checkpoint
-- The last batch recorded, which is where reading continues.
SELECT id, prev_snapshot, snapshot, complete, last_seq, relids
FROM ayb_realtime.batches
ORDER BY id DESC
LIMIT 1

-- name: baseline
-- The position before the first batch. Recorded before the first trigger exists, so that nothing is
-- missed.
INSERT INTO ayb_realtime.batches (
    id, epoch, prev_snapshot, snapshot, complete, xids, first_seq, last_seq, changes, bytes,
    relids, lsn, generation)
SELECT
    $1, $2, pg_current_snapshot(), pg_current_snapshot(), true, '{}', g.generation << 40,
    g.generation << 40, 0, 0, '{}', pg_current_wal_insert_lsn(), g.generation
FROM ayb_realtime.generations g
ORDER BY g.generation DESC
LIMIT 1

-- name: read_and_record
-- The changes that have become visible since the snapshot $1: at most $2 changes and $3 bytes, but
-- at least one change, recorded as batch $5 of epoch $6 in the same statement: a round trip less,
-- which counts where the relay is far from Postgres. Images larger than $4 bytes are cut to the key.
-- If $7 is true, an image that raises an error is NULL. The statement sees a single snapshot, and
-- the WAL insert position is read after it was taken, so everything seen was committed before that
-- position. The first row describes the whole result; its column at is NULL if nothing was recorded.
--
-- Nothing is recorded where no change is left whose table exists, or where this session no longer
-- leads: the leader's row is locked until the record is committed (take_lead).
WITH now AS MATERIALIZED (
    SELECT pg_current_snapshot() AS snapshot, pg_current_wal_insert_lsn() AS lsn
), found AS MATERIALIZED (
    SELECT
        c.seq, c.xid, c.relid, c.op, c.reduced, c.new, c.old,
        coalesce(octet_length(c.new::text), 0) AS new_bytes,
        coalesce(octet_length(c.old::text), 0) AS old_bytes
    FROM ayb_realtime.changes c
    WHERE c.xid >= pg_snapshot_xmax($1)
    OR c.xid = ANY (ARRAY(SELECT pg_snapshot_xip($1)))
    ORDER BY c.seq
    LIMIT $2 + 1
), measured AS (
    SELECT
        f.*,
        f.reduced OR f.new_bytes > $4 OR f.old_bytes > $4 AS truncated,
        row_number() OVER w - 1 AS index,
        sum(least(f.new_bytes, $4) + least(f.old_bytes, $4)) OVER w AS bytes
    FROM found f
    WINDOW w AS (ORDER BY f.seq)
), taken AS MATERIALIZED (
    SELECT * FROM measured WHERE index = 0 OR (index < $2 AND bytes <= $3)
), described AS MATERIALIZED (
    SELECT t.relid, t."table", t.key, t.stamps
    FROM (SELECT DISTINCT relid FROM taken) used
    JOIN ayb_realtime.captured t USING (relid)
), summary AS MATERIALIZED (
    SELECT
        count(*) AS changes,
        min(t.seq) AS first_seq,
        max(t.seq) AS last_seq,
        coalesce(max(t.bytes), 0)::bigint AS bytes,
        (SELECT count(*) FROM found) > count(*) AS has_more
    FROM taken t
), recorded AS (
    INSERT INTO ayb_realtime.batches (
        id, epoch, prev_snapshot, snapshot, complete, xids, first_seq, last_seq, changes, bytes,
        relids, lsn, generation)
    SELECT
        $5::bigint, $6::integer, $1, n.snapshot, NOT s.has_more,
        ARRAY(SELECT DISTINCT t.xid FROM taken t ORDER BY t.xid),
        s.first_seq, s.last_seq, s.changes, s.bytes,
        ARRAY(SELECT t.relid FROM taken t GROUP BY t.relid ORDER BY min(t.seq)),
        n.lsn, (SELECT max(g.generation) FROM ayb_realtime.generations g)
    FROM summary s
    CROSS JOIN now n
    CROSS JOIN LATERAL (
        SELECT FROM ayb_realtime.leader l
        WHERE l.pid = pg_backend_pid() AND s.changes > 0
        FOR KEY SHARE
    ) lead
    WHERE s.has_more OR EXISTS (SELECT FROM described)
    RETURNING extract(epoch FROM at)::float8 AS at
)
SELECT
    NULL::bigint AS seq,
    NULL::bigint AS index,
    NULL::oid AS relid,
    NULL::text AS op,
    NULL::bytea AS new,
    NULL::bytea AS old,
    NULL::boolean AS truncated,
    n.snapshot,
    n.lsn,
    s.has_more,
    s.bytes,
    s.last_seq,
    r.at,
    coalesce((
        SELECT json_agg(json_build_array(d.relid::bigint, d."table", d.key, d.stamps)) FROM described d
    ), '[]'::json)::text AS tables
FROM now n
CROSS JOIN summary s
LEFT JOIN recorded r ON true
UNION ALL
SELECT
    t.seq, t.index, t.relid, t.op::text,
    ayb_realtime.sent_image(t.new, d.key, t.truncated, $7),
    ayb_realtime.sent_image(t.old, d.key, t.truncated, $7),
    t.truncated, NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM taken t
LEFT JOIN described d USING (relid)
ORDER BY seq NULLS FIRST

-- name: remainder_xids
-- The transactions with changes between the snapshots $1 and $2, at most $3. The index leads from
-- one transaction to the next, so it does not matter how many changes each has.
WITH RECURSIVE following (xid) AS (
    (
        SELECT c.xid FROM ayb_realtime.changes c
        WHERE c.xid >= pg_snapshot_xmax($1)
        ORDER BY c.xid
        LIMIT 1
    )
    UNION ALL
    SELECT (
        SELECT c.xid FROM ayb_realtime.changes c
        WHERE c.xid > f.xid AND c.xid < pg_snapshot_xmax($2)
        ORDER BY c.xid
        LIMIT 1
    )
    FROM following f
    WHERE f.xid IS NOT NULL
)
SELECT x.xid
FROM (
    SELECT p.xid FROM pg_snapshot_xip($1) AS p (xid)
    UNION ALL
    SELECT f.xid FROM following f WHERE f.xid IS NOT NULL
) x
WHERE pg_visible_in_snapshot(x.xid, $2)
LIMIT $3

-- name: remainder_of_transactions
-- The next $3 changes after seq $2 in the transactions $1, without their images but with their
-- sizes, counting each image as at most $4 bytes. In the index, each transaction's changes are
-- ordered by seq.
SELECT c.seq, c.xid, c.relid, c.bytes
FROM unnest($1::xid8[]) AS t (xid)
CROSS JOIN LATERAL (
    SELECT
        c.seq, c.xid, c.relid,
        least(coalesce(octet_length(c.new::text), 0), $4)
        + least(coalesce(octet_length(c.old::text), 0), $4) AS bytes
    FROM ayb_realtime.changes c
    WHERE c.xid = t.xid AND c.seq > $2
    ORDER BY c.seq
    LIMIT $3
) c
ORDER BY c.seq
LIMIT $3

-- name: remainder_of_snapshots
-- The same for all transactions between the snapshots $1 and $2, after seq $3, used when there are
-- many.
SELECT
    c.seq, c.xid, c.relid,
    least(coalesce(octet_length(c.new::text), 0), $5)
    + least(coalesce(octet_length(c.old::text), 0), $5) AS bytes
FROM ayb_realtime.changes c
WHERE (c.xid >= pg_snapshot_xmax($1) OR c.xid = ANY (ARRAY(SELECT pg_snapshot_xip($1))))
AND pg_visible_in_snapshot(c.xid, $2)
AND c.seq > $3
ORDER BY c.seq
LIMIT $4

-- name: insert_lsn
SELECT pg_current_wal_insert_lsn()

-- name: record_and_read
-- Record a batch of which everything is known but its images, $1 to $12 being its columns, and read
-- them: the changes of the transactions $6 from seq $7 to $8. Images larger than $13 bytes are cut
-- to the key. If $14 is true, an image that raises an error is NULL. The first row describes the
-- batch; its column at is NULL if this session no longer leads, and then nothing was recorded.
WITH recorded AS (
    INSERT INTO ayb_realtime.batches (
        id, epoch, prev_snapshot, snapshot, complete, xids, first_seq, last_seq, changes, bytes,
        relids, lsn, generation)
    SELECT
        $1::bigint, $2::integer, $3::pg_snapshot, $4::pg_snapshot, $5::boolean, $6::xid8[],
        $7::bigint, $8::bigint, $9::integer, $10::bigint, $11::oid[], $12::pg_lsn,
        (SELECT max(g.generation) FROM ayb_realtime.generations g)
    FROM (SELECT FROM ayb_realtime.leader l WHERE l.pid = pg_backend_pid() FOR KEY SHARE) lead
    RETURNING extract(epoch FROM at)::float8 AS at
), described AS MATERIALIZED (
    SELECT t.relid, t."table", t.key, t.stamps
    FROM unnest($11::oid[]) AS used (relid)
    JOIN ayb_realtime.captured t USING (relid)
), taken AS (
    SELECT
        d.*,
        row_number() OVER (ORDER BY d.seq) - 1 AS index,
        d.reduced
        OR coalesce(octet_length(d.new::text) > $13, false)
        OR coalesce(octet_length(d.old::text) > $13, false) AS truncated
    FROM ayb_realtime.changes d
    WHERE d.xid = ANY ($6) AND d.seq BETWEEN $7 AND $8
)
SELECT
    NULL::bigint AS seq,
    NULL::bigint AS index,
    NULL::oid AS relid,
    NULL::text AS op,
    NULL::bytea AS new,
    NULL::bytea AS old,
    NULL::boolean AS truncated,
    r.at,
    coalesce((
        SELECT json_agg(json_build_array(d.relid::bigint, d."table", d.key, d.stamps)) FROM described d
    ), '[]'::json)::text AS tables
FROM (SELECT) nothing
LEFT JOIN recorded r ON true
UNION ALL
SELECT
    t.seq, t.index, t.relid, t.op::text,
    ayb_realtime.sent_image(t.new, d.key, t.truncated, $14),
    ayb_realtime.sent_image(t.old, d.key, t.truncated, $14),
    t.truncated, NULL, NULL
FROM taken t
LEFT JOIN described d USING (relid)
ORDER BY seq NULLS FIRST

-- name: skip_number
-- An empty batch, which starts and ends at snapshot $3; no row if this session no longer leads.
INSERT INTO ayb_realtime.batches (
    id, epoch, prev_snapshot, snapshot, complete, xids, first_seq, last_seq, changes, bytes,
    relids, lsn, generation)
SELECT
    $1, $2, $3, $3, true, '{}', g.generation << 40, g.generation << 40, 0, 0, '{}',
    pg_current_wal_insert_lsn(), g.generation
FROM (SELECT FROM ayb_realtime.leader l WHERE l.pid = pg_backend_pid() FOR KEY SHARE) lead
CROSS JOIN (SELECT max(n.generation) AS generation FROM ayb_realtime.generations n) g
RETURNING extract(epoch FROM at)::float8 AS at

-- name: close_hole
UPDATE ayb_realtime.horizon
SET first_batch = greatest(first_batch, $1), has_hole = false, hole_after = NULL

-- name: triggered_tables
-- All captured tables.
SELECT t.relid::bigint, t."table"
FROM ayb_realtime.captured t
WHERE t.relid IN (
    SELECT g.tgrelid FROM pg_trigger g
    WHERE g.tgname = '!ayb_realtime_row_' || g.tgrelid
)
