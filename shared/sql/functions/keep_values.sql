-- Values for the gateway to keep, from a query that depends only on the cohort's settings: calls
-- cohort_values in a pinned session. Returns one array of values for each cohort, as text, or NULL
-- if the query raises. Raises AYB03 as judge_joined does. AYB06 means that the rules are not the
-- expected ones: with several read servers, a server that lags may still have the previous versions
-- of the functions that the query calls.
CREATE OR REPLACE FUNCTION ayb_realtime.keep_values(
    after_lsn pg_lsn, table_oid oid, client text, expected text, query text, settings bytea[], others text[]
) RETURNS text[]
    LANGUAGE plpgsql VOLATILE
AS $keep$
DECLARE
    own constant pg_catalog.text[] := ayb_realtime.pin_session();
    found pg_catalog.text[];
BEGIN
    PERFORM ayb_realtime.catch_up(after_lsn);
    IF EXISTS (
        SELECT FROM generate_series(1, cardinality(others), 2) AS s (n)
        WHERE current_setting(others[s.n], true) IS DISTINCT FROM others[s.n + 1]
    ) THEN
        RAISE SQLSTATE 'AYB03';
    END IF;
    found := ayb_realtime.cohort_values(client, own, query, NULL, settings);
    -- cohort_values has left the session's own settings in force; without this, the caller would
    -- read the arrays under them.
    PERFORM ayb_realtime.pin_session();
    IF md5(ayb_realtime.rules(table_oid, client)::text) IS DISTINCT FROM expected THEN
        RAISE SQLSTATE 'AYB06';
    END IF;
    RETURN found;
END
$keep$;
