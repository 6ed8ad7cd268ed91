-- The texts of functions (bodies, and defaults of arguments), of views, of the policies of tables,
-- and of the checks of domains, in one: see reach_of. What is stored as an expression is written with every name
-- qualified. Functions of extensions have none here.
CREATE OR REPLACE FUNCTION ayb_realtime.texts_of(functions oid[], relations oid[], types oid[]) RETURNS text
    LANGUAGE plpgsql STABLE
AS $texts$
BEGIN
    RETURN (
        SELECT coalesce(string_agg(t.body, ' '), '')
        FROM (
            SELECT concat_ws(' ', coalesce(pg_get_function_sqlbody(f.oid), f.prosrc), pg_get_expr(f.proargdefaults, 0))
            FROM pg_proc f
            WHERE f.oid = ANY (functions) AND NOT EXISTS (
                SELECT FROM pg_depend d
                WHERE d.classid = 'pg_proc'::regclass AND d.objid = f.oid AND d.deptype = 'e'
            )
            UNION ALL
            SELECT pg_get_viewdef(c.oid) FROM pg_class c
            WHERE c.oid = ANY (relations) AND c.relkind IN ('v', 'm')
            UNION ALL
            SELECT pg_get_expr(p.polqual, p.polrelid) FROM pg_policy p
            WHERE p.polrelid = ANY (relations) AND p.polcmd IN ('r', '*')
            UNION ALL
            SELECT pg_get_constraintdef(k.oid) FROM pg_constraint k WHERE k.contypid = ANY (types)
        ) AS t (body)
    );
END
$texts$;
