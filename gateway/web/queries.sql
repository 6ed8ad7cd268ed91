-- name: recorded
-- When the batches with these numbers were recorded, and the present time, in milliseconds.
SELECT (1000 * extract(epoch FROM clock_timestamp()))::float8 AS now,
       coalesce(array_agg(id::text), '{}') AS ids,
       coalesce(array_agg((1000 * extract(epoch FROM at))::float8), '{}') AS at
FROM ayb_realtime.batches
WHERE id = ANY ($1::bigint[])
