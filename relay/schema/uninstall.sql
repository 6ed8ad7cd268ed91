-- Removes ayb-realtime from this database: the capture triggers and the schema ayb_realtime with the
-- outbox, and the logins, where no other database needs them. Stop the relays and gateways first.
-- Run it as a superuser or as the role that ran roles.sql; nothing is removed by halves.
--
--   python -m relay uninstall --print | psql -d app

DO $uninstall$
DECLARE
    name text;
BEGIN
    IF EXISTS (
        SELECT FROM pg_stat_activity
        WHERE datname = current_database() AND usename IN ('ayb_relay', 'ayb_gateway') AND pid <> pg_backend_pid()
    ) THEN
        RAISE EXCEPTION 'relays or gateways are still connected'
            USING ERRCODE = 'object_in_use', HINT = 'Stop them, then run this again.';
    END IF;
    -- A trigger is dropped under a lock that its table's users wait behind: not for long.
    PERFORM set_config('lock_timeout', '5s', true);
    PERFORM set_config('client_min_messages', 'warning', true);
    DROP SCHEMA IF EXISTS ayb_realtime CASCADE;
    FOREACH name IN ARRAY ARRAY['ayb_gateway', 'ayb_relay', 'ayb_authenticated'] LOOP
        CONTINUE WHEN to_regrole(name) IS NULL;
        BEGIN
            -- Grants and policies for your users are yours: their role goes only where it has none.
            IF name <> 'ayb_authenticated' THEN
                IF NOT pg_has_role(current_user, name, 'USAGE') THEN
                    EXECUTE format('GRANT %I TO %I', name, current_user);
                END IF;
                EXECUTE format('DROP OWNED BY %I', name);
            END IF;
            EXECUTE format('DROP ROLE %I', name);
        EXCEPTION
            WHEN dependent_objects_still_exist THEN
                RAISE WARNING 'role % stays: something still depends on it', name
                    USING HINT = 'Other databases may use it; in this one DROP OWNED BY removes its grants and policies.';
            WHEN insufficient_privilege THEN
                RAISE WARNING 'role % stays: %', name, SQLERRM
                    USING HINT = format('As a superuser: DROP OWNED BY %I; DROP ROLE %I', name, name);
        END;
    END LOOP;
END
$uninstall$;
