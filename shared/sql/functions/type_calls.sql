-- Whether values of a type, or of what it consists of, are checked, ordered or made by functions of
-- the database's users: by a domain's check, or by a range's functions. No dependency of a policy
-- that uses the type records them. See types_of.
CREATE OR REPLACE FUNCTION ayb_realtime.type_calls(type_name name) RETURNS boolean
    LANGUAGE plpgsql STABLE
AS $calls$
DECLARE
    parts constant oid[] := ayb_realtime.types_of('{}', ARRAY[type_name]);
BEGIN
    RETURN EXISTS (
        SELECT FROM pg_constraint k
        JOIN pg_depend d ON d.classid = 'pg_constraint'::regclass AND d.objid = k.oid
        WHERE k.contypid = ANY (parts) AND d.refclassid = 'pg_proc'::regclass
        AND d.refobjid >= 16384::oid AND NOT EXISTS (
            SELECT FROM pg_depend e
            WHERE e.classid = 'pg_proc'::regclass AND e.objid = d.refobjid AND e.deptype = 'e'
        )
    ) OR EXISTS (
        SELECT FROM pg_range r
        WHERE (r.rngtypid = ANY (parts) OR r.rngmultitypid = ANY (parts))
        AND (r.rngcanonical::oid >= 16384::oid OR r.rngsubopc >= 16384::oid)
    );
END
$calls$;
