-- What a null in a value of a user-defined type may mean: null, if it is json under domains; any, if
-- json lies within it, as in a composite; no, if there is none. By itself, for it is rarely needed.
CREATE OR REPLACE FUNCTION ayb_realtime.json_kind(type_oid oid) RETURNS text
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $kind$
    WITH RECURSIVE part (oid, is_inside) AS (
        SELECT type_oid, false
        UNION
        SELECT m.oid, m.is_inside
        FROM part
        JOIN pg_type t ON t.oid = part.oid
        CROSS JOIN LATERAL (
            SELECT t.typbasetype, part.is_inside WHERE t.typtype = 'd'
            UNION ALL
            SELECT t.typelem, true WHERE t.typtype = 'b' AND t.typelem <> 0
            UNION ALL
            SELECT f.atttypid, true FROM pg_attribute f
            WHERE t.typtype = 'c' AND f.attrelid = t.typrelid AND f.attnum > 0 AND NOT f.attisdropped
        ) AS m (oid, is_inside)
    )
    SELECT CASE WHEN bool_or(part.is_inside) THEN 'any' WHEN count(*) > 0 THEN 'null' ELSE 'no' END
    FROM part WHERE part.oid = ANY (ARRAY['json', 'jsonb']::regtype[])
$kind$;
