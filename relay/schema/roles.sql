-- The logins of ayb-realtime and what they may do. Run it once in each database whose changes are
-- to be streamed, as a superuser or as the owner of the tables; running it again does no harm.
--
--   psql -d app -f docs/sql/roles.sql
--   psql -d app -c '\password ayb_relay' -c '\password ayb_gateway'

-- ---------------------------------------------------------------------------------------------
-- Roles

DO $roles$
BEGIN
    -- What a user with a token acts as. Nobody logs in as it; its rights are those of your users.
    IF to_regrole('ayb_authenticated') IS NULL THEN
        CREATE ROLE ayb_authenticated NOLOGIN;
    END IF;
    -- Reads the outbox and publishes. Owns the schema ayb_realtime and nothing else.
    IF to_regrole('ayb_relay') IS NULL THEN
        CREATE ROLE ayb_relay LOGIN;
    END IF;
    -- Asks for your users what they may see. NOINHERIT: it has the rights of a user's role only
    -- where it has switched to it for a question, never by itself.
    IF to_regrole('ayb_gateway') IS NULL THEN
        CREATE ROLE ayb_gateway LOGIN NOINHERIT;
    END IF;
END
$roles$;

-- Lets the gateway switch to the role of a user. Do the same for each further role that your tokens
-- name (AYB_AUTH_ROLES) and for the anonymous one (AYB_AUTH_ANON_ROLE).
GRANT ayb_authenticated TO ayb_gateway;

-- ---------------------------------------------------------------------------------------------
-- The schema of the outbox

-- Who is no superuser, as on a hosted database, needs the relay's rights for what follows.
DO $member$
BEGIN
    IF NOT pg_has_role(current_user, 'ayb_relay', 'USAGE') THEN
        EXECUTE format('GRANT ayb_relay TO %I', current_user);
    END IF;
END
$member$;

-- The relay makes its tables and functions in here, and so can keep them up to date.
CREATE SCHEMA IF NOT EXISTS ayb_realtime AUTHORIZATION ayb_relay;

-- The gateway looks into the schema; users' roles must not: whole row images lie there.
GRANT USAGE ON SCHEMA ayb_realtime TO ayb_gateway;

-- What the relay makes, now or with a later version, the gateway may read but never write ...
ALTER DEFAULT PRIVILEGES FOR ROLE ayb_relay IN SCHEMA ayb_realtime GRANT SELECT ON TABLES TO ayb_gateway;
GRANT SELECT ON ALL TABLES IN SCHEMA ayb_realtime TO ayb_gateway;

-- ... and its functions are for the gateway alone, not for everybody as Postgres has it by default.
ALTER DEFAULT PRIVILEGES FOR ROLE ayb_relay REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE ayb_relay IN SCHEMA ayb_realtime GRANT EXECUTE ON FUNCTIONS TO ayb_gateway;

-- ---------------------------------------------------------------------------------------------
-- Your tables (repeat for each schema with tables to be captured)

-- The relay installs its triggers. It gets no right to read or write the tables.
GRANT USAGE ON SCHEMA public TO ayb_relay;
GRANT TRIGGER ON ALL TABLES IN SCHEMA public TO ayb_relay;

-- The same for the tables that you, the role running this, will create later.
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT TRIGGER ON TABLES TO ayb_relay;

-- Postgres 14 lets everybody create objects in public; later ones do not, and you may do as they do:
--
--   REVOKE CREATE ON SCHEMA public FROM PUBLIC;

-- What your users may read is yours to say, by grants and policies on each table:
--
--   GRANT SELECT ON posts TO ayb_authenticated;
--   ALTER TABLE posts ENABLE ROW LEVEL SECURITY;
--   CREATE POLICY posts_author ON posts USING (author_id = current_setting('ayb.user_id')::uuid);
--
-- Only where the gateway shall log users in by itself (AYB_AUTH_LOGIN_ENABLED):
--
--   GRANT SELECT ON _ayb_users TO ayb_gateway;
--   GRANT SELECT ON _ayb_user_mfa TO ayb_gateway;  -- where that table exists
