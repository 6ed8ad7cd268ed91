-- Become a client for the rest of the (sub)transaction. Sets the client's settings, then the
-- session's own settings if any are given (the result of pin_session), and finally its role.
-- `settings` is a table of UTF-8 texts: its first row has the names of the settings, each further
-- row the values of one cohort; `cohort` counts from 1. Every setting is set, so that no value of
-- another cohort can remain. A text that the database encoding cannot represent raises 22P05. Every
-- name is looked up before the first setting changes, so the session's own search path cannot
-- capture a name here.
CREATE OR REPLACE FUNCTION ayb_realtime.assume_client(client text, settings bytea[], cohort integer, own text[])
    RETURNS void
    LANGUAGE plpgsql VOLATILE
AS $assume$
BEGIN
    PERFORM (SELECT pg_catalog.count(pg_catalog.set_config(
                pg_catalog.convert_from(settings[1][s.n], 'UTF8'),
                pg_catalog.convert_from(settings[cohort OPERATOR(pg_catalog.+) 1][s.n], 'UTF8'), true))
            FROM pg_catalog.generate_series(1, pg_catalog.array_length(settings, 2)) AS s (n)),
        (SELECT pg_catalog.count(pg_catalog.set_config(own[s.n], own[s.n OPERATOR(pg_catalog.+) 1], true))
            FROM pg_catalog.generate_series(1, pg_catalog.cardinality(own), 2) AS s (n)),
        pg_catalog.set_config('role', client, true);
END
$assume$;
