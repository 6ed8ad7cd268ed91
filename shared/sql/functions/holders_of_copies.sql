-- The materialized views that may have copies of a table's rows: those that read it, directly or
-- through views, functions or other materialized views. Also all foreign tables, since they may lead
-- back to this database. Reading any of these leaves no trace in the scan counters of the table: see
-- scans_of.
CREATE OR REPLACE FUNCTION ayb_realtime.holders_of_copies(table_oid oid) RETURNS oid[]
    LANGUAGE plpgsql STABLE
AS $copies$
DECLARE
    kin oid[];
BEGIN
    -- Few databases have any.
    IF NOT EXISTS (SELECT FROM pg_class c WHERE c.relkind IN ('m', 'f')) THEN
        RETURN '{}';
    END IF;
    kin := ayb_realtime.kin_of(table_oid);
    RETURN ARRAY(
        WITH RECURSIVE reader (oid) AS (
            SELECT unnest(kin)
            UNION
            -- Views that call functions which lead to the table.
            SELECT v.oid
            FROM (
                SELECT r.ev_class AS oid, array_agg(p.refobjid) AS functions
                FROM pg_depend p JOIN pg_rewrite r ON r.oid = p.objid
                WHERE p.classid = 'pg_rewrite'::regclass
                AND p.refclassid = 'pg_proc'::regclass AND p.refobjid >= 16384::oid
                GROUP BY r.ev_class
            ) AS v
            WHERE ayb_realtime.reached_by(v.functions) && kin
            UNION
            SELECT r.ev_class
            FROM reader d
            JOIN pg_depend p ON p.refclassid = 'pg_class'::regclass AND p.refobjid = d.oid
                AND p.classid = 'pg_rewrite'::regclass
            JOIN pg_rewrite r ON r.oid = p.objid
        )
        SELECT c.oid FROM reader d JOIN pg_class c ON c.oid = d.oid WHERE c.relkind = 'm'
        UNION
        SELECT c.oid FROM pg_class c WHERE c.relkind = 'f'
    );
END
$copies$;
