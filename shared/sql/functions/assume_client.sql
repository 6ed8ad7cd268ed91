-- Become a client for the rest of the (sub)transaction: set its settings, and then its role.
-- `settings` is a table of UTF-8 texts: its first row has the names of the settings, each further
-- row the values of one cohort; `cohort` counts from 1. Every setting is set, so that no value of
-- another cohort can remain. A text that the database encoding cannot represent raises 22P05. Every
-- name is qualified, so the session's own search path cannot capture one.
CREATE OR REPLACE FUNCTION ayb_realtime.assume_client(client text, settings bytea[], cohort integer) RETURNS boolean
    LANGUAGE plpgsql VOLATILE
AS $assume$
DECLARE
    is_null boolean;
BEGIN
    FOR n IN 1 .. pg_catalog.array_length(settings, 2) LOOP
        is_null := pg_catalog.set_config(pg_catalog.convert_from(settings[1][n], 'UTF8'),
            pg_catalog.convert_from(settings[cohort OPERATOR(pg_catalog.+) 1][n], 'UTF8'), true) IS NULL;
    END LOOP;
    RETURN pg_catalog.set_config('role', client, true) IS NULL;
END
$assume$;
