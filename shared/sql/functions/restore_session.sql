-- Restore settings of the session, given as alternating names and values: the result of
-- pin_session. Every name is qualified, since the search path is among them. Returns false.
CREATE OR REPLACE FUNCTION ayb_realtime.restore_session(own text[]) RETURNS boolean
    LANGUAGE plpgsql VOLATILE
AS $restore$
DECLARE
    is_null boolean := false;
BEGIN
    FOR place IN 1 .. pg_catalog.cardinality(own) BY 2 LOOP
        is_null := pg_catalog.set_config(own[place], own[place OPERATOR(pg_catalog.+) 1], true) IS NULL;
    END LOOP;
    RETURN is_null;
END
$restore$;
