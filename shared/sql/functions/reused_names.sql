-- Columns that took over the name of another column, and the seq of the last change that may have
-- been made before that. If the relay has not recorded the takeover yet, any change may be older.
CREATE OR REPLACE FUNCTION ayb_realtime.reused_names(table_oid oid) RETURNS json
    LANGUAGE plpgsql STABLE
AS $reused$
BEGIN
    RETURN (
        SELECT json_object_agg(a.attname, CASE
            WHEN k.attnum = a.attnum AND NOT m.is_missing THEN k.reused_seq ELSE 9223372036854775807
        END ORDER BY a.attnum)
        FROM pg_attribute a
        LEFT JOIN ayb_realtime.column_names k ON k.relid = a.attrelid AND k.name = a.attname
        CROSS JOIN LATERAL (SELECT a.attgenerated = 'v' AND EXISTS (
            SELECT FROM pg_trigger g
            WHERE g.tgrelid = a.attrelid AND g.tgname = '!ayb_realtime_row_' || table_oid AND g.tgnargs = 0
        )) AS m (is_missing)
        WHERE a.attrelid = table_oid AND a.attnum > 0 AND NOT a.attisdropped
        AND (k.attnum <> a.attnum OR k.reused_seq IS NOT NULL OR m.is_missing)
    );
END
$reused$;
