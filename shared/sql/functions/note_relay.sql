-- Record that a relay is alive, and remove the rows of relays that ended long ago.
CREATE OR REPLACE FUNCTION ayb_realtime.note_relay(
    me text, name text, priority integer, round_trip_ms real, redis_up integer
) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog AS $note$
BEGIN
    INSERT INTO ayb_realtime.relays AS r (id, name, priority, round_trip_ms, redis_up, heard_at)
    VALUES (me, note_relay.name, note_relay.priority, note_relay.round_trip_ms,
        note_relay.redis_up, clock_timestamp())
    ON CONFLICT (id) DO UPDATE
    SET priority = excluded.priority, round_trip_ms = excluded.round_trip_ms,
        redis_up = excluded.redis_up, heard_at = excluded.heard_at;
    DELETE FROM ayb_realtime.relays r
    WHERE r.heard_at NOT BETWEEN clock_timestamp() - interval '1 minute'
        AND clock_timestamp() + interval '1 minute';
END
$note$;
