-- The policies of the tables with RLS that the given policies read, of the tables that those
-- policies read, and so on. The table's own policies are not included.
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
