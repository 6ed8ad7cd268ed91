-- Values that are to be kept, of a query that depends on the cohort's settings alone: cohort_values
-- in a pinned session. Rows are those of the array texts, NULL where the query raises. AYB03 as in
-- judge_joined.
CREATE OR REPLACE FUNCTION ayb_realtime.keep_values(client text, query text, settings bytea[], others text[])
RETURNS text[]
    LANGUAGE plpgsql VOLATILE
AS $keep$
DECLARE
    own constant text[] := ayb_realtime.pin_session();
    found text[];
BEGIN
    IF EXISTS (
        SELECT FROM generate_series(1, cardinality(others), 2) AS s (n)
        WHERE current_setting(others[s.n], true) IS DISTINCT FROM others[s.n + 1]
    ) THEN
        RAISE SQLSTATE 'AYB03';
    END IF;
    found := ayb_realtime.cohort_values(client, own, query, NULL, settings);
    -- It has left the session's own settings in force, under which the caller would read the arrays.
    PERFORM ayb_realtime.pin_session();
    RETURN found;
END
$keep$;
