-- Values that are to be kept, of a query that depends on the cohort's settings alone: cohort_values
-- in a pinned session. Rows are those of the array texts, NULL where the query raises. AYB03 as in
-- judge_joined. AYB06 says that the rules are not those expected: with several read servers, the
-- functions that the query calls may be those of before on a server that lags.
CREATE OR REPLACE FUNCTION ayb_realtime.keep_values(
    after_lsn pg_lsn, table_oid oid, client text, expected text, query text, settings bytea[], others text[]
) RETURNS text[]
    LANGUAGE plpgsql VOLATILE
AS $keep$
DECLARE
    own constant text[] := ayb_realtime.pin_session();
    found text[];
BEGIN
    PERFORM ayb_realtime.catch_up(after_lsn);
    IF EXISTS (
        SELECT FROM generate_series(1, cardinality(others), 2) AS s (n)
        WHERE current_setting(others[s.n], true) IS DISTINCT FROM others[s.n + 1]
    ) THEN
        RAISE SQLSTATE 'AYB03';
    END IF;
    found := ayb_realtime.cohort_values(client, own, query, NULL, settings);
    -- It has left the session's own settings in force, under which the caller would read the arrays.
    PERFORM ayb_realtime.pin_session();
    IF md5(ayb_realtime.rules(table_oid, client)::text) IS DISTINCT FROM expected THEN
        RAISE SQLSTATE 'AYB06';
    END IF;
    RETURN found;
END
$keep$;
