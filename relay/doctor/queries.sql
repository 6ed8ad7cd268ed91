-- name: server
SELECT
    current_setting('server_version_num')::integer AS version,
    current_setting('server_version') AS version_text,
    current_setting('server_encoding') AS encoding,
    current_setting('max_prepared_transactions')::integer AS prepared_transactions,
    pg_is_in_recovery() AS is_standby,
    extract(epoch FROM clock_timestamp())::float8 AS clock

-- name: login
-- What kind of login this is, and whether it is a member of the role $1.
SELECT
    current_user::text AS name,
    r.rolsuper AS is_superuser,
    r.rolbypassrls AS bypasses_rls,
    CASE WHEN to_regrole(quote_ident($1)) IS NULL THEN NULL
    ELSE pg_has_role(current_user, to_regrole(quote_ident($1)), 'MEMBER') END AS is_member
FROM pg_roles r
WHERE r.rolname = current_user

-- name: user_role
SELECT r.rolsuper AS is_superuser, r.rolbypassrls AS bypasses_rls
FROM pg_roles r
WHERE r.rolname = $1

-- name: table_rights
-- For the tables $1: what the role $2 may read, and whether RLS and policies apply.
SELECT
    format('%I.%I', n.nspname, c.relname) AS quoted,
    c.relrowsecurity AS has_rls,
    EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid) AS has_policies,
    coalesce(
        has_any_column_privilege(to_regrole(quote_ident($2)), c.oid, 'SELECT')
        AND has_schema_privilege(to_regrole(quote_ident($2)), n.oid, 'USAGE'),
        false
    ) AS is_readable,
    EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary) AS has_key,
    ARRAY(
        SELECT a.attname::text
        FROM pg_attribute a
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        AND has_column_privilege(to_regrole(quote_ident($2)), c.oid, a.attnum, 'SELECT')
        ORDER BY a.attnum
    ) AS readable
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = ANY ($1)
ORDER BY 1

-- name: outbox
SELECT
    ayb_realtime.outbox_bytes() AS bytes,
    h.most_bytes,
    (SELECT last_value = 9223372036854775807 FROM ayb_realtime.change_seq) AS is_stopped,
    has_table_privilege('ayb_realtime.changes', 'SELECT, TRUNCATE') AS may_rotate
FROM ayb_realtime.horizon h

-- name: gateway_rights
SELECT
    has_table_privilege('ayb_realtime.changes', 'SELECT')
    AND has_table_privilege('ayb_realtime.batches', 'SELECT')
    AND has_table_privilege('ayb_realtime.epochs', 'SELECT')
    AND has_table_privilege('ayb_realtime.horizon', 'SELECT')
    AND has_table_privilege('ayb_realtime.captured', 'SELECT') AS may_read,
    has_table_privilege('ayb_realtime.changes', 'INSERT, UPDATE, DELETE, TRUNCATE') AS may_write

-- name: leader
-- The session of the leading relay, if it still exists, and when it last renewed its lead.
SELECT
    l.pid,
    l.name,
    a.usename::text AS login,
    coalesce(host(a.client_addr), 'a local socket') AS address,
    l.since AT TIME ZONE 'UTC' AS since,
    abs(extract(epoch FROM clock_timestamp() - l.heard_at))::float8 AS silent_seconds,
    a.backend_start IS NULL AS is_hidden
FROM ayb_realtime.leader l
JOIN pg_stat_activity a ON a.pid = l.pid
WHERE a.backend_start = l.began OR (a.backend_start IS NULL AND a.usesysid = l.login)

-- name: relays
-- The relays that lead or stand by, the one that should lead first.
SELECT r.name, r.priority, r.round_trip_ms, r.redis_up, l.pid IS NOT NULL AS is_leading
FROM ayb_realtime.relays r
LEFT JOIN ayb_realtime.leader l ON l.relay = r.id AND l.pid IS NOT NULL
WHERE r.heard_at BETWEEN clock_timestamp() - interval '5 s' AND clock_timestamp() + interval '5 s'
ORDER BY r.priority DESC, r.round_trip_ms

-- name: oldest_transaction
-- Age in seconds of the oldest open transaction in this database, including prepared ones.
SELECT greatest(
    (
        SELECT extract(epoch FROM max(clock_timestamp() - a.xact_start))::float8
        FROM pg_stat_activity a
        WHERE a.datname = current_database() AND a.backend_xid IS NOT NULL
    ),
    (
        SELECT extract(epoch FROM max(clock_timestamp() - p.prepared))::float8
        FROM pg_prepared_xacts p
        WHERE p.database = current_database()
    )
)

-- name: replay
-- How far a standby is behind position $1, in bytes, and the age of its newest commit in seconds.
SELECT
    greatest(($1 - pg_last_wal_replay_lsn())::bigint, 0) AS bytes,
    extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float8 AS seconds,
    current_setting('hot_standby_feedback')::boolean AS has_feedback
