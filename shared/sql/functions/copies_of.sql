-- The names of the materialized views that have copies of a table's rows, and of all views of those.
-- Reading such a copy leaves no trace in the scan counters of the table: see scans_of.
CREATE OR REPLACE FUNCTION ayb_realtime.copies_of(table_oid oid) RETURNS name[]
    LANGUAGE plpgsql STABLE
AS $copies$
DECLARE
    kin constant oid[] := ayb_realtime.kin_of(table_oid);
BEGIN
    -- Few tables have views at all.
    IF NOT EXISTS (
        SELECT FROM pg_depend p
        WHERE p.refclassid = 'pg_class'::regclass AND p.refobjid = ANY (kin)
        AND p.classid = 'pg_rewrite'::regclass
    ) THEN
        RETURN '{}';
    END IF;
    RETURN ARRAY(
        WITH RECURSIVE reader (oid, is_copy) AS (
            SELECT k.oid, false FROM unnest(kin) AS k (oid)
            UNION
            SELECT c.oid, d.is_copy OR c.relkind = 'm'
            FROM reader d
            JOIN pg_depend p ON p.refclassid = 'pg_class'::regclass AND p.refobjid = d.oid
                AND p.classid = 'pg_rewrite'::regclass
            JOIN pg_rewrite r ON r.oid = p.objid
            JOIN pg_class c ON c.oid = r.ev_class
        )
        SELECT DISTINCT c.relname
        FROM reader d JOIN pg_class c ON c.oid = d.oid
        WHERE d.is_copy
    );
END
$copies$;
