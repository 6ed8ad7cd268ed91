-- What may have meant another value in older changes: the values of a column that has got another
-- type since, or a label of an enum (in a column of that type, or an array or domain of it) that has
-- passed to another value. Each with its column, the label (NULL for every value), and the seq of
-- the last change that may be older; until the relay has recorded this, any change may be older. A
-- label that the enum no longer has means nothing now. See column_names and enum_labels in the
-- migrations.
CREATE OR REPLACE FUNCTION ayb_realtime.doubtful_values(table_oid oid) RETURNS json
    LANGUAGE plpgsql STABLE
AS $doubtful$
DECLARE
    any_change constant bigint := 9223372036854775807;
BEGIN
    RETURN (
        WITH RECURSIVE doubt (attnum, label, seq) AS (
            SELECT a.attnum, NULL::text,
                CASE WHEN (k.type, k.typmod) = (a.atttypid, a.atttypmod) THEN k.retyped_seq ELSE any_change END
            FROM ayb_realtime.column_names k
            JOIN pg_attribute a ON a.attrelid = k.relid AND a.attname = k.name AND a.attnum = k.attnum
            WHERE k.relid = table_oid AND NOT a.attisdropped
            AND (k.retyped_seq IS NOT NULL OR (k.type, k.typmod) <> (a.atttypid, a.atttypmod))
        ), part (attnum, oid) AS (
            SELECT a.attnum, a.atttypid FROM pg_attribute a
            WHERE a.attrelid = table_oid AND a.attnum > 0 AND NOT a.attisdropped AND a.atttypid >= 16384::oid
            UNION
            SELECT part.attnum, CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.typelem END
            FROM part JOIN pg_type t ON t.oid = part.oid
            WHERE t.typtype = 'd' OR (t.typtype = 'b' AND t.typelem <> 0)
        )
        SELECT json_agg(json_build_array(a.attname, d.label, d.seq) ORDER BY a.attnum, d.label)
        FROM (
            SELECT * FROM doubt
            UNION ALL
            SELECT part.attnum, k.label,
                CASE WHEN e.oid = k.value AND k.waits_for IS NULL THEN k.reused_seq ELSE any_change END
            FROM part
            JOIN ayb_realtime.enum_labels k ON k.type = part.oid
            LEFT JOIN pg_enum e ON e.enumtypid = k.type AND e.enumlabel = k.label
            WHERE k.reused_seq IS NOT NULL OR k.waits_for IS NOT NULL OR e.oid IS DISTINCT FROM k.value
        ) AS d
        JOIN pg_attribute a ON a.attrelid = table_oid AND a.attnum = d.attnum
    );
END
$doubtful$;
