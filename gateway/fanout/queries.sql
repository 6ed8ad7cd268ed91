-- name: pulse
-- What a database shows of the relay, and a standby of its replay. heard_at, of a heartbeat or a
-- batch, is on the primary's clock, clock is this server's; bytes that were received and not
-- replayed are 0 on a primary.
SELECT
    extract(epoch FROM clock_timestamp())::float8 AS clock,
    extract(epoch FROM greatest(
        (SELECT l.heard_at FROM ayb_realtime.leader l), newest.at))::float8 AS heard_at,
    coalesce((SELECT max(e.epoch) FROM ayb_realtime.epochs e), 0) AS epoch,
    coalesce(newest.id, 0) AS batch,
    pg_is_in_recovery() AS is_standby,
    CASE WHEN pg_is_in_recovery() THEN pg_get_wal_replay_pause_state() <> 'not paused'
    ELSE false END AS is_paused,
    CASE WHEN pg_is_in_recovery()
    THEN coalesce(pg_wal_lsn_diff(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()), 0)::bigint
    ELSE 0 END AS unreplayed_bytes,
    extract(epoch FROM pg_last_xact_replay_timestamp())::float8 AS commit_at
FROM (VALUES (1)) one
LEFT JOIN LATERAL (
    SELECT b.id, b.at FROM ayb_realtime.batches b ORDER BY b.id DESC LIMIT 1
) newest ON true
