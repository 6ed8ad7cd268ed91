-- Everything that decides what a role may see of a table, as JSON; NULL if the table or the role no
-- longer exists. Its digest is the fingerprint that guards a plan. It includes the xmin of rows, so
-- no change goes unnoticed. Expressions are deparsed with only pg_catalog in the search path, so
-- every other name is qualified. The rules are those of Postgres itself: see check_enable_rls,
-- get_policies_for_relation and check_role_for_policy in its source. A policy without USING says
-- nothing about reading. If one policy raises, the order matters: restrictive policies are
-- evaluated in order of name, permissive ones in reverse order.
--
-- Plans are generic: on a database that has been in use for a while, planning these queries for
-- each question takes longer than running them.
CREATE OR REPLACE FUNCTION ayb_realtime.rules(table_oid oid, client text) RETURNS json
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
    SET plan_cache_mode = force_generic_plan
    SET quote_all_identifiers = off
    SET lc_monetary = 'C'
    SET datestyle = 'ISO, MDY'
    SET timezone = 'UTC'
    SET bytea_output = 'hex'
    SET standard_conforming_strings = on
    SET intervalstyle = 'postgres'
    SET extra_float_digits = 1
AS $rules$
DECLARE
    role_oid oid;
    privileged boolean;
    bypass boolean;
    policies oid[] := '{}';
    nested oid[];
    expressions text := '';
    calls_functions boolean;
    reads_others boolean;
    names_types boolean;
    uses_operators boolean;
    uses_else boolean;
    has_casts boolean;
    schema_name name;
    table_name name;
    labels json;
    needs json;
    texts json;
    types json;
    casts boolean := false;
    json_casts boolean := false;
    own_types boolean;
    others json;
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
    -- Most tables need few of the facts below, and each costs a query.
    SELECT coalesce(bool_or(d.refclassid = 'pg_proc'::regclass), false),
        coalesce(bool_or(d.refclassid = 'pg_class'::regclass AND d.refobjid <> table_oid), false),
        coalesce(bool_or(d.refclassid = 'pg_type'::regclass), false),
        coalesce(bool_or(d.refclassid = 'pg_operator'::regclass), false),
        coalesce(bool_or(d.refclassid NOT IN (
            'pg_proc'::regclass, 'pg_class'::regclass, 'pg_type'::regclass,
            'pg_operator'::regclass, 'pg_collation'::regclass
        )), false)
    INTO calls_functions, reads_others, names_types, uses_operators, uses_else
    FROM pg_depend d
    WHERE d.classid = 'pg_policy'::regclass AND d.objid = ANY (policies);
    has_casts := EXISTS (SELECT FROM pg_cast WHERE oid >= 16384::oid);
    nested := CASE WHEN reads_others THEN ayb_realtime.nested_policies(table_oid, policies) ELSE '{}' END;

    own_types := EXISTS (
        SELECT FROM pg_attribute a
        WHERE a.attrelid = table_oid AND a.attnum > 0 AND NOT a.attisdropped AND a.atttypid >= 16384::oid
    );
    SELECT n.nspname, c.relname INTO schema_name, table_name
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid = table_oid;
    IF policies <> '{}' THEN
        -- Values of enums are kept as text: whatever changes labels changes the fingerprint.
        labels := (SELECT json_build_array(count(*), sum(e.xmin::text::bigint)) FROM pg_enum e);
        needs := ayb_realtime.needed_columns(table_oid, policies, expressions);
        texts := (
            SELECT json_agg(json_build_object(
                'name', p.polname,
                'permissive', p.polpermissive,
                'using', pg_get_expr(p.polqual, p.polrelid),
                'xmin', p.xmin
            ) ORDER BY p.polname)
            FROM pg_policy p WHERE p.oid = ANY (policies)
        );
    END IF;
    IF names_types THEN
        types := (
            SELECT json_agg(json_build_object('name', format_type(t.oid, NULL), 'kind', t.typtype,
                'calls', ayb_realtime.type_calls(t.typname)) ORDER BY t.oid)
            FROM pg_type t
            WHERE t.oid IN (
                SELECT d.refobjid FROM pg_depend d
                WHERE d.classid = 'pg_policy'::regclass AND d.objid = ANY (policies)
                AND d.refclassid = 'pg_type'::regclass
            )
        );
    END IF;
    IF has_casts THEN
        casts := ayb_realtime.own_casts(table_oid, policies);
        -- to_jsonb and similar functions call these casts, but pg_depend does not record it.
        json_casts := EXISTS (
            SELECT FROM pg_cast
            WHERE castsource >= 16384::oid AND casttarget IN ('json'::regtype, 'jsonb'::regtype)
            AND castfunc <> 0
        );
    END IF;
    IF uses_else THEN
        others := (
            SELECT json_agg(DISTINCT d.refclassid::regclass::text ORDER BY d.refclassid::regclass::text)
            FROM pg_depend d
            WHERE d.classid = 'pg_policy'::regclass AND d.objid = ANY (policies)
            AND d.refclassid NOT IN (
                'pg_proc'::regclass, 'pg_class'::regclass, 'pg_type'::regclass,
                'pg_operator'::regclass, 'pg_collation'::regclass
            )
        );
    END IF;
    -- An expression without a query of its own, which would be set up each time.
    RETURN CASE WHEN table_name IS NOT NULL THEN json_build_object(
        'schema', schema_name,
        'table', table_name,
        'bypass', bypass,
        'columns', ayb_realtime.column_facts(table_oid, role_oid),
        'key', ayb_realtime.key_facts(table_oid),
        'reused', ayb_realtime.reused_names(table_oid),
        'doubtful', CASE WHEN NOT bypass THEN ayb_realtime.doubtful_values(table_oid) END,
        'labels', labels,
        'needs', needs,
        'policies', texts,
        'functions', CASE WHEN calls_functions THEN ayb_realtime.function_facts(table_oid, role_oid, policies) END,
        'relations', CASE WHEN reads_others THEN ayb_realtime.relation_facts(table_oid, policies, false) END,
        'nested_functions', CASE WHEN nested <> '{}' THEN ayb_realtime.function_facts(table_oid, role_oid, nested) END,
        'nested_relations', CASE WHEN nested <> '{}' THEN ayb_realtime.relation_facts(table_oid, nested, true) END,
        'types', types,
        'nested_types', CASE WHEN nested <> '{}' THEN (
            SELECT json_agg(format_type(t.oid, NULL) ORDER BY t.oid)
            FROM pg_type t
            WHERE t.oid >= 16384::oid AND t.oid IN (
                SELECT d.refobjid FROM pg_depend d
                WHERE d.classid = 'pg_policy'::regclass AND d.objid = ANY (nested)
                AND d.refclassid = 'pg_type'::regclass
            ) AND ayb_realtime.type_calls(t.typname)
        ) END,
        'operators', CASE WHEN uses_operators THEN ayb_realtime.operator_schemas(policies, true) END,
        'own_operators', CASE WHEN uses_operators OR nested <> '{}'
            THEN ayb_realtime.operator_schemas(policies || nested, false) END,
        'casts', casts,
        'json_casts', json_casts,
        'own_types', own_types,
        'others', others
    ) END;
END
$rules$;
