-- While a partition is being detached CONCURRENTLY, its root no longer counts as its ancestor, but
-- transactions with an older snapshot still write through the root, and the root's trigger is still
-- there: that trigger stays in effect. This function returns that root if table_oid is such a
-- partition (or is below one) and has no trigger of now_root, the root it belongs to now. The rows
-- of pg_inherits still show an ancestor that no longer counts.
CREATE OR REPLACE FUNCTION ayb_realtime.detaching_root(table_oid oid, now_root oid) RETURNS oid
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $root$
    WITH RECURSIVE above (oid, height) AS (
        SELECT table_oid, 0
        UNION ALL
        SELECT i.inhparent, a.height + 1 FROM above a JOIN pg_inherits i ON i.inhrelid = a.oid
    )
    SELECT a.oid
    FROM above a
    JOIN pg_trigger g ON g.tgrelid = table_oid AND g.tgname = '!ayb_realtime_row_' || a.oid
    WHERE a.oid NOT IN (SELECT p.relid FROM pg_partition_ancestors(table_oid) p)
    AND NOT EXISTS (
        SELECT FROM pg_trigger n
        WHERE n.tgrelid = table_oid AND n.tgname = '!ayb_realtime_row_' || now_root
    )
    ORDER BY a.height DESC
    LIMIT 1
$root$;
