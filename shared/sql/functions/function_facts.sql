-- The functions that policies call and that are not part of Postgres. `mentions` is true if the
-- body contains the name of the table, or leads by names to what may have copies of its rows (see
-- holders_of_copies); `extension` is true if the function came with an extension. `doubt` says why a
-- function with arguments may read the table however it hides that, NULL if it cannot: see reach_of.
CREATE OR REPLACE FUNCTION ayb_realtime.function_facts(table_oid oid, role_oid oid, policies oid[]) RETURNS json
    LANGUAGE plpgsql STABLE
AS $functions$
DECLARE
    name constant pg_catalog.text := (SELECT relname FROM pg_class WHERE oid = table_oid);
    copies constant pg_catalog.oid[] := ayb_realtime.holders_of_copies(table_oid);
BEGIN
    IF policies = '{}' THEN
        RETURN NULL;
    END IF;
    RETURN (
        SELECT json_agg(json_build_object(
            'schema', pn.nspname,
            'name', f.proname,
            'arguments', f.pronargs,
            'kind', f.prokind,
            'language', l.lanname,
            'volatility', f.provolatile,
            'definer', f.prosecdef,
            'configured', f.proconfig IS NOT NULL,
            'set', f.proretset,
            'returns', format_type(f.prorettype, NULL),
            'body', CASE WHEN l.lanname IN ('sql', 'plpgsql') THEN b.body END,
            'mentions', l.lanname NOT IN ('c', 'internal') AND CASE
                WHEN quote_ident(name) = name THEN b.body COLLATE "C" ~* ('\m' || name || '\M')
                -- A keyword is a table's name only where it is quoted.
                WHEN name ~ '^[a-z_][a-z0-9_]*$' THEN b.body ~ ('["'']' || name || '["'']')
                ELSE strpos(lower(b.body), lower(name)) > 0 END
                OR (copies <> '{}' AND ayb_realtime.reached_by(ARRAY[f.oid]) && copies),
            'extension', EXISTS (
                SELECT FROM pg_depend e
                WHERE e.classid = 'pg_proc'::regclass AND e.objid = f.oid AND e.deptype = 'e'
            ),
            'is_known', f.pronargs > 0 AND reach.digest IS NOT NULL AND reach.doubt IS NULL,
            'doubt', reach.doubt,
            'reach', reach.digest,
            'executable', has_function_privilege(role_oid, f.oid, 'EXECUTE'),
            'overloads', (
                SELECT count(*) FROM pg_proc o
                WHERE o.proname = f.proname AND o.pronamespace = f.pronamespace
            ),
            'xmin', f.xmin
        ) ORDER BY f.oid)
        FROM pg_proc f
        JOIN pg_namespace pn ON pn.oid = f.pronamespace
        JOIN pg_language l ON l.oid = f.prolang
        CROSS JOIN LATERAL (SELECT coalesce(pg_get_function_sqlbody(f.oid), f.prosrc)) AS b (body)
        LEFT JOIN LATERAL ayb_realtime.reach_of(ARRAY[f.oid], '{}', table_oid) AS reach ON f.pronargs > 0
        WHERE f.oid IN (
            SELECT d.refobjid FROM pg_depend d
            WHERE d.classid = 'pg_policy'::regclass AND d.objid = ANY (policies)
            AND d.refclassid = 'pg_proc'::regclass
        )
    );
END
$functions$;
