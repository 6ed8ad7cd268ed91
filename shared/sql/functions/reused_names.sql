-- Columns that took over the name of another column, and the seq of the last change that may have
-- been made before that. If the relay has not recorded the takeover yet, any change may be older.
CREATE OR REPLACE FUNCTION ayb_realtime.reused_names(table_oid oid) RETURNS json
    LANGUAGE plpgsql STABLE
AS $reused$
BEGIN
    RETURN (
        SELECT json_object_agg(a.attname, CASE
            WHEN k.attnum = a.attnum THEN k.reused_seq ELSE 9223372036854775807
        END ORDER BY a.attnum)
        FROM ayb_realtime.column_names k
        JOIN pg_attribute a ON a.attrelid = k.relid AND a.attname = k.name
        WHERE k.relid = table_oid AND a.attnum > 0 AND NOT a.attisdropped
        AND (k.attnum <> a.attnum OR k.reused_seq IS NOT NULL)
    );
END
$reused$;
