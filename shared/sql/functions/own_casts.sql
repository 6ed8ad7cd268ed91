-- Whether any cast that does not belong to an extension converts from or to a type that policies
-- name or whose values they read. A policy keeps the cast it was created with, but its text does
-- not say which cast that is.
CREATE OR REPLACE FUNCTION ayb_realtime.own_casts(table_oid oid, policies oid[]) RETURNS boolean
    LANGUAGE plpgsql STABLE
AS $casts$
BEGIN
    RETURN EXISTS (
        SELECT FROM pg_cast c
        JOIN pg_type t ON t.oid IN (c.castsource, c.casttarget)
        WHERE c.oid >= 16384::oid
        AND NOT EXISTS (
            SELECT FROM pg_depend e
            WHERE e.classid = 'pg_cast'::regclass AND e.objid = c.oid AND e.deptype = 'e'
        )
        AND EXISTS (
            SELECT FROM pg_depend d
            LEFT JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
            WHERE d.classid = 'pg_policy'::regclass AND d.objid = ANY (policies)
            AND ((d.refclassid = 'pg_type'::regclass AND d.refobjid = t.oid)
                OR (d.refclassid = 'pg_class'::regclass AND a.atttypid IN (t.oid, t.typarray)))
        )
    );
END
$casts$;
