-- How often this session has read a table, its partitions or children, or any of their indexes. The
-- counters belong to this backend and count immediately, even for work that is rolled back: a
-- difference between two calls shows whether anything has scanned the table in between, whoever did
-- so and however deeply nested. Rows that are found by ctid are not counted.
CREATE OR REPLACE FUNCTION ayb_realtime.scans_of(table_oid oid) RETURNS bigint
    LANGUAGE plpgsql VOLATILE
AS $scans$
DECLARE
    parts pg_catalog.oid[] := ARRAY[table_oid];
BEGIN
    IF (SELECT c.relhassubclass FROM pg_class c WHERE c.oid = table_oid) THEN
        parts := ARRAY(
            WITH RECURSIVE part (oid) AS (
                SELECT table_oid
                UNION
                SELECT i.inhrelid FROM part JOIN pg_inherits i ON i.inhparent = part.oid
            )
            SELECT part.oid FROM part
        );
    END IF;
    RETURN (
        SELECT coalesce(sum(pg_stat_get_xact_numscans(seen.oid) + pg_stat_get_xact_tuples_returned(seen.oid)
            + pg_stat_get_xact_tuples_fetched(seen.oid)), 0)::bigint
        FROM (
            SELECT unnest(parts) UNION ALL SELECT x.indexrelid FROM pg_index x WHERE x.indrelid = ANY (parts)
        ) AS seen (oid)
    );
END
$scans$;
