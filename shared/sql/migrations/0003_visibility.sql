-- Visibility: what a client role may read of a table, and which row images which cohort may see.
--
-- The functions are called by the gateway's login and run with its rights (SECURITY INVOKER). They
-- take the client's role themselves, for the rest of the transaction, which is that one statement:
-- one round trip, and nothing stays behind in the session. Being volatile, each of their inner
-- statements has a fresh snapshot, so what follows the wait for a replica sees what was waited for.
-- docs/decisions/0005-visibility.md tells why it is built this way.

-- Wait until a standby has replayed a position; raises AYB01 after half a second. A primary has it.
CREATE FUNCTION ayb_realtime.catch_up(after_lsn pg_lsn) RETURNS void
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $catch_up$
DECLARE
    patience constant timestamptz := clock_timestamp() + interval '500 ms';
BEGIN
    WHILE pg_is_in_recovery() AND coalesce(pg_last_wal_replay_lsn(), '0/0') < after_lsn LOOP
        IF clock_timestamp() > patience THEN
            RAISE EXCEPTION 'the replica lags behind' USING ERRCODE = 'AYB01';
        END IF;
        PERFORM pg_sleep(0.002);
    END LOOP;
END
$catch_up$;

-- What a null in a value of a user-defined type may mean: null, if it is json under domains; any, if
-- json lies within it, as in a composite; no, if there is none. By itself, for it is rarely needed.
CREATE FUNCTION ayb_realtime.json_kind(type_oid oid) RETURNS text
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $kind$
    WITH RECURSIVE part (oid, is_inside) AS (
        SELECT type_oid, false
        UNION
        SELECT m.oid, m.is_inside
        FROM part
        JOIN pg_type t ON t.oid = part.oid
        CROSS JOIN LATERAL (
            SELECT t.typbasetype, part.is_inside WHERE t.typtype = 'd'
            UNION ALL
            SELECT t.typelem, true WHERE t.typtype = 'b' AND t.typelem <> 0
            UNION ALL
            SELECT f.atttypid, true FROM pg_attribute f
            WHERE t.typtype = 'c' AND f.attrelid = t.typrelid AND f.attnum > 0 AND NOT f.attisdropped
        ) AS m (oid, is_inside)
    )
    SELECT CASE WHEN bool_or(part.is_inside) THEN 'any' WHEN count(*) > 0 THEN 'null' ELSE 'no' END
    FROM part WHERE part.oid = ANY (ARRAY['json', 'jsonb']::regtype[])
$kind$;

-- All that decides what a role may see of a table, as JSON; NULL if either is gone. Its digest is
-- the fingerprint that guards a plan. The xmin of rows are in it, so nothing changes unnoticed.
-- Expressions are deparsed with nothing but pg_catalog in the search path: every other name is
-- qualified. Rules are Postgres' own: see check_enable_rls, get_policies_for_relation and
-- check_role_for_policy in its sources. A policy without USING says nothing about reading. Where one
-- policy raises, the order counts: restrictive ones by name, permissive ones against it.
CREATE FUNCTION ayb_realtime.rules(table_oid oid, client text) RETURNS json
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

-- The columns of a table that a role may read.
CREATE FUNCTION ayb_realtime.readable_columns(table_oid oid, client text) RETURNS text[]
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $readable$
    SELECT coalesce(array_agg(a.attname::text ORDER BY a.attnum), '{}')
    FROM pg_attribute a
    JOIN pg_class c ON c.oid = a.attrelid
    JOIN pg_roles r ON r.rolname = client
    WHERE a.attrelid = table_oid AND a.attnum > 0 AND NOT a.attisdropped
    AND has_schema_privilege(r.oid, c.relnamespace, 'USAGE')
    AND has_column_privilege(r.oid, c.oid, a.attnum, 'SELECT');
$readable$;

-- The joined form: the question, a SELECT that the gateway wrote from the rules, is asked once for
-- all cohorts. The settings stand in one array for each known setting (empty if it is not read).
-- A row of kind -1 says that the rules are no longer those expected: the rest is to be thrown away.
CREATE FUNCTION ayb_realtime.judge_joined(
    after_lsn pg_lsn, table_oid oid, client text, expected text, question text,
    user_ids text[], user_emails text[], tenant_ids text[], claims text[], images text[]
) RETURNS TABLE (kind integer, events integer[], cohorts integer[])
    LANGUAGE plpgsql VOLATILE
AS $judge_joined$
BEGIN
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    PERFORM ayb_realtime.catch_up(after_lsn);
    IF question IS NOT NULL THEN
        PERFORM set_config('transaction_read_only', 'on', true), set_config('lc_monetary', 'C', true),
            set_config('role', client, true);
        RETURN QUERY EXECUTE question
            USING user_ids, user_emails, tenant_ids, claims, images;
        -- Not for the transaction only: a domain's check may have taken a role for the session.
        PERFORM set_config('role', 'none', false);
    END IF;
    IF md5(ayb_realtime.rules(table_oid, client)::text) IS DISTINCT FROM expected THEN
        RETURN QUERY SELECT -1, NULL::integer[], NULL::integer[];
    END IF;
END
$judge_joined$;

-- The number of the images (from 1) that lack a column that policies read, or in which it is in doubt.
CREATE FUNCTION ayb_realtime.unfit_images(facts json, images text[]) RETURNS integer[]
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $unfit$
    SELECT coalesce(array_agg(u.n::integer ORDER BY u.n), '{}')
    FROM unnest(images) WITH ORDINALITY AS u (image, n)
    WHERE EXISTS (
        SELECT
        FROM json_array_elements(CASE json_typeof(facts -> 'needs') WHEN 'array' THEN facts -> 'needs' ELSE '[]' END) AS t (need)
        CROSS JOIN LATERAL (SELECT (u.image::json -> (need ->> 0))::text) AS v (value)
        WHERE v.value IS NULL
        OR need ->> 1 = 'all'
        OR (need ->> 1 <> 'no' AND v.value = 'null')
        OR (need ->> 1 = 'any' AND strpos(v.value, 'null') > 0)
    );
$unfit$;

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
CREATE FUNCTION ayb_realtime.judge_each(
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

-- The self-check: which images are told by a real SELECT under a cohort's role and settings. Only of
-- images whose row is the same now can anything be said: rows of
--
--   cohort > 0   the images whose row the cohort sees, and sees unchanged
--   cohort = 0   the images whose row is unchanged by the outbox: its last change among the recent
--                ones left it so
--
-- Both images go through the table's row type, so that it does not matter how they were written.
-- A table without a primary key is not checked; a cohort for which the SELECT raises has no row.
CREATE FUNCTION ayb_realtime.verify(table_oid oid, client text, settings text[], images text[])
RETURNS TABLE (cohort integer, seen integer[])
    LANGUAGE plpgsql VOLATILE
AS $verify$
DECLARE
    path text := pg_catalog.current_setting('search_path');
    row_type text;
    key text[];
    matches text;
    since xid8;
    latest text[];
    place integer;
BEGIN
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    PERFORM set_config('transaction_read_only', 'on', true), set_config('lc_monetary', 'C', true);
    SELECT format('%I.%I', n.nspname, c.relname), array_agg(a.attname::text),
        string_agg(format('now_there.%I = asked.%I', a.attname, a.attname), ' AND ')
    INTO row_type, key, matches
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (i.indkey)
    WHERE c.oid = table_oid
    GROUP BY n.nspname, c.relname;
    IF row_type IS NULL THEN
        RETURN;
    END IF;

    -- Whatever was committed after these batches has a transaction number from here on.
    -- (Postgres 14 has no minimum of transaction numbers.)
    SELECT coalesce((array_agg(b.xmin ORDER BY b.xmin))[1], '0') INTO since
    FROM (
        SELECT pg_snapshot_xmin(prev_snapshot) AS xmin
        FROM ayb_realtime.batches ORDER BY id DESC LIMIT 100
    ) AS b;
    -- Each image is parsed once, for its key; then keys are compared.
    WITH asked AS MATERIALIZED (
        SELECT u.n, ARRAY(SELECT u.image::json ->> k.name FROM unnest(key) AS k (name)) AS of_row
        FROM unnest(images) WITH ORDINALITY AS u (image, n)
    ), recent AS MATERIALIZED (
        SELECT c.xid, c.seq, c.op,
            ARRAY(SELECT c.new ->> k.name FROM unnest(key) AS k (name)) AS new_row,
            ARRAY(SELECT c.old ->> k.name FROM unnest(key) AS k (name)) AS old_row
        FROM ayb_realtime.changes c
        WHERE c.xid >= since AND c.relid = table_oid
    )
    SELECT array_agg(c.new::text ORDER BY a.n) INTO latest
    FROM asked a
    LEFT JOIN LATERAL (
        SELECT r.xid, r.seq FROM recent r
        WHERE r.op = 'T' OR a.of_row IN (r.new_row, r.old_row)
        ORDER BY r.seq DESC LIMIT 1
    ) AS l ON true
    LEFT JOIN ayb_realtime.changes c ON c.xid = l.xid AND c.seq = l.seq;

    PERFORM set_config('role', client, true);
    BEGIN
        RETURN QUERY EXECUTE format(
            'SELECT 0, array_agg(u.n::integer) FROM ROWS FROM (unnest($1), unnest($2)) WITH ORDINALITY AS u (image, latest, n) '
            'WHERE row_to_json(json_populate_record(NULL::%1$s, u.image::json))::text '
            '= row_to_json(json_populate_record(NULL::%1$s, u.latest::json))::text', row_type) USING images, latest;
    EXCEPTION WHEN OTHERS THEN
        NULL;  -- an image that does not fit proves nothing
    END;
    FOR place IN 1 .. pg_catalog.cardinality(settings) OPERATOR(pg_catalog./) 4 LOOP
        BEGIN
            PERFORM pg_catalog.set_config('role', client, true),
                pg_catalog.set_config('search_path', path, true),
                pg_catalog.set_config('ayb.user_id', settings[4 OPERATOR(pg_catalog.*) place OPERATOR(pg_catalog.-) 3], true),
                pg_catalog.set_config('ayb.user_email', settings[4 OPERATOR(pg_catalog.*) place OPERATOR(pg_catalog.-) 2], true),
                pg_catalog.set_config('ayb.tenant_id', settings[4 OPERATOR(pg_catalog.*) place OPERATOR(pg_catalog.-) 1], true),
                pg_catalog.set_config('request.jwt.claims', settings[4 OPERATOR(pg_catalog.*) place], true);
            RETURN QUERY EXECUTE pg_catalog.format(
                'SELECT $2, pg_catalog.array_agg(asked_of.n::pg_catalog.int4) '
                'FROM pg_catalog.unnest($1) WITH ORDINALITY AS asked_of (image, n) '
                'CROSS JOIN LATERAL pg_catalog.json_populate_record(NULL::%1$s, asked_of.image::pg_catalog.json) AS asked '
                'JOIN %1$s AS now_there ON %2$s '
                'WHERE pg_catalog.row_to_json(now_there)::pg_catalog.text '
                'OPERATOR(pg_catalog.=) pg_catalog.row_to_json(asked)::pg_catalog.text',
                row_type, matches) USING images, place;
        EXCEPTION WHEN OTHERS THEN
            NULL;  -- nothing can be compared
        END;
    END LOOP;
    PERFORM pg_catalog.set_config('role', 'none', false);
END
$verify$;

-- For `python -m gateway explain`: each policy by itself on each image, for one cohort; and as
-- image 0, whether a SELECT shows the row of this key now.
CREATE FUNCTION ayb_realtime.explain(
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
