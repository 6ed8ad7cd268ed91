-- The columns of a table that a role may read.
CREATE OR REPLACE FUNCTION ayb_realtime.readable_columns(table_oid oid, client text) RETURNS text[]
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $readable$
    SELECT coalesce(array_agg(a.attname::text ORDER BY a.attnum), '{}')
    FROM pg_attribute a
    JOIN pg_class c ON c.oid = a.attrelid
    JOIN pg_roles r ON r.rolname = client
    WHERE a.attrelid = table_oid AND a.attnum > 0 AND NOT a.attisdropped
    AND has_schema_privilege(r.oid, c.relnamespace, 'USAGE')
    AND has_column_privilege(r.oid, c.oid, a.attnum, 'SELECT');
$readable$;
