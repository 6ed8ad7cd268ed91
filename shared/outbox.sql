-- name: log_state
-- The state of the batch log, for its readers. Also works on a replica.
SELECT
    coalesce((SELECT max(epoch) FROM ayb_realtime.epochs), 0) AS epoch,
    coalesce((SELECT max(id) FROM ayb_realtime.batches), 0) AS last_batch,
    (SELECT first_batch FROM ayb_realtime.horizon) AS horizon,
    ARRAY(SELECT epoch FROM ayb_realtime.epochs ORDER BY epoch) AS epochs,
    ARRAY(SELECT first_batch FROM ayb_realtime.epochs ORDER BY epoch) AS first_batches,
    (
        SELECT left(encode(sha256(convert_to(
            newest.system_identifier::text || ' ' || newest.database::text, 'UTF8')), 'hex'), 16)
        FROM (SELECT * FROM ayb_realtime.epochs ORDER BY epoch DESC LIMIT 1) newest
        JOIN pg_catalog.pg_database d ON d.oid = newest.database AND d.datname = current_database()
    ) AS history

-- name: functions_version
-- The version of our functions that the relay has installed.
SELECT version FROM ayb_realtime.installed_functions

-- name: read_batches
-- Recorded batches after $1 and up to $2, with their changes to the tables named in $3 or with an
-- OID in $4. Returns as many as fit ($5 batches, $6 changes, $7 bytes), but at least one. Images
-- larger than $8 bytes are cut to the key. If $9 is true, an image that raises an error is NULL.
-- The first row of each batch describes it in head and has no seq. A batch is omitted if its
-- content may have been rotated away (horizon).
WITH numbered AS MATERIALIZED (
    SELECT b.*
    FROM ayb_realtime.batches b
    WHERE b.id > $1 AND b.id <= $2
    AND b.id >= (SELECT h.first_batch FROM ayb_realtime.horizon h)
    ORDER BY b.id
    LIMIT $5
), wanted AS MATERIALIZED (
    SELECT t.relid, t."table", t.key, t.stamps
    FROM (SELECT DISTINCT unnest(n.relids) AS relid FROM numbered n) used
    JOIN ayb_realtime.captured t USING (relid)
    WHERE t."table" = ANY ($3) OR t.relid = ANY ($4)
), measured AS (
    SELECT
        n.*,
        n.relids && ARRAY(SELECT w.relid FROM wanted w) AS is_wanted,
        row_number() OVER () AS place,
        sum(n.changes) OVER (ORDER BY n.id) AS changes_sum,
        sum(n.bytes) OVER (ORDER BY n.id) AS bytes_sum
    FROM numbered n
), taken AS MATERIALIZED (
    SELECT * FROM measured WHERE place = 1 OR (changes_sum <= $6 AND bytes_sum <= $7)
)
SELECT
    t.id AS batch,
    NULL::bigint AS seq,
    NULL::bigint AS index,
    NULL::oid AS relid,
    NULL::text AS op,
    NULL::bytea AS new,
    NULL::bytea AS old,
    NULL::boolean AS truncated,
    json_build_object(
        'epoch', t.epoch,
        'lsn', t.lsn - '0/0'::pg_lsn,
        'at', extract(epoch FROM t.at),
        'tables', coalesce((
            SELECT json_agg(json_build_array(w.relid::bigint, w."table", w.key, w.stamps))
            FROM wanted w WHERE w.relid = ANY (t.relids)), '[]'::json)
    )::text AS head
FROM taken t
UNION ALL
SELECT
    t.id, c.seq, c.index, c.relid, c.op::text,
    CASE WHEN $9 THEN ayb_realtime.readable_image(c.new, CASE WHEN c.truncated THEN w.key END)
    WHEN c.truncated THEN convert_to(ayb_realtime.key_image(c.new, w.key), 'UTF8')
    ELSE convert_to(c.new::text, 'UTF8') END,
    CASE WHEN $9 THEN ayb_realtime.readable_image(c.old, CASE WHEN c.truncated THEN w.key END)
    WHEN c.truncated THEN convert_to(ayb_realtime.key_image(c.old, w.key), 'UTF8')
    ELSE convert_to(c.old::text, 'UTF8') END,
    c.truncated, NULL
FROM taken t
CROSS JOIN LATERAL (
    SELECT
        d.*,
        row_number() OVER (ORDER BY d.seq) - 1 AS index,
        d.reduced
        OR coalesce(octet_length(d.new::text) > $8, false)
        OR coalesce(octet_length(d.old::text) > $8, false) AS truncated
    FROM ayb_realtime.changes d
    WHERE d.xid = ANY (t.xids) AND d.seq BETWEEN t.first_seq AND t.last_seq
) c
JOIN wanted w USING (relid)
WHERE t.is_wanted
ORDER BY batch, seq NULLS FIRST

-- name: horizon
-- The oldest batch whose changes are certain to be all in the outbox.
SELECT first_batch FROM ayb_realtime.horizon

-- name: image_bytes
-- The size in bytes of the images of individual changes, measured in the database.
SELECT
    found.seq,
    coalesce(octet_length(found.new::text), 0) + coalesce(octet_length(found.old::text), 0) AS bytes
FROM unnest($1::bigint[]) AS wanted (seq)
CROSS JOIN LATERAL (
    SELECT c.seq, c.new, c.old
    FROM ayb_realtime.batches b
    JOIN ayb_realtime.changes c ON c.xid = ANY (b.xids) AND c.seq = wanted.seq
    WHERE b.last_seq >= wanted.seq AND b.first_seq <= wanted.seq
    ORDER BY b.last_seq
    LIMIT 1
) found

-- name: whole_images
-- The whole images of individual changes, and their tables. If $2 is true, an image that raises an
-- error is NULL. The index of the outbox begins with xid, so a change is found through its batch,
-- usually the first one whose last_seq reaches it.
SELECT
    found.seq, found.relid,
    CASE WHEN $2 THEN ayb_realtime.readable_image(found.new, NULL)
    ELSE convert_to(found.new::text, 'UTF8') END AS new,
    CASE WHEN $2 THEN ayb_realtime.readable_image(found.old, NULL)
    ELSE convert_to(found.old::text, 'UTF8') END AS old
FROM unnest($1::bigint[]) AS wanted (seq)
CROSS JOIN LATERAL (
    SELECT c.seq, c.relid, c.new, c.old
    FROM ayb_realtime.batches b
    JOIN ayb_realtime.changes c ON c.xid = ANY (b.xids) AND c.seq = wanted.seq
    WHERE b.last_seq >= wanted.seq AND b.first_seq <= wanted.seq
    ORDER BY b.last_seq
    LIMIT 1
) found
