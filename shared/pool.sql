-- name: wal_position
-- How far this server's data is, as a position in the write-ahead log.
SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END
