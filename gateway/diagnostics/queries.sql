-- name: captured_tables
-- All captured tables.
SELECT ns.nspname AS schema, c.relname AS "table", c.oid AS relid, c.relkind = 'r' AND EXISTS (
    SELECT FROM pg_catalog.pg_inherits AS i WHERE i.inhparent = c.oid
) AS has_heirs
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS ns ON ns.oid = c.relnamespace
JOIN pg_catalog.pg_trigger AS t
    ON t.tgrelid = c.oid AND t.tgname = '!ayb_realtime_row_' || c.oid::text
ORDER BY ns.nspname, c.relname

-- name: explain
-- Each policy separately on each image, for one client; image 0 says whether a SELECT returns the
-- row.
SELECT image, policy, verdict, failure FROM ayb_realtime.explain($1, $2, $3, $4, $5, $6)

-- name: key_columns
-- The columns of the primary key, in key order.
SELECT coalesce(array_agg(a.attname::text ORDER BY k.place), '{}')
FROM pg_catalog.pg_index AS i
CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, place)
JOIN pg_catalog.pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
WHERE i.indrelid = $1 AND i.indisprimary AND k.place <= i.indnkeyatts

-- name: changes_of_row
-- The last changes to a row in the outbox, newest first, and the position of each in its batch.
-- Reads the whole outbox, so it is meant for diagnosis by hand and not for a running server.
SELECT found.seq, found.op, found.new, found.old, found.at, b.epoch, b.id AS batch,
    (SELECT count(*) FROM ayb_realtime.changes AS earlier
     WHERE earlier.xid = ANY (b.xids) AND earlier.seq >= b.first_seq AND earlier.seq < found.seq) AS index
FROM (
    SELECT c.seq, c.xid, c.op::text AS op, c.new::text AS new, c.old::text AS old, c.at
    FROM ayb_realtime.changes AS c
    WHERE c.relid = $1 AND EXISTS (
        SELECT FROM (VALUES (c.new), (c.old)) AS v (image)
        WHERE v.image IS NOT NULL AND NOT EXISTS (
            SELECT FROM ROWS FROM (unnest($2::text[]), unnest($3::text[])) AS k (name, value)
            WHERE (v.image ->> k.name) IS DISTINCT FROM k.value
        )
    )
    ORDER BY c.seq DESC LIMIT $4
) AS found
LEFT JOIN LATERAL (
    SELECT b.epoch, b.id, b.xids, b.first_seq FROM ayb_realtime.batches AS b
    WHERE found.xid = ANY (b.xids) AND found.seq BETWEEN b.first_seq AND b.last_seq
    ORDER BY b.id DESC LIMIT 1
) AS b ON true
ORDER BY found.seq DESC

-- name: taken_settings
-- Which of these names are settings of Postgres itself or of a loaded extension. A setting that is
-- only a placeholder, as an application makes by naming it, is not listed by pg_settings.
SELECT coalesce(array_agg(s.name ORDER BY s.name), '{}')
FROM pg_catalog.pg_settings AS s WHERE s.name = ANY ($1::text[])

-- name: shadowing_types
-- Types named like one of Postgres that a search path finds first: that of this login, and those of
-- functions that set their own. Without pg_catalog in it, a search path begins with pg_catalog.
WITH places AS (
    SELECT 'the search path of ' || current_user AS path, s.schema::text, s.n
    FROM unnest(current_schemas(true)) WITH ORDINALITY AS s (schema, n)
    UNION ALL
    SELECT 'the search path of ' || p.oid::regprocedure::text, btrim(s.schema, ' "'), s.n
    FROM pg_catalog.pg_proc AS p
    CROSS JOIN unnest(p.proconfig) AS c (setting)
    CROSS JOIN regexp_split_to_table(substr(c.setting, 13), ',') WITH ORDINALITY AS s (schema, n)
    WHERE c.setting LIKE 'search_path=%'
)
SELECT p.path, format('%I.%I', p.schema, t.typname) AS name
FROM places AS p
JOIN places AS c ON c.path = p.path AND c.schema = 'pg_catalog' AND c.n > p.n
JOIN pg_catalog.pg_namespace AS ns ON ns.nspname = p.schema AND ns.oid <> pg_my_temp_schema()
JOIN pg_catalog.pg_type AS t ON t.typnamespace = ns.oid
WHERE EXISTS (
    SELECT FROM pg_catalog.pg_type AS b
    WHERE b.typname = t.typname AND b.typnamespace = 'pg_catalog'::regnamespace AND b.typelem = 0
)
ORDER BY 1, 2

-- name: ayb_tables
-- Whether this login, also returned, can read tables of AYB. Row-Level Security may hide rows from
-- it, unless it owns the table, may bypass it, or has a policy that shows every row.
SELECT asked.name, current_user AS login, c.oid IS NULL AS is_missing,
    has_schema_privilege('public', 'USAGE') AS is_usable,
    coalesce(has_table_privilege(c.oid, 'SELECT'), false) AS is_readable,
    coalesce(row_security_active(c.oid) AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_policy AS p
        WHERE p.polrelid = c.oid AND p.polpermissive AND p.polcmd IN ('r', '*')
        AND pg_get_expr(p.polqual, p.polrelid) = 'true'
        AND EXISTS (
            SELECT FROM unnest(p.polroles) AS r (id) WHERE r.id = 0 OR pg_has_role(r.id, 'USAGE')
        )
    ), false) AS is_filtered
FROM unnest($1::text[]) WITH ORDINALITY AS asked (name, n)
LEFT JOIN pg_catalog.pg_class AS c
    ON c.relname = asked.name AND c.relnamespace = to_regnamespace('public') AND c.relkind IN ('r', 'p', 'v')
ORDER BY asked.n

-- name: server
-- What a database server says about its place among others. Of pg_stat_wal_receiver, a login without
-- pg_read_all_stats sees only that there is a row.
SELECT
    pg_is_in_recovery() AS is_standby,
    EXISTS (SELECT FROM pg_catalog.pg_stat_wal_receiver) AS has_receiver,
    (SELECT r.sender_host || ':' || r.sender_port FROM pg_catalog.pg_stat_wal_receiver AS r) AS sender,
    CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END
        - '0/0'::pg_lsn AS lsn,
    CASE WHEN pg_is_in_recovery() THEN pg_get_wal_replay_pause_state() <> 'not paused' ELSE false END
        AS is_paused,
    extract(epoch FROM clock_timestamp())::float8 AS clock,
    coalesce((SELECT max(e.epoch) FROM ayb_realtime.epochs AS e), 0) AS epoch,
    l.name AS leader, l.since AS leads_since, extract(epoch FROM l.heard_at)::float8 AS heard_at
FROM (VALUES (1)) AS one
LEFT JOIN ayb_realtime.leader AS l ON true

-- name: identity
-- Which server this is a copy of, and on which timeline: the checkpoint's, or for a standby that
-- has followed a failover since, what it has received.
SELECT
    s.system_identifier,
    greatest(c.timeline_id, (SELECT r.received_tli FROM pg_catalog.pg_stat_wal_receiver AS r))
        AS timeline
FROM pg_catalog.pg_control_system() AS s
CROSS JOIN pg_catalog.pg_control_checkpoint() AS c
