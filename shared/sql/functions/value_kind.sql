-- What makes an image's value of a user-defined type undecidable (see needed_columns). `opaque`:
-- part of it has names that may have changed since (a composite's attributes, a regclass, the labels
-- of an enum within a range), is written by a cast to json, is json (in which the relay folds line
-- breaks), or has a domain's check that calls a function of the database's users: reading the image
-- would call it, and a SELECT does not. `null`: it is jsonb, directly or under domains. `any`: it contains jsonb. Otherwise
-- `no`. A separate function because it is rarely needed. For other enums see doubtful_values.
CREATE OR REPLACE FUNCTION ayb_realtime.value_kind(type_oid oid) RETURNS text
    LANGUAGE plpgsql STABLE
AS $kind$
BEGIN
    RETURN (
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
        SELECT CASE
            WHEN bool_or(t.typtype = 'c' OR t.oid = 'json'::regtype OR (t.oid < 16384 AND t.typname LIKE 'reg%') OR EXISTS (
                SELECT FROM pg_cast c
                WHERE c.castsource = t.oid AND c.casttarget = 'json'::regtype AND c.oid >= 16384::oid
            ) OR EXISTS (
                SELECT FROM pg_range r
                WHERE t.oid IN (r.rngtypid, r.rngmultitypid) AND r.rngsubtype >= 16384::oid
            ) OR EXISTS (
                SELECT FROM pg_constraint k
                JOIN pg_depend d ON d.classid = 'pg_constraint'::regclass AND d.objid = k.oid
                WHERE k.contypid = t.oid AND d.refclassid = 'pg_proc'::regclass
                AND d.refobjid >= 16384::oid AND NOT EXISTS (
                    SELECT FROM pg_depend e
                    WHERE e.classid = 'pg_proc'::regclass AND e.objid = d.refobjid AND e.deptype = 'e'
                )
            )) THEN 'opaque'
            WHEN bool_or(is_json AND part.is_inside) THEN 'any'
            WHEN bool_or(is_json) THEN 'null'
            ELSE 'no'
        END
        FROM part
        JOIN pg_type t ON t.oid = part.oid
        CROSS JOIN LATERAL (SELECT t.oid = 'jsonb'::regtype) AS j (is_json)
    );
END
$kind$;
