-- The columns of a table: number, name, whether the role may read it, xmin, and what is needed to
-- write its values as capture and the relay do: stamp (a timestamptz), array or composite (these
-- may have array bounds: see image_query), or plain.
CREATE OR REPLACE FUNCTION ayb_realtime.column_facts(table_oid oid, role_oid oid) RETURNS json
    LANGUAGE plpgsql STABLE
AS $columns$
DECLARE
    is_usable constant boolean := (
        SELECT has_schema_privilege(role_oid, c.relnamespace, 'USAGE') FROM pg_class c WHERE c.oid = table_oid
    );
    is_readable constant boolean := is_usable AND has_table_privilege(role_oid, table_oid, 'SELECT');
BEGIN
    RETURN (
        SELECT coalesce(json_agg(json_build_array(
            a.attnum,
            a.attname,
            is_readable OR (is_usable AND has_column_privilege(role_oid, a.attrelid, a.attnum, 'SELECT')),
            a.xmin,
            CASE WHEN 'timestamptz'::regtype IN (t.oid, t.typbasetype) THEN 'stamp'
                WHEN t.typcategory = 'C' OR e.typtype = 'c' THEN 'composite'
                WHEN t.typcategory = 'A' THEN 'array'
                ELSE 'plain' END
        ) ORDER BY a.attnum), '[]')
        FROM pg_attribute a
        JOIN pg_type t ON t.oid = a.atttypid
        LEFT JOIN pg_type e ON e.oid = t.typelem
        WHERE a.attrelid = table_oid AND a.attnum > 0 AND NOT a.attisdropped
    );
END
$columns$;
