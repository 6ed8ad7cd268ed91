-- name: resolve
-- Find the captured tables of the given names. A table is captured if it has the relay's trigger.
-- Without a schema, public comes first; else every schema that has such a table is listed.
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

-- name: role
-- What a client role is, and whether this login may take it.
SELECT r.rolsuper OR r.rolbypassrls AS is_privileged,
       pg_catalog.pg_has_role(current_user, r.oid, 'MEMBER') AS may_be_taken
FROM pg_catalog.pg_roles AS r
WHERE r.rolname = $1
