-- The looped form: each cohort by itself, with its settings (four for each, in the order of
-- judge_joined), in an exception block of its own, one statement over all images. Rows:
--
--   cohort > 0   visible: the images (from 1) that it sees; failure: the SQLSTATE of an error, the
--                images seen are then those that were decided without one
--   cohort = 0   once, last; names: the readable columns; visible: the images that cannot be judged;
--                failure: the SQLSTATE with which the policies fail for everybody; next_cohort:
--                where to go on, if the time was up
--   cohort = -1  the rules changed meanwhile, or are not those expected (a digest, or NULL for any)
--
-- Images become typed rows once, and these one array literal in a prepared statement: parsed once,
-- not for each cohort. An image that does not fit the table as it is now is nobody's.
--
-- Policies were deparsed with every name outside of pg_catalog qualified, so that the session's own
-- search path, which functions without one of their own count on, can be in force and still capture
-- no name. Some constructs (IS DISTINCT FROM, NULLIF, row comparison) find their operators by the
-- search path alone: the schemas of user-defined operators are put at its end.
--
-- Errors that say nothing about a policy (connection, resources, recovery conflicts: the classes
-- below) are raised, unless lenient: then they count against the cohort, so that a policy cannot
-- stop a table for everybody by raising them.
CREATE OR REPLACE FUNCTION ayb_realtime.judge_each(
    after_lsn pg_lsn, table_oid oid, client text, expected text,
    settings text[], images text[], budget interval, lenient boolean
) RETURNS TABLE (cohort integer, visible integer[], failure text, names text[], next_cohort integer)
    LANGUAGE plpgsql VOLATILE
AS $judge_each$
DECLARE
    foreign_classes constant text[] := '{08,40,53,57,58,XX}';
    path text := pg_catalog.current_setting('search_path');
    timeout interval := pg_catalog.current_setting('statement_timeout')::pg_catalog.interval;
    deadline timestamptz;
    facts json;
    digest text;
    policies json;
    condition text;
    row_type text;
    unfit integer[];
    fitting integer[];
    fitting_images text[];
    converted integer[];
    typed text;
    source text;
    place integer;
    image integer;
    failures integer;
    state text;
    everybody_fails text;
    go_on integer;
    is_one_prepared boolean := false;
BEGIN
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    PERFORM ayb_realtime.catch_up(after_lsn);
    deadline := clock_timestamp() + budget;
    PERFORM set_config('transaction_read_only', 'on', true), set_config('lc_monetary', 'C', true),
        set_config('plan_cache_mode', 'force_generic_plan', true);
    facts := ayb_realtime.rules(table_oid, client);
    digest := md5(facts::text);
    IF facts IS NULL OR digest <> coalesce(expected, digest) THEN
        cohort := -1;
        RETURN NEXT;
        RETURN;
    END IF;

    row_type := format('%I.%I', facts ->> 'schema', facts ->> 'table');
    policies := CASE json_typeof(facts -> 'policies') WHEN 'array' THEN facts -> 'policies' ELSE '[]' END;
    SELECT CASE WHEN (facts ->> 'bypass')::boolean THEN 'true' ELSE
        coalesce(string_agg(format('(%s) AND ', p ->> 'using'), '' ORDER BY n)
            FILTER (WHERE NOT (p ->> 'permissive')::boolean), '')
        || coalesce('(' || string_agg(format('(%s)', p ->> 'using'), ' OR ' ORDER BY n DESC)
            FILTER (WHERE (p ->> 'permissive')::boolean) || ')', 'false')
        END
    INTO condition
    FROM json_array_elements(policies) WITH ORDINALITY AS t (p, n);
    names := ayb_realtime.readable_columns(table_oid, client);
    unfit := ayb_realtime.unfit_images(facts, images);
    SELECT array_agg(u.n::integer ORDER BY u.n), array_agg(u.image ORDER BY u.n)
    INTO fitting, fitting_images
    FROM unnest(images) WITH ORDINALITY AS u (image, n) WHERE u.n <> ALL (unfit);

    IF cardinality(names) > 0 AND fitting IS NOT NULL AND condition <> 'false' AND cardinality(settings) > 0 THEN
        PERFORM set_config('role', client, true);
        source := format('SELECT array_agg(json_populate_record(NULL::%s, image::json) ORDER BY n)::text '
            'FROM unnest($1) WITH ORDINALITY AS u (image, n)', row_type);
        BEGIN
            EXECUTE source INTO typed USING fitting_images;
        EXCEPTION WHEN OTHERS THEN
            IF NOT lenient AND left(SQLSTATE, 2) = ANY (foreign_classes) THEN
                RAISE;
            END IF;
            converted := '{}';
            FOR place IN 1 .. cardinality(fitting) LOOP
                BEGIN
                    EXECUTE source INTO typed USING fitting_images[place : place];
                    converted := converted || place;
                EXCEPTION WHEN OTHERS THEN
                    unfit := unfit || fitting[place];
                END;
            END LOOP;
            SELECT array_agg(fitting[p] ORDER BY p), array_agg(fitting_images[p] ORDER BY p)
            INTO fitting, fitting_images
            FROM unnest(converted) AS u (p);
            EXECUTE source INTO typed USING fitting_images;
        END;
    END IF;

    IF typed IS NOT NULL THEN
        -- The policies' names are resolved in a level of its own, where the row is all there is. They
        -- stand in FILTER, not in WHERE, where the planner would try casts of settings for its
        -- estimates, and raise for rows that another arm of an OR decides.
        source := format('(SELECT pg_catalog.unnest(%L::%s[]) AS ayb_row, '
            'pg_catalog.unnest(%L::pg_catalog.int4[]) AS ayb_image OFFSET 0) AS ayb_asked '
            'CROSS JOIN LATERAL (SELECT (%s) AS ayb_seen '
            'FROM pg_catalog.unnest(ARRAY[ayb_asked.ayb_row]) AS %I) AS ayb_judged',
            typed, row_type, fitting, condition, facts ->> 'table');
        IF EXISTS (
            SELECT FROM unnest(string_to_array(path, ',')) AS s (name) WHERE btrim(name, ' "') = 'pg_catalog'
        ) THEN
            path := 'pg_catalog, ' || path;
        END IF;
        SELECT path || coalesce(string_agg(format(', %I', o.name), ''), '') INTO path
        FROM json_array_elements_text(CASE json_typeof(facts -> 'operators')
            WHEN 'array' THEN facts -> 'operators' ELSE '[]' END) AS o (name);
        IF EXISTS (SELECT FROM pg_prepared_statements AS s WHERE s.name = 'ayb_realtime_all') THEN
            DEALLOCATE ayb_realtime_all;
        END IF;
        IF EXISTS (SELECT FROM pg_prepared_statements AS s WHERE s.name = 'ayb_realtime_one') THEN
            DEALLOCATE ayb_realtime_one;
        END IF;

        -- From here on the session's search path is in force: nothing may be found through it.
        PERFORM pg_catalog.set_config('search_path', path, true);
        BEGIN
            EXECUTE pg_catalog.concat('PREPARE ayb_realtime_all AS '
                'SELECT pg_catalog.array_agg(ayb_asked.ayb_image) FILTER (WHERE ayb_judged.ayb_seen) FROM ', source);
        EXCEPTION WHEN OTHERS THEN
            everybody_fails := SQLSTATE;
        END;
        IF everybody_fails IS NULL THEN
            FOR place IN 1 .. pg_catalog.cardinality(settings) OPERATOR(pg_catalog./) 4 LOOP
                IF pg_catalog.clock_timestamp() OPERATOR(pg_catalog.>) deadline THEN
                    go_on := place;
                    EXIT;
                END IF;
                cohort := place;
                visible := NULL;
                failure := NULL;
                BEGIN
                    -- Everything for each anew: nothing that a policy's function sets may stay.
                    PERFORM pg_catalog.set_config('role', client, true),
                        pg_catalog.set_config('search_path', path, true),
                        pg_catalog.set_config('ayb.user_id', settings[4 OPERATOR(pg_catalog.*) place OPERATOR(pg_catalog.-) 3], true),
                        pg_catalog.set_config('ayb.user_email', settings[4 OPERATOR(pg_catalog.*) place OPERATOR(pg_catalog.-) 2], true),
                        pg_catalog.set_config('ayb.tenant_id', settings[4 OPERATOR(pg_catalog.*) place OPERATOR(pg_catalog.-) 1], true),
                        pg_catalog.set_config('request.jwt.claims', settings[4 OPERATOR(pg_catalog.*) place], true);
                    EXECUTE 'EXECUTE ayb_realtime_all' INTO visible;
                EXCEPTION
                    WHEN query_canceled THEN
                        -- The time of the whole statement is up, and no second alarm will come.
                        IF timeout OPERATOR(pg_catalog.=) interval '0' OR pg_catalog.clock_timestamp() OPERATOR(pg_catalog.<) (pg_catalog.statement_timestamp()
                            OPERATOR(pg_catalog.+) (timeout OPERATOR(pg_catalog.*) 0.9::pg_catalog.float8)) THEN
                            RAISE;
                        END IF;
                        failure := SQLSTATE;
                        go_on := place OPERATOR(pg_catalog.+) 1;
                    WHEN OTHERS THEN
                        IF NOT lenient AND pg_catalog.left(SQLSTATE, 2) OPERATOR(pg_catalog.=) ANY (foreign_classes) THEN
                            RAISE;
                        END IF;
                        failure := SQLSTATE;
                END;
                IF failure IS NOT NULL AND go_on IS NULL AND pg_catalog.cardinality(fitting) OPERATOR(pg_catalog.>) 1 THEN
                    IF NOT is_one_prepared THEN
                        PERFORM pg_catalog.set_config('search_path', path, true);
                        EXECUTE pg_catalog.concat('PREPARE ayb_realtime_one (pg_catalog.int4) AS '
                            'SELECT pg_catalog.max(ayb_asked.ayb_image) FILTER (WHERE ayb_judged.ayb_seen) FROM ', source,
                            ' WHERE ayb_asked.ayb_image OPERATOR(pg_catalog.=) $1');
                        is_one_prepared := true;
                    END IF;
                    failures := 0;
                    FOREACH image IN ARRAY fitting LOOP
                        EXIT WHEN failures OPERATOR(pg_catalog.>=) 100;
                        state := NULL;
                        BEGIN
                            PERFORM pg_catalog.set_config('role', client, true),
                                pg_catalog.set_config('search_path', path, true),
                                pg_catalog.set_config('ayb.user_id', settings[4 OPERATOR(pg_catalog.*) place OPERATOR(pg_catalog.-) 3], true),
                                pg_catalog.set_config('ayb.user_email', settings[4 OPERATOR(pg_catalog.*) place OPERATOR(pg_catalog.-) 2], true),
                                pg_catalog.set_config('ayb.tenant_id', settings[4 OPERATOR(pg_catalog.*) place OPERATOR(pg_catalog.-) 1], true),
                                pg_catalog.set_config('request.jwt.claims', settings[4 OPERATOR(pg_catalog.*) place], true);
                            EXECUTE pg_catalog.concat('EXECUTE ayb_realtime_one (', image, ')') INTO image;
                            IF image IS NOT NULL THEN
                                visible := visible OPERATOR(pg_catalog.||) image;
                            END IF;
                            failures := 0;
                        EXCEPTION
                            WHEN query_canceled THEN
                                IF timeout OPERATOR(pg_catalog.=) interval '0' OR pg_catalog.clock_timestamp() OPERATOR(pg_catalog.<) (pg_catalog.statement_timestamp()
                                    OPERATOR(pg_catalog.+) (timeout OPERATOR(pg_catalog.*) 0.9::pg_catalog.float8)) THEN
                                    RAISE;
                                END IF;
                                go_on := place OPERATOR(pg_catalog.+) 1;
                            WHEN OTHERS THEN
                                IF NOT lenient AND pg_catalog.left(SQLSTATE, 2) OPERATOR(pg_catalog.=) ANY (foreign_classes) THEN
                                    RAISE;
                                END IF;
                                failures := failures OPERATOR(pg_catalog.+) 1;
                        END;
                        EXIT WHEN go_on IS NOT NULL;
                    END LOOP;
                END IF;
                IF visible IS NOT NULL OR failure IS NOT NULL THEN
                    RETURN QUERY SELECT cohort, visible, failure, NULL::pg_catalog.text[], NULL::pg_catalog.int4;
                END IF;
                EXIT WHEN go_on IS NOT NULL;
            END LOOP;
            DEALLOCATE ayb_realtime_all;
            IF is_one_prepared THEN
                DEALLOCATE ayb_realtime_one;
            END IF;
        END IF;
    END IF;

    -- Not for the transaction only: a policy's function may have taken a role for the session.
    PERFORM pg_catalog.set_config('role', 'none', false),
        pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    IF md5(ayb_realtime.rules(table_oid, client)::text) IS DISTINCT FROM digest THEN
        RETURN QUERY SELECT -1, NULL::integer[], NULL::text, NULL::text[], NULL::integer;
    END IF;
    cohort := 0;
    visible := unfit;
    failure := everybody_fails;
    next_cohort := go_on;
    RETURN NEXT;
END
$judge_each$;
