-- Disk use of the outbox. Files that a transaction emptying a partition still holds are not
-- counted.
CREATE OR REPLACE FUNCTION ayb_realtime.outbox_bytes() RETURNS bigint
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
RETURN (
    SELECT sum(pg_total_relation_size(i.inhrelid))::bigint
    FROM pg_inherits i
    WHERE i.inhparent IN ('ayb_realtime.changes'::regclass, 'ayb_realtime.batches'::regclass)
);
