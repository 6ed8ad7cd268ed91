-- The values that a query gives for each cohort by itself: one text a cohort, NULL where it raises.
-- The query is a SELECT of one text that reads nothing of any row image; its $1 are `limits`, texts
-- that are the same for all cohorts. One that does not end in time raises AYB04 for all; AYB05 says that the statement was ended from outside.
--
-- Each cohort has a subtransaction of its own, with the client's role and settings (four for each
-- cohort, as UTF-8: see judge_joined), a fresh plan, and `own`, the session's own settings, in force;
-- the query is qualified throughout, so their search path is for the functions that it calls. The
-- subtransaction is left by an error of our own once the value is kept: variables outlive it, and
-- nothing that a function has set, taken or cached in a plan does.
--
-- STABLE: all values are of the snapshot of the statement that calls this, as is what it joins them
-- with. Between the assignment of the settings and the error nothing is looked up by name.
CREATE OR REPLACE FUNCTION ayb_realtime.cohort_values(
    client text, own text[], query text, limits text[], settings bytea[]
) RETURNS text[]
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $values$
DECLARE
    cohorts constant integer := cardinality(settings) / 4;
    has_stale_plans constant boolean := ayb_realtime.keeps_plans_of_settings();
    is_bent constant boolean := cardinality(own) > 0;
    timeout constant interval := current_setting('statement_timeout')::interval;
    found text[] := array_fill(NULL::text, ARRAY[cohorts]);
    value text;
    is_kept boolean;
    is_assumed boolean;
BEGIN
    FOR place IN 1 .. cohorts LOOP
        is_kept := false;
        IF has_stale_plans THEN
            PERFORM ayb_realtime.discard_plans();
        END IF;
        BEGIN
            is_assumed := set_config('ayb.user_id', convert_from(settings[4 * place - 3], 'UTF8'), true) IS NULL
                OR set_config('ayb.user_email', convert_from(settings[4 * place - 2], 'UTF8'), true) IS NULL
                OR set_config('ayb.tenant_id', convert_from(settings[4 * place - 1], 'UTF8'), true) IS NULL
                OR set_config('request.jwt.claims', convert_from(settings[4 * place], 'UTF8'), true) IS NULL
                OR (is_bent AND ayb_realtime.restore_session(own)) OR set_config('role', client, true) IS NULL;
            EXECUTE query INTO STRICT value USING limits;
            is_kept := true;
            RAISE SQLSTATE 'AYB02';
        EXCEPTION
            WHEN query_canceled THEN
                -- Out of time, of which no second alarm will come; or ended from outside.
                IF timeout = interval '0' OR clock_timestamp() < statement_timestamp() + timeout * 0.9 THEN
                    RAISE SQLSTATE 'AYB05';
                END IF;
                RAISE SQLSTATE 'AYB04';
            WHEN OTHERS OR assert_failure THEN
                NULL;
        END;
        IF is_kept THEN
            found[place] := value;
        END IF;
    END LOOP;
    RETURN found;
END
$values$;
