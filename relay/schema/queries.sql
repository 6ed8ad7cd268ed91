-- name: has_migrations
SELECT to_regclass('ayb_realtime.migrations') IS NOT NULL

-- name: applied_migrations
SELECT number, checksum FROM ayb_realtime.migrations

-- name: installed_functions
SELECT version, checksum FROM ayb_realtime.installed_functions

-- name: prepare_migrations
DO $$
BEGIN
    -- IF NOT EXISTS would require the right to create a schema in any case.
    IF to_regnamespace('ayb_realtime') IS NULL THEN
        CREATE SCHEMA ayb_realtime;
    END IF;
END
$$;
CREATE TABLE IF NOT EXISTS ayb_realtime.migrations (
    number     integer PRIMARY KEY,
    name       text NOT NULL,
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE IF NOT EXISTS ayb_realtime.installed_functions (
    only_row     boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    version      integer NOT NULL,
    checksum     text NOT NULL,
    installed_at timestamptz NOT NULL DEFAULT now()
)

-- name: lock_migrations
-- Concurrent starts wait for each other. Functions may call one another in any order, so their
-- bodies are not checked when they are created.
LOCK TABLE ayb_realtime.migrations IN EXCLUSIVE MODE;
SET LOCAL check_function_bodies = off

-- name: record_migration
INSERT INTO ayb_realtime.migrations (number, name, checksum) VALUES ($1, $2, $3)

-- name: record_functions
INSERT INTO ayb_realtime.installed_functions (version, checksum) VALUES ($1, $2)
ON CONFLICT (only_row) DO UPDATE
SET version = excluded.version, checksum = excluded.checksum, installed_at = now()

-- name: schema_owner
-- The owner of our schema, if the schema exists and is not owned by us.
SELECT r.rolname::text
FROM pg_namespace n
JOIN pg_roles r ON r.oid = n.nspowner
WHERE n.nspname = 'ayb_realtime' AND r.rolname <> current_user

-- name: act_as
SELECT set_config('role', $1, false)
