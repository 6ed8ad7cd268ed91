-- Why one of these functions may do more than read what its body names; NULL if none does. Postgres
-- itself keeps a function that is not VOLATILE from writing and from setting anything, except by
-- calling one that is. A function of an extension is known by what it declares.
CREATE OR REPLACE FUNCTION ayb_realtime.function_doubt(functions oid[]) RETURNS text
    LANGUAGE plpgsql STABLE
AS $doubt$
BEGIN
    RETURN (
        SELECT format('%I.%I() %s', f.nspname, f.proname, f.fault)
        FROM (
            SELECT n.nspname, f.proname, f.oid, CASE
                WHEN n.nspname = 'ayb_realtime' THEN 'belongs to ayb_realtime'
                WHEN e.is_extension THEN
                    CASE WHEN f.provolatile <> 'i' OR f.prosecdef THEN 'of an extension is not IMMUTABLE' END
                WHEN f.prokind <> 'f' THEN 'is no plain function'
                WHEN l.lanname NOT IN ('sql', 'plpgsql') THEN 'is in ' || l.lanname
                WHEN f.provolatile = 'v' THEN 'is VOLATILE: declare it STABLE'
                WHEN EXISTS (SELECT FROM unnest(f.proconfig) AS c (setting) WHERE c.setting !~ '^search_path=')
                    THEN 'has settings of its own'
            END AS fault
            FROM pg_proc f
            JOIN pg_namespace n ON n.oid = f.pronamespace
            JOIN pg_language l ON l.oid = f.prolang
            CROSS JOIN LATERAL (SELECT EXISTS (
                SELECT FROM pg_depend d
                WHERE d.classid = 'pg_proc'::regclass AND d.objid = f.oid AND d.deptype = 'e'
            )) AS e (is_extension)
            WHERE f.oid = ANY (functions)
        ) AS f
        WHERE f.fault IS NOT NULL
        ORDER BY f.oid LIMIT 1
    );
END
$doubt$;
