-- The schemas of the operators that policies use and that are not part of Postgres. Operators that
-- came with an extension are included only if with_extensions is true, or if their function is neither
-- in C nor IMMUTABLE.
CREATE OR REPLACE FUNCTION ayb_realtime.operator_schemas(policies oid[], with_extensions boolean) RETURNS json
    LANGUAGE plpgsql STABLE
AS $operators$
BEGIN
    RETURN (
        SELECT json_agg(DISTINCT n.nspname ORDER BY n.nspname)
        FROM pg_depend d
        JOIN pg_operator o ON o.oid = d.refobjid
        JOIN pg_namespace n ON n.oid = o.oprnamespace
        WHERE d.classid = 'pg_policy'::regclass AND d.objid = ANY (policies)
        AND d.refclassid = 'pg_operator'::regclass
        AND (with_extensions OR NOT EXISTS (
            SELECT FROM pg_depend e
            JOIN pg_proc f ON f.oid = o.oprcode
            JOIN pg_language l ON l.oid = f.prolang
            WHERE e.classid = 'pg_operator'::regclass AND e.objid = o.oid AND e.deptype = 'e'
            AND (l.lanname IN ('c', 'internal') OR (f.provolatile = 'i' AND NOT f.prosecdef))
        ))
    );
END
$operators$;
