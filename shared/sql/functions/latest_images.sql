-- For the self-check: the newest image of each row according to the recent changes in the outbox,
-- by key (each key is a JSON array of texts, in the order of the table's key columns). NULL if
-- there is none. Recent means: in a transaction that began after the start of the last 100 batches,
-- that is, with a transaction number of at least `since`. (Postgres 14 has no min() for transaction
-- numbers.)
CREATE OR REPLACE FUNCTION ayb_realtime.latest_images(table_oid oid, key text[], keys text[]) RETURNS text[]
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $latest$
DECLARE
    since xid8;
BEGIN
    SELECT coalesce((array_agg(b.xmin ORDER BY b.xmin))[1], '0') INTO since
    FROM (
        SELECT pg_snapshot_xmax(prev_snapshot) AS xmin
        FROM ayb_realtime.batches ORDER BY id DESC LIMIT 100
    ) AS b;
    RETURN (
        WITH asked AS MATERIALIZED (
            SELECT u.n, ARRAY(SELECT json_array_elements_text(u.values_::json)) AS of_row
            FROM unnest(keys) WITH ORDINALITY AS u (values_, n)
        ), recent AS MATERIALIZED (
            SELECT c.xid, c.seq, c.op,
                ARRAY(SELECT c.new ->> k.name FROM unnest(key) AS k (name)) AS new_row,
                ARRAY(SELECT c.old ->> k.name FROM unnest(key) AS k (name)) AS old_row
            FROM ayb_realtime.changes c
            WHERE c.xid >= since AND c.relid = table_oid
        )
        SELECT array_agg(c.new::text ORDER BY a.n)
        FROM asked a
        LEFT JOIN LATERAL (
            SELECT r.xid, r.seq FROM recent r
            WHERE r.op = 'T' OR a.of_row IN (r.new_row, r.old_row)
            ORDER BY r.seq DESC LIMIT 1
        ) AS l ON true
        LEFT JOIN ayb_realtime.changes c ON c.xid = l.xid AND c.seq = l.seq
    );
END
$latest$;
