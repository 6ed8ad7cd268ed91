-- name: set_bound
UPDATE ayb_realtime.horizon SET most_bytes = $1 WHERE most_bytes <> $1

-- name: note_generation
-- A sequence that is ahead of the list of generations is right (a restored dump, say).
INSERT INTO ayb_realtime.generations (generation)
SELECT s.last_value >> 40
FROM ayb_realtime.change_seq s
WHERE s.last_value <> 9223372036854775807
AND s.last_value >> 40 > (SELECT max(generation) FROM ayb_realtime.generations)

-- name: state
-- The current generation, the older ones in the outbox, and whether capture has stopped.
SELECT
    g.generation,
    ARRAY(
        SELECT o.generation FROM ayb_realtime.generations o
        WHERE o.generation < g.generation ORDER BY o.generation
    ) AS older,
    s.last_value = 9223372036854775807 AS is_stopped,
    s.last_value >> 40 < g.generation AS is_behind,
    ayb_realtime.outbox_bytes() AS bytes
FROM ayb_realtime.change_seq s
CROSS JOIN (SELECT max(generation) AS generation FROM ayb_realtime.generations) g

-- name: bytes
SELECT ayb_realtime.outbox_bytes()

-- name: horizon
SELECT first_batch FROM ayb_realtime.horizon

-- name: present
-- The generation that writers are in, which lies at {place}. It is used once numbers of it may be
-- taken, also by a transaction that is open or was rolled back: no row can be seen of these.
SELECT
    pg_relation_size('ayb_realtime.changes_{place}') > 0 AS is_used,
    pg_total_relation_size('ayb_realtime.changes_{place}')
    + pg_total_relation_size('ayb_realtime.batches_{place}') AS bytes,
    -- A time in the future is from before the clock was set back.
    abs(extract(epoch FROM clock_timestamp() - g.entered_at))::float8 AS age_seconds
FROM ayb_realtime.generations g
WHERE g.generation = $1

-- name: is_expired
-- Whether all batches with changes of generation $1 are older than $2 seconds: it was left so long
-- ago, or a later one was (times in the future are from before the clock was set back), and no
-- transaction that had been open then has been read since.
SELECT
    (SELECT min(l.left_at) FROM ayb_realtime.generations l WHERE l.generation >= g.generation)
    < clock_timestamp() - make_interval(secs => $2)
    AND NOT EXISTS (
        SELECT FROM ayb_realtime.batches b
        WHERE b.first_seq >> 40 < b.generation AND b.first_seq < (g.generation + 1) << 40
        AND b.at > clock_timestamp() - make_interval(secs => $2)
    )
FROM ayb_realtime.generations g
WHERE g.generation = $1

-- name: limit_lock_wait
SELECT set_config('lock_timeout', $1, true)

-- name: lock
-- In the order in which readers lock them.
LOCK TABLE ayb_realtime.batches_{place}, ayb_realtime.changes_{place} IN ACCESS EXCLUSIVE MODE

-- name: has_unread
SELECT EXISTS (
    SELECT FROM ayb_realtime.changes_{place}
    WHERE xid >= pg_snapshot_xmax($1)
    OR xid = ANY (ARRAY(SELECT pg_snapshot_xip($1)))
)

-- name: raise_horizon
-- Above every batch that was recorded in generation $1 or has changes of it.
UPDATE ayb_realtime.horizon h
SET first_batch = greatest(
    h.first_batch,
    (SELECT max(b.id) + 1 FROM ayb_realtime.batches_{place} b),
    (
        SELECT max(b.id) + 1 FROM ayb_realtime.batches b
        WHERE b.first_seq >> 40 < b.generation AND b.first_seq < ($1::bigint + 1) << 40
    )
)

-- name: keep_checkpoint
-- Reading continues from the last batch, so it is carried over into generation $1.
INSERT INTO ayb_realtime.batches (
    id, epoch, prev_snapshot, snapshot, complete, xids, first_seq, last_seq, changes, bytes,
    relids, lsn, at, generation)
SELECT
    b.id, b.epoch, b.prev_snapshot, b.snapshot, b.complete, '{{}}', $1::bigint << 40,
    b.last_seq, 0, 0, '{{}}', b.lsn, b.at, $1
FROM ayb_realtime.batches_{place} b
WHERE b.id = (SELECT max(id) FROM ayb_realtime.batches)

-- name: truncate
TRUNCATE ayb_realtime.changes_{place}, ayb_realtime.batches_{place}

-- name: forget_generation
DELETE FROM ayb_realtime.generations WHERE generation = $1

-- name: leave
UPDATE ayb_realtime.generations SET left_at = clock_timestamp() WHERE generation = $1

-- name: add_generation
INSERT INTO ayb_realtime.generations (generation) VALUES ($1)

-- name: enter
-- From here on writers write into generation $1. Nothing is done if they are there or beyond: numbers
-- never go back, even if a relay is late with it. Nor if capture has stopped: see resume.
SELECT setval('ayb_realtime.change_seq', ($1::bigint << 40) + 1, false)
FROM ayb_realtime.change_seq s
WHERE s.last_value < ($1::bigint << 40) + 1

-- name: resume
-- Capture continues after it had stopped, in generation $1, of which no number has been used.
SELECT setval('ayb_realtime.change_seq', ($1::bigint << 40) + 1, false)
FROM ayb_realtime.change_seq s
WHERE s.last_value = 9223372036854775807

-- name: leave_hole
UPDATE ayb_realtime.horizon SET has_hole = true, hole_after = NULL

-- name: settle_hole
-- Capture runs again: transactions that began before now may have written without it.
UPDATE ayb_realtime.horizon
SET hole_after = pg_snapshot_xmax(pg_current_snapshot())
WHERE has_hole AND hole_after IS NULL
AND (SELECT last_value FROM ayb_realtime.change_seq) <> 9223372036854775807

-- name: hole_after
SELECT hole_after FROM ayb_realtime.horizon WHERE has_hole
