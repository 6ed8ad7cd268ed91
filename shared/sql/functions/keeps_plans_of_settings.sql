-- Whether plans that functions keep in the session may hold one client's value of a setting and
-- return it to the next. The planner replaces a call of an IMMUTABLE function with constant
-- arguments by its value, so a function may not be declared IMMUTABLE if it reads a setting, but
-- Postgres does not check that.
--
-- Suspects are the functions declared IMMUTABLE that may depend on more than their arguments: they
-- call something that is not IMMUTABLE (apart from functions of Postgres that see nothing of a
-- client, such as format), read a table, or cannot be read here. Functions that came with Postgres
-- or an extension are no suspects, and neither are ours. A suspect matters if the text of another function
-- names it, or if anything that is expanded into a function's plan (a view, a policy, an operator)
-- depends on it; a policy itself is planned for each client. Every doubt means true, which is slow
-- but right: see discard_plans.
CREATE OR REPLACE FUNCTION ayb_realtime.keeps_plans_of_settings() RETURNS boolean
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $keeps$
    WITH suspect AS MATERIALIZED (
        SELECT f.oid, f.proname
        FROM pg_proc f
        CROSS JOIN LATERAL (SELECT lower(CASE WHEN f.prosqlbody IS NULL THEN f.prosrc
            ELSE pg_get_function_sqlbody(f.oid) END COLLATE "C")) AS t (body)
        CROSS JOIN (SELECT ('{length,now,clock_timestamp,statement_timestamp,transaction_timestamp,date_trunc,'
            'date_part,extract,timezone,age,to_char,to_date,to_timestamp,concat,concat_ws,format,quote_literal,'
            'array_to_string,string_agg,array_agg,to_json,to_jsonb,row_to_json,json_agg,jsonb_agg,json_build_array,'
            'jsonb_build_array,json_build_object,jsonb_build_object,to_tsvector,to_tsquery,plainto_tsquery}')::name[]
        ) AS harmless (names)
        WHERE f.provolatile = 'i' AND f.oid >= 16384::oid AND f.prokind = 'f'
        AND f.prolang NOT IN (SELECT l.oid FROM pg_language l WHERE l.lanname IN ('internal', 'c'))
        AND f.pronamespace <> 'ayb_realtime'::regnamespace
        AND NOT EXISTS (
            SELECT FROM pg_depend d
            WHERE d.classid = 'pg_proc'::regclass AND d.objid = f.oid AND d.deptype = 'e'
        )
        AND (f.prolang NOT IN (SELECT l.oid FROM pg_language l WHERE l.lanname IN ('sql', 'plpgsql'))
            OR t.body ~ '\m(from|table|execute|using|current_\w+|session_user|system_user|user)\M|u&|"[^"]*[^a-z0-9_"]'
            OR EXISTS (
                SELECT FROM regexp_matches(t.body,
                    '([^][\s(),;:+*/<>=~!@#%^&|?''".-]+)"?\s*(?:\(|/\*|--)|\.\s*"?([^][\s(),;:+*/<>=~!@#%^&|?''".-]+)',
                    'g') AS m (names)
                JOIN pg_proc p ON p.proname IN (m.names[1]::name, m.names[2]::name)
                WHERE p.provolatile <> 'i' AND NOT (
                    p.pronamespace = 'pg_catalog'::regnamespace AND p.proname = ANY (harmless.names))
            )
            -- Operators and casts call functions that no text names.
            OR EXISTS (
                SELECT FROM pg_operator o JOIN pg_proc p ON p.oid = o.oprcode
                WHERE o.oid >= 16384::oid AND p.oid >= 16384::oid AND p.provolatile <> 'i'
            )
            OR EXISTS (
                SELECT FROM pg_cast c JOIN pg_proc p ON p.oid = c.castfunc
                WHERE c.oid >= 16384::oid AND p.oid >= 16384::oid AND p.provolatile <> 'i'
            ))
    )
    SELECT EXISTS (
        SELECT FROM suspect s
        WHERE EXISTS (
            SELECT FROM pg_depend d
            WHERE d.refclassid = 'pg_proc'::regclass AND d.refobjid = s.oid
            AND d.classid <> 'pg_class'::regclass  -- indexes
        )
        OR EXISTS (
            SELECT FROM pg_proc g
            WHERE g.oid >= 16384::oid AND g.oid <> s.oid AND g.pronamespace <> 'ayb_realtime'::regnamespace
            AND g.prolang NOT IN (SELECT l.oid FROM pg_language l WHERE l.lanname IN ('internal', 'c'))
            AND (strpos(lower(g.prosrc COLLATE "C"), lower(s.proname::text COLLATE "C")) > 0
                OR strpos(lower(g.prosrc COLLATE "C"), 'u&') > 0)
        )
    )
$keeps$;
