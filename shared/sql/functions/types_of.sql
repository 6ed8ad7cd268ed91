-- The types of the database's users that functions take or return, or that have one of these names,
-- with all that they consist of: elements of arrays, attributes of composites, what domains and
-- ranges are made of. See reach_of.
CREATE OR REPLACE FUNCTION ayb_realtime.types_of(functions oid[], names name[]) RETURNS oid[]
    LANGUAGE plpgsql STABLE
AS $types$
DECLARE
    found oid[] := '{}';
BEGIN
    IF functions <> '{}' THEN
        found := ARRAY(
            SELECT a.oid
            FROM pg_proc f
            CROSS JOIN LATERAL unnest(f.prorettype || coalesce(f.proallargtypes, f.proargtypes::oid[])) AS a (oid)
            WHERE f.oid = ANY (functions) AND a.oid >= 16384::oid
        );
    END IF;
    IF names <> '{}' THEN
        found := found || ARRAY(SELECT t.oid FROM pg_type t WHERE t.typname = ANY (names) AND t.oid >= 16384::oid);
    END IF;
    IF found = '{}' THEN
        RETURN found;
    END IF;
    RETURN ARRAY(
        WITH RECURSIVE part (oid) AS (
            SELECT unnest(found)
            UNION
            SELECT m.oid
            FROM part
            JOIN pg_type t ON t.oid = part.oid
            CROSS JOIN LATERAL (
                SELECT t.typbasetype
                UNION ALL
                SELECT t.typelem
                UNION ALL
                SELECT f.atttypid FROM pg_attribute f
                WHERE t.typtype = 'c' AND f.attrelid = t.typrelid AND f.attnum > 0 AND NOT f.attisdropped
                UNION ALL
                SELECT r.rngsubtype FROM pg_range r WHERE t.oid IN (r.rngtypid, r.rngmultitypid)
            ) AS m (oid)
            WHERE m.oid >= 16384::oid
        )
        SELECT part.oid FROM part ORDER BY 1
    );
END
$types$;
