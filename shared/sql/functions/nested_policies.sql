-- The policies of the tables with RLS that policies read, of the tables that these read, and so on:
-- the table's own are not among them.
CREATE OR REPLACE FUNCTION ayb_realtime.nested_policies(table_oid oid, policies oid[]) RETURNS oid[]
    LANGUAGE plpgsql STABLE
AS $nested$
BEGIN
    RETURN (
        WITH RECURSIVE reached (oid) AS (
            SELECT unnest(policies)
            UNION
            SELECT p.oid
            FROM reached r
            JOIN pg_depend d ON d.classid = 'pg_policy'::regclass AND d.objid = r.oid
                AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> table_oid
            JOIN pg_class o ON o.oid = d.refobjid AND o.relrowsecurity
            JOIN pg_policy p ON p.polrelid = o.oid AND p.polcmd IN ('r', '*')
        )
        SELECT coalesce(array_agg(r.oid ORDER BY r.oid), '{}') FROM reached r WHERE r.oid <> ALL (policies)
    );
END
$nested$;
