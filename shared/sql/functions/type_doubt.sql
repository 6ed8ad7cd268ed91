-- Why one of these types may call functions that are not known; NULL if none does. Composites, enums
-- and arrays call none, and the checks of domains are read: see texts_of. Of a type with functions of
-- its own only an extension's is known.
CREATE OR REPLACE FUNCTION ayb_realtime.type_doubt(types oid[]) RETURNS text
    LANGUAGE plpgsql STABLE
AS $doubt$
BEGIN
    RETURN (
        SELECT format('may use the type %s', format_type(t.oid, NULL))
        FROM pg_type t
        WHERE t.oid = ANY (types) AND t.typtype NOT IN ('e', 'c', 'd') AND t.typcategory <> 'A'
        AND NOT EXISTS (
            SELECT FROM pg_depend d
            WHERE d.classid = 'pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e'
        )
        ORDER BY t.oid LIMIT 1
    );
END
$doubt$;
