-- Throw away the plans that functions keep in the session: for a STABLE function, which may not.
CREATE OR REPLACE FUNCTION ayb_realtime.discard_plans() RETURNS boolean
    LANGUAGE plpgsql VOLATILE
AS $discard$
BEGIN
    DISCARD PLANS;
    RETURN false;
END
$discard$;
