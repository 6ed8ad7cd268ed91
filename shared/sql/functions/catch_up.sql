-- Wait until a standby has replayed a position; raise AYB01 after half a second. Never waits on a
-- primary.
CREATE OR REPLACE FUNCTION ayb_realtime.catch_up(after_lsn pg_lsn) RETURNS void
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $catch_up$
DECLARE
    patience constant timestamptz := clock_timestamp() + interval '500 ms';
BEGIN
    WHILE pg_is_in_recovery() AND coalesce(pg_last_wal_replay_lsn(), '0/0') < after_lsn LOOP
        IF clock_timestamp() > patience THEN
            RAISE EXCEPTION 'the replica lags behind' USING ERRCODE = 'AYB01';
        END IF;
        PERFORM pg_sleep(0.002);
    END LOOP;
END
$catch_up$;
