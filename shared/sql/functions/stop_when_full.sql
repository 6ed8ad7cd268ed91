CREATE OR REPLACE FUNCTION ayb_realtime.stop_when_full() RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $stop$
    SELECT setval('ayb_realtime.change_seq', 9223372036854775807)
    FROM ayb_realtime.horizon h
    WHERE h.most_bytes < ayb_realtime.outbox_bytes() / 2
$stop$;
