-- The texts of functions (bodies, and defaults of arguments), of views, of the policies of tables,
-- and of the checks of domains, in one, each with the version of what it belongs to (numbers, which
-- are no names): see reach_of. What is stored as an expression is written with every name qualified.
-- Of functions of extensions there is only the version.
CREATE OR REPLACE FUNCTION ayb_realtime.texts_of(functions oid[], relations oid[], types oid[]) RETURNS text
    LANGUAGE plpgsql STABLE
AS $texts$
DECLARE
    -- What has just been dropped has no text; this is one that names_in does not read.
    gone constant text := '""';
    texts text := '';
BEGIN
    IF functions <> '{}' THEN
        texts := coalesce((
            SELECT string_agg(concat_ws(' ', f.oid, f.xmin, CASE WHEN NOT EXISTS (
                SELECT FROM pg_depend d
                WHERE d.classid = 'pg_proc'::regclass AND d.objid = f.oid AND d.deptype = 'e'
            ) THEN concat_ws(' ', CASE WHEN f.prosqlbody IS NULL THEN f.prosrc
                ELSE coalesce(pg_get_function_sqlbody(f.oid), gone) END,
                pg_get_expr(f.proargdefaults, 0)) END), ' ' ORDER BY f.oid)
            FROM pg_proc f
            WHERE f.oid = ANY (functions)
        ), gone);
    END IF;
    IF relations <> '{}' THEN
        texts := concat_ws(' ', texts, (
            SELECT string_agg(concat_ws(' ', c.oid, ascii(c.relkind::text), c.relrowsecurity::integer,
                CASE WHEN c.relkind IN ('v', 'm') THEN concat_ws(' ', coalesce(pg_get_viewdef(c.oid), gone), (
                    SELECT string_agg(r.xmin::text, ' ' ORDER BY r.oid) FROM pg_rewrite r WHERE r.ev_class = c.oid
                )) END, (
                    SELECT string_agg(concat_ws(' ', p.oid, p.xmin, coalesce(pg_get_expr(p.polqual, p.polrelid), gone)), ' ' ORDER BY p.oid)
                    FROM pg_policy p
                    WHERE p.polrelid = c.oid AND p.polcmd IN ('r', '*') AND p.polqual IS NOT NULL
                )), ' ' ORDER BY c.oid)
            FROM pg_class c
            WHERE c.oid = ANY (relations)
        ));
    END IF;
    IF types <> '{}' THEN
        texts := concat_ws(' ', texts, (
            SELECT string_agg(concat_ws(' ', k.oid, k.xmin, pg_get_constraintdef(k.oid)), ' ' ORDER BY k.oid)
            FROM pg_constraint k WHERE k.contypid = ANY (types)
        ));
    END IF;
    RETURN texts;
END
$texts$;
