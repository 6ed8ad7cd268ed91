-- name: resolve
-- Find the captured tables with the given names. A table is captured if it has the relay's trigger.
-- If a name has no schema, every schema that has such a table is listed, public first.
SELECT asked.n, ns.nspname AS schema, c.relname AS "table", c.oid AS relid
FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS asked (schema, "table", n)
JOIN pg_catalog.pg_class AS c ON c.relname = asked."table" AND c.relkind IN ('r', 'p')
JOIN pg_catalog.pg_namespace AS ns
    ON ns.oid = c.relnamespace AND (asked.schema IS NULL OR ns.nspname = asked.schema)
WHERE EXISTS (
    SELECT FROM pg_catalog.pg_trigger AS t
    WHERE t.tgrelid = c.oid AND t.tgname = '!ayb_realtime_row_' || c.oid::text
)
ORDER BY asked.n, ns.nspname <> 'public', ns.nspname

-- name: gone
-- Which of the given names (schema.table) no longer belong to a captured table.
SELECT asked.name
FROM unnest($1::text[]) AS asked (name)
WHERE NOT EXISTS (
    SELECT FROM pg_catalog.pg_class AS c
    JOIN pg_catalog.pg_namespace AS ns ON ns.oid = c.relnamespace
    JOIN pg_catalog.pg_trigger AS t
        ON t.tgrelid = c.oid AND t.tgname = '!ayb_realtime_row_' || c.oid::text
    WHERE ns.nspname || '.' || c.relname = asked.name
)

-- name: has_outbox
-- Whether there is an outbox at all: without its schema, no table has a trigger.
SELECT pg_catalog.to_regnamespace('ayb_realtime') IS NOT NULL

-- name: role
-- Whether a client role exists and is privileged, and whether this login, also returned, may take
-- it.
SELECT current_user AS login,
       r.oid IS NULL AS is_missing,
       coalesce(r.rolsuper OR r.rolbypassrls, false) AS is_privileged,
       coalesce(pg_catalog.pg_has_role(current_user, r.oid, 'MEMBER'), false) AS may_be_taken
FROM (SELECT) AS one
LEFT JOIN pg_catalog.pg_roles AS r ON r.rolname = $1
