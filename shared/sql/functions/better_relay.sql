-- Return the relay that should lead instead of the relay me, if one is ready: it reaches at least as
-- many Redis servers, and has a higher priority or, if that is equal, a much shorter round trip to
-- this server. Each batch costs round trips, so a distant leader delays all clients. A time in the
-- future was written before the server's clock was set back, or by another server: it proves nothing.
CREATE OR REPLACE FUNCTION ayb_realtime.better_relay(me text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog AS $better$
    SELECT o.id
    FROM ayb_realtime.relays m
    JOIN ayb_realtime.relays o ON o.id <> m.id
    WHERE m.id = me
    AND o.heard_at BETWEEN clock_timestamp() - interval '3 s' AND clock_timestamp() + interval '3 s'
    AND o.redis_up >= m.redis_up
    AND (o.priority > m.priority
        OR (o.priority = m.priority AND o.round_trip_ms * 2 + 5 < m.round_trip_ms))
    ORDER BY o.priority DESC, o.round_trip_ms
    LIMIT 1
$better$;
