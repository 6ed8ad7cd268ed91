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

-- name: allows_prepared_transactions
SELECT current_setting('max_prepared_transactions')::integer > 0
