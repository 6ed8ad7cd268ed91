-- A seq that no change before this moment exceeds: the last value of the sequence. If capture has
-- stopped, the sequence is at its end; then it is the start of the next generation.
CREATE OR REPLACE FUNCTION ayb_realtime.newest_seq() RETURNS bigint
    LANGUAGE sql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $newest$
    SELECT CASE WHEN s.last_value < 9223372036854775807 THEN s.last_value
        ELSE (SELECT (max(n.generation) + 1) << 40 FROM ayb_realtime.generations n) END
    FROM ayb_realtime.change_seq s
$newest$;
