-- The values that a query returns for each cohort: one text per cohort, NULL if the query raises
-- for it. The query is a SELECT of a single text that reads nothing from any row image; its $1 is
-- `limits`, an array of texts that is the same for all cohorts. A query that does not finish in
-- time raises AYB04 for all cohorts; AYB05 means that the statement was cancelled from outside.
--
-- Each cohort has its own subtransaction with the client's role and settings (see assume_client), a
-- fresh plan, and the session's own settings, `own`, in force. The query is fully qualified, so the
-- session's search path affects only the functions that it calls. The subtransaction is left with an
-- error of our own once the value has been saved: variables survive the rollback, while nothing that
-- a function has set, taken or cached in a plan does.
--
-- On return the session's own settings (except the search path) are still in force: pin them again.
--
-- STABLE: all values come from the snapshot of the calling statement, as does the data that the
-- statement joins them with. Between setting the client's settings and the error, nothing is looked
-- up by name.
CREATE OR REPLACE FUNCTION ayb_realtime.cohort_values(
    client text, own text[], query text, limits text[], settings bytea[]
) RETURNS text[]
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $values$
DECLARE
    cohorts constant integer := array_length(settings, 1) - 1;
    has_stale_plans constant boolean := ayb_realtime.keeps_plans_of_settings();
    timeout constant interval := current_setting('statement_timeout')::interval;
    deadline constant timestamptz := CASE WHEN timeout > interval '0' THEN statement_timestamp() + timeout * 0.9 END;
    found text[] := array_fill(NULL::text, ARRAY[cohorts]);
    value text;
    is_kept boolean;
    is_assumed boolean;
BEGIN
    -- From here on the session's own search path is in force: no name may be resolved through it.
    PERFORM ayb_realtime.restore_session(own);
    FOR place IN 1 .. cohorts LOOP
        is_kept := false;
        IF has_stale_plans THEN
            PERFORM ayb_realtime.discard_plans();
        END IF;
        BEGIN
            is_assumed := ayb_realtime.assume_client(client, settings, place);
            EXECUTE query INTO STRICT value USING limits;
            is_kept := true;
            RAISE SQLSTATE 'AYB02';
        EXCEPTION
            WHEN query_canceled THEN
                -- Out of time (no second timeout will fire), or cancelled from outside.
                IF deadline IS NULL OR pg_catalog.clock_timestamp() OPERATOR(pg_catalog.<) deadline THEN
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
