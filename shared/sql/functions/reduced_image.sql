-- The image of a row that is too large to be fetched, judged or sent whole: the primary key and the
-- small values. A value is small if its stored size is at most 4 kB. Clients get the key, marked as
-- truncated; a policy that reads a column omitted here cannot be decided.
--
-- Also omitted: generated columns that are not stored, and arrays with bounds (image_query.sql). If
-- the small values raise an error or are too large together, only the key remains; NULL if that
-- fails too. The settings are pinned as in pinned_images.sql.
CREATE OR REPLACE FUNCTION ayb_realtime.reduced_image(table_oid oid, source record) RETURNS json
    LANGUAGE plpgsql STRICT
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
    SET datestyle = 'ISO, MDY'
    SET intervalstyle = 'postgres'
    SET bytea_output = 'hex'
    SET extra_float_digits = 1
    SET lc_monetary = 'C'
AS $reduced$
DECLARE
    image json;
BEGIN
    FOR round IN 1..2 LOOP
        BEGIN
            EXECUTE ayb_realtime.reduced_image_query(
                table_oid, CASE round WHEN 1 THEN 4096 ELSE -1 END) INTO image USING source;
            IF octet_length(image::text) <= 8388608 THEN
                RETURN image;
            END IF;
        EXCEPTION WHEN OTHERS THEN
            NULL;  -- the key alone may fit
        END;
    END LOOP;
    RETURN NULL;
END
$reduced$;

-- The query that reduced_image runs: the key of the row $1, and its values of at most most_bytes.
CREATE OR REPLACE FUNCTION ayb_realtime.reduced_image_query(table_oid oid, most_bytes integer)
RETURNS text
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $query$
    SELECT format(
        $sql$SELECT ('{' || coalesce(string_agg(member.name || member.value, ','
            ORDER BY member.place), '') || '}')::json
        FROM (SELECT ($1).*) AS source
        CROSS JOIN LATERAL (VALUES %s) AS member (place, name, value)
        WHERE member.value IS NOT NULL$sql$,
        string_agg(format(
            '(%s, %L, CASE WHEN %s THEN coalesce(to_json(source.%I)::text, ''null'') END)',
            a.attnum, to_json(a.attname)::text || ':',
            CASE WHEN a.attnum = ANY (i.indkey) THEN 'true'
            ELSE format('coalesce(pg_column_size(source.%I), 0) <= %s', a.attname, most_bytes)
                || CASE WHEN t.typcategory IN ('A', 'C')
                THEN format(' AND strpos(format(''%%s'', source.%I), '']={'') = 0', a.attname)
                ELSE '' END
            END, a.attname), ', '))
    FROM pg_attribute a
    JOIN pg_type t ON t.oid = a.atttypid
    LEFT JOIN pg_index i ON i.indrelid = a.attrelid AND i.indisprimary
    WHERE a.attrelid = table_oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated <> 'v'
$query$;
