-- The logins of ayb-realtime and their rights. Run it once in each database whose changes are to be
-- streamed, as a superuser or as the owner of the tables. Running it again does no harm: it grants
-- what is missing, on new tables too. It warns of what it may not grant, and continues.
--
--   python -m relay roles | psql -d app
--   psql -d app -c '\password ayb_relay' -c '\password ayb_gateway'

-- The schemas with tables to be captured, comma-separated (`python -m relay roles --schema NAME`).
SET ayb.schemas = 'public';

-- ---------------------------------------------------------------------------------------------
-- Roles

DO $roles$
BEGIN
    -- The role of users with a token. It cannot log in; its rights are those of your users.
    IF to_regrole('ayb_authenticated') IS NULL THEN
        CREATE ROLE ayb_authenticated NOLOGIN;
    END IF;
    -- Reads the outbox and publishes. Owns the schema ayb_realtime and nothing else.
    IF to_regrole('ayb_relay') IS NULL THEN
        CREATE ROLE ayb_relay LOGIN;
    END IF;
    -- Asks Postgres what your users may see. NOINHERIT: it has the rights of a user's role only
    -- where it has switched to that role for a question, never by itself.
    IF to_regrole('ayb_gateway') IS NULL THEN
        CREATE ROLE ayb_gateway LOGIN NOINHERIT;
    END IF;
    -- Lets the gateway switch to the role of a user. Do the same for each further role that your
    -- tokens name (AYB_AUTH_ROLES) and for the anonymous one (AYB_AUTH_ANON_ROLE).
    IF NOT pg_has_role('ayb_gateway', 'ayb_authenticated', 'MEMBER') THEN
        GRANT ayb_authenticated TO ayb_gateway;
    END IF;
    -- Anyone but a superuser, as on a hosted database, needs the relay's rights for what follows.
    IF NOT pg_has_role(current_user, 'ayb_relay', 'USAGE') THEN
        EXECUTE format('GRANT ayb_relay TO %I', current_user);
    END IF;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE WARNING 'roles are missing or incomplete (%): run this as a superuser, or as a role with CREATEROLE that made them', SQLERRM;
END
$roles$;

-- ---------------------------------------------------------------------------------------------
-- The schema of the outbox

DO $outbox$
DECLARE
    object record;
BEGIN
    -- The relay creates its tables and functions here, and so can keep them up to date.
    IF to_regnamespace('ayb_realtime') IS NULL THEN
        CREATE SCHEMA ayb_realtime AUTHORIZATION ayb_relay;
    END IF;
    -- Whatever another login installed before these roles existed becomes the relay's.
    FOR object IN
        SELECT format('SCHEMA %I', n.nspname) AS name
        FROM pg_namespace n
        WHERE n.nspname = 'ayb_realtime' AND n.nspowner <> 'ayb_relay'::regrole
        UNION ALL
        SELECT format('%s %s', CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
            c.oid::regclass)
        FROM pg_class c
        WHERE c.relnamespace = 'ayb_realtime'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'S')
        AND c.relowner <> 'ayb_relay'::regrole
        UNION ALL
        SELECT format('FUNCTION %s', p.oid::regprocedure)
        FROM pg_proc p
        WHERE p.pronamespace = 'ayb_realtime'::regnamespace AND p.proowner <> 'ayb_relay'::regrole
    LOOP
        EXECUTE format('ALTER %s OWNER TO ayb_relay', object.name);
    END LOOP;

    -- The gateway may use the schema; users' roles must not, because it holds whole row images. The
    -- gateway may read, but never write, whatever the relay creates, now or in a later version ...
    GRANT USAGE ON SCHEMA ayb_realtime TO ayb_gateway;
    GRANT SELECT ON ALL TABLES IN SCHEMA ayb_realtime TO ayb_gateway;
    ALTER DEFAULT PRIVILEGES FOR ROLE ayb_relay IN SCHEMA ayb_realtime GRANT SELECT ON TABLES TO ayb_gateway;

    -- ... and its functions are for the gateway alone, not for everyone, as is Postgres' default.
    -- Those that run with the relay's rights are for the triggers only.
    ALTER DEFAULT PRIVILEGES FOR ROLE ayb_relay REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
    ALTER DEFAULT PRIVILEGES FOR ROLE ayb_relay IN SCHEMA ayb_realtime
        GRANT EXECUTE ON FUNCTIONS TO ayb_gateway;
    FOR object IN
        SELECT p.oid::regprocedure AS name, p.prosecdef AS is_definer
        FROM pg_proc p
        WHERE p.pronamespace = 'ayb_realtime'::regnamespace
    LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', object.name);
        IF NOT object.is_definer THEN
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO ayb_gateway', object.name);
        END IF;
    END LOOP;
EXCEPTION WHEN insufficient_privilege OR undefined_object THEN
    RAISE WARNING 'the schema ayb_realtime is not set up (%): run this as a superuser or as the owner of the database', SQLERRM;
END
$outbox$;

-- ---------------------------------------------------------------------------------------------
-- Your tables

-- The relay installs its triggers. It gets no right to read or write the tables.
DO $tables$
DECLARE
    chosen text[] := regexp_split_to_array(current_setting('ayb.schemas'), '\s*,\s*');
    name text;
    target record;
    refused text[] := '{}';
    granted integer := 0;
BEGIN
    IF to_regrole('ayb_relay') IS NULL THEN
        RETURN;
    END IF;
    FOREACH name IN ARRAY chosen LOOP
        IF to_regnamespace(quote_ident(name)) IS NULL THEN
            RAISE WARNING 'there is no schema %', quote_ident(name);
            CONTINUE;
        END IF;
        BEGIN
            IF NOT has_schema_privilege('ayb_relay', name, 'USAGE') THEN
                EXECUTE format('GRANT USAGE ON SCHEMA %I TO ayb_relay', name);
            END IF;
            -- The same for the tables that you, the role running this, will create later.
            EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA %I GRANT TRIGGER ON TABLES TO ayb_relay', name);
        EXCEPTION WHEN insufficient_privilege THEN
            refused := refused || format('schema %I', name);
        END;
    END LOOP;
    FOR target IN
        SELECT c.oid, format('%I.%I', n.nspname, c.relname) AS name
        FROM pg_class c
        JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = ANY (chosen) AND c.relkind IN ('r', 'p')
        AND NOT has_table_privilege('ayb_relay', c.oid, 'TRIGGER')
        ORDER BY 2
    LOOP
        -- Without the right to grant, GRANT raises or merely warns, depending on other rights.
        IF has_table_privilege(target.oid, 'TRIGGER WITH GRANT OPTION') THEN
            EXECUTE format('GRANT TRIGGER ON %s TO ayb_relay', target.name);
            granted := granted + 1;
        ELSE
            refused := refused || target.name;
        END IF;
    END LOOP;
    RAISE NOTICE 'tables that the relay may capture from now on: %', granted;
    IF refused <> '{}' THEN
        RAISE WARNING 'not granted, since % may not: %', current_user, array_to_string(refused, ', ')
            USING HINT = 'Where their changes are to be streamed, let the owner run this too.';
    END IF;
END
$tables$;

-- Postgres 14 lets everyone create objects in public; later versions do not, and neither need you:
--
--   REVOKE CREATE ON SCHEMA public FROM PUBLIC;

-- Only if relay and doctor should name the sessions of other logins that are in their way:
--
--   GRANT pg_read_all_stats TO ayb_relay;

-- You decide what your users may read, by grants and policies on each table:
--
--   GRANT SELECT ON posts TO ayb_authenticated;
--   ALTER TABLE posts ENABLE ROW LEVEL SECURITY;
--   CREATE POLICY posts_author ON posts USING (author_id = current_setting('ayb.user_id')::uuid);
--
-- Only if the gateway should log users in itself (AYB_AUTH_LOGIN_ENABLED):
--
--   GRANT SELECT ON _ayb_users TO ayb_gateway;
--   GRANT SELECT ON _ayb_user_mfa TO ayb_gateway;  -- where that table exists
