-- Nobody needs to call these: a trigger fires without a right to its function. What the gateway's
-- login gets by default privileges on functions is for those that judge. Else whoever has that login
-- could put a capture trigger on a table of its own and fill the outbox.
DO $revoke$
DECLARE
    granted record;
BEGIN
    FOR granted IN
        SELECT p.oid::regprocedure AS name, a.grantee
        FROM pg_proc AS p
        CROSS JOIN LATERAL aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a
        WHERE p.pronamespace = 'ayb_realtime'::regnamespace AND p.prosecdef AND a.grantee <> p.proowner
    LOOP
        EXECUTE format(
            'REVOKE ALL ON FUNCTION %s FROM %s', granted.name,
            CASE granted.grantee WHEN 0 THEN 'PUBLIC' ELSE granted.grantee::regrole::text END);
    END LOOP;
END
$revoke$;
