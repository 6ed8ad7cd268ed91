-- Makes the calling session the leader, as the relay me, unless another one leads or should; returns
-- whether it leads now. One statement, so that the row is never locked for a round trip.
--
-- The session that the row names leads for as long as it exists. Where this login may not see when
-- a session began, one with that pid and login may be a later one: it counts only while the lead is
-- being renewed. So a session that merely got the pid cannot keep the lead from everybody, and a
-- leader that is displaced by mistake records nothing more (the queries that record lock the row).
CREATE OR REPLACE FUNCTION ayb_realtime.take_lead(
    me text, my_name text, lease interval, head_start interval
) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog AS $take$
DECLARE
    held ayb_realtime.leader;
BEGIN
    FOR attempt IN 1..2 LOOP
        -- First without the lock, which would stop the leader. What is read about sessions after
        -- the lock is newer than the row.
        IF attempt = 1 THEN
            SELECT * INTO STRICT held FROM ayb_realtime.leader;
        ELSE
            PERFORM pg_stat_clear_snapshot();
            SELECT * INTO STRICT held FROM ayb_realtime.leader FOR UPDATE;
        END IF;
        IF EXISTS (
            SELECT FROM pg_stat_activity a
            WHERE a.pid = held.pid AND a.pid <> pg_backend_pid()
            AND (a.backend_start = held.began
                OR (a.backend_start IS NULL AND a.usesysid = held.login
                    AND held.heard_at BETWEEN clock_timestamp() - lease AND clock_timestamp() + lease))
        ) THEN
            RETURN false;
        END IF;
        -- The successor, and otherwise a better relay, has a head start; not the leader that ended.
        IF held.heard_at BETWEEN clock_timestamp() - head_start AND clock_timestamp() + head_start
            AND coalesce(held.successor, nullif(ayb_realtime.better_relay(me), held.relay), me) <> me
        THEN
            RETURN false;
        END IF;
    END LOOP;
    UPDATE ayb_realtime.leader l
    SET pid = a.pid, began = a.backend_start, login = a.usesysid, relay = me, name = my_name,
        since = clock_timestamp(), heard_at = clock_timestamp(), successor = NULL
    FROM pg_stat_activity a
    WHERE a.pid = pg_backend_pid();
    RETURN true;
END
$take$;
