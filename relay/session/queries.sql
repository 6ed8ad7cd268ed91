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

-- name: lock_leader
-- Whatever is read about sessions after this is newer than the row.
SELECT FROM ayb_realtime.leader FOR UPDATE

-- name: take_lead
-- Become the leader, with the name $1, if the previous leader's session has ended. If a session of
-- another login has that pid, its start time cannot be read; it counts as the leader only if its
-- login may write batches, because other sessions may reuse the pid.
UPDATE ayb_realtime.leader l
SET
    pid = me.pid, began = me.backend_start, name = $1,
    since = clock_timestamp(), heard_at = clock_timestamp()
FROM pg_stat_activity me
WHERE me.pid = pg_backend_pid()
AND (l.pid = me.pid OR NOT EXISTS (
    SELECT FROM pg_stat_activity a
    WHERE a.pid = l.pid
    AND CASE WHEN a.backend_start IS NOT NULL THEN a.backend_start = l.began
        ELSE has_table_privilege(a.usesysid, 'ayb_realtime.batches', 'INSERT') END
))
RETURNING true

-- name: leader
-- Which relay leads, and how many seconds ago it last renewed its lead; can be read on any server.
SELECT
    l.pid, l.name, l.since,
    extract(epoch FROM clock_timestamp() - l.heard_at)::float8 AS silent_seconds
FROM ayb_realtime.leader l
WHERE l.pid IS NOT NULL

-- name: hold_lead
UPDATE ayb_realtime.leader l
SET heard_at = clock_timestamp()
WHERE l.pid = pg_backend_pid()
RETURNING true

-- name: end_silent_leader
-- End the leader's session if it has not renewed its lead for $1 seconds and has been waiting for
-- its client for as long: the relay has vanished, and the server has not noticed yet.
SELECT pg_terminate_backend(a.pid, 2000)
FROM ayb_realtime.leader l
JOIN pg_stat_activity a ON a.pid = l.pid AND a.backend_start = l.began
WHERE l.heard_at < clock_timestamp() - make_interval(secs => $1)
AND a.state LIKE 'idle%'
AND a.state_change < clock_timestamp() - make_interval(secs => $1)

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
