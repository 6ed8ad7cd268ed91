CREATE OR REPLACE FUNCTION ayb_realtime.capture_truncate() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $capture$
DECLARE
    root oid := coalesce(pg_partition_root(TG_RELID), TG_RELID);
    number bigint;
BEGIN
    IF TG_NAME <> '!ayb_realtime_truncate_' || root::text THEN
        RETURN NULL;
    END IF;
    BEGIN
        number := nextval('ayb_realtime.change_seq');
    EXCEPTION WHEN sequence_generator_limit_exceeded THEN
        RETURN NULL;
    END;
    INSERT INTO ayb_realtime.changes (seq, relid, op) VALUES (number, root, 'T');
    IF NOT pg_try_advisory_xact_lock_shared(4707185, 1) THEN
        NOTIFY ayb_realtime;
    END IF;
    IF number % 1024 = 0 THEN
        PERFORM ayb_realtime.stop_when_full();
    END IF;
    RETURN NULL;
END
$capture$;
