-- For `python -m gateway explain`: evaluates each policy separately on each image, for one cohort.
-- Image 0 says whether a SELECT returns the row with this key now.
CREATE OR REPLACE FUNCTION ayb_realtime.explain(
    table_oid oid, client text, settings bytea[], key text[], key_values text[], images text[]
) RETURNS TABLE (image integer, policy text, verdict boolean, failure text)
    LANGUAGE plpgsql VOLATILE
AS $explain$
DECLARE
    own constant pg_catalog.text[] := ayb_realtime.pin_session();
    facts pg_catalog.json;
    row_type pg_catalog.text;
    matches pg_catalog.text;
    answer pg_catalog.record;
    expression pg_catalog.text;
BEGIN
    facts := ayb_realtime.rules(table_oid, client);
    IF facts IS NULL THEN
        RETURN;
    END IF;
    row_type := format('%I.%I', facts ->> 'schema', facts ->> 'table');
    SELECT string_agg(format('%I::pg_catalog.text OPERATOR(pg_catalog.=) %L', k.name, k.value), ' AND ') INTO matches
    FROM ROWS FROM (unnest(key), unnest(key_values)) AS k (name, value);
    expression := format('SELECT pg_catalog.array_agg(0) FROM %s WHERE %s', row_type, matches);
    PERFORM ayb_realtime.restore_session(own);
    answer := ayb_realtime.ask_cohort(client, settings, 1, own, expression, NULL, NULL, NULL, true);
    PERFORM ayb_realtime.pin_session();
    image := 0;
    verdict := CASE WHEN answer.failure IS NULL THEN answer.visible IS NOT NULL END;
    failure := answer.failure;
    RETURN NEXT;
    FOR place IN 1 .. cardinality(images) LOOP
        FOR policy, expression IN
            SELECT p ->> 'name', p ->> 'using' FROM json_array_elements(
                CASE json_typeof(facts -> 'policies') WHEN 'array' THEN facts -> 'policies' ELSE '[]' END) AS t (p)
        LOOP
            SELECT * INTO answer FROM ayb_realtime.ask_cohort(client, settings, 1, own, format(
                'WITH ayb_asked AS MATERIALIZED (SELECT pg_catalog.json_populate_record(NULL::%s, %L) AS ayb_row), '
                'ayb_own AS MATERIALIZED (SELECT pg_catalog.count(pg_catalog.set_config($4[s.n], $4[s.n + 1], true)) '
                'FROM (SELECT pg_catalog.count(*) FROM ayb_asked) AS ayb_all '
                'CROSS JOIN pg_catalog.generate_series(1, pg_catalog.cardinality($4), 2) AS s (n)) '
                'SELECT pg_catalog.array_agg(0) FILTER (WHERE ayb_judged.ayb_seen) '
                'FROM ayb_own CROSS JOIN ayb_asked '
                'CROSS JOIN LATERAL (SELECT (%s) AS ayb_seen FROM pg_catalog.unnest(ARRAY[ayb_asked.ayb_row]) AS %I) '
                'AS ayb_judged', row_type, images[place], expression, facts ->> 'table'), NULL, NULL, NULL, true);
            image := place;
            verdict := CASE WHEN answer.failure IS NULL THEN answer.visible IS NOT NULL END;
            failure := answer.failure;
            RETURN NEXT;
        END LOOP;
    END LOOP;
END
$explain$;
