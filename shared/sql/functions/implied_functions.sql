-- The functions of the operators, casts and operator classes that users have made. A body calls them
-- without their names, so each of them is taken to be called: see reach_of. Those of an extension are
-- left out where they are in C, or IMMUTABLE: extensions may also be written in SQL.
CREATE OR REPLACE FUNCTION ayb_realtime.implied_functions() RETURNS oid[]
    LANGUAGE plpgsql STABLE
AS $implied$
BEGIN
    RETURN ARRAY(
        SELECT u.function FROM (
            SELECT 'pg_operator'::regclass, o.oid, o.oprcode::oid FROM pg_operator o WHERE o.oid >= 16384::oid
            UNION ALL
            SELECT 'pg_cast'::regclass, c.oid, c.castfunc FROM pg_cast c WHERE c.oid >= 16384::oid
            UNION ALL
            SELECT 'pg_opfamily'::regclass, a.amprocfamily, a.amproc::oid FROM pg_amproc a WHERE a.oid >= 16384::oid
        ) AS u (class, oid, function)
        WHERE u.function >= 16384::oid AND NOT EXISTS (
            SELECT FROM pg_depend d
            JOIN pg_proc f ON f.oid = u.function
            JOIN pg_language l ON l.oid = f.prolang
            WHERE d.classid = u.class AND d.objid = u.oid AND d.deptype = 'e'
            AND (l.lanname IN ('c', 'internal') OR (f.provolatile = 'i' AND NOT f.prosecdef))
        )
    );
END
$implied$;
