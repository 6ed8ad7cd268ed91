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

-- name: unused_functions
-- What to do about functions that no file of this release makes, at version $1: asked in the
-- transaction that has just made those of this release, whose rows are thus its own. The processes
-- of the previous release may still be running, so a function is marked by the first version
-- without it, and dropped by a later one. One that something depends on, a trigger for example, is
-- never dropped. A mark is removed from a function that is in use again.
WITH found AS (
    SELECT
        p.oid::regprocedure AS name,
        p.xmin = pg_current_xact_id()::xid AS is_used,
        substring(obj_description(p.oid, 'pg_proc') FROM '^unused since version (\d+)$')::integer AS since,
        EXISTS (
            SELECT FROM pg_depend d
            WHERE d.refclassid = 'pg_proc'::regclass AND d.refobjid = p.oid
            OR d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
        ) AS is_needed
    FROM pg_proc p
    WHERE p.pronamespace = 'ayb_realtime'::regnamespace AND pg_has_role(p.proowner, 'USAGE')
)
SELECT
    f.name::text,
    CASE
        WHEN f.is_used THEN format('COMMENT ON ROUTINE %s IS NULL', f.name)
        WHEN f.since IS NULL
        THEN format('COMMENT ON ROUTINE %s IS %L', f.name, 'unused since version ' || $1::integer)
        ELSE format('DROP ROUTINE %s', f.name)
    END AS remedy
FROM found f
WHERE CASE WHEN f.is_used THEN f.since IS NOT NULL
ELSE f.since IS NULL OR (f.since < $1::integer AND NOT f.is_needed) END
ORDER BY f.name::text

-- name: schema_owner
-- The owner of our schema, if the schema exists and is not owned by us.
SELECT r.rolname::text
FROM pg_namespace n
JOIN pg_roles r ON r.oid = n.nspowner
WHERE n.nspname = 'ayb_realtime' AND r.rolname <> current_user

-- name: act_as
SELECT set_config('role', $1, false)
