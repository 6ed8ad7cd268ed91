-- The query that makes the image of a row ($1) when row_to_json alone cannot:
--
-- * Generated columns that are not stored (Postgres 18) are missing from a trigger's row, so they
--   are computed. Their expressions contain only built-in functions.
-- * JSON cannot express the bounds of an array whose subscripts do not start at 1, so a policy that
--   reads such an array would be evaluated on the wrong elements. The array, or a composite that
--   contains one, is therefore written as a string in Postgres' own format, which reads back as the
--   same value.
--
-- A column may have the same name as an alias here: image.* always means the row.
CREATE OR REPLACE FUNCTION ayb_realtime.image_query(table_oid oid) RETURNS text
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $query$
    SELECT format(
        'SELECT row_to_json(image.*) FROM (SELECT %s FROM '
        '(SELECT %s FROM (SELECT ($1).*) AS source) AS source) AS image',
        string_agg(
            CASE WHEN t.typcategory IN ('A', 'C') THEN format(
                'CASE WHEN %2$s THEN to_json(format(''%%s'', %1$I)) ELSE to_json(%1$I) END AS %1$I',
                a.attname,
                CASE WHEN t.typcategory = 'C' OR e.typtype = 'c'
                THEN format('strpos(format(''%%s'', %I), '']={'') > 0', a.attname)
                ELSE format('left(format(''%%s'', %I), 1) = ''[''', a.attname) END
            ) ELSE format('%I', a.attname) END, ', ' ORDER BY a.attnum),
        string_agg(
            CASE WHEN a.attgenerated = 'v'
            THEN format('(%s) AS %I', pg_get_expr(d.adbin, d.adrelid), a.attname)
            ELSE format('%I', a.attname) END, ', ' ORDER BY a.attnum))
    FROM pg_attribute a
    JOIN pg_type t ON t.oid = a.atttypid
    LEFT JOIN pg_type e ON e.oid = t.typelem
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attrelid = table_oid AND a.attnum > 0 AND NOT a.attisdropped
$query$;
