-- The types of expressions as a client's role resolves them. No expression is evaluated: even one
-- in a branch that is never taken has a type. For a set (a SELECT in parentheses), the result is
-- the type of an array of its values. NULL for a type whose values change when converted to text
-- and back, or might change (any type that is neither listed here nor an enum), and for an
-- expression with a collation of its own.
CREATE OR REPLACE FUNCTION ayb_realtime.expression_types(client text, expressions text[], is_set boolean[])
RETURNS text[]
    LANGUAGE plpgsql VOLATILE
AS $types$
DECLARE
    plain constant pg_catalog.text[] := '{bool,int2,int4,int8,float4,float8,numeric,text,varchar,name,uuid,json,'
        'jsonb,inet,cidr,macaddr,bytea}';
    times constant pg_catalog.text[] := '{date,time,timetz,timestamp,timestamptz}';
    own constant pg_catalog.text[] := ayb_realtime.pin_session();
    found pg_catalog.oid[] := '{}';
    found_oid pg_catalog.oid;
    collation_name pg_catalog.text;
    place integer;
BEGIN
    FOR place IN 1 .. cardinality(expressions) LOOP
        PERFORM ayb_realtime.restore_session(own), set_config('role', client, true);
        EXECUTE pg_catalog.format('SELECT pg_catalog.pg_typeof(CASE WHEN false THEN %s END)::pg_catalog.oid',
            expressions[place]) INTO found_oid;
        IF EXISTS (SELECT FROM pg_catalog.pg_type AS t WHERE t.oid OPERATOR(pg_catalog.=) found_oid
            AND t.typcollation OPERATOR(pg_catalog.<>) 0::pg_catalog.oid) THEN
            EXECUTE pg_catalog.format('SELECT pg_catalog.pg_collation_for(CASE WHEN false THEN %s END)',
                expressions[place]) INTO collation_name;
        ELSE
            collation_name := NULL;
        END IF;
        PERFORM pg_catalog.set_config('role', 'none', false);
        PERFORM ayb_realtime.pin_session();
        -- The type name has its own collation, which is that of the type.
        found := found || CASE WHEN coalesce(collation_name, '"default"') = '"default"'
            OR found_oid = ANY (ARRAY['name', 'name[]']::regtype[]::oid[]) THEN found_oid ELSE 0 END;
    END LOOP;
    RETURN ARRAY(
        SELECT CASE
            WHEN is_set[f.n] AND e.oid = t.oid AND NOT (e.typname = ANY (times)) THEN format('%I.%I', an.nspname, a.typname)
            WHEN NOT is_set[f.n] AND (e.oid = t.oid OR NOT e.typname = ANY (times)) THEN format('%I.%I', tn.nspname, t.typname)
        END
        FROM unnest(found) WITH ORDINALITY AS f (oid, n)
        LEFT JOIN pg_type t ON t.oid = f.oid
        LEFT JOIN pg_namespace tn ON tn.oid = t.typnamespace
        LEFT JOIN pg_type e ON e.oid = CASE WHEN t.typcategory = 'A' AND t.typelem <> 0 THEN t.typelem ELSE t.oid END
            AND (e.typtype = 'e' OR (e.typnamespace = 'pg_catalog'::regnamespace AND e.typname = ANY (plain || times)))
        LEFT JOIN pg_type a ON a.oid = t.typarray
        LEFT JOIN pg_namespace an ON an.oid = a.typnamespace
        ORDER BY f.n
    );
END
$types$;
