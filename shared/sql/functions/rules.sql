-- All that decides what a role may see of a table, as JSON; NULL if either is gone. Its digest is
-- the fingerprint that guards a plan. The xmin of rows are in it, so nothing changes unnoticed.
-- Expressions are deparsed with nothing but pg_catalog in the search path: every other name is
-- qualified. Rules are Postgres' own: see check_enable_rls, get_policies_for_relation and
-- check_role_for_policy in its sources. A policy without USING says nothing about reading. Where one
-- policy raises, the order counts: restrictive ones by name, permissive ones against it.
CREATE OR REPLACE FUNCTION ayb_realtime.rules(table_oid oid, client text) RETURNS json
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
    SET lc_monetary = 'C'
    SET datestyle = 'ISO, MDY'
    SET intervalstyle = 'postgres'
    SET extra_float_digits = 1
AS $rules$
DECLARE
    role_oid oid;
    privileged boolean;
    policies oid[];
    bypass boolean;
    expressions text := '';
    facts json;
BEGIN
    SELECT r.oid, r.rolsuper OR r.rolbypassrls INTO role_oid, privileged
    FROM pg_roles r WHERE r.rolname = client;
    IF role_oid IS NULL THEN
        RETURN NULL;
    END IF;

    SELECT NOT c.relrowsecurity OR privileged
        OR (NOT c.relforcerowsecurity AND pg_has_role(role_oid, c.relowner, 'USAGE'))
    INTO bypass
    FROM pg_class c WHERE c.oid = table_oid AND c.relkind IN ('r', 'p');
    IF bypass IS NULL THEN
        RETURN NULL;
    END IF;

    IF NOT bypass THEN
        policies := ARRAY(
            SELECT p.oid FROM pg_policy p
            WHERE p.polrelid = table_oid AND p.polcmd IN ('r', '*') AND p.polqual IS NOT NULL
            AND (0 = ANY (p.polroles) OR EXISTS (
                SELECT FROM unnest(p.polroles) AS granted (oid)
                WHERE pg_has_role(role_oid, granted.oid, 'USAGE')
            ))
            ORDER BY p.polname
        );
        expressions := coalesce((
            SELECT string_agg(pg_get_expr(p.polqual, p.polrelid), ' ')
            FROM pg_policy p WHERE p.oid = ANY (policies)
        ), '');
    END IF;

    SELECT json_build_object(
        'schema', n.nspname,
        'table', c.relname,
        'bypass', bypass,
        'columns', (
            SELECT json_agg(json_build_array(
                a.attnum,
                a.attname,
                has_schema_privilege(role_oid, n.oid, 'USAGE')
                    AND has_column_privilege(role_oid, c.oid, a.attnum, 'SELECT'),
                a.xmin
            ) ORDER BY a.attnum)
            FROM pg_attribute a
            WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        ),
        -- Columns that took over the name of another one, and the last seq of a change that may be
        -- from before; of what the relay has not noted yet, every change may be.
        'reused', (
            SELECT json_object_agg(a.attname, CASE
                WHEN k.attnum = a.attnum THEN k.reused_seq ELSE 9223372036854775807
            END ORDER BY a.attnum)
            FROM ayb_realtime.column_names k
            JOIN pg_attribute a ON a.attrelid = k.relid AND a.attname = k.name
            WHERE k.relid = table_oid AND a.attnum > 0 AND NOT a.attisdropped
            AND (k.attnum <> a.attnum OR k.reused_seq IS NOT NULL)
        ),
        -- Columns that policies read, all of them if one reads the whole row. json null and SQL NULL
        -- look alike in an image: null tells that a null value, any that a null within the value
        -- leaves a doubt, all that any value does. There is none if all that is done with the column is to look into it: for
        -- a member of a name, or for text. (jsonb null has an element 0, and itself at the path {}.)
        'needs', (
            SELECT json_agg(json_build_array(a.attname, CASE
                WHEN k.kind = 'null' AND strpos(expressions, '.*') = 0 AND strpos(expressions, ' #> ''{}''') = 0
                    AND strpos(expressions, ' -> ''-') = 0 AND strpos(replace(replace(replace(replace(expressions,
                        quote_ident(a.attname) || ' -> ''', ''), quote_ident(a.attname) || ' ->> ', ''),
                        quote_ident(a.attname) || ' #> ''{', ''), quote_ident(a.attname) || ' #>> ', ''),
                        quote_ident(a.attname)) = 0
                    THEN 'no'
                ELSE k.kind
            END) ORDER BY a.attnum)
            FROM pg_attribute a
            CROSS JOIN LATERAL (SELECT CASE
                WHEN a.atttypid = ANY (ARRAY['json', 'jsonb']::regtype[]) THEN 'null'
                WHEN a.atttypid = ANY (ARRAY['json[]', 'jsonb[]']::regtype[]) THEN 'any'
                -- Read back from JSON their subscripts begin at 1 instead of 0.
                WHEN a.atttypid = ANY (ARRAY['int2vector', 'oidvector']::regtype[]) THEN 'all'
                WHEN a.atttypid < 16384 THEN 'no'
                ELSE ayb_realtime.json_kind(a.atttypid)
            END) AS k (kind)
            WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
            AND (strpos(expressions, '.*') > 0 OR EXISTS (
                SELECT FROM pg_depend d
                WHERE d.classid = 'pg_policy'::regclass AND d.objid = ANY (policies)
                AND d.refclassid = 'pg_class'::regclass AND d.refobjid = table_oid
                AND d.refobjsubid = a.attnum
            ))
        ),
        'policies', (
            SELECT json_agg(json_build_object(
                'name', p.polname,
                'permissive', p.polpermissive,
                'using', pg_get_expr(p.polqual, p.polrelid),
                'xmin', p.xmin
            ) ORDER BY p.polname)
            FROM pg_policy p WHERE p.oid = ANY (policies)
        ),
        'functions', (
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
                'body', CASE WHEN l.lanname = 'sql' THEN coalesce(pg_get_function_sqlbody(f.oid), f.prosrc) END,
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
            WHERE f.oid IN (
                SELECT d.refobjid FROM pg_depend d
                WHERE d.classid = 'pg_policy'::regclass AND d.objid = ANY (policies)
                AND d.refclassid = 'pg_proc'::regclass
            )
        ),
        'relations', (
            SELECT json_agg(json_build_object(
                'name', format('%I.%I', rn.nspname, o.relname),
                'kind', o.relkind,
                'secured', o.relrowsecurity
            ) ORDER BY o.oid)
            FROM pg_class o
            JOIN pg_namespace rn ON rn.oid = o.relnamespace
            WHERE o.oid IN (
                SELECT d.refobjid FROM pg_depend d
                WHERE d.classid = 'pg_policy'::regclass AND d.objid = ANY (policies)
                AND d.refclassid = 'pg_class'::regclass
                AND (d.refobjid <> table_oid)
            )
        ),
        'types', (
            SELECT json_agg(json_build_object('name', format_type(t.oid, NULL), 'kind', t.typtype) ORDER BY t.oid)
            FROM pg_type t
            WHERE t.oid IN (
                SELECT d.refobjid FROM pg_depend d
                WHERE d.classid = 'pg_policy'::regclass AND d.objid = ANY (policies)
                AND d.refclassid = 'pg_type'::regclass
            )
        ),
        'operators', (
            SELECT json_agg(DISTINCT op.nspname ORDER BY op.nspname)
            FROM pg_depend d
            JOIN pg_operator o ON o.oid = d.refobjid
            JOIN pg_namespace op ON op.oid = o.oprnamespace
            WHERE d.classid = 'pg_policy'::regclass AND d.objid = ANY (policies)
            AND d.refclassid = 'pg_operator'::regclass
        ),
        -- to_jsonb and its like call these, which nothing in pg_depend tells.
        'json_casts', EXISTS (
            SELECT FROM pg_cast
            WHERE castsource >= 16384::oid AND casttarget IN ('json'::regtype, 'jsonb'::regtype)
            AND castfunc <> 0
        ),
        'others', (
            SELECT json_agg(DISTINCT d.refclassid::regclass::text ORDER BY d.refclassid::regclass::text)
            FROM pg_depend d
            WHERE d.classid = 'pg_policy'::regclass AND d.objid = ANY (policies)
            AND d.refclassid NOT IN (
                'pg_proc'::regclass, 'pg_class'::regclass, 'pg_type'::regclass,
                'pg_operator'::regclass, 'pg_collation'::regclass
            )
        )
    ) INTO facts
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid = table_oid;
    RETURN facts;
END
$rules$;
