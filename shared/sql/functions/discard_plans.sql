-- Discard the plans that functions keep in the session. A separate function because a STABLE
-- function may not run DISCARD itself.
CREATE OR REPLACE FUNCTION ayb_realtime.discard_plans() RETURNS boolean
    LANGUAGE plpgsql VOLATILE
AS $discard$
BEGIN
    DISCARD PLANS;
    RETURN false;
END
$discard$;
