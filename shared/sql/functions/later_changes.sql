-- Which images of a table certainly have a later change of their row in the outbox. `numbers` says
-- which of the images are asked about; those without a seq are left out. `keys` are the keys of all
-- images: all values of the first column of the key, then all of the second, and so on; `seqs` are
-- their changes.
--
-- A later change of a row is in the batch of the image, in a later one, or in none yet, so it is not
-- visible in the snapshot that the image's batch began with. Of the changes since then a limited
-- number is searched, for half a second at most: looking into a change of the table takes some 10
-- microseconds, passing over one of another table less than one. What is not found, for whatever
-- reason, counts as not there: clients are then asked to fetch again.
CREATE OR REPLACE FUNCTION ayb_realtime.later_changes(
    table_oid oid, key text[], numbers integer[], keys text[], seqs bigint[]
) RETURNS SETOF integer
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off
AS $later$
DECLARE
    most_batches constant integer := 1000;
    most_changes constant integer := 100000;
    deadline constant timestamptz := clock_timestamp() + interval '500 ms';
    oldest bigint;
    since xid8;
BEGIN
    SELECT min(seqs[u.n]) INTO oldest FROM unnest(numbers) AS u (n);
    IF oldest IS NULL THEN
        RETURN;
    END IF;
    SELECT pg_snapshot_xmin(b.prev_snapshot) INTO since
    FROM (
        SELECT n.prev_snapshot, n.first_seq FROM ayb_realtime.batches n
        WHERE n.last_seq >= oldest ORDER BY n.last_seq LIMIT most_batches
    ) AS b
    WHERE b.first_seq <= oldest
    ORDER BY pg_snapshot_xmin(b.prev_snapshot) LIMIT 1;
    RETURN QUERY
        WITH later AS MATERIALIZED (
            SELECT c.seq, c.op,
                CASE WHEN c.new IS NOT NULL THEN ARRAY(SELECT c.new ->> k.name
                    FROM unnest(key) WITH ORDINALITY AS k (name, place) ORDER BY k.place) END AS new_row,
                CASE WHEN c.old IS NOT NULL THEN ARRAY(SELECT c.old ->> k.name
                    FROM unnest(key) WITH ORDINALITY AS k (name, place) ORDER BY k.place) END AS old_row
            FROM (
                SELECT n.seq, n.op, n.relid, n.new, n.old FROM ayb_realtime.changes n
                WHERE n.xid >= since LIMIT most_changes
            ) AS c
            WHERE c.relid = table_oid AND c.seq > oldest AND clock_timestamp() < deadline
        ), newest AS MATERIALIZED (
            SELECT r.of_row, max(later.seq) AS seq
            FROM later CROSS JOIN LATERAL (VALUES (later.new_row), (later.old_row)) AS r (of_row)
            GROUP BY r.of_row
        ), asked AS MATERIALIZED (
            SELECT u.n, seqs[u.n] AS seq, ARRAY(
                SELECT keys[(k.place - 1) * (cardinality(keys) / cardinality(key)) + u.n]
                FROM generate_series(1, cardinality(key)) AS k (place) ORDER BY k.place
            ) AS of_row
            FROM unnest(numbers) AS u (n)
        )
        SELECT a.n FROM asked a
        LEFT JOIN newest ON newest.of_row = a.of_row
        WHERE newest.seq > a.seq OR a.seq < (SELECT max(later.seq) FROM later WHERE later.op = 'T');
EXCEPTION WHEN data_exception OR syntax_error_or_access_rule_violation OR statement_too_complex THEN
    RETURN;  -- an image cannot be parsed again
END
$later$;
