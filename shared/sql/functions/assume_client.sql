-- Become a client for the rest of the (sub)transaction. Sets its four settings, given as UTF-8
-- (user id, e-mail address, tenant id, claims), then the session's own settings if any are given
-- (the result of pin_session), and finally its role. A text that the database encoding cannot
-- represent raises 22P05. Every name is looked up before the first setting changes, so the
-- session's own search path cannot capture a name here.
CREATE OR REPLACE FUNCTION ayb_realtime.assume_client(client text, settings bytea[], own text[]) RETURNS void
    LANGUAGE plpgsql VOLATILE
AS $assume$
BEGIN
    PERFORM pg_catalog.set_config('ayb.user_id', pg_catalog.convert_from(settings[1], 'UTF8'), true),
        pg_catalog.set_config('ayb.user_email', pg_catalog.convert_from(settings[2], 'UTF8'), true),
        pg_catalog.set_config('ayb.tenant_id', pg_catalog.convert_from(settings[3], 'UTF8'), true),
        pg_catalog.set_config('request.jwt.claims', pg_catalog.convert_from(settings[4], 'UTF8'), true),
        (SELECT pg_catalog.count(pg_catalog.set_config(own[s.n], own[s.n OPERATOR(pg_catalog.+) 1], true))
            FROM pg_catalog.generate_series(1, pg_catalog.cardinality(own), 2) AS s (n)),
        pg_catalog.set_config('role', client, true);
END
$assume$;
