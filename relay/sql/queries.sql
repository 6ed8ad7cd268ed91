-- name: has_migrations
SELECT to_regclass('ayb_realtime.migrations') IS NOT NULL

-- name: applied_migrations
SELECT coalesce(array_agg(number), '{}') FROM ayb_realtime.migrations

-- name: lock_migrations
SELECT pg_advisory_xact_lock(4707185, 3)

-- name: prepare_migrations
DO $$
BEGIN
    -- IF NOT EXISTS would ask for the right to create one in any case.
    IF to_regnamespace('ayb_realtime') IS NULL THEN
        CREATE SCHEMA ayb_realtime;
    END IF;
END
$$;
CREATE TABLE IF NOT EXISTS ayb_realtime.migrations (
    number     integer PRIMARY KEY,
    name       text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)

-- name: note_migration
INSERT INTO ayb_realtime.migrations (number, name) VALUES ($1, $2)

-- name: lock_epochs
-- Concurrent starts agree on who begins an epoch.
SELECT pg_advisory_xact_lock(4707185, 3)

-- name: commit_durably
SET LOCAL synchronous_commit = on

-- name: database_state
-- What the decision on a new epoch hangs on. The row of an epoch that was not written by the
-- transaction it names is a copy: the log has been put back to what it was once.
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
-- Of what another database left behind, only the numbers are of use.
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
-- The last batch recorded: from where to read on.
SELECT id, prev_snapshot, snapshot, complete, last_seq, relids
FROM ayb_realtime.batches
ORDER BY id DESC
LIMIT 1

-- name: baseline
-- The place before the first batch. Taken before the first trigger is there, so that nothing is
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

-- name: read
-- What has become visible since the snapshot $1: at most $2 changes and $3 bytes, but one at least.
-- Images above $4 bytes are reduced to the key. One statement sees one snapshot, and the insert
-- position is taken after it, so all that is seen is committed before that position. The first row
-- tells about the whole.
WITH now AS MATERIALIZED (
    SELECT pg_current_snapshot() AS snapshot, pg_current_wal_insert_lsn() AS lsn
), found AS MATERIALIZED (
    SELECT
        c.seq, c.xid, c.relid, c.op, c.new, c.old,
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
        f.new_bytes > $4 OR f.old_bytes > $4 AS truncated,
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
)
SELECT
    NULL::bigint AS seq,
    NULL::bigint AS index,
    NULL::xid8 AS xid,
    NULL::oid AS relid,
    NULL::text AS op,
    NULL::bytea AS new,
    NULL::bytea AS old,
    NULL::boolean AS truncated,
    n.snapshot,
    n.lsn,
    (SELECT count(*) FROM found) > (SELECT count(*) FROM taken) AS has_more,
    coalesce((SELECT max(bytes) FROM taken), 0)::bigint AS bytes,
    coalesce((
        SELECT json_agg(json_build_array(d.relid::bigint, d."table", d.key, d.stamps)) FROM described d
    ), '[]'::json)::text AS tables
FROM now n
UNION ALL
SELECT
    t.seq, t.index, t.xid, t.relid, t.op::text,
    convert_to(CASE WHEN t.truncated THEN ayb_realtime.key_image(t.new, d.key)
        ELSE t.new::text END, 'UTF8'),
    convert_to(CASE WHEN t.truncated THEN ayb_realtime.key_image(t.old, d.key)
        ELSE t.old::text END, 'UTF8'),
    t.truncated, NULL, NULL, NULL, NULL, NULL
FROM taken t
LEFT JOIN described d USING (relid)
ORDER BY seq NULLS FIRST

-- name: open_rest
-- Of the changes between the snapshots $1 and $2, those behind seq $3: a cursor over what is needed
-- to cut them into batches, without their images. WITH HOLD, so that it lives on without a
-- transaction: no snapshot is held, and each batch is recorded by itself.
DECLARE rest NO SCROLL CURSOR WITH HOLD FOR
SELECT
    c.seq, c.xid, c.relid,
    least(coalesce(octet_length(c.new::text), 0), $4)
    + least(coalesce(octet_length(c.old::text), 0), $4) AS bytes
FROM ayb_realtime.changes c
WHERE (c.xid >= pg_snapshot_xmax($1) OR c.xid = ANY (ARRAY(SELECT pg_snapshot_xip($1))))
AND pg_visible_in_snapshot(c.xid, $2)
AND c.seq > $3
ORDER BY c.seq

-- name: fetch_rest
FETCH 1000 FROM rest

-- name: close_rest
CLOSE rest

-- name: insert_lsn
SELECT pg_current_wal_insert_lsn()

-- name: record
INSERT INTO ayb_realtime.batches (
    id, epoch, prev_snapshot, snapshot, complete, xids, first_seq, last_seq, changes, bytes,
    relids, lsn, generation)
SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, max(g.generation)
FROM ayb_realtime.generations g
RETURNING extract(epoch FROM at)::float8 AS at

-- name: notify
SELECT pg_notify($1, $2)

-- name: take_sleep_lock
SELECT pg_try_advisory_lock(4707185, 1)

-- name: give_sleep_lock
SELECT pg_advisory_unlock(4707185, 1)

-- name: take_leader_lock
SELECT pg_try_advisory_lock(4707185, 2)

-- name: session
SELECT a.pid, a.backend_start AS began FROM pg_stat_activity a WHERE a.pid = pg_backend_pid()

-- name: session_is_idle
-- Whether the session $1 that began at $2 has ended, or waits for its client.
SELECT coalesce(
    (SELECT a.state LIKE 'idle%' FROM pg_stat_activity a WHERE a.pid = $1 AND a.backend_start = $2),
    true
)

-- name: end_session
-- Waits 2 s for the end of the session $1 that began at $2.
SELECT pg_terminate_backend(a.pid, 2000)
FROM pg_stat_activity a
WHERE a.pid = $1 AND a.backend_start = $2

-- name: server_facts
SELECT
    current_setting('server_version_num')::integer AS version,
    current_setting('max_prepared_transactions')::integer AS prepared_transactions,
    pg_is_in_recovery() AS is_standby

-- name: list_tables
-- Plain tables and roots of partitioned ones, with our triggers on them.
SELECT
    c.oid,
    n.nspname AS schema,
    c.relname AS name,
    format('%I.%I', n.nspname, c.relname) AS quoted,
    pg_has_role(c.relowner, 'USAGE') AS is_owned,
    EXISTS (
        SELECT FROM pg_attribute a
        WHERE a.attrelid = c.oid AND a.attgenerated = 'v' AND NOT a.attisdropped
    ) AS has_virtual,
    coalesce(t.names, '{}') AS trigger_names,
    coalesce(t.functions, '{}') AS trigger_functions,
    coalesce(t.states, '{}') AS trigger_states
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN LATERAL (
    SELECT
        array_agg(g.tgname::text ORDER BY g.tgname) AS names,
        array_agg(p.proname::text ORDER BY g.tgname) AS functions,
        array_agg(g.tgenabled::text ORDER BY g.tgname) AS states
    FROM pg_trigger g
    JOIN pg_proc p ON p.oid = g.tgfoid
    JOIN pg_namespace pn ON pn.oid = p.pronamespace
    WHERE g.tgrelid = c.oid AND NOT g.tgisinternal AND pn.nspname = 'ayb_realtime'
) t ON true
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't'
AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'ayb_realtime', 'pg_toast')
ORDER BY n.nspname, c.relname

-- name: limit_lock_wait
SELECT set_config('lock_timeout', $1, true)

-- name: skip_number
-- A batch of nothing, which moves on from snapshot $3 to itself.
INSERT INTO ayb_realtime.batches (
    id, epoch, prev_snapshot, snapshot, complete, xids, first_seq, last_seq, changes, bytes,
    relids, lsn, generation)
SELECT
    $1, $2, $3, $3, true, '{}', g.generation << 40, g.generation << 40, 0, 0, '{}',
    pg_current_wal_insert_lsn(), g.generation
FROM ayb_realtime.generations g
ORDER BY g.generation DESC
LIMIT 1
RETURNING extract(epoch FROM at)::float8 AS at

-- name: close_hole
UPDATE ayb_realtime.horizon
SET first_batch = greatest(first_batch, $1), has_hole = false, hole_after = NULL

-- name: triggered_tables
-- Every table that is captured.
SELECT t.relid::bigint, t."table"
FROM ayb_realtime.captured t
WHERE t.relid IN (
    SELECT g.tgrelid FROM pg_trigger g
    WHERE g.tgname = '!ayb_realtime_row_' || g.tgrelid
)

-- name: note_column_names
-- Which columns have which names now, and which names have passed to another column. Where capture
-- has stopped, the sequence stands at its end.
INSERT INTO ayb_realtime.column_names AS known (relid, name, attnum)
SELECT a.attrelid, a.attname::text, a.attnum
FROM pg_trigger g
JOIN pg_attribute a ON a.attrelid = g.tgrelid
LEFT JOIN ayb_realtime.column_names k ON k.relid = a.attrelid AND k.name = a.attname
WHERE g.tgname = '!ayb_realtime_row_' || g.tgrelid
AND a.attnum > 0 AND NOT a.attisdropped AND k.attnum IS DISTINCT FROM a.attnum
ON CONFLICT (relid, name) DO UPDATE SET
    attnum = excluded.attnum,
    reused_seq = (
        SELECT CASE WHEN s.last_value < 9223372036854775807 THEN s.last_value
        ELSE (SELECT (max(n.generation) + 1) << 40 FROM ayb_realtime.generations n) END
        FROM ayb_realtime.change_seq s
    )

-- name: forget_column_names
DELETE FROM ayb_realtime.column_names k
WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = k.relid)

-- name: schema_owner
-- Who owns our schema, if it is there and not owned by us.
SELECT r.rolname::text
FROM pg_namespace n
JOIN pg_roles r ON r.oid = n.nspowner
WHERE n.nspname = 'ayb_realtime' AND r.rolname <> current_user

-- name: act_as
SELECT set_config('role', $1, false)
