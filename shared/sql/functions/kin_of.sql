-- A table and all that is related to it by inheritance: its parents, partitions and children, the
-- other children of its parents, and so on. Reading any of these may read the table's rows.
CREATE OR REPLACE FUNCTION ayb_realtime.kin_of(table_oid oid) RETURNS oid[]
    LANGUAGE plpgsql STABLE
AS $kin$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = table_oid OR i.inhparent = table_oid) THEN
        RETURN ARRAY[table_oid];
    END IF;
    RETURN ARRAY(
        WITH RECURSIVE kin (oid) AS (
            SELECT table_oid
            UNION
            SELECT CASE WHEN i.inhrelid = k.oid THEN i.inhparent ELSE i.inhrelid END
            FROM kin k JOIN pg_inherits i ON k.oid IN (i.inhrelid, i.inhparent)
        )
        SELECT k.oid FROM kin k
    );
END
$kin$;
