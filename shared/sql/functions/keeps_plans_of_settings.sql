-- Whether a user-defined function is declared IMMUTABLE although it may read a setting. Plans that
-- other functions keep in the session would then hold its value for one client and return it to the
-- next.
CREATE OR REPLACE FUNCTION ayb_realtime.keeps_plans_of_settings() RETURNS boolean
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $keeps$
    SELECT EXISTS (
        SELECT FROM pg_proc f
        WHERE f.provolatile = 'i' AND f.oid >= 16384::oid AND f.prokind = 'f'
        AND f.prolang NOT IN (SELECT l.oid FROM pg_language l WHERE l.lanname IN ('internal', 'c'))
        AND (f.pronargs = 0 OR f.prosrc = '' OR strpos(f.prosrc, '()') > 0
            OR strpos(lower(f.prosrc), 'current_setting') > 0)
    )
$keeps$;
