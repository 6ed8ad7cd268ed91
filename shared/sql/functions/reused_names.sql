-- Columns that took over the name of another one, and the last seq of a change that may be from
-- before; of what the relay has not noted yet, every change may be.
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
