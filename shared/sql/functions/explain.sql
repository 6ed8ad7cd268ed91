-- For `python -m gateway explain`: each policy by itself on each image, for one cohort; and as
-- image 0, whether a SELECT shows the row of this key now.
CREATE OR REPLACE FUNCTION ayb_realtime.explain(
    table_oid oid, client text, settings text[], key text[], key_values text[], images text[]
) RETURNS TABLE (image integer, policy text, verdict boolean, failure text)
    LANGUAGE plpgsql VOLATILE
AS $explain$
DECLARE
    path text := pg_catalog.current_setting('search_path');
    facts json;
    row_type text;
    row_name text;
    matches text;
    names text[];
    expressions text[];
    place integer;
    part integer;
BEGIN
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    PERFORM set_config('transaction_read_only', 'on', true), set_config('lc_monetary', 'C', true);
    facts := ayb_realtime.rules(table_oid, client);
    IF facts IS NULL THEN
        RETURN;
    END IF;
    row_type := format('%I.%I', facts ->> 'schema', facts ->> 'table');
    row_name := facts ->> 'table';
    SELECT string_agg(format('%I::pg_catalog.text OPERATOR(pg_catalog.=) %L', k.name, k.value), ' AND ') INTO matches
    FROM ROWS FROM (unnest(key), unnest(key_values)) AS k (name, value);
    SELECT coalesce(array_agg(p ->> 'name'), '{}'), coalesce(array_agg(p ->> 'using'), '{}')
    INTO names, expressions
    FROM json_array_elements(CASE json_typeof(facts -> 'policies') WHEN 'array' THEN facts -> 'policies' ELSE '[]' END) AS t (p);

    PERFORM set_config('role', client, true), set_config('ayb.user_id', settings[1], true),
        set_config('ayb.user_email', settings[2], true), set_config('ayb.tenant_id', settings[3], true),
        set_config('request.jwt.claims', settings[4], true), set_config('search_path', path, true);
    image := 0;
    BEGIN
        EXECUTE pg_catalog.format('SELECT EXISTS (SELECT FROM %s WHERE %s)', row_type, matches) INTO verdict;
    EXCEPTION WHEN OTHERS THEN
        failure := SQLSTATE;
    END;
    RETURN NEXT;
    FOR place IN 1 .. pg_catalog.cardinality(images) LOOP
        FOR part IN 1 .. pg_catalog.cardinality(names) LOOP
            image := place;
            policy := names[part];
            verdict := NULL;
            failure := NULL;
            BEGIN
                EXECUTE pg_catalog.format('SELECT coalesce((%s), false) FROM pg_catalog.json_populate_record(NULL::%s, $1) AS %I',
                    expressions[part], row_type, row_name) INTO verdict USING images[place]::pg_catalog.json;
            EXCEPTION WHEN OTHERS THEN
                failure := SQLSTATE;
            END;
            RETURN NEXT;
        END LOOP;
    END LOOP;
    PERFORM pg_catalog.set_config('role', 'none', false);
END
$explain$;
