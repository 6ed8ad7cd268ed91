-- name: has_migrations
SELECT to_regclass('ayb_realtime.migrations') IS NOT NULL

-- name: applied_migrations
SELECT coalesce(array_agg(number), '{}') FROM ayb_realtime.migrations

-- name: lock_migrations
SELECT pg_advisory_xact_lock(4707185, 3)

-- name: prepare_migrations
DO $$
BEGIN
    -- IF NOT EXISTS would ask for the right to create one in any case.
    IF to_regnamespace('ayb_realtime') IS NULL THEN
        CREATE SCHEMA ayb_realtime;
    END IF;
END
$$;
CREATE TABLE IF NOT EXISTS ayb_realtime.migrations (
    number     integer PRIMARY KEY,
    name       text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)

-- name: note_migration
INSERT INTO ayb_realtime.migrations (number, name) VALUES ($1, $2)

-- name: schema_owner
-- Who owns our schema, if it is there and not owned by us.
SELECT r.rolname::text
FROM pg_namespace n
JOIN pg_roles r ON r.oid = n.nspowner
WHERE n.nspname = 'ayb_realtime' AND r.rolname <> current_user

-- name: act_as
SELECT set_config('role', $1, false)
