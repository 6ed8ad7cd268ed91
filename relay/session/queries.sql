-- name: notify
SELECT pg_notify($1, $2)

-- name: take_sleep_lock
SELECT pg_try_advisory_lock(4707185, 1)

-- name: give_sleep_lock
SELECT pg_advisory_unlock(4707185, 1)

-- name: sleep_lock_holders
-- Which other sessions hold the sleep lock: writers in an open transaction, or unrelated sessions.
SELECT format(
    'pid %s (%s%s)%s%s', l.pid, a.usename, ', ' || nullif(a.application_name, ''),
    CASE l.mode WHEN 'ExclusiveLock' THEN ', for itself alone' END,
    ', in a transaction for ' || extract(epoch FROM clock_timestamp() - a.xact_start)::bigint || ' s'
) AS holder
FROM pg_locks l
LEFT JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.classid = 4707185 AND l.objid = 1 AND l.objsubid = 2
AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
AND l.granted AND l.pid <> pg_backend_pid()
ORDER BY l.pid
LIMIT 5

-- name: ping
-- For the round trip.
SELECT true

-- name: stand_by
-- Say that the relay $1 is ready, and take the lead if it is free. Returns whether it leads now and,
-- if not, which relay does, how many seconds ago it renewed its lead by this server's clock, and
-- since when its session has waited for its client.
SELECT t.is_leading, l.pid, l.name, l.since, l.heard_at, l.silent_seconds, l.idle_since
FROM ayb_realtime.note_relay($1, $2, $3, $4, $5)
CROSS JOIN LATERAL (
    SELECT ayb_realtime.take_lead($1, $2, make_interval(secs => $6), make_interval(secs => $7)) AS is_leading
) t
LEFT JOIN LATERAL (
    SELECT
        l.*,
        extract(epoch FROM clock_timestamp() - l.heard_at)::float8 AS silent_seconds,
        CASE WHEN a.state LIKE 'idle%' THEN a.state_change END AS idle_since
    FROM ayb_realtime.leader l
    LEFT JOIN pg_stat_activity a ON a.pid = l.pid AND a.backend_start = l.began
    WHERE l.pid IS NOT NULL AND NOT t.is_leading
) l ON true

-- name: hold_lead
-- Renew the lead; no row if it is lost. Returns the relay that should lead instead, if any.
WITH held AS (
    UPDATE ayb_realtime.leader l
    SET heard_at = clock_timestamp()
    WHERE l.pid = pg_backend_pid()
    RETURNING true
)
SELECT ayb_realtime.better_relay($1) AS better
FROM held
CROSS JOIN ayb_realtime.note_relay($1, $2, $3, $4, $5)

-- name: release_lead
-- Give the lead up, to the relay $1 or to any, and wake the relays that stand by.
WITH released AS (
    UPDATE ayb_realtime.leader l
    SET pid = NULL, began = NULL, login = NULL, heard_at = clock_timestamp(), successor = $1
    WHERE l.pid = pg_backend_pid()
    RETURNING true
)
SELECT pg_notify($2, '') FROM released

-- name: end_silent_leader
-- End the leader's session if it is still the one with pid $1 that renewed its lead at $2 and has
-- been waiting for its client since $3: the relay has vanished, and the server has not noticed yet.
SELECT pg_terminate_backend(a.pid, 2000)
FROM ayb_realtime.leader l
JOIN pg_stat_activity a ON a.pid = l.pid AND a.backend_start = l.began
WHERE (l.pid, l.heard_at, a.state_change) = ($1, $2, $3) AND a.state LIKE 'idle%'

-- name: notification_queue
-- How full the notification queue is (0 to 1), and which sessions may be blocking it: the queue is
-- emptied only up to where every listening session has read, and no session reads notifications
-- inside a transaction.
SELECT
    pg_notification_queue_usage() AS usage,
    ARRAY(
        SELECT format(
            'pid %s (%s%s%s), in a transaction for %s s', a.pid, a.usename,
            ', ' || nullif(a.application_name, ''), ', database ' || a.datname,
            extract(epoch FROM clock_timestamp() - a.xact_start)::bigint)
        FROM pg_stat_activity a
        WHERE a.xact_start IS NOT NULL AND a.pid <> pg_backend_pid() AND a.backend_type = 'client backend'
        ORDER BY a.xact_start
        LIMIT 3
    ) AS suspects

-- name: session
SELECT a.pid, a.backend_start AS began FROM pg_stat_activity a WHERE a.pid = pg_backend_pid()

-- name: session_is_idle
-- Whether the session $1 that began at $2 has ended or is waiting for its client.
SELECT coalesce(
    (SELECT a.state LIKE 'idle%' FROM pg_stat_activity a WHERE a.pid = $1 AND a.backend_start = $2),
    true
)

-- name: end_session
-- End the session $1 that began at $2, waiting up to 2 s for it to end.
SELECT pg_terminate_backend(a.pid, 2000)
FROM pg_stat_activity a
WHERE a.pid = $1 AND a.backend_start = $2

-- name: allows_prepared_transactions
SELECT current_setting('max_prepared_transactions')::integer > 0
