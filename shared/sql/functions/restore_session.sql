-- Restore settings of the session, given as alternating names and values: the result of
-- pin_session. Every name is looked up before the first setting changes. Returns false.
CREATE OR REPLACE FUNCTION ayb_realtime.restore_session(own text[]) RETURNS boolean
    LANGUAGE plpgsql VOLATILE
AS $restore$
BEGIN
    RETURN (SELECT pg_catalog.count(pg_catalog.set_config(own[s.n], own[s.n OPERATOR(pg_catalog.+) 1], true))
        FROM pg_catalog.generate_series(1, pg_catalog.cardinality(own), 2) AS s (n)) IS NULL;
END
$restore$;
